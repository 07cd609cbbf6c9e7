"""Modules that work in chunks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from splitdeconv.deconv.streaming import Streaming
from splitdeconv.errors import UsageError, VerificationError
from splitdeconv.torch_modules.flat import positional
from splitdeconv.torch_modules.modules import thaw
from splitdeconv.torch_modules.observe import copy_of
from splitdeconv.torch_modules.streaming import Shaped, stream_graph, traced
from splitdeconv.torch_modules.streaming_rules import rule_for

# Two orders of summation in float64 differ by about 1e-15 of the largest value, wrong samples by more than this.
EXACT = 1e-9
_FRAMES = 16  # of the proof, beyond what states and latency take
Axes = tuple[int | None, ...]


class Streamed(nn.Module):
    """A module that takes a chunk and a state, and returns samples and the next state.

    Its samples are late: of each output the first ``skip`` are none of the signal's, and the last ones come when
    ``latency`` more frames are fed. :meth:`run` does all of that.

    Attributes:
        latency: frames that must follow a frame until everything that it reaches has been made.
        multiple: chunks have a multiple of this number of frames.
        skip: of each output, the samples to be left out at the begin of the stream.
        step: the graph; its deconvs are modules, for :func:`splitdeconv.torch.convert`.
    """

    def __init__(self, step: fx.GraphModule, axes: Axes, streaming: Streaming, states: Sequence[Shaped]) -> None:
        super().__init__()
        self.step = step
        self.streaming = streaming
        self.latency, self.multiple = streaming.latency, streaming.multiple
        self.skip = tuple(each.skip for each in streaming.outputs.values())
        self._axes, self._states = axes, tuple(states)

    def forward(
        self, chunk: Tensor, state: Sequence[Tensor], *others: Tensor, beyond: int = 0
    ) -> tuple[Any, list[Tensor]]:
        """Samples, as the module returned them, and the next state.

        Args:
            chunk: the next frames of the first input; their number is a multiple of ``multiple``.
            state: :meth:`initial_state`, then what the call before returned.
            others: the other inputs, the same frames of those that are streamed.
            beyond: how many of all frames so far lie behind the end of the signal.
        """
        position, *kept = state
        behind = torch.full_like(position, beyond)
        results, after = self.step(chunk, *others, position, behind, *kept)
        return results, after

    def initial_state(self, batch: int | None = None) -> list[Tensor]:
        """The state before the first chunk: all zeros, of the type and on the device of the parameters.

        Args:
            batch: items of the batch; None takes as many as the example had.
        """
        like = next(self.parameters(), torch.zeros(()))
        made = [torch.zeros((), dtype=torch.int64, device=like.device)]
        for shape, dtype in self._states:
            kind = like.dtype if dtype.is_floating_point else dtype
            sizes = shape if batch is None else (batch, *shape[1:])
            made.append(torch.zeros(sizes, dtype=kind, device=like.device))
        return made

    def run(self, chunks: Iterable[Tensor | tuple[Tensor, ...]], *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """The samples of the signal and no others, chunk by chunk, those that come last too; a tuple of all outputs.

        Args:
            chunks: of the first input, or of all streamed ones.
            others: the inputs that are the same for every chunk.
        """
        state, frames, done = None, 0, [0] * len(self.skip)
        last: tuple[Tensor, ...] = ()
        for each in chunks:
            last = each if isinstance(each, tuple) else (each,)
            state = self.initial_state(len(last[0])) if state is None else state
            frames += self._length(last[0])
            results, state = self._step(last, state, others, 0)
            yield self._cut(results, done, None)
        if state is not None and self.latency:
            zeros = tuple(self._zeros(value, axis) for value, axis in zip(last, self._streamed, strict=True))
            results, _ = self._step(zeros, state, others, self.latency)
            yield self._cut(results, done, frames)

    @property
    def _streamed(self) -> tuple[int, ...]:
        return tuple(axis for axis in self._axes if axis is not None)

    def _length(self, chunk: Tensor) -> int:
        return int(chunk.shape[self._streamed[0]])

    def _step(self, chunks: tuple[Tensor, ...], state: Any, others: tuple[Tensor, ...], beyond: int) -> tuple[Any, Any]:
        """A call with the streamed inputs and the others in their places."""
        streamed, same = iter(chunks), iter(others)
        first, *rest = (next(same if axis is None else streamed) for axis in self._axes)
        results, after = self(first, state, *rest, beyond=beyond)
        return results, after

    def _zeros(self, value: Tensor, axis: int) -> Tensor:
        return value.new_zeros([self.latency if at == axis else size for at, size in enumerate(value.shape)])

    def _cut(self, results: Any, done: list[int], frames: int | None) -> tuple[Tensor, ...]:
        """What belongs to the signal of one call's outputs; ``done`` counts the samples of the calls before."""
        found = []
        outputs = self.streaming.outputs.values()
        for number, (value, output) in enumerate(zip(_flat(results), outputs, strict=True)):
            begin, size = max(0, output.skip - done[number]), value.shape[output.axis]
            end = size if frames is None else min(size, output.skip + output.length(frames) - done[number])
            done[number] += size
            found.append(value.narrow(output.axis, min(begin, size), max(0, end - begin)))
        return tuple(found)


def streaming(
    module: nn.Module,
    example_inputs: Sequence[Any] | Tensor,
    axis: int | Sequence[int | None] = -1,
    *,
    verify: bool = True,
) -> Streamed:
    """A copy of ``module`` that works in chunks, equal to the whole over any chunking; ``module`` is not changed.

    Its convolutions and deconvs keep the inputs that the next chunk needs, and no sums of outputs. Pads of zeros at the
    end of the signal are look-ahead, which makes latency.

    Args:
        module: of ordinary and transposed convolutions, pools, element-wise functions and what works on other axes.
        example_inputs: a tensor, or one to four, of a signal of any length that the module takes.
        axis: the streamed axis of the first input, the others being the same for every chunk; or one for each input.
        verify: whether to compare both on the example, repeated until it is long enough, in float64.

    Raises:
        UsageError: the module cannot be traced, or a call needs the whole signal.
        VerificationError: the result is not equal.
    """
    example = positional(example_inputs)
    axes = _axes(example, axis)
    frames = next(value.shape[at] for value, at in zip(example, axes, strict=True) if at is not None)
    whole = thaw(copy_of(module)).eval()
    found, walk = stream_graph(traced(whole, example), axes, frames, rule_for)
    streamed = Streamed(walk.module, axes, found, walk.shapes)
    streamed.eval()
    if verify:
        _prove(module, streamed, example)
    return streamed


def _axes(example: tuple[Any, ...], axis: int | Sequence[int | None]) -> Axes:
    """The streamed axes, counted from the begin.

    Raises:
        UsageError: an input has no such axis, or no input has one.
    """
    given = (axis, *[None] * (len(example) - 1)) if isinstance(axis, int) else tuple(axis)
    if len(given) != len(example) or all(each is None for each in given):
        raise UsageError(
            f"axis is {axis}, wanted one number, or one for each of {len(example)} inputs (None: not streamed)"
        )
    for value, each in zip(example, given, strict=True):
        if each is not None and not -value.dim() <= each < value.dim():
            raise UsageError(f"axis is {each}, and the input has axes 0 to {value.dim() - 1}")
    return tuple(None if at is None else at % value.dim() for value, at in zip(example, given, strict=True))


def _prove(module: nn.Module, streamed: Streamed, example: tuple[Any, ...]) -> None:
    """Compare a module with its streamed copy, in float64.

    Raises:
        VerificationError: they differ.
    """
    axes, multiple = streamed._axes, streamed.multiple
    least = _FRAMES + 2 * streamed.latency + 3 * streamed.streaming.past
    inputs = tuple(
        _wide(value, axis, -(-least // multiple) * multiple) for value, axis in zip(example, axes, strict=True)
    )
    signals = [value for value, axis in zip(inputs, axes, strict=True) if axis is not None]
    others = [value for value, axis in zip(inputs, axes, strict=True) if axis is None]
    with torch.no_grad():
        wanted = _flat(thaw(copy_of(module)).eval().double()(*inputs))
        chunks = zip(
            *(_chunks(value, axis, multiple) for value, axis in zip(signals, streamed._streamed, strict=True)),
            strict=True,
        )
        parts = list(copy_of(streamed).double().run(chunks, *others))
    for number, (whole, output) in enumerate(zip(wanted, streamed.streaming.outputs.values(), strict=True)):
        found = torch.cat([part[number] for part in parts], output.axis)
        if found.shape != whole.shape or (found - whole).abs().max() > EXACT * whole.abs().max():
            raise VerificationError(f"in chunks output {number} of {type(module).__name__} differs from the whole")


def _wide(value: Any, axis: int | None, frames: int) -> Any:
    """An example in float64, repeated along its streamed axis to so many frames."""
    if not isinstance(value, Tensor):
        return value
    value = value.double() if value.is_floating_point() else value
    return (
        value
        if axis is None
        else value.index_select(axis, torch.arange(frames, device=value.device) % value.shape[axis])
    )


def _chunks(value: Tensor, axis: int, multiple: int) -> Iterator[Tensor]:
    """Chunks of one, two, three … times the multiple, and the rest."""
    begin, size = 0, multiple
    while begin < value.shape[axis]:
        yield value.narrow(axis, begin, min(size, value.shape[axis] - begin))
        begin, size = begin + size, size + multiple


def _flat(results: Any) -> tuple[Tensor, ...]:
    return tuple(results) if isinstance(results, tuple | list) else (results,)
