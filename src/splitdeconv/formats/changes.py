"""What users may ask to be changed in a model before its deconvs are rewritten, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from splitdeconv.deconv.folding import ChannelArithmetic
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.sub_pixel import SubPixel
from splitdeconv.deconv.weights import Array

if TYPE_CHECKING:
    from splitdeconv.formats.model import Origin, Site


@dataclass(frozen=True, slots=True, eq=False)
class Fold:
    """Operators around a site that become part of its weights and bias.

    Attributes:
        site: as it came.
        operators: that go away, in the model's order.
        front, behind: what those before the site and those behind it compute.
        origin: those operators, as the format has them.
    """

    site: Site
    operators: tuple[str, ...]
    front: ChannelArithmetic
    behind: ChannelArithmetic
    origin: Origin


@dataclass(frozen=True, slots=True, eq=False)
class SubPixelSite:
    """A convolution and an order of its channels as pixels, which could be one deconv.

    Attributes:
        id: unique among them; the convolution's name, or one made from its output.
        spec: their geometry.
        batch, sizes: of the convolution's map, None where unknown.
        kernel, bias: of the convolution, OIHW.
        operators: names of all, in order.
        where: graph, subgraph or function that holds them.
        origin: where they are in the model.
    """

    id: str
    spec: SubPixel
    batch: int | None
    sizes: tuple[int | None, ...]
    kernel: Array
    bias: Array | None
    operators: tuple[str, ...]
    where: str
    origin: Origin

    @property
    def deconv(self) -> Deconv:
        """What it could be, without its bias."""
        return self.spec.deconv(self.batch, self.sizes, self.kernel.dtype.name)
