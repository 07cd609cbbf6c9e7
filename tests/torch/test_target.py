"""PyTorch as a target."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is an extra: pip install 'splitdeconv[torch]'")

from torch import nn  # noqa: E402

from splitdeconv.deconv.network import Compilable  # noqa: E402
from splitdeconv.deconv.spec import Axis, Deconv, Quant  # noqa: E402
from splitdeconv.errors import UsageError  # noqa: E402
from splitdeconv.lowerings import lower  # noqa: E402
from splitdeconv.lowerings.candidate import Candidate  # noqa: E402
from splitdeconv.measuring import rounds  # noqa: E402
from splitdeconv.results.times import timed  # noqa: E402
from splitdeconv.targets import CompileError, target  # noqa: E402
from splitdeconv.torch_modules.flat import Flat  # noqa: E402

X = np.random.default_rng(0).normal(size=(2, 4, 5, 6)).astype(np.float32)
NARROW = {"float32": 1e-6, "bfloat16": 2**-7, "float16": 2**-10}


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn(x.shape)


def layer() -> nn.Module:
    return nn.ConvTranspose2d(4, 6, 4, 2, 1).eval()


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("dtype", sorted(NARROW))
def test_a_module_runs_in_the_types_and_formats_of_the_target(dtype, memory_format) -> None:
    module = layer()
    compiled = target(f"torch:cpu:{dtype}:{memory_format}").compile(Compilable(Flat(module)))
    (found,) = compiled.run({"x": X}).values()
    assert found.dtype == np.float32
    wanted = module(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=4 * NARROW[dtype] * np.abs(wanted).max())
    assert next(compiled.module.parameters()).dtype == getattr(torch, dtype)
    assert compiled.module.module.weight.is_contiguous() is (memory_format == "contiguous")
    assert module.weight.is_contiguous()


def test_an_exported_file_is_a_model_too(tmp_path) -> None:
    module, path = layer(), tmp_path / "layer.pt2"
    torch.export.save(torch.export.export(module, (torch.from_numpy(X),)), path)
    compiled = target("torch").compile(Compilable(path))
    (input_name,) = compiled.module.names
    found = compiled.run({input_name: X})["output0"]
    np.testing.assert_array_equal(found, module(torch.from_numpy(X)).detach().numpy())


def test_a_model_that_draws_numbers_draws_the_same_ones_in_every_run() -> None:
    compiled = target("torch").compile(Compilable(Flat(Noisy())))
    first, second = (compiled.run({"x": X})["output0"] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first != X).all()


def test_what_stops_a_module_is_a_reason() -> None:
    compiled = target("torch").compile(Compilable(Flat(nn.Linear(3, 3))))
    with pytest.raises(CompileError, match="cannot be multiplied"):
        compiled.run({"x": X})


def test_candidates_are_timed_in_turns_and_hopeless_ones_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = [0]

    class Lasting(nn.Module):
        def __init__(self, run_ns):
            super().__init__()
            self.run_ns = run_ns

        def forward(self, x):
            now_ns[0] += self.run_ns
            return x

    monkeypatch.setattr(rounds, "interleaved", partial(rounds.interleaved, clock=lambda: now_ns[0]))
    on = target("torch:cpu", threads=1)
    fast, slow, broken = Candidate("native"), Candidate("zero_insert"), Candidate("split")
    outcomes = on.measure(
        {fast: on.compile(Compilable(Flat(Lasting(10**6)))), slow: on.compile(Compilable(Flat(Lasting(10**8))))},
        {"x": X},
        seconds=5.0,
    )
    times = timed(outcomes)
    assert (times[slow].rounds, times[slow].median_ms) == (rounds.DROP_AFTER, 100.0)
    assert (times[fast].rounds, times[fast].median_ms) == (rounds.ENOUGH_ROUNDS, 1.0)
    with pytest.raises(CompileError):
        on.measure({broken: on.compile(Compilable(Flat(nn.Linear(3, 3))))}, {"x": X}, seconds=0.01)


def test_compiled_modules_run_and_do_not_count_as_recompilations_of_each_other() -> None:
    on = target("torch:compiled")
    with torch._dynamo.config.patch(recompile_limit=1):
        for module in (layer(), layer()):
            found = on.compile(Compilable(Flat(module))).run({"x": X})["output0"]
            np.testing.assert_allclose(found, module(torch.from_numpy(X)).detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_environment_names_what_ran() -> None:
    found = target("torch:bfloat16:cpu", threads=2).environment()
    assert found.target == "torch:cpu:eager:contiguous:bfloat16"
    assert found.versions == {"torch": torch.__version__}
    assert found.threads == 2
    assert found.processor
    assert found.options == {"mode": "eager", "memory_format": "contiguous", "dtype": "bfloat16"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("torch:tpu", "'tpu' is not known; there are cpu, cuda; eager, compiled; contiguous, channels_last; float32"),
        ("torch:cpu:eager:compiled", "both 'eager' and 'compiled' are given, wanted one"),
    ],
)
def test_an_unknown_option_says_what_there_is(name, message) -> None:
    with pytest.raises(UsageError, match=message):
        target(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_device_cuda_says_so() -> None:
    with pytest.raises(UsageError, match="sees no CUDA device"):
        target("torch:cuda")


def test_quantised_layers_are_refused() -> None:
    quantised = Deconv((Axis(4, 2),), 4, 4, quant=Quant("int8", "int8", per_channel=True))
    assert "run quantised deconvs in float" in target("torch").refuse(lower(quantised, "NCHW", Candidate("native")))
    plain = lower(Deconv((Axis(4, 2),), 4, 4), "NCHW", Candidate("split_rows"))
    assert target("torch").refuse(plain) is None
