"""The zoo's networks: the layers that they must have, and the files that they are exported to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")

from torch import nn  # noqa: E402

import splitdeconv  # noqa: E402
from splitdeconv.cli import main  # noqa: E402
from splitdeconv.deconv.layers import Dense, PlainConv  # noqa: E402
from splitdeconv.deconv.spec import Deconv  # noqa: E402
from splitdeconv.errors import InputError  # noqa: E402
from splitdeconv.lab import zoo  # noqa: E402
from splitdeconv.lab.zoo.modules import Deconv2d, ZooNetwork  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
QUICK = ("faces", "dcgan")  # exported in every run; the others in the long one
DECONVS = (*zoo.PAPER, "faces")  # those that upsample and convolve have tests of their own
SLOW = tuple(name for name in DECONVS if name not in QUICK)
EACH = [*QUICK, *(pytest.param(name, marks=pytest.mark.long) for name in SLOW)]
QUICKEST = [pytest.param(name, marks=() if name == "faces" else pytest.mark.long) for name in DECONVS]
FILES = [(".onnx", "float32"), (".onnx", "int8"), (".tflite", "float32"), (".tflite", "int8")]
QUICK_FILES = [("dcgan", ".onnx"), ("faces", ".tflite")]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The file of a network, written once."""
    folder = tmp_path_factory.mktemp("zoo")

    def file(name: str, ending: str = ".onnx", dtype: str = "float32") -> Path:
        path = folder / f"{name}_{dtype}{ending}"
        if not path.exists():
            zoo.export(name, path, dtype=dtype)
        return path

    return file


def kind_of(name: str) -> type[ZooNetwork]:
    module, attribute = zoo.NETWORKS[name].split(":")
    return getattr(import_module(module), attribute)


def listed(spec: Deconv | PlainConv | Dense) -> tuple:
    """What a list of layers and a module have in common; pads of ordinary convolutions are not in the list."""
    if isinstance(spec, Dense):
        return ("dense", spec.in_features, spec.out_features)
    axes = spec.axes
    common = (spec.in_channels, spec.out_channels, tuple((axis.kernel, axis.stride, axis.in_size) for axis in axes))
    pads = tuple((axis.pad_begin, axis.pad_end) for axis in axes) if isinstance(spec, Deconv) else ()
    return (type(spec).__name__, *common, pads)


def layers_of(network: nn.Module, x: torch.Tensor) -> list[tuple]:
    """The layers that a forward pass meets."""
    found: list[tuple] = []

    def note(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        if isinstance(module, nn.Linear):
            found.append(("dense", module.in_features, module.out_features))
            return
        layer = module.deconv if isinstance(module, Deconv2d) else module
        axes = tuple(zip(layer.kernel_size, layer.stride, inputs[0].shape[2:], strict=True))
        pads = (module.pads,) * 2 if isinstance(module, Deconv2d) else ()
        name = "Deconv" if isinstance(module, Deconv2d) else "PlainConv"
        found.append((name, layer.in_channels, layer.out_channels, axes, pads))

    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | Deconv2d):
            module.register_forward_hook(note)
    network(x)
    return found


@pytest.mark.parametrize("name", DECONVS)
def test_the_modules_have_the_layers_of_the_list(name: str) -> None:
    kind = kind_of(name)
    x = kind.sample(object.__new__(kind), torch.Generator().manual_seed(0))
    with torch.device("meta"):
        network = kind()
    assert layers_of(network, x.to("meta")) == [listed(layer.spec) for layer in zoo.network(name).layers]


@pytest.mark.parametrize("name", EACH)
def test_exported_files_show_the_deconvs(name: str, exported: Callable[..., Path]) -> None:
    found = splitdeconv.inspect(exported(name)).findings
    assert tuple(replace(site.deconv, has_bias=True) for site in found.sites) == zoo.deconvs(name)
    assert not found.skipped


@pytest.mark.parametrize(
    ("name", "ending", "dtype"),
    [
        pytest.param(name, *file, marks=() if (name, file[0]) in QUICK_FILES else pytest.mark.long)
        for name in DECONVS
        for file in FILES
    ],
)
def test_every_file_converts_and_is_proved(
    name: str, ending: str, dtype: str, exported: Callable[..., Path], tmp_path: Path
) -> None:
    if ending == ".tflite":
        pytest.importorskip("litert_torch", reason="the exporter for TFLite")
    path = exported(name, ending, dtype)
    conversion = splitdeconv.convert(path, tmp_path / f"converted{ending}", target="generic")
    found = [site.deconv for site in splitdeconv.inspect(path).findings.sites]
    assert [deconv.axes for deconv in found] == [deconv.axes for deconv in zoo.deconvs(name)]
    assert all((deconv.quant is not None) == (dtype == "int8") for deconv in found)
    assert len(conversion.verdict.proofs) == len(zoo.deconvs(name))
    assert all(proof.exact for proof in conversion.verdict.proofs)


@pytest.mark.parametrize("name", QUICKEST)
def test_onnx_and_tflite_compute_what_the_module_computes(name: str, exported: Callable[..., Path]) -> None:
    pytest.importorskip("litert_torch", reason="the exporter for TFLite")
    import onnxruntime  # noqa: PLC0415

    from splitdeconv.targets.litert import LiteRtModel, interpreter  # noqa: PLC0415

    network = zoo.build(name)
    x = network.sample(torch.Generator().manual_seed(1))
    with torch.no_grad():
        outputs = network(x)
    wanted = [each.numpy() for each in (outputs if isinstance(outputs, tuple) else (outputs,))]
    largest = max(float(np.abs(each).max()) for each in wanted)
    session = onnxruntime.InferenceSession(exported(name), providers=["CPUExecutionProvider"])
    for found, each in zip(session.run(None, {network.input_name: x.numpy()}), wanted, strict=True):
        np.testing.assert_allclose(found, each, rtol=0, atol=SUMS * largest)
    model = LiteRtModel(interpreter(exported(name, ".tflite").read_bytes(), "xnnpack", 1))
    given = x.permute(0, 2, 3, 1) if x.ndim == 4 else x
    found = model.run({"serving_default_args_0": given.contiguous().numpy()})
    for number, each in enumerate(wanted):
        y = next(array for key, array in found.items() if f"output_{number}" in key)
        np.testing.assert_allclose(np.moveaxis(y, -1, 1), each, rtol=0, atol=SUMS * largest)


# Sums of the same products in another order, through at most twenty layers: some hundred roundings of 2⁻²⁴.
SUMS = 1e-4


def test_inspect_counts_dcgan_as_the_paper_does(
    exported: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(exported("dcgan"))]) == 0
    shown = capsys.readouterr().out
    assert "3 deconvs: 109.77 M MACs; with zeros inserted (NZP) 439.09 M, split (SD) 158.07 M" in shown
    assert "The deconvs are 98.5% of the model's 111.41 M MACs" in shown


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        zoo.export("superresolution", tmp_path / f"{name}.onnx", seed=3, width=4)
    first, second = ((tmp_path / f"{name}.onnx").read_bytes() for name in "ab")
    assert first == second
    stored, other = (next(zoo.build("superresolution", seed=seed, width=4).parameters()) for seed in (3, 4))
    assert stored.detach().numpy().tobytes() in first
    assert not torch.equal(stored, other)


@pytest.mark.parametrize("ending", [".npz", ".pt"])
def test_weights_come_from_a_file(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"weights{ending}"
    given = zoo.build("dcgan", seed=5).state_dict()
    if ending == ".npz":
        np.savez(path, **{name: tensor.numpy() for name, tensor in given.items()})
    else:
        torch.save(given, path)
    loaded = zoo.build("dcgan", weights=path).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in given.items())


def test_weights_that_do_not_fit_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    given = {name: tensor.numpy() for name, tensor in zoo.build("dcgan").state_dict().items()}
    np.savez(path, **{name: array for name, array in given.items() if name != "dense.bias"})
    with pytest.raises(InputError, match=r"'dense\.bias' .* missing"):
        zoo.build("dcgan", weights=path)
    np.savez(path, **given, more=np.zeros(1))
    with pytest.raises(InputError, match="'more' is no parameter of DCGAN"):
        zoo.build("dcgan", weights=path)
    np.savez(path, **{**given, "dense.bias": np.zeros(3, np.float32)})
    with pytest.raises(InputError, match=r"'dense\.bias' has shape \[3\], wanted \[16384\]"):
        zoo.build("dcgan", weights=path)
    path.write_text("nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        zoo.build("dcgan", weights=path)
    with pytest.raises(InputError, match="cannot be read"):
        zoo.build("dcgan", weights=tmp_path / "none.pt")


def test_initial_activations_neither_vanish_nor_saturate() -> None:
    network = zoo.build("dcgan")
    with torch.no_grad():
        image = network(network.sample(torch.Generator().manual_seed(7), 8))
    assert 0.02 < image.std() < 0.7


def test_training_lowers_the_loss() -> None:
    from splitdeconv.lab.zoo.drawing import NUMBERS, draw  # noqa: PLC0415
    from splitdeconv.lab.zoo.train import train  # noqa: PLC0415

    z = torch.randn(16, NUMBERS, generator=torch.Generator().manual_seed(2))
    first, last = ((train(steps)(z) - draw(z)).abs().mean().item() for steps in (1, 40))
    assert last < 0.9 * first


@pytest.mark.parametrize("name", QUICKEST)
def test_converting_before_and_after_the_export_agree(name: str) -> None:
    from benchmarks.zoo_exports import compare  # noqa: PLC0415

    assert all(check.passed for check in compare(name))


def test_the_shipped_weights_draw_what_they_were_trained_on() -> None:
    from splitdeconv.lab.zoo.drawing import NUMBERS, draw  # noqa: PLC0415

    z = torch.randn(32, NUMBERS, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        error = (zoo.build("faces")(z) - draw(z)).abs().mean().item()
    assert error < 0.05  # of a range of 2; the mean face is at 0.22
