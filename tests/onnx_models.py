"""Small ONNX models with deconvs, and what converts and runs them in tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from onnx import helper, numpy_helper

from splitdeconv.deconv.ops import DepthToSpace
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.model import Site
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.formats.onnx.splice import place_of
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate

_FATAL = 4  # the only messages of ONNX Runtime that are printed


def runtime_takes(model: onnx.ModelProto) -> bool:
    """Whether the installed ONNX Runtime makes a session of the model."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    try:
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def newest_opset() -> int:
    """The newest opset that the installed ONNX Runtime reads, of those that the installed onnx knows."""
    for opset in range(onnx.defs.onnx_opset_version(), 7, -1):
        value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
        graph = helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])], "g", [value], [onnx.ValueInfoProto(name="y")]
        )
        imports = [helper.make_opsetid("", opset)]
        ir_version = helper.find_min_ir_version_for(imports)
        model = helper.make_model(graph, opset_imports=imports, ir_version=ir_version)
        if runtime_takes(model):
            return opset
    return 7


RUNTIME_OPSETS = range(7, min(newest_opset(), 26) + 1)  # ONNX Runtime promises nothing before 7
OPSET = min(22, RUNTIME_OPSETS[-1])  # the newest version of ConvTranspose, or before it
COMPUTED_SHAPES = 7  # opset from which on a Reshape over several open sizes can be written
RUNTIME_TYPES = ("float16", "float32")  # of its CPU provider's convolutions; float16 by way of float32

Dims = Sequence[int | str | None] | None


def onnx_type(dtype: str) -> int:
    """ONNX's number for a NumPy name."""
    return int(onnx.TensorProto.DataType.Value({"float32": "FLOAT", "float64": "DOUBLE"}.get(dtype, dtype.upper())))


def tensor(name: str, values: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def deconv_attributes(deconv: Deconv) -> dict[str, Any]:
    """Every attribute of the ConvTranspose, spelled out."""
    axes = deconv.axes
    return {
        "kernel_shape": [axis.kernel for axis in axes],
        "strides": [axis.stride for axis in axes],
        "dilations": [axis.dilation for axis in axes],
        "pads": [axis.pad_begin for axis in axes] + [axis.pad_end for axis in axes],
        "output_padding": [axis.output_pad for axis in axes],
        "group": deconv.groups,
    }


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Dims],
    outputs: Mapping[str, Dims],
    initializers: Mapping[str, Array],
    *,
    opset: int = OPSET,
    ir_version: int | None = None,
    dtype: str = "float32",
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Mapping[str, int] | None = None,
    as_inputs: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model. ``as_inputs`` names initializers that are inputs too; before IR version 4 all are."""
    version = ir_version or helper.find_min_ir_version_for([helper.make_opsetid("", opset)])
    if functions:
        version = max(version, 8)
    stated = list(initializers) if version < 4 else list(as_inputs)
    graph = helper.make_graph(
        list(nodes),
        "model",
        [
            *(helper.make_tensor_value_info(name, onnx_type(dtype), dims) for name, dims in inputs.items()),
            *(
                helper.make_tensor_value_info(name, onnx_type(initializers[name].dtype.name), initializers[name].shape)
                for name in stated
            ),
        ],
        [helper.make_tensor_value_info(name, onnx_type(dtype), dims) for name, dims in outputs.items()],
        [tensor(name, values) for name, values in initializers.items()],
    )
    imports = [helper.make_opsetid(domain, number) for domain, number in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=version, functions=list(functions))


def single(
    deconv: Deconv,
    weights: Weights,
    after: Sequence[onnx.NodeProto] = (),
    more: Mapping[str, Array] | None = None,
    *,
    attributes: Mapping[str, Any] | None = None,
    in_dims: Dims = None,
    output: str = "y",
    out_rank: int | None = None,
    empty_bias: bool = False,
    **options: Any,
) -> onnx.ModelProto:
    """Input ``x``, one ConvTranspose called ``site`` with output ``y``, the nodes ``after`` it, one output."""
    known: dict[str, Array] = {"w": weights.kernel, **(more or {})}
    inputs = ["x", "w"]
    if weights.bias is not None:
        known["b"] = weights.bias
        inputs.append("b")
    elif empty_bias:
        inputs.append("")
    stated = deconv_attributes(deconv) if attributes is None else attributes
    node = helper.make_node("ConvTranspose", inputs, ["y"], name="site", **stated)
    dims = (deconv.batch, deconv.in_channels, *deconv.in_sizes) if in_dims is None else in_dims
    outputs: dict[str, Dims] = {output: [None] * (out_rank or len(deconv.axes) + 2)}
    dtype = weights.kernel.dtype.name
    return build([node, *after], {"x": dims}, outputs, known, dtype=dtype, **options)


def load(model: onnx.ModelProto) -> OnnxModel:
    """The model as the front-end reads it from a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(model, path)
        return OnnxModel.load(path)


def written(model: OnnxModel, check: bool = True) -> onnx.ModelProto:
    """The model as the front-end writes it, checked in full."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out.onnx")
        model.save(path)
        if check:
            onnx.checker.check_model(path, full_check=True)
        found = onnx.load(path)
    if check:
        onnx.shape_inference.infer_shapes(found, check_type=True, strict_mode=True, data_prop=True)
    return found


def sites(model: OnnxModel) -> tuple[Site, ...]:
    return model.find().sites


def runs_here(program: Program) -> bool:
    """Whether the installed ONNX Runtime has a DepthToSpace of 8-bit numbers, if the program needs one.

    That of uint8 came with version 1.21, that of int8 with 1.28.
    """
    quant = program.deconv.quant
    if quant is None or not any(isinstance(step.op, DepthToSpace) for step in program.steps):
        return True
    moved = program.quant.startswith("qlinear") or program.quant == "qdq_u8"
    return _rearranges("uint8" if moved else quant.activation)


@cache
def _rearranges(dtype: str) -> bool:
    node = helper.make_node("DepthToSpace", ["x"], ["y"], blocksize=2)
    model = build([node], {"x": (1, 4, 1, 1)}, {"y": (1, 1, 2, 2)}, {}, opset=17, dtype=dtype)
    return runtime_takes(model)


def programs(model: OnnxModel, site: Site) -> list[tuple[Candidate, Program]]:
    """Every program of the site's lowerings that the model's opset can express and ONNX Runtime has kernels for.

    Not native alone: tests loop over them, and a format that refuses everything else would pass them all. Only before
    ``COMPUTED_SHAPES`` are there sites without another form.
    """
    lowered = [(each, lower(site.deconv, "NCHW", each)) for each in candidates(site.deconv, "NCHW")[0]]
    taken = [(each, program) for each, program in lowered if model.refuse(site, program) is None]
    offered = [(each, program) for each, program in taken if runs_here(program)]
    if place_of(site).opset >= COMPUTED_SHAPES:
        assert any(candidate.lowering != "native" for candidate, _ in offered), f"{site.id}: only native is offered"
    return offered


def conversions(model: onnx.ModelProto, step: int = 1) -> Iterator[tuple[Candidate, onnx.ModelProto]]:
    """The model rewritten by every candidate of its first site; others take the same lowering's default, or split.

    Of a ``step`` above 1 each so manieth candidate only.
    """
    loaded, sound = load(model), passes_check(model)
    first, *others = sites(loaded)
    for candidate, program in programs(loaded, first)[::step]:
        chosen = {first.id: program}
        for site in others:
            offered = {found.lowering: each for found, each in reversed(programs(loaded, site))}
            chosen[site.id] = offered.get(candidate.lowering, offered["split"])
        yield candidate, written(loaded.splice(chosen), sound or candidate.lowering != "native")


def passes_check(model: onnx.ModelProto) -> bool:
    """Whether the checker takes a model; its inference stumbles over an output_shape below the input's size."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except onnx.shape_inference.InferenceError:
        return False
    return True


def convert(model: onnx.ModelProto, name: str = "split") -> onnx.ModelProto:
    """The model with every site rewritten by the default candidate of one lowering."""
    loaded = load(model)
    chosen = {}
    for site in sites(loaded):
        offered = [program for candidate, program in programs(loaded, site) if candidate.matches(name)]
        chosen[site.id] = offered[0]
    return written(loaded.splice(chosen))


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs, by ONNX Runtime with no optimisation that could hide what was written."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def evaluate(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All outputs in float64, for types and versions that ONNX Runtime does not run."""
    found = load(model).float64(feeds)
    assert not isinstance(found, str), found
    return found


def nodes_of(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """All nodes, also those in bodies and functions."""
    stack: list[Any] = [model.graph, *model.functions]
    while stack:
        for node in stack.pop().node:
            yield node
            for attribute in node.attribute:
                stack.extend([*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])])


def count(model: onnx.ModelProto, op_type: str) -> int:
    return sum(node.op_type == op_type for node in nodes_of(model))
