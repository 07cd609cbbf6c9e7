"""Zoo networks as ONNX: ``torch.onnx.export``, and ONNX Runtime's static quantiser for int8."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx
import onnxscript  # noqa: F401  # the exporter needs it; asked for here, so that its absence is said in one line
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor

from splitdeconv.deconv.weights import Array
from splitdeconv.files import staged
from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork, plain_name, with_operation

OPSET = 20
CALIBRATION_SAMPLES = 8


def write(network: ZooNetwork, path: Path, dtype: str, seed: int, plain: Path | None = None) -> None:
    """Write ``network`` with batch size 1.

    Args:
        network: in evaluation mode.
        path: the file.
        dtype: ``float32``, or ``int8`` for QDQ form with uint8 activations and int8 weights per channel.
        seed: of the calibration inputs.
        plain: its float32 file, if there is one.

    Raises:
        OutputError: the file cannot be written.
    """
    model = export(network) if plain is None else onnx.load(plain)
    with staged(path) as folder:
        if dtype == "float32":
            onnx.save(model, folder / path.name)
        else:
            onnx.save(_quantised(model, network, seed), folder / path.name)


def export(network: ZooNetwork) -> onnx.ModelProto:
    """The network through ``torch.onnx.export``; each :class:`Deconv2d` is one ``ConvTranspose``."""
    direct = with_operation(network, conv_transpose).eval()
    return exported(direct, network)


def exported(module: torch.nn.Module, network: ZooNetwork) -> onnx.ModelProto:
    """Any module that stands for ``network``, through ``torch.onnx.export``."""
    example = network.sample(torch.Generator().manual_seed(0))
    program = torch.onnx.export(
        module,
        (example,),
        input_names=[network.input_name],
        output_names=list(network.output_names),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
        external_data=False,
    )
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return _tidied(model)


def conv_transpose(x: Tensor, layer: Deconv2d) -> Tensor:
    """One ``ConvTranspose`` with the layer's own pads."""
    batch, _, height, width = x.shape
    deconv, (begin, end) = layer.deconv, layer.pads
    kernel, stride = int(deconv.kernel_size[0]), int(deconv.stride[0])
    more = kernel - begin - end
    shape = (batch, deconv.out_channels, (height - 1) * stride + more, (width - 1) * stride + more)
    inputs = (x, deconv.weight, deconv.bias)
    sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [begin, begin, end, end]}
    y: Tensor = torch.onnx.ops.symbolic("ConvTranspose", inputs, sizes, dtype=x.dtype, shape=shape)
    return y


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Deconvs and parameters under the module's names, without stack traces: those hold paths of the machine."""
    for entry in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        del entry.metadata_props[:]
    for tensor in model.graph.initializer:
        tensor.name = plain_name(tensor.name)
    for node in model.graph.node:
        node.input[:] = [plain_name(name) for name in node.input]
        if node.op_type == "ConvTranspose":
            node.name = node.input[1].removesuffix(".deconv.weight")
    return model


class _Samples(CalibrationDataReader):
    """Some inputs from a fixed seed."""

    def __init__(self, network: ZooNetwork, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        drawn = (network.sample(generator).numpy() for _ in range(CALIBRATION_SAMPLES))
        self._feeds = iter([{network.input_name: array} for array in drawn])

    def get_next(self) -> dict[str, Array] | None:
        """The next feed, or None at the end."""
        return next(self._feeds, None)


def _quantised(model: onnx.ModelProto, network: ZooNetwork, seed: int) -> onnx.ModelProto:
    """Static QDQ: shapes inferred, uint8 activations, weights of 7 bits in int8 with a scale per channel."""
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, quantised = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "quantised"))
        onnx.save(model, plain)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantised),
            _Samples(network, seed),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,  # else x86 processors without VNNI saturate the sums, as ONNX Runtime's manual says
            op_types_to_quantize=_QUANTISED,
        )
        return onnx.load(quantised)


_QUANTISED = ["Conv", "ConvTranspose", "Gemm", "MatMul", "Relu", "LeakyRelu", "Add", "Concat", "Resize", "Reshape"]
