"""A module made one that works in chunks: its graph, traced by ``torch.fx``, in which calls keep what they need.

Before: ``conv(x)`` with pads of zeros on both sides.
After: ``conv(torch.cat([state, inside(x)], -1))`` without pads, and the end of that is the next state. Deconvs keep
inputs in the same way, and cut what belongs to other chunks. Submodules stay submodules, so that
:func:`splitdeconv.torch.convert` takes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from splitdeconv.deconv.streaming import NEVER, NotStreamableError, Reach, Signal, SignalWalk, Streaming, output_of
from splitdeconv.errors import UsageError
from splitdeconv.torch_modules.observe import CONV_TRANSPOSE

Shaped = tuple[tuple[int, ...], torch.dtype]  # of a state
POSITION, BEYOND = "position", "beyond"
# torch.fx reads the number of inputs from the signature.
_FORWARDS = (
    lambda self, a: self.module(a),
    lambda self, a, b: self.module(a, b),
    lambda self, a, b, c: self.module(a, b, c),
    lambda self, a, b, c, d: self.module(a, b, c, d),
)


def inside(
    x: Tensor, position: Tensor, beyond: Tensor, frames: int, axis: int, rate: tuple[int, int], delay: int, extra: int
) -> Tensor:
    """``x`` with zeros outside the signal.

    Args:
        x: samples of a chunk.
        position: frames of earlier chunks.
        beyond: how many of these and the chunk's frames lie behind the end of the signal.
        frames: of the chunk.
        axis: of ``x``, the streamed one.
        rate, delay, extra: as in :class:`splitdeconv.deconv.streaming.Signal`, the rate as two whole numbers.
    """
    times, over = rate
    samples = torch.arange(x.shape[axis], device=x.device) + (position * times // over - delay)
    end = (position + frames - beyond) * times // over + extra
    kept = (samples >= 0) & (samples < torch.where(beyond > 0, end, NEVER))
    return torch.where(kept.reshape(-1, *[1] * (x.dim() - axis - 1)), x, x.new_zeros(()))


@dataclass(eq=False)
class GraphWalk(SignalWalk[fx.Node]):
    """A traced module on the way to one in chunks; its graph is changed.

    Attributes:
        module: it.
        frames: of the example inputs.
        shapes: of the states.
        rewritten: what was read from modules whose pads were changed, by module.
    """

    module: fx.GraphModule
    frames: int
    shapes: list[Shaped] = field(default_factory=list)
    rewritten: dict[nn.Module, Any] = field(default_factory=dict)

    @property
    def graph(self) -> fx.Graph:
        """The graph that is changed."""
        return self.module.graph

    def call(self, function: Any, *args: Any) -> fx.Node:
        """A new call in front of the present node."""
        return self.graph.call_function(function, args)

    def read(self, value: fx.Node, reach: Reach) -> fx.Node:
        """See :meth:`SignalWalk.read`."""
        axis, meta = self.signals[value].axis, value.meta["tensor_meta"]
        read = value
        if reach.past:
            shape = (*meta.shape[:axis], reach.past, *meta.shape[axis + 1 :])
            self.shapes.append((shape, meta.dtype))
            state = self._placeholder(f"state_{len(self.shapes)}")
            read = self.call(torch.cat, [state, value], axis)
            self.states[state] = self.cut(read, axis, -reach.past, None)
            self.past = max(self.past, Fraction(reach.past) / self.signals[value].rate)
        return self.cut(read, axis, reach.skip, -reach.drop or None) if reach.skip or reach.drop else read

    def cut(self, node: fx.Node, axis: int, begin: int, end: int | None) -> fx.Node:
        """Part of a value along an axis."""
        return self.call(torch.Tensor.__getitem__, node, (*[slice(None)] * axis, slice(begin, end)))

    def _placeholder(self, name: str) -> fx.Node:
        last = [node for node in self.graph.nodes if node.op == "placeholder"][-1]
        with self.graph.inserting_after(last):
            return self.graph.placeholder(name)

    def zeros_outside(self, value: fx.Node) -> fx.Node:
        """See :meth:`SignalWalk.zeros_outside`."""
        signal = self.signals[value]
        numbers = signal.axis, signal.rate.as_integer_ratio(), signal.delay, signal.extra
        return self.call(inside, value, self.position, self.beyond, self.chunk, *numbers)

    def follow(self, made: fx.Node, source: fx.Node) -> None:
        """See :meth:`SignalWalk.follow`."""
        made.meta["tensor_meta"] = source.meta["tensor_meta"]

    def begin(self, axes: Sequence[int | None]) -> None:
        """Note the streamed inputs, and make the inputs that every streamed graph has."""
        inputs = [node for node in self.graph.nodes if node.op == "placeholder"]
        self.position, self.beyond = self._placeholder(POSITION), self._placeholder(BEYOND)
        for node, axis in zip(inputs, axes, strict=True):
            if axis is not None:
                self.signals[node] = Signal(axis)
        first = next(node for node in inputs if node in self.signals)
        with self.graph.inserting_after(self.beyond):
            self.chunk = self.graph.call_method("size", (first, self.signals[first].axis))
        with self.graph.inserting_after(self.chunk):
            self.states[self.position] = self.call(torch.add, self.position, self.chunk)

    def check(self, node: fx.Node) -> None:
        """Check that a value is as long in the whole module as its signal says.

        Raises:
            NotStreamableError: it is not.
        """
        signal, found = self.signals[node], node.meta.get("tensor_meta")
        for meta in [found] if hasattr(found, "shape") else found or ():
            wanted = int(signal.rate * self.frames) + signal.extra
            if meta.shape[signal.axis] != wanted:
                raise NotStreamableError(f"it makes {meta.shape[signal.axis]} samples, wanted {wanted}")


class _Tracer(fx.Tracer):
    """Leaves modules of deconvs whole, ours included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, CONV_TRANSPOSE) or bool(super().is_leaf_module(m, module_qualified_name))


def traced(module: nn.Module, example: Sequence[Any]) -> fx.GraphModule:
    """The graph of a module for as many positional inputs, with the shapes of all values.

    Raises:
        UsageError: its forward cannot be traced.
    """
    name = type(module).__name__
    if not 0 < len(example) <= len(_FORWARDS):
        raise UsageError(f"{name}: {len(example)} example inputs, wanted 1 to {len(_FORWARDS)}")
    try:
        tracer = _Tracer()
        graph = tracer.trace(_positional(module, len(example)))
        graph_module = fx.GraphModule(tracer.root, graph, name)
        with torch.no_grad():
            ShapeProp(graph_module).propagate(*example)
    except Exception as error:  # torch.fx raises errors of many kinds, all about the user's code
        first = str(error.__cause__ or error).strip().partition("\n")[0]
        raise UsageError(
            f"{name}: torch.fx cannot trace its forward ({first}); wanted one without branches on values"
        ) from error
    return graph_module


def _positional(module: nn.Module, count: int) -> nn.Module:
    """A module around another with so many positional inputs; optional ones of the other keep their defaults."""
    kind = type("Positional", (nn.Module,), {"forward": _FORWARDS[count - 1]})
    made: Any = kind()
    made.module = module
    found: nn.Module = made
    return found


def stream_graph(
    module: fx.GraphModule, axes: Sequence[int | None], frames: int, rule_for: Any
) -> tuple[Streaming, GraphWalk]:
    """Change the graph of a traced module into one that takes chunks and states.

    Its inputs are those that it had, ``position``, ``beyond``, and the states; its outputs what it had, and the next
    states, ``position`` first.

    Args:
        module: with the shapes of all values.
        axes: the streamed axis of each input, None for those that are the same for every chunk.
        frames: of the example inputs.
        rule_for: gives the rule of a call.

    Raises:
        UsageError: a call needs the whole signal.
    """
    walk = GraphWalk(module, frames)
    nodes = list(walk.graph.nodes)
    walk.begin(axes)
    for node in nodes:
        if node.op in ("placeholder", "output") or not any(each in walk.signals for each in node.all_input_nodes):
            continue
        try:
            with walk.graph.inserting_before(node):
                made = rule_for(walk, node)(walk, node)
            if made is not None:
                walk.signals[node] = made
                walk.check(node)
        except NotStreamableError as error:
            raise UsageError(f"{_described(module, node)} cannot be streamed: {error}") from None
    return _finish(walk, nodes[-1]), walk


def _described(module: fx.GraphModule, node: fx.Node) -> str:
    """What a message calls a call."""
    if node.op == "call_module":
        name = str(node.target).removeprefix("module").removeprefix(".")
        return f"{type(module.get_submodule(str(node.target))).__name__} '{name}'"
    return f"{getattr(node.target, '__name__', node.target)} '{node.name}'"


def _finish(walk: GraphWalk, output: fx.Node) -> Streaming:
    """The outputs of the states, and the description."""
    given = output.args[0]
    results = list(given) if isinstance(given, tuple | list) else [given]
    if not all(isinstance(each, fx.Node) and each in walk.signals for each in results):
        raise UsageError(
            "wanted a module that returns a tensor, or a tuple of tensors, that depend on the streamed input"
        )
    with walk.graph.inserting_before(output):
        results = [walk.delayed(each, max(0, walk.signals[each].delay)) for each in results]
    outputs = {str(number): output_of(walk.signals[each]) for number, each in enumerate(results)}
    one = results[0] if isinstance(given, fx.Node) else tuple(results)
    output.args = ((one, list(walk.states.values())),)
    walk.graph.lint()
    walk.module.recompile()
    inputs = {
        node.name: walk.signals[node].axis
        for node in walk.graph.nodes
        if node.op == "placeholder" and node in walk.signals
    }
    states = {state.name: after.name for state, after in walk.states.items()}
    return walk.streaming(inputs, outputs, results, states, BEYOND)
