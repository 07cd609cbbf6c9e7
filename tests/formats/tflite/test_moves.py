"""Operators that move data, run on numbers of elements, against LiteRT on the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")
from ai_edge_litert import schema_py_generated as tfl

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.index_maps import OTHER, ZERO
from splitdeconv.formats.tflite.graph import Graph
from splitdeconv.formats.tflite.movement import TensorMovement
from splitdeconv.targets.litert import LiteRtModel, interpreter
from tests.formats.tflite.stretched_models import Front
from tests.tflite_models import loaded

SHAPE = (2, 3, 4, 8)
NUMBERS = np.arange(1, np.prod(SHAPE) + 1, dtype=np.float32).reshape(SHAPE)  # 0 is what operators fill with
OTHER_VALUE = -5


def moved(content: bytes) -> Array:
    """What arrives, as the numbers of :data:`NUMBERS`; 0 for zeros."""
    graph = Graph(loaded(content).root, 0)
    found = TensorMovement(graph, graph.root.subgraphs[0].inputs[0], SHAPE).of(graph.outputs[0])
    assert found is not None
    return np.where(found == ZERO, 0, np.where(found == OTHER, OTHER_VALUE, found + 1))


def one(name: str, shape: Sequence[int], *others: Any, options: Any = None, at: int = 0, version: int = 1) -> bytes:
    """One operator on a map of ``SHAPE``; ``others`` are its constant operands."""
    front = Front("float32", SHAPE, None)
    kinds = {"i": "int32", "f": "float32", "b": "bool"}
    constants = [
        front.tree.tensor(kinds[np.asarray(e).dtype.kind], np.shape(e), "c", values=np.asarray(e)) for e in others
    ]
    front.op(name, shape, *constants, options=options, at=at, version=version)
    return front.tree.packed([front.x], [front.value])


PLACES = np.stack(np.meshgrid([1, 0, 1], [2, 2], indexing="ij"), axis=-1)
MOVES = {
    "reshape": one("RESHAPE", (6, 32), (6, -1), options=tfl.ReshapeOptionsT()),
    "transpose": one("TRANSPOSE", (8, 2, 4, 3), (3, 0, 2, 1), options=tfl.TransposeOptionsT()),
    "expand_dims": one("EXPAND_DIMS", (2, 3, 4, 8, 1), -1, options=tfl.ExpandDimsOptionsT()),
    "tile": one("TILE", (2, 6, 4, 24), (1, 2, 1, 3)),
    "gather": one("GATHER", (2, 3, 3, 8), (3, 0, 0), options=tfl.GatherOptionsT(axis=2)),
    "gather_nd": one("GATHER_ND", (3, 2, 4, 8), PLACES, options=tfl.GatherNdOptionsT()),
    "slice": one("SLICE", (2, 2, 4, 5), (0, 1, 0, 3), (2, 2, -1, -1), options=tfl.SliceOptionsT()),
    "strided_slice": one(
        "STRIDED_SLICE",
        (3, 2, 3),
        (1, 1, 3, 6),
        (2, 0, 0, 0),
        (1, 1, -2, -2),
        options=tfl.StridedSliceOptionsT(shrinkAxisMask=1, beginMask=2, endMask=2),
    ),
    "pad": one("PAD", (3, 3, 6, 8), ((0, 1), (0, 0), (2, 0), (0, 0)), options=tfl.PadOptionsT()),
    "padv2": one(
        "PADV2", (3, 3, 4, 8), ((0, 1), (0, 0), (0, 0), (0, 0)), np.float32(OTHER_VALUE), options=tfl.PadV2OptionsT()
    ),
    "reflect": one("MIRROR_PAD", (2, 6, 4, 8), ((0, 0), (2, 1), (0, 0), (0, 0)), options=tfl.MirrorPadOptionsT(mode=0)),
    "symmetric": one(
        "MIRROR_PAD", (2, 6, 4, 8), ((0, 0), (2, 1), (0, 0), (0, 0)), options=tfl.MirrorPadOptionsT(mode=1)
    ),
    "depth_to_space": one("DEPTH_TO_SPACE", (2, 6, 8, 2), options=tfl.DepthToSpaceOptionsT(blockSize=2)),
    "resize": one("RESIZE_NEAREST_NEIGHBOR", (2, 7, 3, 8), (7, 3), options=tfl.ResizeNearestNeighborOptionsT()),
    "resize_corners": one(
        "RESIZE_NEAREST_NEIGHBOR",
        (2, 7, 3, 8),
        (7, 3),
        options=tfl.ResizeNearestNeighborOptionsT(alignCorners=True),
        version=3,
    ),
    "resize_centers": one(
        "RESIZE_NEAREST_NEIGHBOR",
        (2, 7, 3, 8),
        (7, 3),
        options=tfl.ResizeNearestNeighborOptionsT(halfPixelCenters=True),
        version=3,
    ),
    "broadcast_to": one("BROADCAST_TO", (3, 2, 3, 4, 8), (3, 2, 3, 4, 8), version=2),
    "dilate": one("DILATE", (2, 5, 10, 8), (1, 2, 3, 1), np.float32(0), options=tfl.DilateOptionsT()),
    "stablehlo_pad": one(
        "STABLEHLO_PAD",
        (2, 6, 5, 8),
        np.float32(0),
        options=tfl.StablehloPadOptionsT(
            edgePaddingLow=np.array([0, 1, -1, 0]),
            edgePaddingHigh=np.array([0, 0, -1, 0]),
            interiorPadding=np.array([0, 1, 1, 0]),
        ),
    ),
    "scatter_nd": one("SCATTER_ND", (5, 3, 4, 8), ((3,), (0,)), (5, 3, 4, 8), options=tfl.ScatterNdOptionsT(), at=1),
    "select_v2": one("SELECT_V2", SHAPE, [[[[True], [False], [True], [False]]]], np.zeros(1, np.float32), at=1),
    "squeeze": one("SQUEEZE", SHAPE, options=tfl.SqueezeOptionsT(squeezeDims=[])),
}


@pytest.mark.parametrize("name", MOVES)
def test_elements_go_where_litert_puts_them(name: str) -> None:
    (wanted,) = LiteRtModel(interpreter(MOVES[name], "reference", 1)).run({"x": NUMBERS}).values()
    np.testing.assert_array_equal(moved(MOVES[name]), wanted)


@pytest.mark.parametrize("name", ["SPLIT", "SPLIT_V", "UNPACK"])
def test_operators_of_several_outputs(name: str) -> None:
    front = Front("float32", SHAPE, None)
    outputs = [front.tree.tensor("float32", (2, 3, 4) if name == "UNPACK" else (2, 3, 4, 4), f"y{n}") for n in range(2)]
    if name == "UNPACK":
        outputs += [front.tree.tensor("float32", (2, 3, 4), f"y{n}") for n in range(2, 8)]
    operands, options = {
        "SPLIT": ([front.ints(3), front.x], tfl.SplitOptionsT(numSplits=2)),
        "SPLIT_V": ([front.x, front.ints([4, 4]), front.ints(3)], tfl.SplitVOptionsT(numSplits=2)),
        "UNPACK": ([front.x], tfl.UnpackOptionsT(num=8, axis=3)),
    }[name]
    front.tree.operator(name, 1, operands, outputs[0], options)
    front.tree.graph.operators[-1].outputs = np.asarray(outputs, np.int32)
    content = front.tree.packed([front.x], [outputs[1]])
    (wanted,) = LiteRtModel(interpreter(content, "reference", 1)).run({"x": NUMBERS}).values()
    np.testing.assert_array_equal(moved(content), wanted)


def scattered(computation: int = 1) -> bytes:
    """JAX's ``zeros.at[:, ::2, ::2].set(x)``; or with a computation that gives its first argument."""
    front = Front("float32", SHAPE, None)
    whole = (2, 6, 8, 8)
    places = np.stack(np.meshgrid(np.arange(0, 6, 2), np.arange(0, 8, 2), indexing="ij"), axis=-1)
    zeros = front.tree.tensor("float32", whole, "zeros", values=np.zeros(whole))
    scalars = [tfl.TensorT(shape=np.zeros(0, np.int32), type=0, name=name) for name in ("old", "new")]
    front.tree.further.append(
        tfl.SubGraphT(
            tensors=scalars,
            operators=[],
            inputs=np.array([0, 1], np.int32),
            outputs=np.array([computation], np.int32),
            name=b"set",
        )
    )
    options = tfl.StablehloScatterOptionsT(
        updateWindowDims=np.array([0, 3]),
        insertedWindowDims=np.array([1, 2]),
        scatterDimsToOperandDims=np.array([1, 2]),
        indexVectorDim=2,
        uniqueIndices=True,
        updateComputationSubgraphIndex=1,
    )
    front.op("STABLEHLO_SCATTER", whole, zeros, front.ints(places), options=options, at=2)
    return front.tree.packed([front.x], [front.value])


def test_a_scatter_that_overwrites_puts_elements_where_stablehlo_does() -> None:
    wanted = np.zeros((2, 6, 8, 8), np.float32)
    wanted[:, ::2, ::2] = NUMBERS
    np.testing.assert_array_equal(moved(scattered()), wanted)


def test_and_one_that_computes_is_left_alone() -> None:
    with pytest.raises(AssertionError):
        moved(scattered(computation=0))
