"""Lists of layers as JSON, for benchmarks without a model.

A list of objects. ``in_size`` gives the axes; what else belongs to an axis is one number for all axes or a list:

    [{"name": "up", "set": "mine", "in_channels": 64, "out_channels": 32, "in_size": [16, 16], "kernel": 4, "stride": 2,
      "dilation": 1, "pad_begin": 1, "pad_end": 1, "output_pad": 0, "groups": 1, "bias": true, "epilogue": ["Relu"]}]

Everything from ``dilation`` on, and ``set``, may be left out; ``bias`` is then true and the rest 0, 1 or empty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.errors import InputError

_PER_AXIS = {"kernel": None, "stride": None, "dilation": 1, "pad_begin": 0, "pad_end": 0, "output_pad": 0}
_WHOLE = {"in_channels": None, "out_channels": None, "groups": 1}
_NAMES = {"name", "set", "in_size", "bias", "epilogue", *_PER_AXIS, *_WHOLE}


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a list.

    Attributes:
        name: unique in the list.
        set: of layers that are summed up together (``vocoder``), or empty.
        deconv: its geometry, batch 1, float32.
        epilogue: element-wise operators behind it, by their ONNX names.
    """

    name: str
    set: str
    deconv: Deconv
    epilogue: tuple[str, ...]


def read_layers(text: str, source: str) -> tuple[Layer, ...]:
    """The layers of a JSON list.

    Raises:
        InputError: not such a list; the message names ``source``, the layer and the entry.
    """
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise InputError(f"{source}: not JSON ({error}), wanted a list of layers") from None
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{source}: wanted a list of layers with one at least")
    layers = tuple(_layer(entry, f"{source}: layer {number}") for number, entry in enumerate(entries, start=1))
    names = [layer.name for layer in layers]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{source}: two layers are called '{name}'; each needs a name of its own")
    return layers


def _layer(entry: Any, where: str) -> Layer:
    """One entry of the list."""
    if not isinstance(entry, dict):
        raise InputError(f"{where}: is {json.dumps(entry)}, wanted an object")
    name = entry.get("name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: has no name")
    where = f"{where} '{name}'"
    if unknown := set(entry) - _NAMES:
        raise InputError(f"{where}: knows no entry '{min(unknown)}'; there are {', '.join(sorted(_NAMES))}")
    in_size = entry.get("in_size")
    if not isinstance(in_size, list) or not 1 <= len(in_size) <= 3:
        raise InputError(f"{where}: in_size is {json.dumps(in_size)}, wanted a list of one to three sizes")
    sizes = [_whole(size, "in_size", where) for size in in_size]
    columns = [_per_axis(entry, axis_entry, default, len(sizes), where) for axis_entry, default in _PER_AXIS.items()]
    in_channels, out_channels, groups = (_whole(entry.get(key, least), key, where) for key, least in _WHOLE.items())
    if groups < 1:
        raise InputError(f"{where}: groups is {groups}, wanted at least 1")
    bias, epilogue = entry.get("bias", True), entry.get("epilogue", [])
    if not isinstance(bias, bool):
        raise InputError(f"{where}: bias is {json.dumps(bias)}, wanted true or false")
    if not isinstance(epilogue, list) or not all(isinstance(operator, str) for operator in epilogue):
        raise InputError(f"{where}: epilogue is {json.dumps(epilogue)}, wanted a list of operator names")
    try:
        axes = tuple(Axis(*numbers) for numbers in zip(*columns, sizes, strict=True))
        deconv = Deconv(axes, in_channels, out_channels, groups, has_bias=bias)
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    return Layer(name, str(entry.get("set", "")), deconv, tuple(epilogue))


def _per_axis(entry: dict[str, Any], key: str, default: int | None, rank: int, where: str) -> list[int]:
    """One number for each axis."""
    found = entry.get(key, default)
    numbers = found if isinstance(found, list) else [found] * rank
    if len(numbers) != rank:
        raise InputError(f"{where}: {key} has {len(numbers)} numbers, in_size has {rank}")
    return [_whole(number, key, where) for number in numbers]


def _whole(number: Any, key: str, where: str) -> int:
    """A whole number; what is wrong with it otherwise."""
    if number is None:
        raise InputError(f"{where}: has no {key}")
    if not isinstance(number, int) or isinstance(number, bool):
        raise InputError(f"{where}: {key} is {json.dumps(number)}, wanted a whole number")
    return number
