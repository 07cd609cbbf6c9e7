"""The zoo without any framework: names, counts, refusals, and the trained generator that comes with the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from splitdeconv.cli import main
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.lab import zoo

# Network: multiply-accumulates of the deconvs in millions as the paper counts them, with NZP, with SD.
PAPER = {
    "dcgan": (109.77, 439.09, 158.07),
    "sngan": (100.66, 402.65, 100.66),
    "gpgan": (103.81, 415.24, 103.81),
    "mde": (849.35, 3397.39, 1509.95),
    "fst": (603.98, 2415.92, 1073.74),
    "artgan": (561.74, 1788.58, 561.74),  # ours: the paper's layout is not known
}


def test_there_are_the_papers_networks_a_trained_one_and_those_that_upsample() -> None:
    assert set(zoo.PAPER) == set(PAPER)
    assert set(zoo.NETWORKS) == {*PAPER, "faces", *zoo.RESIZING}
    assert all(any(deconv.written_out for deconv in zoo.deconvs(name)) for name in zoo.RESIZING)


@pytest.mark.parametrize("name", sorted(PAPER))
def test_the_counts_are_those_of_the_paper(name: str) -> None:
    deconvs = zoo.deconvs(name)
    counts = (
        sum(deconv.macs() for deconv in deconvs),
        sum(deconv.zero_insert_macs() for deconv in deconvs),
        sum(deconv.split_macs() for deconv in deconvs),
    )
    assert tuple(round(count / 1e6, 2) for count in counts) == PAPER[name]


def test_every_network_states_its_source() -> None:
    assert all(zoo.network(name).title and "arXiv" in zoo.network(name).source for name in zoo.NETWORKS)


def test_the_lists_need_no_framework() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['onnx'] = None\n"
        "from splitdeconv.lab import zoo; print(sum(len(zoo.deconvs(name)) for name in zoo.NETWORKS))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "49"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgan", "x.onnx"), "no network is called 'vgan'; there are artgan, dcgan"),
        (("dcgan", "x.pb"), "wanted a file that ends in .onnx or .tflite"),
        (("dcgan", "x.onnx", "--dtype", "int4"), "no dtype is called 'int4'; there are float32, int8"),
    ],
)
def test_a_wrong_name_says_what_there_is(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zoo", "export", *arguments]) == 2
    assert message in capsys.readouterr().err
    with pytest.raises(UsageError):
        zoo.deconvs("vgan")


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("splitdeconv.lab.zoo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"the zoo needs torch: pip install 'splitdeconv\[zoo\]'"):
        zoo.export("dcgan", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_the_list_shows_every_network(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in zoo.NETWORKS)
    assert "109.77 M" in shown


@pytest.fixture
def faces() -> np.ndarray:
    """Four faces of the generator that comes with the package."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(zoo.trained(), providers=["CPUExecutionProvider"])
    z = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    return np.concatenate([session.run(None, {"z": each[np.newaxis]})[0] for each in z])


def test_the_trained_generator_is_small_and_draws_what_is_recorded(faces: np.ndarray) -> None:
    assert zoo.trained().stat().st_size < 1_000_000
    assert faces.shape == (4, 3, 64, 64)
    np.testing.assert_allclose(faces.mean((2, 3)), RECORDED, atol=5e-4)  # half a step of 8 bits is 4e-3


# Mean of each colour of each face; with other weights from a new training: the values that this test shows.
RECORDED = [[0.1268, 0.3365, 0.3496], [0.268, 0.4062, 0.0838], [0.1234, 0.3298, 0.2753], [0.5055, 0.0865, 0.1499]]


def test_the_trained_generator_has_the_deconvs_of_its_list() -> None:
    pytest.importorskip("onnx_ir")
    import splitdeconv  # noqa: PLC0415

    found = splitdeconv.inspect(zoo.trained()).findings
    assert tuple(site.deconv for site in found.sites) == zoo.deconvs("faces")
    assert not found.skipped
