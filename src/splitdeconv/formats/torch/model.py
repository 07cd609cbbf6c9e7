"""What exported programs and modules have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.formats.model import Input, Model, Site
from splitdeconv.torch_modules.flat import Flat, first_line
from splitdeconv.torch_modules.operators import APPLY

FLOAT64_MACS = 2_000_000_000  # of a model that is evaluated in float64: a few seconds


class TorchModel(Model):
    """A model of PyTorch. Maps are channels-first; forms may work on channels-last memory inside."""

    format: ClassVar[str] = "torch"
    layout: ClassVar[Layout] = "NCHW"
    layouts: ClassVar[tuple[str, ...]] = ("NHWC", "NHWC-NCHW")
    suffix: ClassVar[str] = ".pt2"
    runtime: ClassVar[str] = "torch"
    reference_runtime: ClassVar[str] = "torch"
    numerics = "exact"

    def refuse(self, site: Site, program: Program) -> str | None:
        missing = [type(step.op).__name__ for step in program.steps if type(step.op) not in APPLY]
        return f"PyTorch's table of operations has no {missing[0]}" if missing else None


def input_of(name: str, tensor: Tensor) -> Input:
    """A tensor among the arguments; open sizes of an exported program are symbols."""
    shape = tuple(size if isinstance(size, int) else None for size in tensor.shape)
    return Input(name, dtype_of(tensor), shape)


def dtype_of(tensor: Tensor) -> str:
    """The NumPy name of its type; bfloat16, which NumPy lacks, is handed over as float32."""
    name = str(tensor.dtype).removeprefix("torch.")
    return "float32" if name == "bfloat16" else name


def array_of(tensor: Tensor) -> Array:
    """Its values, in its type where NumPy has it."""
    plain = tensor.detach().cpu()
    values: Array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()
    return values


def evaluate(module: Flat, feeds: Mapping[str, Array]) -> dict[str, Array] | str:
    """The outputs of ``module``, which is changed, in float64; or why that is unavailable."""
    tensors = [torch.from_numpy(feeds[name]) for name in module.names]
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(*(each.to(torch.float32) if each.is_floating_point() else each for each in tensors))
        if (macs := counter.get_total_flops() // 2) > FLOAT64_MACS:
            return f"in float64 the model's {macs:.2g} multiply-accumulates would take long"
        module.double()
        first, second = (_drawn(module, tensors, seed) for seed in (0, 1))
    except Exception as error:  # the user's own code, written for float32
        return f"the model does not run in float64 ({first_line(error)})"
    if any(not torch.equal(one, other) for one, other in zip(first, second, strict=True)):
        return "the model draws random numbers"
    return {f"output{number}": each.cpu().numpy() for number, each in enumerate(first)}


def _drawn(module: Flat, tensors: Sequence[Tensor], seed: int) -> tuple[Tensor, ...]:
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        found: tuple[Tensor, ...] = module(*(each.double() if each.is_floating_point() else each for each in tensors))
    return found
