"""The commands as a user runs them: output, exit codes, and what is left on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import splitdeconv
from splitdeconv import targets
from splitdeconv.cli import main
from tests.broken_runtime import break_runtime
from tests.models import deconv_model, op_types

NOT_WRITTEN = ("cannot be written", "is a directory; wanted the name of a file")  # exit code 3


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    onnx.save(deconv_model(strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)), path)
    return path


def test_convert_writes_a_proved_model(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    out = tmp_path / "out.onnx"
    assert main(["convert", str(model), str(out), "--target", "generic", "--json", str(tmp_path / "run.json")]) == 0
    assert "ConvTranspose" not in op_types(onnx.load(out))
    onnx.checker.check_model(str(out), full_check=True)
    shown = capsys.readouterr().out
    assert "verified: 1 of 1 sites bit-equal to the definition on onnxruntime" in shown
    assert "within the original's noise" in shown
    assert model.read_bytes() == before
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["verdict"]["passed"]
    assert record["plan"]["choices"][0]["site"] == "up"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.onnx", "out.onnx", "run.json"]


def test_without_a_target_the_runtime_of_the_format_measures(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), "--budget", "0.3", "--lowering", "split"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("target: onnxruntime (the runtime for .onnx models that is installed")
    assert last.startswith("written: ")


def test_without_a_runtime_nothing_is_measured_and_both_is_said(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(targets.TARGETS, "onnxruntime", "package_that_is_not_there:Runtime")
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), "--no-verify"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("target: generic (nothing is measured, because target 'onnxruntime' needs package_that")
    assert last.startswith("not timed: it may be slower than the original where it runs")


def test_json_on_the_standard_output_is_nothing_but_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(model), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["command"] == "inspect"


def test_a_plan_file_gives_the_same_bytes_again(model: Path, tmp_path: Path) -> None:
    first, second, plan = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "plan.json"
    wanted = ["--layer", "up=split:union:transpose", "--save-plan", str(plan)]
    assert main(["convert", str(model), str(first), "--target", "generic", *wanted]) == 0
    assert main(["convert", str(model), str(second), "--target", "generic", "--plan", str(plan)]) == 0
    assert first.read_bytes() == second.read_bytes()
    assert json.loads(plan.read_text())["sites"] == {"up": "split:union:transpose"}


def test_a_model_without_deconvs_is_copied_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [2]) for name in "xy")
    source = tmp_path / "in.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y])), source)
    assert main(["convert", str(source), str(tmp_path / "out.onnx"), "--target", "generic"]) == 0
    assert (tmp_path / "out.onnx").read_bytes() == source.read_bytes()
    assert "no deconv that can be rewritten: the model is written unchanged" in capsys.readouterr().out


def test_skipping_the_proof_is_loud(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), "--target", "generic", "--no-verify"]) == 0
    assert "NOT VERIFIED: switched off by the user" in capsys.readouterr().out


def test_a_wrong_result_is_not_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from splitdeconv.formats.onnx import emit  # noqa: PLC0415  # broken on purpose for this test alone

    whole = emit.conv_filter
    monkeypatch.setattr(emit, "conv_filter", lambda kernel, conv: np.ascontiguousarray(whole(kernel, conv)[::-1]))
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), "--target", "generic"]) == 1
    assert "site 'up' is not bit-equal to the definition" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_an_object_that_is_no_model_is_told_where_to_go() -> None:
    with pytest.raises(splitdeconv.InputError, match=r"list: is not a model; .*splitdeconv\.torch\.convert"):
        splitdeconv.convert([])


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"splitdeconv {splitdeconv.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["convert", "{in}", "{in}"], "OUT {in}: is also the name of the model"),
        (["convert", "{in}", "{dir}/out.onnx", "--json", "{in}"], "--json {in}: is also the name of the model"),
        (
            ["convert", "{in}", "{dir}/out.onnx", "--save-plan", "{in}"],
            "--save-plan {in}: is also the name of the model",
        ),
        (
            ["convert", "{in}", "{dir}/out.onnx", "--json", "{dir}/out.onnx"],
            "--json {dir}/out.onnx: is also the name of OUT",
        ),
        (["inspect", "{in}", "--json", "{in}"], "--json {in}: is also the name of the model"),
        (["bench", "{in}", "--json", "{in}"], "--json {in}: is also the name of the model"),
        (["simulate", "{in}", "--json", "{in}"], "--json {in}: is also the name of {in}"),
        (
            ["sweep", "{in}", "--out", "{dir}/t.csv", "--plot", "{in}"],
            "{in}: wanted a plot file that ends in .svg, .png, .pdf",
        ),
        (["convert", "{in}", "{dir}"], "is a directory; wanted the name of a file"),
        (["convert", "{in}", "{dir}/none/out.onnx"], "cannot be written (No such file or directory)"),
        (["convert", "{in}", "{dir}/out.onnx", "--lowering", "fft"], "no lowering is called 'fft'; there are native"),
        (["convert", "{in}", "{dir}/out.onnx", "--layer", "down=split"], "no site is called 'down'; the model has up"),
        (["convert", "{in}", "{dir}/out.onnx", "--layer", "up"], "--layer up: wanted NAME=VALUE"),
        (["convert", "{in}", "{dir}/out.onnx", "--only", "down*"], "--only 'down*' fits no site"),
        (["convert", "{in}", "{dir}/out.onnx", "--target", "abacus"], "no target is called 'abacus'; there are"),
        (["convert", "{in}", "{dir}/out.onnx", "--plan", "{in}"], "cannot be read"),
        (["convert", "{in}", "{dir}/out.onnx", "--input", "x={in}"], "wanted arrays as numpy.save or savez write them"),
        (
            ["convert", "{in}", "{dir}/out.onnx", "--input-shape", "x=1,-1"],
            "wanted whole numbers such as NAME=1,3,224,224",
        ),
        (["convert", "{in}", "{dir}/out.onnx", "--input-shape", "z=1,4"], "the model has no such input; it has x"),
        (["convert", "{in}", "{dir}/out.onnx", "--input-shape", "x=1,4"], "has 2 sizes, the model's input is"),
        (["convert", "{in}", "{dir}/out.tflite"], "the model is onnx and stays so; wanted a name that ends in .onnx"),
        (["inspect", "{in}", "--input-shape", "z=1,4,5,6"], "the model has no input 'z'; it has 'x'"),
        (["inspect", "{in}", "--input-shape", "x=1,4"], "input 'x' has 4 axes, the shape given has 2"),
        (["inspect", "{dir}"], "is a directory, wanted an .onnx, .tflite or .pt2 file"),
        (["inspect", "{dir}/absent.onnx"], "cannot be read (No such file or directory)"),
    ],
)
def test_bad_usage_is_one_clear_line(
    arguments: list[str], message: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = model.read_bytes()
    filled = [each.replace("{in}", str(model)).replace("{dir}", str(tmp_path)) for each in arguments]
    assert main(filled) == (3 if any(found in message for found in NOT_WRITTEN) else 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert message.replace("{in}", str(model)).replace("{dir}", str(tmp_path)) in line
    assert model.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


@pytest.mark.parametrize("shape", ["x=1,4,7,9", "x:1,4,7,9", "1,4,7,9", "1x4x7x9", "x=1, 4, 7, 9"])
def test_shapes_are_written_as_people_write_them(
    shape: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    onnx.save(deconv_model((1, 4, "h", "w")), tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx"), "--input-shape", shape]) == 0
    assert "@7×9" in capsys.readouterr().out


def test_a_shape_without_a_name_wants_one_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = deconv_model((1, 4, "h", "w"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("z", 1, [1]))
    onnx.save(model, tmp_path / "m.onnx")
    assert main(["inspect", str(tmp_path / "m.onnx"), "--input-shape", "1,4,7,9"]) == 2
    assert "--input-shape without a name: the model has 2 inputs (x, z)" in capsys.readouterr().err


def test_targets_lists_what_is_there_and_every_lowering(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets"]) == 0
    shown = capsys.readouterr().out
    assert "generic" in shown
    assert "onnxruntime" in shown
    assert "split_row_groups" in shown


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("inspect", "convert", "targets"))


def test_a_rewritten_model_that_does_not_run_is_not_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    break_runtime(monkeypatch, "out.onnx")
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), "--target", "generic"]) == 1
    assert "takes the original but not the rewritten model (no kernel)" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.onnx"]


def test_a_site_that_only_definite_sizes_make_one_is_skipped_and_not_measured(tmp_path: Path) -> None:
    path, shapes = tmp_path / "in.onnx", {"x": (1, 4, 5, 5)}
    onnx.save(deconv_model((1, 4, "h", "w"), strides=[2, 2], output_shape=[10, 10]), path)
    conversion = splitdeconv.convert(path, target="onnxruntime", budget=0.5, cache=False, in_shapes=shapes)
    assert [skipped.site for skipped in conversion.record.skipped] == ["up"]
    assert conversion.plan.choices == ()
    assert splitdeconv.bench(path, target="onnxruntime", budget=0.5, in_shapes=shapes).layers == ()
