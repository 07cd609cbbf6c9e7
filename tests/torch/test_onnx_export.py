"""``torch.onnx.export`` of our modules: ordinary operators only, the same numbers in ONNX Runtime."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="runs the exported file")
pytest.importorskip("onnxscript", reason="torch.onnx.export needs onnxscript")

from torch import nn  # noqa: E402
from torch.export import Dim  # noqa: E402

import splitdeconv.torch as split  # noqa: E402
from tests.torch.networks import Functional  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
SIZES = ({0: Dim("n"), 2: Dim("h"), 3: Dim("w")},)


def decoder():
    return nn.Sequential(
        nn.ConvTranspose2d(4, 6, 5, 2, 2, 1), nn.ReLU(), nn.ConvTranspose2d(6, 3, 4, (2, 1), 1), nn.Tanh()
    )


def exported(module, path):
    """The ONNX model, and a session that runs it."""
    program = torch.onnx.export(
        module, (torch.randn(2, 4, 5, 6),), dynamic_shapes=SIZES, dynamo=True, verbose=False, external_data=False
    )
    program.save(path)
    return program.model, onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def operators(model) -> set[str]:
    return {node.op_type for function in (model.graph, *model.functions.values()) for node in function}


@pytest.mark.parametrize("prepare", [split.freeze, nn.Module.eval], ids=["frozen", "live"])
def test_converted_models_export_without_a_deconv(prepare, tmp_path) -> None:
    module = decoder().eval()
    converted = prepare(split.convert(module))
    model, session = exported(converted, tmp_path / "decoder.onnx")
    found = operators(model)
    assert "Conv" in found
    assert "ConvTranspose" not in found
    convolutions = [node for node in model.graph if node.op_type == "Conv"]
    if prepare is split.freeze:  # the filters as they run
        assert [node.inputs[1].const_value is not None for node in convolutions] == [True, True]
    for sizes in ((2, 5, 6), (1, 3, 7)):
        x = torch.randn(sizes[0], 4, *sizes[1:])
        (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=1e-4, atol=1e-5)


def test_functional_calls_export_without_a_deconv(tmp_path) -> None:
    module = Functional().eval()
    module.own = nn.Identity()
    converted = split.convert(module, (torch.randn(2, 4, 5, 6),), "generic", dynamic_shapes=SIZES)
    model, session = exported(converted, tmp_path / "functional.onnx")
    assert "ConvTranspose" not in operators(model)
    x = torch.randn(1, 4, 3, 7)
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(y), module(x), rtol=1e-4, atol=1e-5)
