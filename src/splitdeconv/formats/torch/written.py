"""A deconv's program as a graph of PyTorch's own operators, the filters split beforehand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from splitdeconv.deconv.movement import numbered
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Weights
from splitdeconv.formats.torch.exchange import examples_of, layout_of
from splitdeconv.torch_modules.axes import channels_innermost
from splitdeconv.torch_modules.flat import Flat
from splitdeconv.torch_modules.functions import is_channels_last
from splitdeconv.torch_modules.interpret import Filters, Routine, interpret


@dataclass(frozen=True, slots=True)
class Written:
    """The graph of one site.

    Attributes:
        graph: its inputs are the maps, ``(N, C, *sizes)`` or without ``N``, and then ``filters``, or the parameters.
        filters: what the convolutions apply; none where the graph makes them of parameters that are computed.
    """

    graph: fx.GraphModule
    filters: tuple[Tensor, ...]


def write(
    program: Program,
    maps: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    like: Tensor | None = None,
    front: Callable[..., Sequence[Tensor]] | None = None,
    behind: Callable[..., Tensor] | None = None,
    more: tuple[Tensor, ...] = (),
    own: Callable[[Tensor], Tensor] | None = None,
) -> Written:
    """The graph of ``program``.

    Args:
        program: of the site.
        maps: inputs of the site, or what stands for them; sizes that are symbols stay open.
        weight, bias: the site's parameters.
        like: an output of the site whose memory format is to be kept; contiguous without one.
        front: what is done with the inputs before the program.
        behind: what is done with the output, and with the tensors ``more``, which are filters too.
        more: what ``behind`` reads.
        own: makes the site's kernel of a weight that is computed, if it is another.
    """
    routine = interpret(program, layout_of(program))
    split: list[Tensor | None] = [weight, bias]
    if not program.deconv.run_time:
        with torch.no_grad():
            split = [None if each is None else each.detach().contiguous() for each in routine.split(weight, bias)]
    present = (*(each for each in split if each is not None), *more)
    last = like is not None and is_channels_last(like)

    def split_now(weight: Tensor, bias: Tensor | None) -> Filters:
        found = routine.split(weight if own is None else own(weight), bias)
        return (weight, *found[1:]) if as_it_is else found

    def compute(*tensors: Tensor) -> Tensor:
        given, given_maps = iter(tensors[len(maps) :]), tensors[: len(maps)]
        x, *others = given_maps if front is None else front(*given_maps)
        batched = x if x.dim() == len(program.deconv.axes) + 2 else x.unsqueeze(0)
        tensors_given = [None if each is None else next(given) for each in split]
        filters = split_now(*tensors_given) if program.deconv.run_time else tensors_given
        y = routine.apply(batched, filters, *others)
        y = y if behind is None else behind(y, *given)
        y = channels_innermost(y) if last else y.contiguous()
        return y if batched is x else y.squeeze(0)

    as_it_is = program.deconv.run_time and _is_filter(routine, weight, own)
    mode = getattr(maps[0], "fake_mode", None) or FakeTensorMode()
    with torch.no_grad(), mode, _without_guards(mode):
        tensors = (
            each if isinstance(each, FakeTensor) else mode.from_tensor(each, static_shapes=True)
            for each in (*maps, *present)
        )
        graph = make_fx(compute, pre_dispatch=True)(*tensors)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return Written(graph, () if program.deconv.run_time else present)


def _is_filter(routine: Routine, weight: Tensor, own: Callable[[Tensor], Tensor] | None) -> bool:
    """Whether a weight that is computed is the filter of the first convolution as it stands."""
    numbers = torch.from_numpy(numbered(tuple(weight.shape)))
    filled, *_ = routine.split(numbers if own is None else own(numbers), None)
    return filled is not None and torch.equal(filled, numbers)


def _without_guards(mode: FakeTensorMode) -> AbstractContextManager[object]:
    """Kernels are chosen by size while a graph is traced; open sizes must not be bound to the kernel of the example."""
    return nullcontext() if mode.shape_env is None else mode.shape_env.suppress_guards()


def alone(program: Program, weights: Weights, own: Callable[[Tensor], Tensor] | None = None) -> Compilable:
    """A site under ``program`` by itself, as it is written into an exported program.

    Args:
        program: of the site.
        weights: its values; a kernel that is computed as the model has it.
        own: as of :func:`write`.
    """
    bias = None if weights.bias is None else torch.from_numpy(weights.bias)
    written = write(program, examples_of(program.deconv), torch.from_numpy(weights.kernel), bias, own=own)
    return Compilable(Flat(WrittenSite(written)))


class WrittenSite(nn.Module):
    """A site alone, as it is written into a program."""

    def __init__(self, written: Written) -> None:
        super().__init__()
        self.graph = written.graph
        self.count = len(written.filters)
        for number, each in enumerate(written.filters):
            self.register_buffer(f"filter{number}", each)

    def forward(self, *maps: Tensor) -> Tensor:
        """The deconv of its maps."""
        found: Tensor = self.graph(*maps, *(getattr(self, f"filter{number}") for number in range(self.count)))
        return found
