"""Upsamplings and inserted zeros as exporters and tools wrote them (tests/fixtures/make_stretched.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Findings
from splitdeconv.formats.onnx import OnnxModel
from tests.onnx_models import RUNTIME_OPSETS, load, programs, run, written

STORED = Path(__file__).parents[2] / "fixtures" / "stretched"
SHAPE = (1, 4, 6, 8)
REWRITTEN = {
    *("interpolate", "recomputed", "repeat_interleave", "expand", "padded", "skip", "one_by_one", "upfirdn2d"),
    *("into_zeros", "norm"),
}
FLOAT = ["torch_older", "torch_older_open", "torch_newer", "torch_newer_open", "onnxslim", "onnxslim_open"]
FLOAT += ["onnxsim_open", "float16"]
SINGLE = {path.stem for path in STORED.glob("*.onnx") if path.stem.partition("_")[0] in ("jax", "tf", "paddle")}
TOLERANCE = {"float16": 1e-2}


def model_of(name: str) -> onnx.ModelProto:
    return onnx.load(STORED / f"{name}.onnx")


def ways(proto: onnx.ModelProto, model: OnnxModel, found: Findings) -> Iterator[tuple[str, str]]:
    """For each site its name, and the output behind it, which is called after the way of stretching."""
    names = {output.name for output in proto.graph.output}
    readers = {source: node for node in proto.graph.node for source in node.input}
    nodes = {node.name or f"Conv@{node.output[0]}": node for node in proto.graph.node}
    for site in found.sites:
        output = nodes[site.id].output[0]
        while output not in names:
            output = readers[output].output[0]
        yield site.id, output.removeprefix("y_").removesuffix("_QuantizeLinear_Output")


def sites_of(name: str) -> set[str]:
    proto = model_of(name)
    model = load(proto)
    return {way for _, way in ways(proto, model, model.find())}


@pytest.mark.parametrize("name", FLOAT)
def test_all_that_may_be_rewritten_is_found_and_nothing_else(name: str) -> None:
    # The tool for float16 casts the scales of a Resize, through which ONNX's inference does not see channels.
    assert sites_of(name) == REWRITTEN - ({"skip"} if name == "float16" else set())


def test_of_a_quantised_network_those_are_found_that_sum_no_weights() -> None:
    assert sites_of("qdq") == {"one_by_one", "upfirdn2d", "into_zeros"}


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_networks_of_one_convolution(name: str) -> None:
    assert len(load(model_of(name)).find().sites) == ("stays" not in name)


@pytest.mark.parametrize("name", [*FLOAT, "qdq", *sorted(each for each in SINGLE if "stays" not in each)])
def test_rewritten_by_a_form_each_they_compute_the_same(name: str) -> None:
    """Trained values are real here: sums of weights are rounded, stored integers are equal.

    Not as uint8 × int8 products, of which some processors saturate the sum of two.
    """
    proto = model_of(name)
    (opset,) = [each.version for each in proto.opset_import if each.domain == ""]
    if opset not in RUNTIME_OPSETS:
        pytest.skip(f"the installed ONNX Runtime does not read opset {opset}")
    model = load(proto)
    chosen = {}
    for number, site in enumerate(model.find().sites):
        every = [(each, program) for each, program in programs(model, site) if each.lowering != "native"]
        offered = [program for candidate, program in every if candidate.quant != "qlinear"]
        chosen[site.id] = offered[number % len(offered)]
    (entry,) = proto.graph.input
    shape = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
    x: Array = np.random.default_rng(0).standard_normal(shape if all(shape) else SHAPE)
    feeds = {entry.name: x.astype(onnx.helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type))}
    wanted, found = run(proto, feeds), run(written(model.splice(chosen), check=False), feeds)
    assert list(wanted) == list(found)
    for output, values in wanted.items():
        np.testing.assert_allclose(found[output], values, 0, TOLERANCE.get(name, 1e-5), err_msg=output)
