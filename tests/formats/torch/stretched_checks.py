"""What the tests of stretched maps ask of an exported program."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import nn

from splitdeconv import lowerings
from splitdeconv.formats.torch.exported import ExportedModel

X = torch.randn(2, 4, 5, 6, generator=torch.Generator().manual_seed(0))


def model_of(module: nn.Module, *inputs, dynamic_shapes=None, decomposed: bool = False) -> ExportedModel:
    program = torch.export.export(module.eval(), inputs or (X,), dynamic_shapes=dynamic_shapes)
    return ExportedModel(program.run_decompositions() if decomposed else program)


def programs_of(model: ExportedModel, name: str) -> dict:
    found = {}
    for site in model.find().sites:
        forms = [each for each in lowerings.candidates(site.deconv, "NCHW")[0] if each.lowering == name]
        found[site.id] = lowerings.lower(site.deconv, "NCHW", forms[0])
    return found


def whole(module: nn.Module) -> nn.Module:
    """The module with small whole numbers in its parameters, so that all sums are exact."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in module.parameters():
            each.copy_(torch.randint(-4, 5, each.shape, generator=generator))
    return module


def with_one_of(names: Iterable[str], words: tuple[str, str]) -> list[Any]:
    """Every name with one of both in every run, with the other in the long one."""
    return [
        pytest.param(name, flag, marks=() if flag == number % 2 else pytest.mark.long, id=f"{name}-{word}")
        for number, name in enumerate(names)
        for flag, word in zip((False, True), words, strict=True)
    ]
