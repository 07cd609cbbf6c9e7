"""``splitdeconv reproduce``: parts, restart, what is missing, and the page. No figure of time is asserted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from splitdeconv import codec
from splitdeconv.cli import main
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.lab.paper import commodity, runtimes
from splitdeconv.lab.paper import reproduce as paper_reproduce
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep
from splitdeconv.lab.paper.result import Result
from splitdeconv.lab.paper.runtimes import RUNTIMES
from splitdeconv.lab.paper.times import FORMS, PaperTimes
from splitdeconv.report.page import Kind
from splitdeconv.results.bench import BenchRecord
from tests import pages
from tests.models import deconv_model


def run(out: Path, *more: str) -> int:
    return main(["reproduce", str(out), "--quick", *more])


def stored(out: Path, part: str, step: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((out / "results" / part / f"{step}.json").read_text())
    return found


def test_a_part_alone_makes_a_whole_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--only", "counts", "--only", "parameters") == 0
    assert f"report: {tmp_path / 'report.html'}" in capsys.readouterr().out
    text = pages.words(pages.parsed((tmp_path / "report.html").read_text()))
    for said in ("Operation counts", "Parameter counts", "109.77 M", "822.08 M", "Published figures", "recollected"):
        assert said in text, said
    assert "Simulated" not in text
    assert (tmp_path / "tables" / "counts.csv").read_text().startswith("network,")
    assert "<svg" in (tmp_path / "charts" / "counts.svg").read_text()
    record = stored(tmp_path, "counts", "counts")
    assert record["kind"] == "counted"
    assert "reproduce" in str(record["command"])
    assert {"splitdeconv", "python", "numpy", "processor"} <= set(record["environment"])  # type: ignore[call-overload]


def test_a_second_run_takes_up_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--only", "counts") == 0
    path = tmp_path / "results" / "counts" / "counts.json"
    marked = path.read_text().replace("109.769", "109.123")
    before = marked if marked != path.read_text() else path.read_text()
    path.write_text(before)
    capsys.readouterr()
    assert run(tmp_path, "--only", "parameters") == 0  # the other part comes along
    assert "Operation counts" in (tmp_path / "report.html").read_text()
    assert run(tmp_path, "--only", "counts") == 0
    assert "counts: taken up from" in capsys.readouterr().out
    assert path.read_text() == before
    assert run(tmp_path, "--only", "counts", "--fresh") == 0
    assert "taken up" not in capsys.readouterr().out


def test_results_of_another_environment_are_not_mixed_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--only", "counts") == 0
    record = stored(tmp_path, "counts", "counts")
    record["environment"]["numpy"] = "1.0"  # type: ignore[index]
    path = tmp_path / "results" / "counts" / "counts.json"
    path.write_text(json.dumps(record))
    capsys.readouterr()
    assert run(tmp_path, "--only", "parameters") == 0
    page = pages.words(pages.parsed((tmp_path / "report.html").read_text()))
    assert "counts of an earlier run is left out: numpy was 1.0, is" in page
    assert "109.77 M" not in page.partition("Published figures")[0]
    assert run(tmp_path, "--only", "counts") == 0
    assert "done anew, because numpy was 1.0, is" in capsys.readouterr().out
    assert stored(tmp_path, "counts", "counts")["environment"]["numpy"] != "1.0"  # type: ignore[index]


def test_a_damaged_result_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path, "--only", "counts") == 0
    (tmp_path / "results" / "counts" / "counts.json").write_text("{")
    assert run(tmp_path, "--only", "counts") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "counts.json: is not JSON" in said
    assert run(tmp_path, "--only", "counts", "--fresh") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--only", "times"), "--only times: no such part; there are counts, parameters, simulated, ssim")],
)
def test_bad_usage_is_one_line(
    arguments: Sequence[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, *arguments) == 2
    assert said in capsys.readouterr().err
    file = tmp_path / "file"
    file.write_text("")
    assert run(file) == 2
    assert "is a file; wanted a folder" in capsys.readouterr().err


def test_a_missing_extra_leaves_a_part_out_and_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "skimage.transform", None)
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    monkeypatch.setitem(sys.modules, "skimage.data", None)
    model = tmp_path / "fst.onnx"
    onnx.save(deconv_model((1, 3, 16, 16)), model)
    assert run(tmp_path, "--only", "ssim", "--fst", str(model)) == 0
    assert "pip install 'splitdeconv[paper]'" in capsys.readouterr().out
    assert "pip install 'splitdeconv[paper]'" in (tmp_path / "report.html").read_text().replace("&#39;", "'")


def test_without_onnx_every_part_that_needs_it_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "splitdeconv.lab.paper.schemes", None)
    monkeypatch.setitem(sys.modules, "splitdeconv.lab.paper.convolutions", None)
    onnx.save(deconv_model((1, 3, 16, 16)), tmp_path / "fst.onnx")
    assert run(tmp_path, "--only", "ssim", "--only", "efficiency", "--fst", str(tmp_path / "fst.onnx")) == 0
    said = capsys.readouterr().out
    assert "pip install 'splitdeconv[paper]'" in said
    assert "pip install 'splitdeconv[onnx]'" in said


def test_without_the_report_extra_nothing_is_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    assert run(tmp_path / "out", "--only", "counts") == 2
    assert "pip install 'splitdeconv[report]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def small(_name: str, path: Path, dtype: str, plain: Path | None) -> None:
    assert (plain is None) == (dtype == "float32")  # which comes first
    assert not path.exists()  # made once, for all steps that read it
    onnx.save(deconv_model(strides=[2, 2], pads=[1, 1, 1, 1]), path)


def directly(function: Callable[..., object], *args: object) -> object:
    """Instead of a child process, which would not know what the test has put in its place."""
    return function(*args)


def test_networks_are_timed_and_a_full_run_times_them_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a small model in place of the networks."""
    monkeypatch.setattr(runtimes, "zoo_model", small)
    monkeypatch.setattr(runtimes, "in_child", directly)
    monkeypatch.setattr(runtimes, "QUICK_SECONDS", 0.2)
    monkeypatch.setattr(runtimes, "FULL_SECONDS", 0.2)
    monkeypatch.setattr(commodity, "RUNTIMES", (RUNTIMES[0], replace(RUNTIMES[0], name="again")))
    monkeypatch.setattr(commodity, "NAMES", ("dcgan", "mde"))
    assert run(tmp_path, "--only", "commodity") == 0
    text = pages.words(pages.parsed((tmp_path / "report.html").read_text()))
    assert "Chosen plan over NZP, deconv parts" in text
    assert "ONNX Runtime, float32: whole networks" in text
    assert "splitdeconv zoo export dcgan dcgan-float32.onnx" in text
    values = stored(tmp_path, "commodity", "onnxruntime-float32.dcgan")["found"]
    times = PaperTimes(codec.from_object(BenchRecord, values, "dcgan"))
    (layer,) = times.record.layers
    for form in FORMS:
        assert times.whole(form) is not None, form
        alone = times.layer(layer, form)
        assert alone is not None, form
        assert alone.rounds >= 5, form
    assert (tmp_path / "tables" / "onnxruntime-float32-layers.csv").exists()
    capsys.readouterr()
    assert main(["reproduce", str(tmp_path), "--only", "commodity"]) == 0
    assert "done anew, because it was made with --quick" in capsys.readouterr().out
    assert run(tmp_path, "--only", "commodity") == 0
    assert "done anew" not in capsys.readouterr().out  # a quick run takes up a full one


def test_a_runtime_that_is_not_there_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_args: object, **_options: object) -> object:
        raise MissingExtraError("target 'onnxruntime'", "onnxruntime", "onnxruntime")

    monkeypatch.setattr(runtimes.targets, "target", missing)
    monkeypatch.setattr(runtimes, "zoo_model", small)
    monkeypatch.setattr(runtimes, "in_child", directly)
    monkeypatch.setattr(commodity, "RUNTIMES", RUNTIMES[:1])
    monkeypatch.setattr(commodity, "NAMES", ("dcgan",))
    assert run(tmp_path, "--only", "commodity") == 0
    assert "left out: target 'onnxruntime' needs onnxruntime: pip install" in capsys.readouterr().out


def test_what_is_not_timed_is_done_before_what_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def step(name: str, kind: Kind) -> PaperStep:
        def run(_progress: object) -> dict[str, object]:
            done.append(name)
            return {}

        def prepare(_progress: object) -> None:
            done.append(f"file of {name}")
            raise UsageError("told by the step")

        return PaperStep(name, kind, "", (), run, dict, prepare=prepare)

    part = PaperPart(
        "invented", "", "", lambda _setting: (step("timed", "measured"), step("counted", "counted")), lambda _: Result()
    )
    monkeypatch.setattr(paper_reproduce, "PARTS", {"invented": ""})
    monkeypatch.setattr(paper_reproduce.plugins, "load", lambda *_: part)
    (found,) = paper_reproduce.reproduce(paper_reproduce.ReproduceRequest(PaperSetting(tmp_path)))
    assert sorted(done[:2]) == ["file of counted", "file of timed"]
    assert done[2:] == ["counted", "timed"]
    assert [each.step for each in found.steps] == ["timed", "counted"]
    done.clear()
    paper_reproduce.reproduce(paper_reproduce.ReproduceRequest(PaperSetting(tmp_path)))
    assert done == []  # nothing is made for a step that is taken up
