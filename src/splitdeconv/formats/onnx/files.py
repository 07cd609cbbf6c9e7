"""Reading and writing ONNX files, with external data, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import TopologicalSortPass

from splitdeconv.errors import InputError, lacks_memory
from splitdeconv.formats.onnx.constants import bytes_of
from splitdeconv.formats.onnx.graph import places
from splitdeconv.formats.onnx.kept import Kept, from_proto, restored, to_proto

_PROTO_LIMIT = 2**31 - 2**20  # protobuf refuses messages of 2 GiB
_EXTERNAL_FROM = 1024  # bytes; smaller tensors stay in the model's own file


def load(path: Path) -> tuple[ir.Model, tuple[Path, ...], Kept]:
    """Read a model, the names of its data files, and what is kept beside it.

    Raises:
        InputError: not an ONNX model, truncated, or external data missing, too short or outside of the folder.
    """
    # onnx_ir reports damage to its logger, which Python prints where nobody listens; the error below is enough.
    logging.getLogger("onnx_ir").addHandler(logging.NullHandler())
    try:
        model, kept = from_proto(onnx.load(path, load_external_data=False))
    except Exception as error:  # a damaged file makes the parser fail in many ways
        if lacks_memory(error):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: not a readable ONNX model ({reason}); wanted a complete .onnx file") from None
    if not model.ir_version or not model.opset_imports:
        raise InputError(f"{path}: not an ONNX model (no IR version or opset); wanted a complete .onnx file")
    for place in places(model):
        if found := _damage(place.node):
            raise unsound(path, f"{place.node.op_type} '{place.node.name or ''}' {found}")
    for graph in model.graphs():
        for value in graph.outputs:
            if not _is_made(value):
                raise unsound(path, f"nothing makes the output '{value.name}' of '{graph.name}'")
    external = tuple(external_tensors(model))
    for tensor in external:
        tensor.base_dir = path.parent
    linked = {id(tensor) for tensor in external if _in_store(path, tensor)}
    names = _files_of(external)
    if linked:
        _replace_external(model, lambda tensor, _: _from_store(path, tensor) if id(tensor) in linked else tensor)
    return model, names, kept


def put_in_order(model: ir.Model, path: Path | None) -> tuple[str, ...]:
    """Sort the nodes in place where one reads what a later one makes, as runtimes do; a note of that.

    Raises:
        InputError: the nodes run in a circle.
    """
    seen: set[ir.Node] = set()
    for place in places(model):
        makers = {value.producer() for value in place.node.inputs if value is not None}
        if not makers - seen <= {None}:
            break
        seen.add(place.node)
    else:
        return ()
    try:
        TopologicalSortPass()(model)
    except Exception as error:  # the pass wraps what it meets
        raise unsound(path, error.__cause__ or error) from None
    return ("its nodes were not in order, which ONNX wants: they are sorted",)


def data_files(model: ir.Model) -> tuple[Path, ...]:
    """The files that hold external data."""
    return _files_of(external_tensors(model))


def _files_of(tensors: Iterable[ir.ExternalTensor]) -> tuple[Path, ...]:
    return tuple(Path(path) for path in dict.fromkeys(str(tensor.path) for tensor in tensors))


def unsound(path: Path | None, reason: object) -> InputError:
    """The error for a model that was read and yet is damaged."""
    found = " ".join(str(reason).split())[:200]
    return InputError(f"{path or 'the model'}: not a sound ONNX model ({found}); wanted one that onnx.checker accepts")


def _damage(node: ir.Node) -> str | None:
    """What a node of a damaged file lacks, of that without which a model cannot be copied or written."""
    values = [value.name for value in (*node.inputs, *node.outputs) if value is not None]
    names: list[object] = [node.name, node.op_type, node.domain, *values]
    for name in names:
        if isinstance(name, bytes):
            return f"has the name {name!r}, which is not UTF-8"
    for attribute in node.attributes.values() if node.attributes else ():
        if attribute.type == ir.AttributeType.UNDEFINED and not attribute.is_ref():
            return f"has the attribute '{attribute.name}' without a type"
    for value in node.inputs:
        if value is not None and not _is_made(value):
            return f"reads '{value.name}', which nothing makes"
    return None


def _is_made(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """All initializers and constants whose data lie in other files."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
    for place in places(model):
        if place.node.attributes:
            tensors = (attribute.value for attribute in place.node.attributes.values())
            yield from (tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor))


def _in_store(path: Path, tensor: ir.ExternalTensor) -> bool:
    """Whether the data are a link into the folder into which the model itself is one, as in Hugging Face's cache.

    Raises:
        InputError: they are missing, too short, or elsewhere outside of the model's folder.
    """
    folder = path.parent.resolve()
    file = (folder / str(tensor.location)).resolve()
    where = f"{path}: tensor '{tensor.name}' has its data in '{tensor.location}'"
    inside = file.is_relative_to(folder)
    if not (inside or (path.is_symlink() and file.parent == path.resolve().parent)):
        raise InputError(f"{where}, which is outside of the model's folder; wanted a file inside of it")
    if not file.is_file():
        raise InputError(f"{where}, which does not exist; wanted that file beside the model")
    if tensor.length is not None and tensor.length != tensor.nbytes:
        raise InputError(f"{where} with {tensor.length} bytes; wanted {tensor.nbytes} for its type and shape")
    needed = (tensor.offset or 0) + tensor.nbytes
    if file.stat().st_size < needed:
        raise InputError(f"{where}, which has {file.stat().st_size} bytes; wanted at least {needed}")
    return not inside


def _from_store(path: Path, tensor: ir.ExternalTensor) -> ir.ExternalTensor:
    """The tensor with its data where the link leads: onnx_ir reads nothing outside of the folder that it is told."""
    file = (path.parent / str(tensor.location)).resolve()
    return ir.ExternalTensor(
        file.name,
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name=tensor.name or "",
        base_dir=file.parent,
    )


def write(model: ir.Model, kept: Kept, path: Path, *, external: bool) -> None:
    """Write a model, and ``<path>.data`` beside it where ``external`` asks for it or the model is above 2 GiB.

    Raises:
        OSError: it cannot be written there; part of it may be.
        SerdeError: the model holds what ONNX has no form for.
    """
    tensors = [value.const_value for graph in model.graphs() for value in graph.initializers.values()]
    if external or sum(bytes_of(tensor) for tensor in tensors if tensor is not None) > _PROTO_LIMIT:
        ir.save(_detached(model), path, external_data=path.name + ".data", size_threshold_bytes=_EXTERNAL_FROM)
        onnx.save(restored(onnx.load(path, load_external_data=False), kept), path)
    else:
        onnx.save(to_proto(model, kept), path)


def _detached(model: ir.Model) -> ir.Model:
    """A copy whose small tensors and constants are in memory, as all must be that stay in the model's own file.

    onnx_ir would do it too, but closes the old file while a site may still look into it.
    """
    copy = model.clone()
    _replace_external(
        copy, lambda tensor, owned: _in_memory(tensor) if owned or tensor.nbytes <= _EXTERNAL_FROM else tensor
    )
    return copy


def _replace_external(model: ir.Model, change: Callable[[ir.ExternalTensor, bool], ir.TensorProtocol]) -> None:
    """Put ``change(tensor, whether it is an attribute)`` in the place of each tensor whose data lie in other files."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = change(value.const_value, False)
    for place in places(model):
        for name, attribute in list(place.node.attributes.items()):
            if isinstance(attribute.value, ir.ExternalTensor):
                place.node.attributes[name] = ir.AttrTensor(name, change(attribute.value, True))


def _in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(tensor.numpy().copy(), dtype=tensor.dtype, name=tensor.name)
