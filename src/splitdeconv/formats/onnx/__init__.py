"""ONNX: ConvTranspose of opsets 1, 11 and 22, anywhere in a model."""

from splitdeconv.formats.onnx.model import OnnxModel

__all__ = ["OnnxModel"]
