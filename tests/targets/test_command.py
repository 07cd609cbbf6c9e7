"""A command of the user's as a target: measured, proved, and refused in one line where it fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from splitdeconv import targets
from splitdeconv.cli import main
from splitdeconv.deconv.network import Compilable
from splitdeconv.errors import InputError, UsageError
from splitdeconv.measuring import rounds
from splitdeconv.results.times import timed
from splitdeconv.targets.target import KEEP_ALL, CompileError
from tests.models import deconv_model, op_types

EXAMPLE = Path(__file__).parents[2] / "examples" / "commands" / "onnxruntime_elsewhere.py"
X = {"x": np.zeros((1, 4, 5, 6), np.float32)}
ELSEWHERE = f"{sys.executable} {EXAMPLE} {{model}} {{inputs}} {{outputs}}"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "in.onnx"
    onnx.save(deconv_model((1, 4, 5, 6), strides=[2, 2], pads=[1, 1, 1, 1], then=("Relu",)), path)
    return path


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each round starts Python."""
    monkeypatch.setattr(rounds, "FEWEST_ROUNDS", 3)


def script(folder: Path, body: str) -> str:
    """The option of a target whose command runs Python code; ``model``, ``inputs`` and ``outputs`` are there."""
    path = folder / "run.py"
    path.write_text(f"import sys\nif sys.argv[1:] != ['--describe']:\n model, inputs, outputs = sys.argv[1:]\n{body}\n")
    return f"{sys.executable} {path} {{model}} {{inputs}} {{outputs}}"


def tries(option: str, model: Path) -> str:
    """Why a model cannot be timed."""
    target = targets.target(f"command:{option}")
    compiled = target.compile(Compilable(model))
    with pytest.raises(CompileError) as reason:
        target.measure({"native": compiled}, X, 0.1)
    return str(reason.value)


@pytest.mark.usefixtures("few_rounds")
def test_onnx_runtime_in_another_process_is_measured_and_proved(model: Path, tmp_path: Path) -> None:
    record = tmp_path / "run.json"
    given = ["--target", f"command:{ELSEWHERE}", "--lowering", "split", "--budget", "1", "--json", str(record)]
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), *given]) == 0
    assert "ConvTranspose" not in op_types(onnx.load(tmp_path / "out.onnx"))
    found = json.loads(record.read_text())
    assert found["whole"]["before"]["rounds"] >= 3
    assert found["whole"]["before"]["kind"] == "measured"
    assert {proof["where"] for proof in found["verdict"]["proofs"]} == {f"command:{ELSEWHERE}"}


def test_without_outputs_the_proof_runs_on_the_formats_own_runtime(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "clock.sh"
    path.write_text("echo 3\necho 5\necho 4\n")
    record = tmp_path / "run.json"
    given = ["--target", f"command:sh {path} {{model}}", "--budget", "1", "--lowering", "split", "--json", str(record)]
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), *given]) == 0
    found = json.loads(record.read_text())
    assert found["whole"]["before"]["median_ms"] == 4
    assert {proof["where"] for proof in found["verdict"]["proofs"]} == {"onnxruntime"}


def test_a_file_says_more_of_a_command(tmp_path: Path) -> None:
    path = tmp_path / "phone.toml"
    path.write_text("run = 'sh phone.sh {model}'\nformats = ['tflite']\ntimeout_s = 5\n")
    target = targets.target(f"command:{path}")
    assert target.formats == ("tflite",)
    assert not target.gives_outputs


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("run = 'sh phone.sh'", "does not say where the model goes"),
        ("run = 3", "wanted run = 'program {model}'"),
        ("run = 'a {model}'\nspeed = 3", "unexpected keyword argument 'speed'"),
        ("run = 'a {model}'\ntimeout_s = -1", "wanted run ="),
        ("formats = ['onnx']", "missing 1 required positional argument: 'run'"),
    ],
)
def test_a_wrong_file_is_one_line(text: str, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "phone.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=wanted):
        targets.target(f"command:{path}")


def test_a_file_that_is_not_there_is_one_line() -> None:
    with pytest.raises(InputError, match=r"none.toml: cannot be read"):
        targets.target("command:none.toml")


def test_quotes_that_do_not_end_are_one_line() -> None:
    with pytest.raises(UsageError, match="No closing quotation"):
        targets.target("command:run 'x {model}")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (" sys.exit('no such device')", "the command ended with exit code 1: no such device"),
        (" import os; os.kill(os.getpid(), 9)", r"the command died (SIGKILL): it said nothing"),
        (" print('fast')", "the command printed 'fast'; wanted the milliseconds of its rounds, one a line"),
        (" print(-3.0)", "the command printed -3.0, which is no time"),
        (" print('nan')", "the command printed nan, which is no time"),
        (" pass", "the command printed nothing; wanted the milliseconds"),
    ],
)
def test_a_command_that_fails_is_a_refusal_with_its_words(body: str, reason: str, model: Path, tmp_path: Path) -> None:
    assert tries(script(tmp_path, body), model).startswith(reason)


def test_a_command_that_does_not_start_is_a_refusal(model: Path) -> None:
    assert tries("./no-such-program {model}", model).startswith("the command does not start: ")


def test_a_command_that_hangs_is_ended_with_what_it_started(model: Path, tmp_path: Path) -> None:
    started = tmp_path / "started"
    body = f" import subprocess, time; subprocess.Popen(['sleep', '60']); open({str(started)!r}, 'w'); time.sleep(60)"
    path = tmp_path / "hangs.toml"
    path.write_text(f'run = """{script(tmp_path, body)}"""\ntimeout_s = 3\n')
    assert tries(str(path), model) == "the command gave no answer within 3 s"
    assert started.exists()


@pytest.mark.usefixtures("few_rounds")
def test_wrong_outputs_leave_the_deconv_as_it_is(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    body = " import numpy; numpy.savez(outputs or 'x', y=numpy.zeros((1, 3, 9, 11), 'f')); print(1)"
    given = ["--target", f"command:{script(tmp_path, body)}", "--lowering", "split", "--budget", "1"]
    assert main(["convert", str(model), str(tmp_path / "out.onnx"), *given]) == 0
    assert (tmp_path / "out.onnx").read_bytes() == model.read_bytes()
    assert "is not equal to the definition: its shape is [1, 3, 9, 11]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (" print(1)", "the command left no outputs; wanted an .npz file"),
        (" open(outputs, 'w').write('y = 3')", "the command left outputs that are no .npz file of numbers"),
        (" import numpy; numpy.savez(outputs)", "the command left an .npz file without arrays"),
    ],
)
def test_missing_outputs_are_a_reason_alike_for_all_forms(body: str, reason: str, model: Path, tmp_path: Path) -> None:
    target = targets.target(f"command:{script(tmp_path, body)}")
    with pytest.raises(CompileError) as found:
        target.compile(Compilable(model)).run(X)
    assert str(found.value) == reason


def test_what_a_command_says_of_itself_is_part_of_the_key(tmp_path: Path) -> None:
    one = targets.target(f"command:{script(tmp_path, 'print(sys.argv[1:])')}").environment()
    assert one.processor == "['--describe']"
    two = targets.target(f"command:{script(tmp_path, 'print(1)')}").environment()
    assert one != two


def test_rounds_are_runs_of_the_command_in_turn(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    body = f" open({str(log)!r}, 'a').write(model[-7]); print(2 if 'a.onnx' in model else 1)"
    target = targets.target(f"command:{script(tmp_path, body)}")
    for name in ("a", "b"):
        (tmp_path / f"model-{name}.onnx").write_bytes(model.read_bytes())
    compiled = {name: target.compile(Compilable(tmp_path / f"model-{name}.onnx")) for name in ("a", "b")}
    found = timed(target.measure(compiled, X, 0.0, drop=KEEP_ALL))
    assert {name: time.median_ms for name, time in found.items()} == {"a": 2, "b": 1}
    assert found["a"].rounds == found["b"].rounds == 10
