"""Programs put into an exported program, node by node; everything else stays as it is.

Before: parameters → conv_transpose. After: buffers, the filters split beforehand → convolutions and rearrangement.
Parameters that nothing else reads go away.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx
from torch.export import ExportedProgram
from torch.export.graph_signature import (
    ExportGraphSignature,
    InputKind,
    InputSpec,
    OutputSpec,
    TensorArgument,
)

from splitdeconv.deconv.program import Program
from splitdeconv.formats.folding import new_values
from splitdeconv.formats.model import Fold, SubPixelSite
from splitdeconv.formats.torch.constants import StoredTensors
from splitdeconv.formats.torch.fold import own_values, result_of, with_parameters
from splitdeconv.formats.torch.stretched import StretchedConv, find_stretched, unread_writes
from splitdeconv.formats.torch.sub_pixel import write_sub_pixel
from splitdeconv.formats.torch.written import Written, write
from splitdeconv.torch_modules import graphs

KEPT_META = ("nn_module_stack", "stack_trace", "source_fn_stack", "torch_fn")  # of the call, for what replaces it


class Splice:
    """A copy of an exported program under change.

    Args:
        program: the original, which shares its tensors with the copy.
        constants: of it.
    """

    def __init__(self, program: ExportedProgram, constants: StoredTensors) -> None:
        self._program, self._constants = program, constants
        self._module = copy.deepcopy(program.graph_module)
        for old, new in zip(program.graph.nodes, self._module.graph.nodes, strict=True):
            new.name = old.name  # copies get names that are no builtins of Python, such as `input`
        self._twins = dict(zip(program.graph.nodes, self._module.graph.nodes, strict=True))
        self._state = dict(program.state_dict)
        self._inputs = list(program.graph_signature.input_specs)
        self._outputs = list(program.graph_signature.output_specs)

    def made(self, programs: Mapping[str, Program]) -> ExportedProgram:
        """The program in which each call named in ``programs`` is replaced."""
        for call in graphs.find_calls(self._module):
            if call.name in programs:
                self._replace(call, programs[call.name])
        for site in find_stretched(self._module.graph, self._constants):
            if isinstance(site, StretchedConv) and site.name in programs:
                self._replace_stretched(site, programs[site.name])
        return self._finished()

    def folded(self, folds: Sequence[Fold]) -> ExportedProgram:
        """The program in which the nodes of ``folds`` are in the weights of their sites."""
        for each in folds:
            self._fold(each)
        return self._finished()

    def turned(self, sites: Sequence[SubPixelSite]) -> ExportedProgram:
        """The program in which ``sites`` are transposed convolutions, which keep the convolutions' names."""
        for each in sites:
            self._turn(each)
        return self._finished()

    def _turn(self, site: SubPixelSite) -> None:
        conv, last = (self._twins[each] for each in (site.origin.nodes[0], site.origin.nodes[1][-1]))
        before = {call.node for call in graphs.find_calls(self._module)}
        x, like = conv.args[0], last.meta["val"]
        written = write_sub_pixel(site, x.meta["val"], site.kernel, site.bias, like)
        filters = [self._buffer(f"{conv.name}_filter", each) for each in written.filters]
        new = self._inlined(last, written, [x, *filters])
        (call,) = (call for call in graphs.find_calls(self._module) if call.node not in before)
        call.node.name = conv.name
        call.node.meta.update({key: conv.meta[key] for key in KEPT_META if key in conv.meta})
        self._let_stand_for(new, last)

    def _finished(self) -> ExportedProgram:
        self._module.graph.lint()
        self._module.recompile()
        old = self._program
        return ExportedProgram(
            root=self._module,
            graph=self._module.graph,
            graph_signature=ExportGraphSignature(self._inputs, self._outputs),
            state_dict=self._state,
            range_constraints=old.range_constraints,
            module_call_graph=old.module_call_graph,
            example_inputs=old.example_inputs,
            constants=old.constants,
            verifiers=old.verifiers,
        )

    def _replace(self, call: graphs.Call, program: Program) -> None:
        if program.deconv.run_time:
            nodes = [each for each in (call.x, call.weight, call.bias) if each is not None]
            x, weight, *biases = (each.meta["val"] for each in nodes)
            found = write(program, [x], weight, biases[0] if biases else None, call.node.meta["val"])
            self._put(call.node, nodes, found)
            return
        weight, bias = self._values(call)
        written = write(program, [call.x.meta["val"]], weight, bias, like=call.node.meta["val"])
        self._put(call.node, [call.x], written)

    def _replace_stretched(self, site: StretchedConv, program: Program) -> None:
        sources, like = site.stretched.maps, site.node.meta["val"]
        maps = [each.meta["val"] for each in sources]
        if program.deconv.run_time:
            nodes = [each for each in (site.weight, site.bias) if each is not None]
            weight, *biases = (each.meta["val"] for each in nodes)
            bias, own = biases[0] if biases else None, site.own_kernel
            self._put(site.node, [*sources, *nodes], write(program, maps, weight, bias, like, site.front, own=own))
        else:
            weight, bias = self._values(site)
            self._put(site.node, sources, write(program, maps, site.own_kernel(weight), bias, like, site.front))
        for node in unread_writes(site):
            self._take_out(node)

    def _fold(self, fold: Fold) -> None:
        call, around = fold.site.origin.nodes[0], fold.origin.nodes[0]
        node, front = self._twins[call.node], around.front[:1]
        kernel, bias = new_values(fold, own_values(call, self._constants))
        before = node.all_input_nodes
        weight = self._buffer(f"{node.name}_weight", torch.from_numpy(kernel))
        shift = None if bias is None else self._buffer(f"{node.name}_bias", torch.from_numpy(bias))
        x = self._twins[front[0].node].args[front[0].map_at] if front else node.args[0]
        with_parameters(node, x, weight, shift)
        for each in before:
            self._erase(each)
        if around.behind:
            self._let_stand_for(node, result_of(self._twins[around.behind[-1].node]))

    def _let_stand_for(self, new: fx.Node, old: fx.Node) -> None:
        """Give the readers of ``old`` what ``new`` makes, and take out what nothing reads then."""
        old.replace_all_uses_with(new)
        self._outputs = [_renamed(spec, old.name, new.name) for spec in self._outputs]
        self._erase(old)

    def _values(self, call: graphs.Call | StretchedConv) -> tuple[Tensor, Tensor | None]:
        weight = self._constants.value(call.weight)
        assert weight is not None, "only calls with stored weights are sites"
        return weight, None if call.bias is None else self._constants.value(call.bias)

    def _put(self, node: fx.Node, maps: Sequence[fx.Node], written: Written) -> None:
        """``written``, which reads ``maps``, in the place of ``node``."""
        filters = [self._buffer(f"{node.name}_filter", each) for each in written.filters]
        self._let_stand_for(self._inlined(node, written, [*maps, *filters]), node)

    def _inlined(self, node: fx.Node, written: Written, inputs: Sequence[fx.Node]) -> fx.Node:
        """The nodes of ``written`` in the place of ``node``; returns the last."""
        graph = self._module.graph
        placeholders = [each for each in written.graph.graph.nodes if each.op == "placeholder"]
        known = dict(zip(placeholders, inputs, strict=True))
        kept = {key: node.meta[key] for key in KEPT_META if key in node.meta}
        with graph.inserting_before(node):
            new = graph.graph_copy(written.graph.graph, known)
        for each in set(known.values()) - set(inputs):
            each.meta.update(kept)
        assert isinstance(new, fx.Node), "a program has one output"
        return new

    def _buffer(self, wanted: str, tensor: Tensor) -> fx.Node:
        """A new placeholder before all others, which stands for a new buffer."""
        name = next(each for each in _names(wanted) if each not in self._state and each not in self._program.constants)
        first = next(iter(self._module.graph.nodes))
        fake = next(n.meta["val"].fake_mode for n in self._module.graph.nodes if isinstance(n.meta.get("val"), Tensor))
        with self._module.graph.inserting_before(first):
            node = self._module.graph.placeholder(f"b_{name}")
        node.meta["val"] = fake.from_tensor(tensor, static_shapes=True)
        argument = TensorArgument(name=node.name)
        self._inputs.insert(0, InputSpec(InputKind.BUFFER, argument, name, persistent=True))
        self._state[name] = tensor
        return node

    def _erase(self, node: fx.Node) -> None:
        """Take out a node that nothing reads, and those that then are read no more."""
        if node.users or node._erased:  # several that went away may have read it
            return
        if node.op == "placeholder":
            spec = next(each for each in self._inputs if getattr(each.arg, "name", "") == node.name)
            if spec.kind not in (InputKind.PARAMETER, InputKind.BUFFER):
                return
            self._inputs.remove(spec)
            self._state.pop(str(spec.target), None)
        elif node.is_impure():
            return
        self._take_out(node)

    def _take_out(self, node: fx.Node) -> None:
        sources = node.all_input_nodes
        self._module.graph.erase_node(node)
        for each in sources:
            self._erase(each)


def _renamed(spec: OutputSpec, old: str, new: str) -> OutputSpec:
    argument = spec.arg
    if isinstance(argument, TensorArgument) and argument.name == old:
        return replace(spec, arg=TensorArgument(name=new))
    return spec


def _names(wanted: str) -> list[str]:
    return [wanted, *(f"{wanted}_{number}" for number in range(1, 10_000))]
