"""Deconvs in a row, as in generators: every form on all of them, and nothing between two sites that undoes itself."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from splitdeconv.deconv.ops import Concat, Reshape
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from tests.onnx_models import build, load, run, sites, written

ELEMENT_WISE = ("Relu", "BatchNormalization", "Identity")
ATTRIBUTES = {"strides": [2, 2], "pads": [1, 1, 1, 1]}


def chain() -> tuple[onnx.ModelProto, Array]:
    """Two deconvs with BatchNormalization and Relu behind each, of whole numbers."""
    rng = np.random.default_rng(0)
    nodes, known, value = [], {}, "x"
    for number in range(2):
        known[f"w{number}"] = rng.integers(-2, 3, (4, 4, 4, 4)).astype(np.float32)
        norm = ("scale", "shift", "mean")
        known |= {f"{name}{number}": rng.integers(-2, 3, 4).astype(np.float32) for name in norm}
        known[f"var{number}"] = np.ones(4, np.float32)
        parameters = [f"{name}{number}" for name in (*norm, "var")]
        nodes += [
            helper.make_node("ConvTranspose", [value, f"w{number}"], [f"d{number}"], name=f"d{number}", **ATTRIBUTES),
            helper.make_node("BatchNormalization", [f"d{number}", *parameters], [f"n{number}"], epsilon=0.0),
            helper.make_node("Relu", [f"n{number}"], [f"r{number}"]),
        ]
        value = f"r{number}"
    x = rng.integers(-2, 3, (1, 4, 3, 5)).astype(np.float32)
    return build(nodes, {"x": x.shape}, {value: [None] * 4}, known, opset=17), x


def undone(model: onnx.ModelProto) -> list[str]:
    """Transposes whose only reader, through element-wise nodes, is a Transpose back."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        after = node
        while len(readers.get(after.output[0], [])) == 1:
            (after,) = readers[after.output[0]]
            if after.op_type not in ELEMENT_WISE:
                break
        if node.op_type == after.op_type == "Transpose" and after is not node:
            first, second = (list(each.attribute[0].ints) for each in (node, after))
            found += [node.name] if [first[axis] for axis in second] == sorted(first) else []
    return found


def test_every_form_on_a_whole_chain() -> None:
    model, x = chain()
    loaded = load(model)
    wanted = run(model, {"x": x})
    first, _ = sites(loaded)
    for candidate in candidates(first.deconv, "NCHW")[0]:
        programs = {site.id: lower(site.deconv, "NCHW", candidate) for site in sites(loaded)}
        converted = written(loaded.splice(programs))
        assert not undone(converted), candidate
        for name, values in run(converted, {"x": x}).items():
            np.testing.assert_array_equal(values, wanted[name], str(candidate))


def test_the_check_sees_a_transpose_that_is_undone() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], name="there", perm=[0, 2, 3, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Transpose", ["b"], ["y"], perm=[0, 3, 1, 2]),
    ]
    assert undone(build(nodes, {"x": [1, 2, 3, 4]}, {"y": [None] * 4}, {})) == ["there"]


def test_rows_are_flat_before_they_are_joined() -> None:
    """Otherwise ONNX Runtime moves the Transposes behind the Concat, away from the convolutions that could do them."""
    deconv = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(4, 2, 1, 1, 1, 0, 8)), 8, 8)
    for name in ("split_rows", "split_row_groups"):
        steps = lower(deconv, "NCHW", Candidate(name)).steps
        rows = next(step for step in steps if isinstance(step.op, Concat) and step.op.axis == 2)
        assert all(isinstance(steps[value - 1].op, Reshape) for value in rows.inputs)


def test_a_quantised_value_between_two_sites_keeps_a_type_where_the_model_states_none() -> None:
    """A DequantizeLinear without a zero-point has the type of what it reads, whoever writes that."""
    rng = np.random.default_rng(0)
    known = {name: np.float32(scale) for name, scale in (("xs", 0.05), ("ws", 0.01), ("ys", 0.1))}
    known |= {"zero": np.uint8(0), "w": rng.integers(-60, 60, (2, 2, 4, 4)).astype(np.int8)}
    nodes = [helper.make_node("DequantizeLinear", ["x", "xs", "zero"], ["v0"])]
    for number in range(2):
        real, weight, made, stored = (f"{name}{number}" for name in "vwdq")
        nodes += [
            helper.make_node("DequantizeLinear", ["w", "ws"], [weight]),
            helper.make_node("ConvTranspose", [real, weight], [made], name=f"up{number}", **ATTRIBUTES),
            helper.make_node("QuantizeLinear", [made, "ys", "zero"], [stored]),
            helper.make_node("DequantizeLinear", [stored, "ys"], [f"v{number + 1}"]),
        ]
    model = load(build(nodes, {"x": (1, 2, 3, 5)}, {"v2": [None] * 4}, known, opset=17, dtype="uint8"))
    found = model.find().sites
    for quant in ("qdq", "qlinear"):
        program = Candidate("split", "union", "depth_to_space", quant)
        rewritten = model.splice({site.id: lower(site.deconv, "NCHW", program) for site in found})
        assert "ConvTranspose" not in rewritten.operator_counts()
