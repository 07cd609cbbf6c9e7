"""Files that are no sound TFLite models: one clear line each, never a traceback, a crash or a hang."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as tfl

from splitdeconv.deconv.network import Compilable
from splitdeconv.errors import InputError, SplitdeconvError
from splitdeconv.formats.tflite import TfliteModel, file, flatbuffer
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets.litert import LiteRt
from splitdeconv.targets.target import CompileError
from tests.examples import examples
from tests.tflite_models import Case, build, loaded

SOURCES = tuple(
    build(Case(kind=kind, after=after))
    for kind, after in (("float32", ("ADD", "CROP")), ("int8_per_channel", ("RELU=",)), ("float16", ()), ("int16", ()))
)


def whole_road(content: bytes, target: LiteRt | None = None) -> str:
    """Load, find, rewrite, write and (with a target) compile; what came of it."""
    try:
        model = TfliteModel(file.from_bytes(content, "model.tflite"))
        sites = model.find().sites
        programs = {s.id: lower(s.deconv, "NHWC", Candidate("split", "union", "transpose")) for s in sites}
        new = model.splice(programs).to_object()
        if target is not None:
            target.compile(Compilable(model.to_object()))
            target.compile(Compilable(new))
    except SplitdeconvError as error:
        return "several lines" if "\n" in str(error) else "refused"
    except CompileError:
        return "not compiled"
    return "done"


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A model with bytes changed, words set to extreme offsets, or its end cut off."""
    content = bytearray(draw(st.sampled_from(SOURCES)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 4))
        if draw(st.booleans()):
            content[at] = draw(st.integers(0, 255))
        else:
            word = draw(st.sampled_from([0, 1, 4, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 8, len(content), 65535]))
            content[at : at + 4] = word.to_bytes(4, "little")
    return bytes(content[: draw(st.integers(1, len(content)))] if draw(st.integers(0, 9)) == 0 else content)


@given(mutations())
@examples(100, 2_000)
def test_mutated_files_end_in_one_line(content: bytes) -> None:
    assert whole_road(content) != "several lines"


@pytest.mark.long
def test_ten_thousand_mutated_files_never_bring_anything_down() -> None:
    target = LiteRt(threads=1)
    outcomes: dict[str, int] = {}

    @given(mutations())
    @settings(max_examples=10_000)
    def run(content: bytes) -> None:
        outcome = whole_road(content, target)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1

    run()
    assert sum(outcomes.values()) >= 10_000
    assert set(outcomes) == {"done", "refused", "not compiled"}, outcomes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no TFLite mark 'TFL3'"),
        (b"\x08\x00\x00\x00TFL3", "leads out of the file"),
        (b"\xff\xff\xff\xffTFL3" + bytes(40), "leads out of the file"),
        (SOURCES[0][:200], "leads out of the file"),
    ],
)
def test_a_malformed_file_says_what_is_wrong(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        file.from_bytes(content, "model.tflite")


def broken(**changes: object) -> bytes:
    """A model whose first operator, tensor or subgraph says something impossible."""
    model = loaded(SOURCES[0])
    graph = model.root.subgraphs[0]
    owners = {"inputs": graph.operators[0], "shape": graph.tensors[2], "opcodeIndex": graph.operators[0]}
    for name, value in changes.items():
        setattr(owners.get(name, graph.tensors[2]), name, value)
    return model.to_object()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.array([1, 2, 99], np.int32)}, "operator 0, inputs: index 99 is outside of -1"),
        ({"opcodeIndex": 7}, "operator code: index 7 is outside of 0"),
        ({"shape": np.array([2**30, 2**30], np.int32)}, "is impossible"),
        ({"buffer": 1000}, "buffer: index 1000 is outside"),
        ({"shape": np.array([1, 1, 1, 3], np.int32)}, "needs 12"),
        ({"type": 99}, "type 99 is unknown"),
    ],
)
def test_parts_that_do_not_fit_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        file.from_bytes(broken(**changes), "model.tflite")


def test_a_deconv_that_contradicts_itself_is_skipped() -> None:
    model = loaded(SOURCES[0])
    (options,) = (each.builtinOptions for each in model.root.subgraphs[0].operators if each.builtinOptionsType == 49)
    options.strideH = 0
    found = model.find()
    assert found.sites == ()
    assert [each.reason for each in found.skipped] == ["stride is 0, wanted at least 1"]


def test_an_unreadable_path(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        TfliteModel.load(tmp_path / "missing.tflite")


def test_attached_files_metadata_and_names_survive(tmp_path: Path) -> None:
    content = io.BytesIO(SOURCES[0])
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
    path, result = tmp_path / "in.tflite", tmp_path / "out.tflite"
    path.write_bytes(content.getvalue())
    model = TfliteModel.load(path)
    (site,) = model.find().sites
    model.splice({site.id: lower(site.deconv, "NHWC", Candidate("split_rows"))}).save(result)
    with zipfile.ZipFile(result) as archive:
        assert archive.read("labels.txt") == b"cat\ndog\n"
    assert TfliteModel.load(result).root.subgraphs[0].name == b"main"


def test_buffers_behind_the_flatbuffer_stay_there(tmp_path: Path) -> None:
    """As in files beyond 2 GiB, whose contents FlatBuffers cannot hold."""
    root = file.from_bytes(SOURCES[1], "case").root
    everything = frozenset(range(len(root.buffers)))
    model = TfliteModel(file.Contents("case", root, everything, len(root.buffers)))
    path = tmp_path / "large.tflite"
    model.save(path)
    again = TfliteModel.load(path)
    assert again.contents.outside
    for old, new in zip(model.root.buffers, again.root.buffers, strict=True):
        np.testing.assert_array_equal(
            old.data if old.data is not None else [], new.data if new.data is not None else []
        )
    LiteRt(threads=1).compile(Compilable(path.read_bytes()))


def test_what_lay_inside_the_flatbuffer_stays_inside() -> None:
    """Readers of metadata do not look behind it."""
    root = file.from_bytes(SOURCES[1], "case").root
    (site,) = TfliteModel(file.Contents("case", root)).find().sites
    kernel = root.subgraphs[0].tensors[site.origin.nodes[0].kernel.tensor].buffer
    root.buffers.append(tfl.BufferT(data=np.frombuffer(b"min 1.5.0", np.uint8)))
    root.metadata = [tfl.MetadataT(name="min_runtime_version", buffer=len(root.buffers) - 1)]
    model = TfliteModel(file.Contents("case", root, frozenset([kernel]), len(root.buffers)))
    program = lower(site.deconv, "NHWC", Candidate("split_rows"))
    for content in (model.to_object(), model.splice({site.id: program}).to_object()):
        stored = tfl.ModelT.InitFromPackedBuf(content)
        entry = stored.metadata[0]  # that of the way back is behind it
        assert stored.buffers[entry.buffer].data.tobytes() == b"min 1.5.0"
        assert any(buffer.offset > 1 for buffer in stored.buffers)
        again = file.from_bytes(content, "again")
        assert entry.buffer not in again.outside
        assert again.outside == frozenset(n for n, buffer in enumerate(stored.buffers) if buffer.offset > 1)


def test_a_newer_schema_is_called_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    model = loaded(SOURCES[0])
    model.root.version = 4
    with pytest.raises(InputError, match="schema version is 4, newer than what is known here"):
        file.from_bytes(model.to_object(), "model.tflite")
    monkeypatch.setitem(flatbuffer.SCHEMA, "Tensor", flatbuffer.SCHEMA["Tensor"][:3])
    with pytest.raises(InputError, match="the file is newer than this version of splitdeconv"):
        file.from_bytes(SOURCES[0], "model.tflite")
