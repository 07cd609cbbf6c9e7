"""PyTorch: exported programs (``.pt2``), and modules as they stand in a program."""

from splitdeconv.formats.torch.model import TorchModel

__all__ = ["TorchModel"]
