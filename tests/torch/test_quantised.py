"""Quantised graphs: integers are moved, never requantised."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")
pytest.importorskip("torch.ao.quantization.fx._decomposed", reason="defines the operators of quantised graphs")

from torch import nn  # noqa: E402

import splitdeconv.torch as split  # noqa: E402

QUANTISED = torch.ops.quantized_decomposed
SCALE = 2.0**-5  # powers of two: every product and sum is exact, so results must be equal to the last bit


class Layer(nn.Module):
    """One int8 deconv as PT2E writes it.

    Args:
        axis: whose channels have scales of their own (0: input, 1: output), or None.
    """

    def __init__(self, axis=None, groups=1, zero_point=0, relu=True, requantised=True, **options) -> None:
        super().__init__()
        self.axis, self.groups, self.zero_point, self.relu = axis, groups, zero_point, relu
        self.requantised = requantised
        self.options = {"stride": 2, "padding": 1, "output_padding": 1, **options}
        self.register_buffer("stored", torch.randint(-127, 128, (4, 3 * (2 - groups % 2), 5, 4)).to(torch.int8))
        channels = self.stored.shape[axis or 0]
        self.register_buffer("scales", 2.0 ** -torch.randint(5, 9, (channels,)).float())
        self.register_buffer("zeros", torch.full((channels,), zero_point))
        self.bias = nn.Parameter(torch.randint(-9, 9, (self.stored.shape[1] * groups,)) * SCALE / 64)

    def forward(self, x):
        limits = (-128, 127, torch.int8)
        x = QUANTISED.quantize_per_tensor(x, SCALE, 3, *limits)
        x = QUANTISED.dequantize_per_tensor(x, SCALE, 3, *limits)
        if self.axis is None:
            weight = QUANTISED.dequantize_per_tensor(self.stored, SCALE, self.zero_point, *limits)
        else:
            weight = QUANTISED.dequantize_per_channel(self.stored, self.scales, self.zeros, self.axis, *limits)
        y = nn.functional.conv_transpose2d(x, weight, self.bias, groups=self.groups, **self.options)
        y = y.relu() if self.relu else y
        if not self.requantised:
            return y
        y = QUANTISED.quantize_per_tensor(y, 2 * SCALE, -7, *limits)
        return QUANTISED.dequantize_per_tensor(y, 2 * SCALE, -7, *limits)


X = 2 * torch.randn(2, 4, 5, 6)


def graph(layer):
    return torch.export.export(layer.eval(), (X[:, :4],)).module()


def names(module) -> list[str]:
    return [str(node.target) for node in module.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("lowering", [None, "split_phases", "split:full:transpose"])
@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": 1}, {"groups": 2}, {"axis": 1, "groups": 2}], ids=str)
@pytest.mark.parametrize("relu", [False, True])
def test_results_are_bit_equal(options, relu, lowering) -> None:
    module = graph(Layer(relu=relu, **options))
    converted = split.convert(module, lowering=lowering)
    assert len(split.record(converted).converted) == 1
    assert not any("conv_transpose" in name for name in names(converted))
    assert torch.equal(converted(X), module(X))


def test_every_convolution_is_requantised_once_with_the_scale_of_the_output() -> None:
    module = graph(Layer(axis=1))
    converted = split.convert(module, lowering="split_phases")
    stored = [buffer for buffer in converted.buffers() if buffer.dtype == torch.int8]
    assert len(stored) == 4
    assert sum(buffer.numel() for buffer in stored) == module.get_buffer("stored").numel()
    found = [node for node in converted.graph.nodes if "quantize_per_tensor" in str(node.target)]
    for conv in (node for node in converted.graph.nodes if "conv2d" in str(node.target)):
        (relu,) = conv.users
        (quantise,) = relu.users
        (dequantise,) = quantise.users
        assert quantise.args[1:3] == dequantise.args[1:3] == (2 * SCALE, -7)
        assert quantise in found


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"zero_point": 5}, "its weights have the zero-point 5, wanted 0"),
        ({"axis": 1, "zero_point": 5}, "its weights have zero-points other than 0"),
        ({"axis": 0, "groups": 2}, "a scale for each input channel, which a grouped convolution cannot have"),
        ({"axis": 2}, "a scale for each place of axis 2, wanted a channel axis"),
        ({"requantised": False}, "its output is not quantised right away"),
    ],
)
def test_what_cannot_be_split_is_left_alone_with_the_reason(options, reason) -> None:
    module = graph(Layer(**options))
    converted = split.convert(module)
    (skipped,) = split.record(converted).skipped
    assert reason in skipped.reason
    assert torch.equal(converted(X), module(X))


def test_lowerings_that_add_partial_sums_are_refused() -> None:
    (skipped,) = split.record(split.convert(graph(Layer()), lowering="col2im")).skipped
    assert "would requantise twice" in skipped.reason


def test_quantised_graphs_are_not_measured() -> None:
    (skipped,) = split.record(split.convert(graph(Layer()), (X,), "torch")).skipped
    assert "runs quantised graphs in float" in skipped.reason
    record = split.record(split.convert(graph(Layer()), (X,)))
    assert record.target_reason.endswith("PyTorch runs quantised graphs in float")
    assert record.converted


def test_restore_gives_the_graph_back() -> None:
    module = graph(Layer(axis=1))
    restored = split.restore(split.convert(module))
    assert names(restored) == names(module)
    assert torch.equal(restored(X), module(X))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("per_channel", [False, True])
def test_graphs_of_torchao(per_channel) -> None:
    pt2e = pytest.importorskip("torchao.quantization.pt2e.quantize_pt2e", reason="torchao makes PT2E graphs")
    xnnpack = pytest.importorskip("torchao.testing.pt2e._xnnpack_quantizer", reason="a quantiser")
    network = nn.Sequential(nn.ConvTranspose2d(4, 6, 4, 2, 1), nn.ReLU(), nn.Conv2d(6, 3, 3)).eval()
    settings = xnnpack.get_symmetric_quantization_config(is_per_channel=per_channel)
    quantiser = xnnpack.XNNPACKQuantizer().set_global(settings)
    prepared = pt2e.prepare_pt2e(torch.export.export(network, (X,)).module(), quantiser)
    prepared(X)
    module = pt2e.convert_pt2e(prepared)
    converted = split.convert(module)
    assert len(split.record(converted).converted) == 1
    found, wanted = converted(X), module(X)
    scales = [node.args[1] for node in module.graph.nodes if "dequantize_per_tensor" in str(node.target)]
    # sums in another order can round to the neighbouring integer
    torch.testing.assert_close(found, wanted, rtol=0, atol=1.001 * max(scales))
    assert (found == wanted).float().mean() > 0.99
