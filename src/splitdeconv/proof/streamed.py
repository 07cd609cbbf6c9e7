"""Proof that a model in chunks gives what the whole model gives, over chunks of drawn sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.streaming import Streaming
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.formats.model import Input, Model
from splitdeconv.proof.whole import Given, compare_models, merge_checks
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets.target import Compiled, Target
from splitdeconv.workers.arrays import dtype_of

_FRAMES = 16  # at least, beyond what states and latency take
_LONGEST = 4  # chunks have at most this part of the frames


@dataclass(frozen=True, slots=True)
class InChunks:
    """A streamed model as one that takes the whole signal.

    Attributes:
        model: the streamed model, ready to run.
        streaming: how it is run.
        states: the inputs that take states.
    """

    model: Compiled
    streaming: Streaming
    states: tuple[Input, ...]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """All outputs for whole inputs, fed in chunks of random sizes, the first as short as can be."""
        name, axis = next(iter(self.streaming.inputs.items()))
        frames, batch = inputs[name].shape[axis], inputs[name].shape[0]
        states = {each.name: _zeros(each, batch) for each in self.states}
        made: dict[str, list[Array]] = {name: [] for name in self.streaming.outputs}
        for begin, end in self._chunks(frames):
            chunk = {name: self._part(name, array, begin, end) for name, array in inputs.items()}
            beyond = np.array(max(0, end - frames), np.int64)
            found = self.model.run({**chunk, **states, self.streaming.beyond: beyond})
            states = {name: found[after] for name, after in self.streaming.states.items()}
            for name, parts in made.items():
                parts.append(found[name])
        return {name: self._joined(name, parts, frames) for name, parts in made.items()}

    def _chunks(self, frames: int) -> Iterator[tuple[int, int]]:
        rng, multiple, begin = np.random.default_rng(frames), self.streaming.multiple, 0
        while begin < frames:
            most = max(1, frames // multiple // _LONGEST) if begin else 1
            end = min(frames, begin + multiple * int(rng.integers(1, most, endpoint=True)))
            yield begin, end
            begin = end
        if self.streaming.latency:
            yield frames, frames + self.streaming.latency

    def _part(self, name: str, array: Array, begin: int, end: int) -> Array:
        """A chunk of an input; behind its end the last frame again, which must not be read."""
        axis = self.streaming.inputs.get(name)
        return array if axis is None else array.take(range(begin, end), axis, mode="clip")

    def _joined(self, name: str, parts: list[Array], frames: int) -> Array:
        output = self.streaming.outputs[name]
        kept = range(output.skip, output.skip + output.length(frames))
        return np.concatenate(parts, output.axis).take(kept, output.axis)


def _zeros(state: Input, batch: int) -> Array:
    """The first state.

    Raises:
        UsageError: more of its sizes than the batch is open.
    """
    sizes = [batch if size is None and axis == 0 else size for axis, size in enumerate(state.shape or ())]
    if None in sizes:
        raise UsageError(f"state '{state.name}' has open sizes, so nothing can be proved; --no-verify leaves it out")
    return np.zeros([size or 0 for size in sizes], dtype_of(state.dtype))


def check_streamed(
    whole: Model,
    streaming: Streaming,
    original: Compilable,
    streamed: tuple[Model, Compilable],
    inputs: Mapping[str, Array],
    runner: Target,
) -> tuple[OutputCheck, ...] | str:
    """Errors of the streamed model's outputs, or the reason why there are none.

    Args:
        whole: the model as it was.
        streaming: how the streamed one is run.
        original: the model as it was, for targets.
        streamed: the streamed one, for targets too.
        inputs: of the user, for what is not streamed.
        runner: what runs both.

    Raises:
        CompileError: the original does not run on the inputs.
        UsageError: the sizes of states are open, or a fixed number of frames does not fit.
        VerificationError: the streamed model does not run.
    """
    model, compilable = streamed
    states = tuple(each for each in model.inputs() if each.name in streaming.states)
    before = runner.compile(original, whole=True)
    after = InChunks(runner.compile(compilable, whole=True), streaming, states)
    shapes = {each.name: _whole_shape(each, streaming) for each in whole.inputs() if each.name in streaming.inputs}
    given = Given({name: array for name, array in inputs.items() if name not in shapes}, (shapes,))
    trials = []
    for trial in range(2):
        feeds = given.feeds(whole, trial)
        if isinstance(feeds, str):
            return feeds
        trials.append(compare_models(whole, before, after, feeds)[0])
    return merge_checks(trials)


def _whole_shape(each: Input, streaming: Streaming) -> tuple[int, ...]:
    """Sizes of a whole input, of more frames than the states hold and look ahead.

    Raises:
        UsageError: the model has a fixed number of frames which makes no chunks.
    """
    axis, multiple = streaming.inputs[each.name], streaming.multiple
    frames = multiple * -(-(_FRAMES + 2 * streaming.latency + 3 * streaming.past) // multiple)
    sizes = [(frames if at == axis else 1) if size is None else size for at, size in enumerate(each.shape or ())]
    if sizes[axis] % multiple:
        raise UsageError(
            f"input '{each.name}' has {sizes[axis]} frames, wanted a multiple of {multiple}, of which a chunk is made"
        )
    return tuple(sizes)
