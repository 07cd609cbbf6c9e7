"""PyTorch: exported programs (``.pt2``), and modules as they stand in a program."""

from splitdeconv.formats.torch.exported import ExportedModel

__all__ = ["ExportedModel"]
