"""The layers of a network, with the zeros of their weights where these are known, and their work."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from math import prod
from pathlib import Path

from splitdeconv.accelerator.work import Convolution, FilterMask, LayerWork, dense_line
from splitdeconv.deconv.layers import Dense, read_layers
from splitdeconv.deconv.network import Layer
from splitdeconv.deconv.spec import Deconv


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """The layers that a model spends its time in, in order.

    Attributes:
        name, title, source: for tables.
        layers: convolutions, dense layers and deconvs.
        notes: what the list leaves out, one sentence each.
    """

    name: str
    title: str
    source: str
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()

    @property
    def deconvs(self) -> tuple[Layer, ...]:
        """The deconvs only."""
        return tuple(layer for layer in self.layers if isinstance(layer.spec, Deconv))


def plain_work(layer: Layer) -> LayerWork:
    """The work of a convolution or a dense layer, which has one form only."""
    spec = layer.spec
    assert not isinstance(spec, Deconv), "a deconv has several forms"
    if isinstance(spec, Dense):
        mask = None if layer.nonzero is None else FilterMask(layer.nonzero[..., None])
        conv = Convolution((dense_line(spec.rows, 1),), spec.in_features, spec.out_features, weights=mask)
        return LayerWork((conv,), spec.in_features * spec.rows, spec.in_features * spec.rows, conv.out_elements)
    lines = tuple(
        dense_line(
            axis.in_size,
            axis.kernel,
            stride=axis.stride,
            dilation=axis.dilation,
            pad_begin=axis.pad_begin,
            pad_end=axis.pad_end,
        )
        for axis in spec.axes
    )
    mask = None if layer.nonzero is None else FilterMask(layer.nonzero)
    conv = Convolution(lines, spec.in_channels, spec.out_channels, spec.groups, spec.batch, weights=mask)
    in_elements = spec.batch * spec.in_channels * prod(axis.in_size for axis in spec.axes)
    return LayerWork((conv,), in_elements, in_elements, conv.out_elements)


def network_names() -> dict[str, Path]:
    """Networks that come with the package, by name."""
    folder = Path(str(resources.files("splitdeconv.accelerator") / "networks"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_network(path: Path, label: str = "") -> Network:
    """A network from a file of layers.

    Raises:
        InputError: the file is wrong; the message names file, layer, key and what was wanted.
    """
    listed = read_layers(path, label)
    layers = tuple(Layer(each.name, each.spec) for each in listed.layers)
    return Network(listed.name, listed.title, listed.source, layers, listed.notes)
