"""Zoo networks as TFLite: LiteRT's exporter for PyTorch, and its quantiser for int8."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_quantizer import quantizer, recipe
from litert_converter.mlir import ir
from litert_converter.mlir.dialects import stablehlo
from litert_torch.backend.lowerings import registry
from torch import Tensor

from splitdeconv.errors import UsageError, lacks_memory
from splitdeconv.files import staged
from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork, folded, with_operation

CALIBRATION_SAMPLES = 8
SIGNATURE = "serving_default"


def write(network: ZooNetwork, path: Path, dtype: str, seed: int, plain: Path | None = None) -> None:
    """Write ``network`` with batch size 1 and NHWC images.

    Args:
        network: in evaluation mode.
        path: the file.
        dtype: ``float32``, or ``int8`` for static quantisation: int8 activations, int8 weights per channel.
        seed: of the calibration inputs.
        plain: its float32 file, if there is one.

    Raises:
        OutputError: the file cannot be written.
        UsageError: the exporter does not take the network.
    """
    with staged(path) as folder:
        file = folder / path.name
        if plain is None:
            _export(network, file)
        else:
            shutil.copyfile(plain, file)
        if dtype == "int8":
            _quantise(network, file, seed)


def _export(network: ZooNetwork, file: Path) -> None:
    example = network.sample(torch.Generator().manual_seed(0))
    direct = with_operation(folded(network), transpose_conv).eval()
    with torch.no_grad():
        found = network(example)
    outputs = found if isinstance(found, tuple) else (found,)
    images = [number for number, each in enumerate(outputs) if each.ndim == 4]
    last = litert_torch.to_channel_last_io(direct, [0] if example.ndim == 4 else [], images)
    try:
        litert_torch.convert(last.eval(), (_as_given(example),)).export(str(file))
    except Exception as error:  # of the exporter's compiler, whose errors have no class of their own
        if lacks_memory(error):
            raise
        raise UsageError(f"{file.name}: LiteRT's exporter does not take the network ({error}); wanted .onnx") from None


def _as_given(example: Tensor) -> Tensor:
    """An image as TFLite has it, NHWC; other inputs as they are."""
    return example.permute(0, 2, 3, 1).contiguous() if example.ndim == 4 else example


def _quantise(network: ZooNetwork, file: Path, seed: int) -> None:
    made = quantizer.Quantizer(str(file), recipe.static_wi8_ai8())
    generator = torch.Generator().manual_seed(seed)
    drawn = [_as_given(network.sample(generator)).numpy() for _ in range(CALIBRATION_SAMPLES)]
    calibrated = made.calibrate({SIGNATURE: [{"args_0": array} for array in drawn]})
    quantised = made.quantize(calibrated).quantized_model
    file.write_bytes(quantised)


def transpose_conv(x: Tensor, layer: Deconv2d) -> Tensor:
    """One ``TRANSPOSE_CONV``, NHWC inside; NCHW outside as PyTorch has it."""
    deconv = layer.deconv
    kernel = deconv.weight.permute(1, 2, 3, 0)
    arguments = (x.permute(0, 2, 3, 1), kernel, deconv.bias, int(deconv.stride[0]), *layer.pads)
    y: Tensor = torch.ops.splitdeconv_zoo.transpose_conv(*arguments)
    return y.permute(0, 3, 1, 2)


# The exporter fails on odd kernels with uneven pads and pads the output with zeros where PyTorch computes it
# (output_padding), so the operator is handed to it as what it is in TFLite.
@torch.library.custom_op("splitdeconv_zoo::transpose_conv", mutates_args=())  # type: ignore[untyped-decorator]
def _transpose_conv(x: Tensor, kernel: Tensor, bias: Tensor, stride: int, begin: int, end: int) -> Tensor:
    raise NotImplementedError("stands for an operator of TFLite and does not run in PyTorch")


@_transpose_conv.register_fake  # type: ignore[untyped-decorator]
def _(x: Tensor, kernel: Tensor, bias: Tensor, stride: int, begin: int, end: int) -> Tensor:
    batch, height, width, _ = x.shape
    more = kernel.shape[1] - begin - end
    return x.new_empty(batch, (height - 1) * stride + more, (width - 1) * stride + more, bias.shape[0])


@registry.lower(torch.ops.splitdeconv_zoo.transpose_conv)  # type: ignore[untyped-decorator]
def _lower(context: Any, x: Any, kernel: Any, bias: Any, stride: int, begin: int, end: int) -> Any:
    """A call that the converter turns into ``tfl.transpose_conv``."""
    shape = list(context.node.meta["val"].shape)
    size = stablehlo.constant(ir.DenseElementsAttr.get(np.array(shape, np.int32)))
    number = ir.IntegerType.get_signless(32)
    options = {
        "padding": ir.StringAttr.get("SAME" if begin or end else "VALID"),
        "stride_h": ir.IntegerAttr.get(number, stride),
        "stride_w": ir.IntegerAttr.get(number, stride),
        "fused_activation_function": ir.StringAttr.get("NONE"),
    }
    return stablehlo.custom_call(
        result=[ir.RankedTensorType.get(shape, x.type.element_type)],
        inputs=[size, kernel, x, bias],
        call_target_name=ir.StringAttr.get("tfl.transpose_conv"),
        has_side_effect=ir.BoolAttr.get(False),
        backend_config=ir.StringAttr.get(str(ir.DictAttr.get(options))),
    )
