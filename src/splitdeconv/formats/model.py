"""A model as an object: what every format gives to the rest of the road."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from splitdeconv.deconv.folding import ChannelArithmetic
from splitdeconv.deconv.network import Compilable, Operations
from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.streaming import Streaming
from splitdeconv.deconv.sub_pixel import SubPixel
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import UsageError
from splitdeconv.formats.way_back import WayBack
from splitdeconv.results.plan import Skipped
from splitdeconv.results.verdict import FusedDifference

if TYPE_CHECKING:
    from typing_extensions import Self

    from splitdeconv.targets.target import Target


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where a site is in its model.

    What it is there, a transposed convolution or a convolution of a stretched map, is part of its geometry
    (``Deconv.written_out``), and so of every key of measured times.

    Attributes:
        nodes: the node or nodes, as the format has them; only the format opens them.
    """

    nodes: tuple[Any, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """One deconv that can be rewritten.

    Attributes:
        id: unique in the model; the node's name, or one made from its output.
        origin: where it is in the model.
        deconv: its geometry.
        weights: its trained values, as they are stored (integers in quantised models); of parameters that the model
            computes when it runs (``deconv.run_time``), examples.
        epilogue: operators that follow and that may be done before the rearrangement, in order.
        where: graph, subgraph or function that holds it.
        notes: what the user should know when it is rewritten.
    """

    id: str
    origin: Origin
    deconv: Deconv
    weights: Weights
    epilogue: tuple[str, ...] = ()
    where: str = "graph"
    notes: tuple[str, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model.

    Attributes:
        name: as the model has it.
        dtype: a NumPy name.
        shape: sizes, None where the model leaves them open; None altogether where even the rank is open.
        quantised: whether its integers stand for real numbers, so that every value of the type is valid.
        fixed: its elements, where only one set of values makes sense; empty otherwise.
        unknown: why nothing can be fed to it but what the user gives, or empty.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    quantised: bool = False
    fixed: tuple[int, ...] = ()
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All deconvs of a model.

    Attributes:
        sites: those that can be rewritten, in the model's order.
        skipped: those that cannot, with their reasons.
        other_macs: multiply-accumulates of all other convolutions and matrix products, or None where sizes are unknown.
    """

    sites: tuple[Site, ...]
    skipped: tuple[Skipped, ...]
    other_macs: int | None = None


class Model(ABC):
    """A model of one format. No method changes it or its arguments.

    Attributes:
        format: its name, such as ``onnx``; targets name the formats that they run.
        layout: of the format's maps.
        layouts: further layouts that a form may work in, where the format's runtime offers some.
        suffix: of its files, with the dot; empty where no file holds such models.
        runtime: the target that runs its models for a proof where the user's own target does not.
        reference_runtime: the target that runs them for a proof, if slowly, where that one does not run an original, or
            takes other kernels for it than for its rewritten form.
        asks_runtime: whether :meth:`seen_by` ever asks.
        numerics_known: what ``--numerics`` may ask for.
        numerics: ``exact``, or what else was asked for.
        notes: what was mended when it was read.
    """

    format: ClassVar[str]
    layout: ClassVar[Layout]
    layouts: ClassVar[tuple[str, ...]] = ()
    suffix: ClassVar[str]
    runtime: ClassVar[str]
    reference_runtime: ClassVar[str]
    asks_runtime: ClassVar[bool] = False
    numerics_known: ClassVar[tuple[str, ...]] = ("exact",)
    numerics: str
    notes: tuple[str, ...] = ()

    @classmethod
    @abstractmethod
    def load(cls, path: Path, numerics: str = "exact") -> Self:
        """The model in ``path``.

        Raises:
            InputError: not a readable model; the message names the file, what was read and what was wanted.
        """

    @classmethod
    @abstractmethod
    def from_object(cls, source: object, numerics: str = "exact") -> Self | None:
        """The model in an object of the format's own library, or None where ``source`` is none."""

    @classmethod
    @abstractmethod
    def layer(cls, deconv: Deconv, epilogue: Sequence[str]) -> Self:
        """A model of one deconv of definite sizes with random weights, and the operators of ``epilogue`` behind it.

        Raises:
            UsageError: the format cannot express it.
        """

    @abstractmethod
    def find(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        """All deconvs, in the model's order.

        Args:
            in_shapes: sizes for inputs whose shape the model leaves open.

        Raises:
            InputError: a deconv contradicts itself or its input.
        """

    def sized_by(self, in_shapes: Mapping[str, tuple[int, ...]], run: Callable[[Model], Mapping[str, Array]]) -> Self:
        """The model with the sizes of maps that only a run tells; itself where there are none, or the format says all.

        Args:
            in_shapes: sizes for inputs whose shape the model leaves open, as in ``run``.
            run: the outputs of a model with the same inputs; none where it does not run.
        """
        return self

    def fixed(self, in_shapes: Mapping[str, tuple[int, ...]], run: Callable[[Model], Mapping[str, Array]]) -> Self:
        """The model with the sizes of its inputs written into it; itself where its runtimes gain nothing by that.

        Args:
            in_shapes: sizes for all inputs whose shape the model leaves open.
            run: as of :meth:`sized_by`.
        """
        return self

    def streamed(self, axes: Mapping[str, int]) -> tuple[Self, Streaming]:
        """The model that takes its inputs in chunks, and how it is run.

        Args:
            axes: the streamed axis of each input that has one; the other inputs are the same for every chunk.

        Raises:
            UsageError: some operator needs the whole signal.
        """
        raise UsageError(f"--stream takes onnx models, this one is {self.format}; modules: splitdeconv.torch.streaming")

    def foldable(self) -> tuple[tuple[Fold, ...], tuple[Skipped, ...]]:
        """What :meth:`folded` takes; and the sites that keep such operators around them, with the reason."""
        return (), ()

    def folded(self, folds: Sequence[Fold]) -> Self:
        """The model with constant arithmetic of channels around its sites in their weights; the sites keep their names.

        Args:
            folds: of :meth:`foldable`.
        """
        assert not folds, f"{self.format} models have none"
        return self

    def sub_pixels(
        self, in_shapes: Mapping[str, tuple[int, ...]] | None = None
    ) -> tuple[tuple[SubPixelSite, ...], tuple[Skipped, ...]]:
        """Convolutions that make the phases of a finer map; and those that no deconv computes, with the reason.

        Args:
            in_shapes: sizes for inputs whose shape the model leaves open.
        """
        return (), ()

    def emit_sub_pixel(self, site: SubPixelSite, kernel: Array, bias: Array | None, *, turned: bool) -> Compilable:
        """A stand-alone model of one of them, with input ``x`` and one output: as the model has it, or as a deconv.

        Args:
            kernel, bias: used instead of the site's own.
            turned: whether it is to be the deconv.
        """
        raise AssertionError(f"{self.format} models have none")

    def turned(self, sites: Sequence[SubPixelSite]) -> Self:
        """The model with ``sites`` as deconvs."""
        raise AssertionError(f"{self.format} models have none")

    def seen_by(self, runner: Target) -> Self:
        """The model with what only a runtime can say of its sites, for :meth:`refuse`; itself where that is nothing.

        Args:
            runner: runs the models of the proof.
        """
        return self

    @abstractmethod
    def refuse(self, site: Site, program: Program) -> str | None:
        """Why the model's version of the format cannot express ``program`` in place of ``site``, or None."""

    def unportable(self, program: Program) -> str | None:
        """Why some runtime of the format lacks an operator of ``program``; it is not written where none is named."""
        return None

    @abstractmethod
    def emit(self, site: Site, program: Program, weights: Weights | None = None) -> Compilable:
        """A stand-alone model of one site under ``program``, its epilogue included, with input ``x`` and one output.

        Parameters of ``deconv.run_time`` are inputs too, behind the maps, called by their names: see :meth:`run_time`.
        The program may lack a reshape at its end; then the output has the shape from before it.

        Args:
            weights: used instead of the site's own, of the same shapes and types; without the epilogue then.
        """

    def run_time(self, site: Site, weights: Weights) -> dict[WeightName, Array]:
        """What a stand-alone model of ``site`` is given beside its maps: what is not stored, as the model reads it.

        Args:
            site, weights: that the model is of.
        """
        return weights.run_time(site.deconv)

    @abstractmethod
    def splice(self, programs: Mapping[str, Program]) -> Self:
        """A model in which each site named in ``programs`` is replaced by its program."""

    def way_back(self) -> str:
        """What the file holds of the model that it was made from, as JSON (``way_back.WayBack``); empty for nothing."""
        return ""

    def undo(self, way_back: WayBack) -> tuple[Self, tuple[Skipped, ...]]:
        """The model with its sites as they were before they were rewritten, and those that stay, with the reasons.

        Args:
            way_back: what :meth:`way_back` says.

        Raises:
            InputError: that is damaged.
        """
        raise AssertionError(f"{self.format} models hold nothing of what they were made from")

    @abstractmethod
    def inputs(self) -> tuple[Input, ...]:
        """What a caller of the model must supply."""

    @abstractmethod
    def float64(self, feeds: Mapping[str, Array], *, patient: bool = False) -> dict[str, Array] | str:
        """All outputs on ``feeds`` in float64, or the reason why that is unavailable in a few seconds.

        Args:
            feeds: every input by name; floats of any type.
            patient: whether minutes will do, because nothing else computes the outputs.
        """

    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """The files that hold the model, its own first; none for one that was handed over as an object."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the model to ``path``, and what does not fit into one file to files beside it named after it.

        Raises:
            OSError: it cannot be written there; part of it may be.
        """

    @abstractmethod
    def to_object(self) -> object:
        """The model as an object of the format's own library."""

    def operations(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Operations | None:
        """All operators, for targets that only count; None of formats that read nothing but deconvs.

        Args:
            in_shapes: sizes for inputs whose shape the model leaves open; an open batch alone is 1.

        Raises:
            InputError: the size of a layer is unknown.
        """
        return None

    def operator_counts(self) -> Mapping[str, int]:
        """How many of each operator, by its name in the format, in all graphs; nothing where that is not told."""
        return {}

    def peak_bytes(self, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> int | None:
        """An estimate of the most memory that its maps take at once; None where a size is unknown, or it is not told.

        Args:
            in_shapes: sizes for inputs whose shape the model leaves open; an open batch alone is 1.
        """
        return None

    def compilable(self, path: Path) -> Compilable:
        """The whole model as a target takes it; it lies in ``path`` where files hold such models."""
        return Compilable(path, self.operations)

    def difference(self, site: Site, x: Array, before: Array, after: Array) -> FusedDifference:
        """What fused numerics changed at a quantised site; only of formats whose ``numerics_known`` has ``fused``.

        Args:
            site: rewritten.
            x: input of its stand-alone model, as stored.
            before, after: outputs of the stand-alone model as it was and as rewritten.
        """
        raise AssertionError(f"{self.format} models know no fused numerics")
