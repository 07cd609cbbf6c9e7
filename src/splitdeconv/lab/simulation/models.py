"""What ``simulate`` and ``sweep`` take as a model: a network by name, a list of layers, or a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splitdeconv.accelerator.layers import Layer, Network, network_names, read_network
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, MissingExtraError
from splitdeconv.formats import load

ALL = "paper"


def find_networks(text: str, in_shapes: dict[str, tuple[int, ...]] | None = None) -> tuple[Network, ...]:
    """The network or networks that ``text`` names.

    Args:
        text: one of the six networks, ``paper`` for all six, a ``.toml`` or ``.json`` list of layers, or a model.
        in_shapes: sizes of a model's inputs that it leaves open.

    Raises:
        InputError: none of these, the file is wrong, or it has no deconv.
    """
    known = network_names()
    if text == ALL:
        return tuple(read_network(path, path.name) for path in known.values())
    if text in known:
        return (read_network(known[text], known[text].name),)
    path = Path(text)
    if not path.exists():
        raise InputError(f"{text}: no such file or network; wanted {', '.join([*known, ALL])}, .toml, .json or a model")
    network = _read(path, in_shapes or {})
    if not network.deconvs:
        raise InputError(f"{path}: no deconv, wanted at least one, whose forms can be compared")
    return (network,)


def _read(path: Path, in_shapes: dict[str, tuple[int, ...]]) -> Network:
    if path.suffix in {".toml", ".json"}:
        return read_network(path)
    return _read_onnx(path, in_shapes) if path.suffix == ".onnx" else _deconvs_of(path)


def _read_onnx(path: Path, in_shapes: dict[str, tuple[int, ...]]) -> Network:
    try:
        from splitdeconv.accelerator.onnx_layers import read_onnx  # noqa: PLC0415  # only with the extra
    except ModuleNotFoundError as error:
        raise MissingExtraError("reading .onnx", error.name or "onnx", "onnx") from error
    return read_onnx(path, in_shapes)


def _deconvs_of(path: Path) -> Network:
    """The deconvs of a model; not its other layers."""
    found = load(path).find()
    layers = tuple(Layer(site.id, site.deconv, _nonzero(site.weights.kernel)) for site in found.sites)
    note = "layers other than deconvs are not read from this format: whole-network figures are those of the deconvs"
    skipped = tuple(f"{each.site} is left out: {each.reason}" for each in found.skipped)
    return Network(path.stem, path.name, str(path), layers, (note, *skipped))


def _nonzero(kernel: Array) -> Array | None:
    """Where weights are not zero; unknown for unsigned integers, whose zero-point is not 0."""
    return None if np.issubdtype(kernel.dtype, np.unsignedinteger) else kernel != 0
