"""One ordinary convolution as an ONNX or TFLite model, for the study of efficiency."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from splitdeconv.errors import MissingExtraError
from splitdeconv.files import staged

_OPSET, _IR_VERSION = 17, 8
_TFLITE_INPUT = "serving_default_args_0"  # as LiteRT's exporter calls it

Shape = tuple[int, int, int, int]


def write_convolution(
    path: Path, size: int, kernel: int, channels: tuple[int, int], pads: tuple[int, int]
) -> tuple[str, Shape]:
    """Write a convolution with random weights and a bias, unless the file is there; the format goes by the ending.

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
    if path.suffix == ".onnx":
        name, shape, write = "x", (1, channels[0], size, size), _write_onnx
    else:
        name, shape, write = _TFLITE_INPUT, (1, size, size, channels[0]), _write_tflite
    if not path.exists():
        scale = 1 / kernel / channels[0] ** 0.5
        weights = np.random.default_rng(0).standard_normal((channels[1], channels[0], kernel, kernel)) * scale
        with staged(path) as folder:
            write(folder / path.name, shape, weights.astype(np.float32), pads)
    return name, shape


def _write_onnx(path: Path, shape: Shape, weights: np.ndarray, pads: tuple[int, int]) -> None:
    outs = weights.shape[0]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], pads=[pads[0], pads[0], pads[1], pads[1]])
    graph = helper.make_graph(
        [node],
        "convolution",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (shape[0], outs, *shape[2:]))],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.zeros(outs, np.float32), "b")],
    )
    imports = [helper.make_opsetid("", _OPSET)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION), path)


def _write_tflite(path: Path, shape: Shape, weights: np.ndarray, pads: tuple[int, int]) -> None:
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
        litert_torch.convert(last, (torch.zeros(shape),)).export(str(path))
