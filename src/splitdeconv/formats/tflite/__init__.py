"""TFLite models: FlatBuffers of schema version 3, as LiteRT, TFLite Micro and Arm's Vela take them."""

from splitdeconv.formats.tflite.model import TfliteModel

__all__ = ["TfliteModel"]
