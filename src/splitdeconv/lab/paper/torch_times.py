"""A network as PyTorch runs it: a module, without an export."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from splitdeconv.deconv.weights import Array
from splitdeconv.formats.torch.modules import ModuleModel
from splitdeconv.lab import zoo
from splitdeconv.lab.paper.models import SEED


def network_module(name: str) -> tuple[ModuleModel, Mapping[str, Array]]:
    """A network of the zoo, and inputs for it."""
    network = zoo.build(name, SEED)
    example = network.sample(torch.Generator().manual_seed(SEED))
    model = ModuleModel.of(network, (example,), measured=True)
    return model, model.feeds()
