"""The layers of a network as plain numbers, and the TOML or JSON files in which they come."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from math import prod
from pathlib import Path
from typing import Any

from splitdeconv.accelerator.toml_values import read
from splitdeconv.accelerator.work import Convolution, FilterMask, LayerWork, dense_line
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError


@dataclass(frozen=True, slots=True)
class ConvAxis:
    """One axis of an ordinary convolution; sizes in pixels."""

    in_size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    pad_begin: int = 0
    pad_end: int = 0


@dataclass(frozen=True, slots=True)
class PlainConv:
    """An ordinary convolution."""

    axes: tuple[ConvAxis, ...]
    in_channels: int
    out_channels: int
    groups: int = 1
    batch: int = 1

    def describe(self) -> str:
        """One short cell for tables, as :meth:`Deconv.describe`."""
        kernel = "×".join(str(axis.kernel) for axis in self.axes)
        stride = "×".join(str(s) for s in dict.fromkeys(axis.stride for axis in self.axes))
        sizes = "×".join(str(axis.in_size) for axis in self.axes)
        groups = f" g{self.groups}" if self.groups > 1 else ""
        return f"{self.in_channels}→{self.out_channels} {kernel}/{stride} @{sizes}{groups}"


@dataclass(frozen=True, slots=True)
class Dense:
    """A matrix product: ``rows`` vectors of ``in_features`` to ``out_features``."""

    in_features: int
    out_features: int
    rows: int = 1

    def describe(self) -> str:
        """One short cell for tables."""
        return f"{self.in_features}→{self.out_features} @{self.rows}"


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer of a network.

    Attributes:
        name: in the network.
        spec: its sizes.
        nonzero: where the trained weights are not zero (deconv IOHW, conv OIHW, dense OI), or None if unknown.
    """

    name: str
    spec: Deconv | PlainConv | Dense
    nonzero: Array | None = field(default=None, repr=False)

    @property
    def kind(self) -> str:
        """``deconv``, ``conv`` or ``dense``."""
        return {Deconv: "deconv", PlainConv: "conv", Dense: "dense"}[type(self.spec)]


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
    """A network from a TOML or JSON file.

    Raises:
        InputError: the file is wrong; the message names file, layer, key and what was wanted.
    """
    label = label or str(path)
    tables = _read_json(path) if path.suffix == ".json" else read(path)
    found = tables.get("layer") if isinstance(tables, dict) else None
    if not isinstance(found, list) or not found:
        raise InputError(f"{label}: layer: found {found!r}, wanted a list of layers ([[layer]] in TOML)")
    layers = tuple(_layer(entry, f"{label}: layer {number}") for number, entry in enumerate(found, 1))
    texts = {key: str(tables.get(key, "")) for key in ("name", "title", "source")}
    if left := sorted(set(tables) - {"name", "title", "source", "notes", "layer"}):
        raise InputError(f"{label}: {left[0]}: unknown key, wanted one of layer, name, notes, source, title")
    notes = tuple(str(note) for note in tables.get("notes", ()))
    return Network(texts["name"] or path.stem, texts["title"], texts["source"], layers, notes)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), wanted a JSON file") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from None


_KEYS = {
    "deconv": {
        "kernel",
        "stride",
        "dilation",
        "pads",
        "output_pad",
        "in_size",
        "in_channels",
        "out_channels",
        "groups",
        "batch",
    },
    "conv": {"kernel", "stride", "dilation", "pads", "in_size", "in_channels", "out_channels", "groups", "batch"},
    "dense": {"in_features", "out_features", "rows"},
}


def _layer(entry: Any, where: str) -> Layer:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if kind not in _KEYS:
        raise InputError(f"{where}: kind: found {kind!r}, wanted one of {', '.join(_KEYS)}")
    if left := sorted(set(entry) - _KEYS[kind] - {"kind", "name"}):
        raise InputError(
            f"{where}: {left[0]}: unknown key for a {kind}, wanted one of {', '.join(sorted(_KEYS[kind]))}"
        )
    name = str(entry.get("name", where.rsplit(" ", 1)[-1]))
    try:
        if kind == "dense":
            return Layer(name, _dense(entry, where))
        return Layer(name, _deconv(entry, where) if kind == "deconv" else _plain_conv(entry, where))
    except ValueError as error:
        raise InputError(f"{where} ('{name}'): {error}") from None


def _dense(entry: Mapping[str, Any], where: str) -> Dense:
    ins, outs = _whole(entry, "in_features", where), _whole(entry, "out_features", where)
    return Dense(ins, outs, _whole(entry, "rows", where, 1))


def _deconv(entry: Mapping[str, Any], where: str) -> Deconv:
    axes = tuple(
        Axis(kernel, stride, dilation, begin, end, more, size)
        for (size, kernel, stride, dilation, begin, end), more in zip(
            _axes(entry, where), _per_axis(entry, "output_pad", where, 0, lowest=0), strict=True
        )
    )
    return Deconv(axes, *_channels(entry, where))


def _plain_conv(entry: Mapping[str, Any], where: str) -> PlainConv:
    axes = tuple(ConvAxis(*numbers) for numbers in _axes(entry, where))
    return PlainConv(axes, *_channels(entry, where))


def _channels(entry: Mapping[str, Any], where: str) -> tuple[int, int, int, int]:
    ins, outs = _whole(entry, "in_channels", where), _whole(entry, "out_channels", where)
    groups = _whole(entry, "groups", where, 1)
    if ins % groups or outs % groups:
        raise InputError(f"{where}: groups: found {groups}, wanted a divisor of {ins} and {outs} channels")
    return ins, outs, groups, _whole(entry, "batch", where, 1)


def _axes(entry: Mapping[str, Any], where: str) -> list[tuple[int, int, int, int, int, int]]:
    """Input size, kernel, stride, dilation, pads of each axis."""
    sizes = _per_axis(entry, "in_size", where)
    kernels, strides, dilations = (
        _per_axis(entry, key, where, default) for key, default in (("kernel", None), ("stride", 1), ("dilation", 1))
    )
    pads = entry.get("pads", "same")
    if pads == "same":
        pairs = [_same(entry["kind"], *numbers) for numbers in zip(sizes, kernels, strides, dilations, strict=True)]
    elif isinstance(pads, list) and len(pads) == len(sizes) and all(_is_pair(pair) for pair in pads):
        pairs = [(begin, end) for begin, end in pads]
    else:
        raise InputError(f'{where}: pads: found {pads!r}, wanted "same" or [begin, end] for each of {len(sizes)} axes')
    return [(*numbers, *pair) for *numbers, pair in zip(sizes, kernels, strides, dilations, pairs, strict=True)]  # type: ignore[misc]  # starred targets


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(pad, int) for pad in pair)


def _same(kind: str, size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's SAME: a deconv's output has ``size·stride`` pixels, a convolution's ``ceil(size/stride)``."""
    extent = (kernel - 1) * dilation + 1
    total = extent - stride if kind == "deconv" else (-(-size // stride) - 1) * stride + extent - size
    total = max(0, total)
    return total // 2, total - total // 2


def _per_axis(entry: Mapping[str, Any], key: str, where: str, default: int | None = None, lowest: int = 1) -> list[int]:
    """A number for each axis; ``in_size`` says how many axes there are."""
    rank = len(entry["in_size"]) if isinstance(entry.get("in_size"), list) else 0
    if key not in entry and default is not None:
        return [default] * rank
    found = entry.get(key)
    wanted = f"a list of whole numbers of at least {lowest}, one for each axis"
    whole: Sequence[Any] = found if isinstance(found, list) else ()
    if not whole or len(whole) != rank or any(type(number) is not int or number < lowest for number in whole):
        raise InputError(f"{where}: {key}: found {found!r}, wanted {wanted}")
    return list(whole)


def _whole(entry: Mapping[str, Any], key: str, where: str, default: int | None = None) -> int:
    found = entry.get(key, default)
    if type(found) is not int or found < 1:
        raise InputError(f"{where}: {key}: found {found!r}, wanted a whole number of at least 1")
    return found
