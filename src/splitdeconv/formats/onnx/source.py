"""The values that a site's programs are written with: stored ones, read when a model is written, and run-time ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from splitdeconv.deconv.filters import own_steps
from splitdeconv.deconv.spec import Deconv, WeightName
from splitdeconv.deconv.structure import diagonal_of
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.onnx.constants import constant, known_constant
from splitdeconv.formats.onnx.emit import Source
from splitdeconv.formats.onnx.graph import Place, dequantiser_of
from splitdeconv.formats.onnx.integer_filter import StoredKernel
from splitdeconv.formats.onnx.quantised import Qdq, read_stored_kernel
from splitdeconv.formats.onnx.stretched import StretchedValue


def source_of(place: Place, deconv: Deconv, qdq: Qdq | None = None, stretched: StretchedValue | None = None) -> Source:
    """The site's trained values, to be read when they are written."""
    _, weight, bias = (*place.node.inputs, None)[:3]
    if qdq is not None:
        weight, bias = qdq.weight, qdq.bias
    assert weight is not None, "a located site has a weight"
    given: dict[WeightName, ir.Value | None] = {"kernel": weight, "bias": bias}
    run_time = {name: value for name in deconv.run_time if (value := given[name]) is not None}
    return Source(
        kernel=_reader(weight, place.opset, _kernel_of(deconv, qdq, stretched)),
        bias=None if bias is None else _reader(bias, place.opset),
        shape=deconv.weights_shape,
        dtype=_dtype(weight, place.opset, deconv),
        key=(id(weight), id(bias), *((stretched and stretched.channels) or ()))
        if qdq is None
        else (id(weight), id(bias), *qdq.values.w_zero.reshape(-1).tolist()),
        original=place.node,
        quant=None if qdq is None else qdq.values,
        stored=_stored(place, deconv) if qdq is None else None,
        run_time=run_time,
        own=()
        if stretched is None
        else own_steps(stretched.geometry.groups, stretched.rows_first, deconv.weights_shape),
    )


def _stored(place: Place, deconv: Deconv) -> StoredKernel | None:
    """The integers behind a float kernel."""
    node = dequantiser_of(place.node.inputs[1])
    return None if node is None or deconv.diagonal or deconv.written_out else read_stored_kernel(node, place.opset)


def _reader(value: ir.Value, opset: int, of: Callable[[Array], Array] = np.asarray) -> Callable[[], Array]:
    """Reads ``of`` a constant: of a stored one when it is called, of a folded one now, before its nodes are gone."""

    def read() -> Array:
        return of(known_constant(value, opset))

    if value.const_value is not None or constant(value, opset) is None:
        return read
    folded = read()
    return lambda: folded


def _kernel_of(deconv: Deconv, qdq: Qdq | None, stretched: StretchedValue | None) -> Callable[[Array], Array]:
    """What makes the site's kernel of its constant."""
    if stretched is not None:
        stored = np.asarray if qdq is None else qdq.stored_kernel
        return lambda weight: stretched.own_kernel(stored(weight))
    if qdq is not None:
        return qdq.stored_kernel
    return _diagonal if deconv.diagonal else np.asarray


def _diagonal(kernel: Array) -> Array:
    """The depthwise filters in a dense kernel that is zero between channels."""
    found = diagonal_of(kernel)
    assert found is not None, "found to be zero between channels"
    return found


def _dtype(value: ir.Value, opset: int, deconv: Deconv) -> ir.DataType:
    """The type of the stored kernel, or of the real numbers that are computed in its place."""
    if deconv.quant is not None:
        return ir.DataType.from_numpy(np.dtype(deconv.quant.weight))
    if value.const_value is not None:
        return value.const_value.dtype
    known = constant(value, opset)
    return ir.DataType.from_numpy(np.dtype(deconv.dtype) if known is None else known.dtype)


def source_with(weights: Weights, like: Source) -> Source:
    """Other values in the place of a site's own."""
    bias = weights.bias
    return Source(
        kernel=lambda: weights.kernel,
        bias=None if bias is None else lambda: bias,
        shape=like.shape,
        dtype=ir.DataType.from_numpy(weights.kernel.dtype),
        key=(id(weights),),
        original=like.original,
        quant=weights.quant,
        own=like.own,
    )
