"""The zoo's networks that upsample and convolve: their deconvs, their widths, their files."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")

import splitdeconv  # noqa: E402
from splitdeconv.cli import main  # noqa: E402
from splitdeconv.lab import zoo  # noqa: E402
from splitdeconv.lab.zoo.modules import UpsampledConv2d, ZooNetwork  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
QUICK = "superresolution"  # exported in every run; the others in the long one
EACH = [pytest.param(name, marks=() if name == QUICK else pytest.mark.long) for name in zoo.RESIZING]
SHAPES = {
    "monodepth2": [(1, 1, 192, 640), (1, 1, 96, 320), (1, 1, 48, 160), (1, 1, 24, 80)],
    "progan": [(1, 3, 128, 128)],
    "rrdb": [(1, 3, 128, 128)],
    "stylegan2": [(1, 3, 64, 64)],
    "superresolution": [(1, 3, 128, 128)],
    "vae": [(1, 3, 128, 128)],
}
PARAMETERS = {"vae": 49_490_199, "rrdb": 16_697_987}  # of the published networks


def on_meta(name: str) -> ZooNetwork:
    module, attribute = zoo.NETWORKS[name].split(":")
    with torch.device("meta"):
        return getattr(import_module(module), attribute)()


@pytest.mark.parametrize("name", zoo.RESIZING)
def test_the_networks_have_the_deconvs_of_the_list(name: str) -> None:
    network, found = on_meta(name), []
    for module in network.modules():
        if isinstance(module, UpsampledConv2d):
            module.register_forward_hook(lambda module, inputs, _: found.append((module, tuple(inputs[0].shape[2:]))))
    outputs = network(network.sample(torch.Generator().manual_seed(0)).to("meta"))
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert [tuple(each.shape) for each in outputs] == SHAPES[name]
    listed = [deconv for deconv in zoo.deconvs(name) if name not in ("monodepth2", "stylegan2")]
    assert [(each.conv.in_channels, each.conv.out_channels, sizes) for each, sizes in found] == [
        (deconv.in_channels, deconv.out_channels, deconv.in_sizes) for deconv in listed
    ]


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_published_networks_have_their_number_of_parameters(name: str) -> None:
    assert sum(each.numel() for each in on_meta(name).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", EACH)
def test_exported_files_show_the_deconvs_and_convert(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.onnx"
    zoo.export(name, path)
    found = [replace(site.deconv, has_bias=True) for site in splitdeconv.inspect(path).findings.sites]
    listed = list(zoo.deconvs(name))
    assert [each for each in found if not getattr(each.written_out, "beside", 0)] == listed
    conversion = splitdeconv.convert(path, tmp_path / "converted.onnx", lowering="split_phases", target="generic")
    assert len(conversion.verdict.proofs) >= len(listed)
    assert all(proof.exact for proof in conversion.verdict.proofs)


@pytest.mark.parametrize(
    ("name", "width", "channels"), [(QUICK, 4, [4, 4]), pytest.param("vae", 32, [128, 128, 64], marks=pytest.mark.long)]
)
def test_a_width_makes_all_maps_narrower(name: str, width: int, channels: list[int], tmp_path: Path) -> None:
    assert main(["zoo", "export", name, str(tmp_path / "small.onnx"), "--width", str(width)]) == 0
    found = [site.deconv for site in splitdeconv.inspect(tmp_path / "small.onnx").findings.sites]
    assert [each.in_channels for each in found] == channels
    assert [each.axes for each in found] == [each.axes for each in zoo.deconvs(name)]


@pytest.mark.parametrize(
    ("name", "width", "message"),
    [
        ("dcgan", "8", "'dcgan' has one width only; a width can be chosen for monodepth2, progan"),
        ("vae", "48", "width is 48, wanted a multiple of 32 for 'vae'"),
        ("rrdb", "0", "width is 0, wanted a multiple of 2 for 'rrdb'"),
    ],
)
def test_a_width_that_cannot_be_is_one_line(
    name: str, width: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["zoo", "export", name, str(tmp_path / "x.onnx"), "--width", width]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["progan", "vae", "stylegan2"])
def test_initial_activations_neither_vanish_nor_explode(name: str) -> None:
    network = zoo.build(name, width=32 if name == "vae" else 8)
    with torch.no_grad():
        image = network(network.sample(torch.Generator().manual_seed(7), 2))
    assert 1e-3 < image.std() < 30


def test_what_an_exporter_does_not_take_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As StyleGAN2's pads of six axes, which TFLite does not have."""
    exporter = pytest.importorskip("litert_torch", reason="needs the extra zoo")

    def refuse(*_: object) -> None:
        raise ValueError("Failed to run converter passes: operand 0 is at most 5-D")

    monkeypatch.setattr(exporter, "convert", refuse)
    assert main(["zoo", "export", QUICK, str(tmp_path / "x.tflite")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "LiteRT's exporter does not take the network (Failed to run converter passes: operand 0 is" in line
    assert not list(tmp_path.iterdir())
