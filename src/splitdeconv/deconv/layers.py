"""The file that lists layers, for benchmarks and estimates without a model: JSON or TOML.

A list of layers, or a table with the list as ``layer`` and, if wanted, ``name``, ``title``, ``source`` and ``notes``.
``in_size`` gives the axes of a layer; what else belongs to an axis is one number for all of them, or a list:

    [{"name": "up", "set": "mine", "kind": "deconv", "in_channels": 64, "out_channels": 32, "in_size": [16, 16],
      "kernel": 4, "stride": 2, "dilation": 1, "pad_begin": 1, "pad_end": 1, "output_pad": 0, "groups": 1, "batch": 1,
      "bias": true, "epilogue": ["Relu"]}]

``kind`` is ``deconv`` (if left out), ``conv``, which has no ``output_pad``, or ``dense``, which has ``in_features``,
``out_features`` and ``rows``. A ``conv`` with ``upsample`` follows a nearest upsampling by that factor, one with
``insert_zeros`` follows as many places for each pixel, the others zero: both are deconvs, ``in_size`` is before that,
and pads count from the last pixel: zeros behind it are part of ``pad_end``. ``"pads": "same"`` stands for TensorFlow's
pads. Only the channels or features, ``in_size``, ``kernel`` and a deconv's ``stride`` must be there; ``bias`` is true
if left out, the rest 0, 1 or empty.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitdeconv.deconv.spec import Axis, Deconv, Stretch, WrittenOut
from splitdeconv.deconv.written import stretched_axis
from splitdeconv.errors import InputError
from splitdeconv.files import parse_json, read_text, read_toml

_AXIS_KEYS = {"kernel": None, "stride": 1, "dilation": 1, "pad_begin": 0, "pad_end": 0}
_CHANNEL_KEYS = {"in_channels": None, "out_channels": None, "groups": 1, "batch": 1}
_CONV_KEYS = {"in_size", "pads", *_AXIS_KEYS, *_CHANNEL_KEYS}
_STRETCHES: dict[str, Stretch] = {"upsample": "repeat", "insert_zeros": "zeros"}
_KEYS = {
    "deconv": {*_CONV_KEYS, "output_pad", "bias"},
    "conv": {*_CONV_KEYS, *_STRETCHES, "bias"},
    "dense": {"in_features", "out_features", "rows"},
}
_EVERY = {"kind", "name", "set", "epilogue"}
_TEXTS = ("name", "title", "source")


@dataclass(frozen=True, slots=True)
class ConvAxis:
    """One axis of an ordinary convolution; sizes in pixels."""

    in_size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    pad_begin: int = 0
    pad_end: int = 0

    @classmethod
    def same(cls, in_size: int, kernel: int, stride: int, dilation: int) -> ConvAxis:
        """With the pads of TensorFlow's SAME: ``ceil(in_size / stride)`` outputs, the odd pad at the end."""
        total = max(0, (-(-in_size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - in_size)
        return cls(in_size, kernel, stride, dilation, total // 2, total - total // 2)

    @property
    def out_size(self) -> int:
        """Output pixels."""
        extent = (self.kernel - 1) * self.dilation + 1
        return (self.in_size + self.pad_begin + self.pad_end - extent) // self.stride + 1


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


_WANTED = "wanted a list of layers"

Spec = Deconv | PlainConv | Dense


@dataclass(frozen=True, slots=True)
class ListedLayer:
    """One layer of a list.

    Attributes:
        name: unique in the list; its number if it has none.
        spec: its sizes, float32.
        set: of layers that are summed up together (``vocoder``), or empty.
        epilogue: element-wise operators behind it, by their ONNX names.
    """

    name: str
    spec: Spec
    set: str = ""
    epilogue: tuple[str, ...] = ()

    @property
    def deconv(self) -> Deconv:
        """The sizes of a deconv."""
        assert isinstance(self.spec, Deconv), "only deconvs are asked for it"
        return self.spec


@dataclass(frozen=True, slots=True)
class LayerList:
    """What a file of layers holds.

    Attributes:
        name, title, source: for tables; the name is the file's if it states none.
        layers: at least one.
        notes: what the list leaves out, one sentence each.
    """

    name: str
    title: str
    source: str
    layers: tuple[ListedLayer, ...]
    notes: tuple[str, ...] = ()

    @property
    def deconvs(self) -> tuple[ListedLayer, ...]:
        """The deconvs only."""
        return tuple(layer for layer in self.layers if isinstance(layer.spec, Deconv))


def read_layers(path: Path, label: str = "") -> LayerList:
    """The layers of a JSON or TOML file.

    Args:
        path: of the file; TOML if it ends in ``.toml``.
        label: in messages, in place of the path.

    Raises:
        InputError: it cannot be read or is no such list; the message names file, layer, key and what was wanted.
    """
    label = label or str(path)
    content = read_toml(path) if path.suffix == ".toml" else parse_json(read_text(path, _WANTED), label, _WANTED)
    tables = content if isinstance(content, dict) else {"layer": content}
    entries = tables.get("layer")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{label}: wanted a list of layers ([[layer]] in TOML) with one at least")
    if unknown := set(tables) - {*_TEXTS, "notes", "layer"}:
        raise InputError(f"{label}: {min(unknown)}: unknown key, wanted one of layer, name, notes, source, title")
    layers = tuple(_layer(entry, number, label) for number, entry in enumerate(entries, start=1))
    names = [layer.name for layer in layers]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{label}: two layers are called '{name}'; each needs a name of its own")
    name, title, source = (str(tables.get(key, "")) for key in _TEXTS)
    return LayerList(name or path.stem, title, source, layers, tuple(str(note) for note in tables.get("notes", ())))


def _layer(entry: Any, number: int, label: str) -> ListedLayer:
    """One entry of the list."""
    where = f"{label}: layer {number}"
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is {json.dumps(entry)}, wanted an object")
    name = str(entry.get("name", number))
    where += f" '{name}'" if "name" in entry else ""
    kind = entry.get("kind", "deconv")
    if kind not in _KEYS:
        raise InputError(f"{where}: kind is {json.dumps(kind)}, wanted one of {', '.join(_KEYS)}")
    known = _KEYS[kind] | _EVERY
    if unknown := set(entry) - known:
        raise InputError(f"{where}: a {kind} has no '{min(unknown)}'; there are {', '.join(sorted(known))}")
    epilogue = entry.get("epilogue", [])
    if not isinstance(epilogue, list) or not all(isinstance(operator, str) for operator in epilogue):
        raise InputError(f"{where}: epilogue is {json.dumps(epilogue)}, wanted a list of operator names")
    try:
        spec = _dense(entry, where) if kind == "dense" else _conv(entry, kind, where)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    return ListedLayer(name, spec, str(entry.get("set", "")), tuple(epilogue))


def _dense(entry: Mapping[str, Any], where: str) -> Dense:
    ins, outs = (_positive(entry.get(key), key, where) for key in ("in_features", "out_features"))
    return Dense(ins, outs, _positive(entry.get("rows", 1), "rows", where))


def _conv(entry: Mapping[str, Any], kind: str, where: str) -> Deconv | PlainConv:
    in_size = entry.get("in_size")
    if not isinstance(in_size, list) or not 1 <= len(in_size) <= 3:
        raise InputError(f"{where}: in_size is {json.dumps(in_size)}, wanted a list of one to three sizes")
    sizes = [_positive(size, "in_size", where) for size in in_size]
    defaults = _AXIS_KEYS | ({"stride": None} if kind == "deconv" else {})
    columns = {key: _per_axis(entry, key, default, len(sizes), where) for key, default in defaults.items()}
    if "pads" in entry:
        columns["pad_begin"], columns["pad_end"] = _same_pads(entry, kind, sizes, columns, where)
    ins, outs, groups, batch = (
        _positive(entry.get(key, default), key, where) for key, default in _CHANNEL_KEYS.items()
    )
    if stretches := [key for key in _STRETCHES if key in entry]:
        return _written_out(entry, stretches[0], columns, sizes, (ins, outs, groups, batch), where)
    if kind == "conv":
        if "bias" in entry:
            raise InputError(f"{where}: a conv without upsample or insert_zeros has no bias to state")
        if ins % groups or outs % groups:
            raise ValueError(f"groups is {groups}, wanted a divisor of {ins} and {outs} channels")
        axes = tuple(ConvAxis(*numbers) for numbers in zip(sizes, *columns.values(), strict=True))
        return PlainConv(axes, ins, outs, groups, batch)
    more = _per_axis(entry, "output_pad", 0, len(sizes), where)
    deconv_axes = tuple(Axis(*numbers) for numbers in zip(*columns.values(), more, sizes, strict=True))
    return Deconv(deconv_axes, ins, outs, groups, batch, has_bias=_bias(entry, where))


def _bias(entry: Mapping[str, Any], where: str) -> bool:
    bias = entry.get("bias", True)
    if not isinstance(bias, bool):
        raise InputError(f"{where}: bias is {json.dumps(bias)}, wanted true or false")
    return bias


def _written_out(
    entry: Mapping[str, Any],
    key: str,
    columns: Mapping[str, list[int]],
    sizes: list[int],
    channels: tuple[int, int, int, int],
    where: str,
) -> Deconv:
    """A convolution of a map that is stretched first."""
    if set(columns["stride"]) != {1}:
        raise InputError(f"{where}: stride is {columns['stride']}, wanted 1 behind {key}")
    factors = _per_axis(entry, key, None, len(sizes), where)
    if min(factors) < 1 or max(factors) < 2:
        raise InputError(f"{where}: {key} is {json.dumps(entry[key])}, wanted whole numbers from 1 on, one above 1")
    kernel, dilations = columns["kernel"], columns["dilation"]
    pads = zip(columns["pad_begin"], columns["pad_end"], strict=True)
    axes = (
        stretched_axis(_STRETCHES[key], *numbers)
        for numbers in zip(factors, kernel, dilations, pads, sizes, strict=True)
    )
    ins, outs, groups, batch = channels
    written = WrittenOut(_STRETCHES[key], tuple(kernel), tuple(dilations))
    return Deconv(tuple(axes), ins, outs, groups, batch, has_bias=_bias(entry, where), written_out=written)


def _same_pads(
    entry: Mapping[str, Any], kind: str, sizes: list[int], columns: Mapping[str, list[int]], where: str
) -> tuple[list[int], list[int]]:
    """TensorFlow's SAME: a deconv's output has ``size·stride`` pixels, a convolution's ``ceil(size/stride)``."""
    if entry["pads"] != "same" or "pad_begin" in entry or "pad_end" in entry:
        raise InputError(
            f'{where}: pads is {json.dumps(entry["pads"])}, wanted "same", or pad_begin and pad_end instead'
        )
    totals = []
    for size, kernel, stride, dilation in zip(
        sizes, columns["kernel"], columns["stride"], columns["dilation"], strict=True
    ):
        extent = (kernel - 1) * dilation + 1
        total = extent - stride if kind == "deconv" else (-(-size // stride) - 1) * stride + extent - size
        totals.append(max(0, total))
    return [total // 2 for total in totals], [total - total // 2 for total in totals]


def _per_axis(entry: Mapping[str, Any], key: str, default: int | None, rank: int, where: str) -> list[int]:
    """One number for each axis."""
    given = entry.get(key, default)
    numbers = given if isinstance(given, list) else [given] * rank
    if len(numbers) != rank:
        raise InputError(f"{where}: {key} has {len(numbers)} numbers, in_size has {rank}")
    if key in ("kernel", "stride", "dilation"):
        return [_positive(number, key, where) for number in numbers]
    return [_whole(number, key, where) for number in numbers]


def _positive(number: Any, key: str, where: str) -> int:
    if _whole(number, key, where) < 1:
        raise InputError(f"{where}: {key} is {number}, wanted at least 1")
    return int(number)


def _whole(number: Any, key: str, where: str) -> int:
    """A whole number; what is wrong with it otherwise."""
    if number is None:
        raise InputError(f"{where}: has no {key}")
    if not isinstance(number, int) or isinstance(number, bool):
        raise InputError(f"{where}: {key} is {json.dumps(number)}, wanted a whole number")
    return number
