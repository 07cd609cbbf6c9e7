"""One ordinary convolution as an ONNX or TFLite model, for the study of efficiency."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.errors import MissingExtraError

_OPSET, _IR_VERSION = 17, 8

Shape = tuple[int, int, int, int]


def write_convolution(
    path: Path, size: int, kernel: int, channels: tuple[int, int], pads: tuple[int, int]
) -> tuple[str, Shape]:
    """Write a convolution with random weights and a bias; the format goes by the ending.

    Args:
        path: ``.onnx`` (NCHW) or ``.tflite`` (NHWC).
        size, kernel: of the map and of the filter, on both axes.
        channels: in and out.
        pads: begin and end of both axes.

    Returns:
        The input's name and shape.

    Raises:
        MissingExtraError: the exporter of TFLite is not installed.
    """
    rng = np.random.default_rng(0)
    weights = (rng.standard_normal((channels[1], channels[0], kernel, kernel)) / kernel / channels[0] ** 0.5).astype(
        "f4"
    )
    if path.suffix == ".onnx":
        return _write_onnx(path, size, weights, pads)
    return _write_tflite(path, size, weights, pads)


def _write_onnx(path: Path, size: int, weights: np.ndarray, pads: tuple[int, int]) -> tuple[str, Shape]:
    outs, ins = weights.shape[:2]
    shape = (1, ins, size, size)
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[pads[0], pads[0], pads[1], pads[1]])
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, outs, size, size))],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(outs, np.float32), "b")],
    )
    imports = [helper.make_opsetid("", _OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION), path)
    return "x", shape


def _write_tflite(path: Path, size: int, weights: np.ndarray, pads: tuple[int, int]) -> tuple[str, Shape]:
    try:
        import litert_torch  # noqa: PLC0415  # an extra
        import torch  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtraError("a TFLite convolution", error.name or "litert-torch", "zoo") from error
    outs, ins, kernel, _ = weights.shape
    layer = torch.nn.Conv2d(ins, outs, kernel, padding="same" if pads[0] != pads[1] else pads[0])
    layer.weight.data = torch.from_numpy(weights)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        last = litert_torch.to_channel_last_io(layer, [0], [0]).eval()
        litert_torch.convert(last, (torch.zeros(1, size, size, ins),)).export(str(path))
    return "serving_default_args_0", (1, size, size, ins)
