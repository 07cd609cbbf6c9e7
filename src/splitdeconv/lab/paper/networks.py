"""The six networks of the paper as lists of layers, in the paper's order."""

from __future__ import annotations

from splitdeconv.accelerator.layers import Network, network_names, read_network

NAMES = ("dcgan", "sngan", "fst", "artgan", "gpgan", "mde")
TITLES = {"dcgan": "DCGAN", "sngan": "SNGAN", "fst": "FST", "artgan": "ArtGAN", "gpgan": "GP-GAN", "mde": "MDE"}
ARTGAN = (
    "ArtGAN's layout is ours (that of its own publication, arXiv 1702.03410): the paper counts 822.08 M "
    "multiply-accumulates with every deconv at stride 2, which no published layout gives."
)


def network(name: str) -> Network:
    """The layers of one of ``NAMES``."""
    path = network_names()[name]
    return read_network(path, path.name)
