"""What ``simulate`` and ``sweep`` take as a model: a network by name, a list of layers, or a model file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from splitdeconv.accelerator.layers import Network, network_names, read_network
from splitdeconv.deconv.network import Layer
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.errors import InputError
from splitdeconv.formats import load
from splitdeconv.formats.open_sizes import InShapes, named_shapes, with_batch_of_one

ALL = "paper"


def find_networks(text: str, in_shapes: InShapes | None = None) -> tuple[Network, ...]:
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


def _read(path: Path, in_shapes: InShapes) -> Network:
    if path.suffix in {".toml", ".json"}:
        network = read_network(path)
        if any(isinstance(each.spec, Deconv) and each.spec.written_out for each in network.layers):
            raise InputError(
                f"{path}: no modelled processor computes upsample or insert_zeros; wanted layers without them"
            )
        return network
    model = load(path)
    shapes = named_shapes(model, in_shapes)
    findings = model.find(with_batch_of_one(model.inputs(), shapes))
    sites = {site.id: Layer(site.id, site.deconv, nonzero(site.weights, site.deconv)) for site in findings.sites}
    operations = model.operations(shapes)
    if operations is None:
        layers = tuple(sites.values())
        note = "layers other than deconvs are not read from this format: whole-network figures are those of the deconvs"
    else:
        layers = tuple(sites.get(each.name, each) if each.kind == "deconv" else each for each in operations.layers)
        note = "only convolutions, matrix products and deconvs are modelled"
    skipped = tuple(f"{each.site} cannot be rewritten: {each.reason}" for each in findings.skipped)
    return Network(path.stem, path.name, str(path), layers, (note, *skipped))


def nonzero(weights: Weights, deconv: Deconv) -> Array | None:
    """Where weights are not zero; unknown for unsigned integers without a zero-point."""
    kernel, quant = weights.kernel, weights.quant
    if quant is None:
        return None if np.issubdtype(kernel.dtype, np.unsignedinteger) else kernel != 0
    differs: Array = kernel != quant.along_kernel(quant.w_zero, kernel.shape, deconv.groups)
    return differs
