"""PyTorch itself as a target: eager or compiled, on the CPU or a CUDA GPU."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import UsageError
from splitdeconv.measuring import rounds
from splitdeconv.results.record import Environment
from splitdeconv.results.times import NO_SECONDS, Measurement, Untimed
from splitdeconv.targets import processor
from splitdeconv.targets.target import Compiled, CompileError, Key, Target
from splitdeconv.torch_modules import archive
from splitdeconv.torch_modules.devices import DEVICES, DTYPES
from splitdeconv.torch_modules.flat import Flat, first_line, of_program

MODES = ("eager", "compiled")
MEMORY_FORMATS = ("contiguous", "channels_last")

WARM_ROUNDS = 3  # untimed: first calls allocate, choose algorithms and compile


@dataclass(frozen=True, slots=True)
class Setting:
    """How PyTorch runs, as the target's option names it.

    Attributes:
        device: ``cpu`` or ``cuda``.
        mode: ``eager`` or ``compiled``.
        memory_format: ``contiguous`` or ``channels_last`` (of maps and weights with two or three spatial axes).
        dtype: of maps and weights.
    """

    device: str = "cpu"
    mode: str = "eager"
    memory_format: str = "contiguous"
    dtype: str = "float32"

    def __str__(self) -> str:
        return ":".join((self.device, self.mode, self.memory_format, self.dtype))


def setting(option: str) -> Setting:
    """The setting that ``cpu:compiled:channels_last:bfloat16`` stands for; any part may be left out, in any order.

    Raises:
        UsageError: a part is not known, or given twice.
    """
    known = {"device": DEVICES, "mode": MODES, "memory_format": MEMORY_FORMATS, "dtype": tuple(DTYPES)}
    found: dict[str, str] = {}
    for part in filter(None, option.split(":")):
        field = next((name for name, values in known.items() if part in values), None)
        if field is None:
            choices = "; ".join(", ".join(values) for values in known.values())
            raise UsageError(f"target 'torch:{option}': '{part}' is not known; there are {choices}")
        if field in found:
            raise UsageError(f"target 'torch:{option}': both '{found[field]}' and '{part}' are given, wanted one")
        found[field] = part
    return Setting(**found)


class TorchCompiled:
    """A module that is ready to run.

    Attributes:
        module: in the target's type and memory format, on its device.
        target: that runs it.
        whole: a user's model, which may break the compiler's graph.
    """

    def __init__(self, module: Flat, target: Torch, *, whole: bool) -> None:
        self.module = module
        self.target = target
        self.whole = whole
        self._call: Any = None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs ``output0``, ``output1``, … as float32, the same for the same inputs where a model draws numbers."""
        try:
            with torch.inference_mode(), _with_threads(self.target.threads), torch.random.fork_rng():
                torch.manual_seed(0)
                outputs = self.prepare(inputs)()
                return {f"output{number}": _array(tensor) for number, tensor in enumerate(outputs)}
        except CompileError:
            raise
        except Exception as error:  # a module's own errors, and a compiler's, have no common base
            raise CompileError(first_line(error)) from error

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], Any]:
        """A call that runs the module once on ``inputs``, to the end."""
        tensors = self._tensors(inputs)
        return partial(_run_to_the_end, self._ready(tensors), tensors)

    def _ready(self, tensors: Sequence[Tensor]) -> Any:
        """What is called: the module, or its compiled code, which sees what a first run packed for these sizes."""
        if self._call is None:
            self._call = self.module
            if self.target.setting.mode == "compiled":
                self.module(*tensors)
                self._call = torch.compile(_with_own_code(self.module), fullgraph=not self.whole, dynamic=False)
        return self._call

    def _tensors(self, inputs: Mapping[str, Array]) -> list[Tensor]:
        """The inputs in the module's order, in the target's type and memory format, on its device."""
        arrays = [inputs[name] for name in self.module.names] if self.module.names else list(inputs.values())
        return [_placed(torch.from_numpy(np.asarray(array, order="C")), self.target.setting) for array in arrays]


class Torch(Target):
    """PyTorch. Models are modules, or paths of ``.pt2`` files that ``torch.export.save`` wrote.

    Args:
        option: see :func:`setting`; ``cpu:eager:contiguous:float32`` where nothing else is said.
        threads: worker threads on the CPU; 0 leaves PyTorch's own number.
    """

    formats = ("torch",)

    def __init__(self, option: str = "", threads: int = 0) -> None:
        self.setting = setting(option)
        self.threads = threads
        self.name = f"torch:{self.setting}"
        if self.setting.device == "cuda" and not torch.cuda.is_available():
            raise UsageError(
                f"target 'torch:{option}': torch {torch.__version__} sees no CUDA device; "
                "use torch:cpu, or install a CUDA build of torch on a machine with such a GPU"
            )

    def environment(self) -> Environment:
        versions = {"torch": str(torch.__version__)}
        options = {"mode": self.setting.mode, "memory_format": self.setting.memory_format, "dtype": self.setting.dtype}
        if self.setting.device == "cpu":
            return Environment(self.name, versions, processor.name(), self.threads or torch.get_num_threads(), options)
        versions |= {"cuda": str(torch.version.cuda), "cudnn": str(torch.backends.cudnn.version())}
        options["tf32"] = str(torch.backends.cudnn.allow_tf32)
        return Environment(self.name, versions, torch.cuda.get_device_name(), 0, options)

    def refuse(self, program: Program) -> str | None:
        if program.deconv.quant is not None:
            return "torch's eager and compiled modes run quantised deconvs in float: measure the float layer instead"
        return None

    def in_full_precision(self) -> Torch:
        setting_ = replace(self.setting, dtype="float32")
        return Torch(str(setting_), self.threads)

    def compile(self, model: Compilable, *, whole: bool = False) -> TorchCompiled:
        """Made ready in the first run, whose sizes packed filters are for."""
        if isinstance(model.content, Path):
            module = of_program(archive.load(model.content))
        else:
            module = copy.deepcopy(model.content)
        try:
            return TorchCompiled(_placed_module(module.eval(), self.setting), self, whole=whole)
        except (RuntimeError, NotImplementedError) as error:
            raise CompileError(first_line(error)) from error

    def measure(
        self,
        models: Mapping[Key, Compiled],
        inputs: Mapping[str, Array],
        seconds: float,
        *,
        progress: rounds.Progress | None = None,
        drop: float = rounds.DROP_RATIO,
    ) -> dict[Key, Measurement | Untimed]:
        ready = {key: each for key, each in models.items() if isinstance(each, TorchCompiled)}
        with torch.inference_mode(), _with_threads(self.threads):
            runs = {key: _warm(each, inputs) for key, each in ready.items()}
            return dict.fromkeys(models, NO_SECONDS) | rounds.interleaved(runs, seconds, progress=progress, drop=drop)


def _warm(compiled: TorchCompiled, inputs: Mapping[str, Array]) -> Callable[[], Any]:
    """The call to be timed, after its first runs, which allocate, choose algorithms and compile, outside the budget."""
    try:
        run = compiled.prepare(inputs)
        for _ in range(WARM_ROUNDS):
            run()
    except Exception as error:  # a compiler's own errors have no common base
        raise CompileError(first_line(error)) from error
    return run


def _run_to_the_end(module: Any, tensors: Sequence[Tensor]) -> Any:
    """The result of one call; a GPU works on after it, so wait for that."""
    found = module(*tensors)
    if tensors and tensors[0].is_cuda:
        torch.cuda.synchronize()
    return found


def _placed_module(module: Flat, wanted: Setting) -> Flat:
    """The module in the setting's type and memory format, on its device."""
    module = module.to(wanted.device, DTYPES[wanted.dtype])
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.data = _placed(tensor.data, wanted)
    return module


def _with_own_code(module: nn.Module) -> Any:
    """A function that calls ``module`` and shares its code object with no other.

    Compiled code is kept per code object, tried in turn on each call, and limited in number: candidates that share one
    class would be slowed by each other, and the ninth would not be compiled.
    """

    def call(*inputs: Tensor) -> Any:
        return module(*inputs)

    return types.FunctionType(call.__code__.replace(), call.__globals__, closure=call.__closure__)


def _placed(tensor: Tensor, wanted: Setting) -> Tensor:
    if tensor.is_floating_point():
        tensor = tensor.to(DTYPES[wanted.dtype])
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    last = wanted.memory_format == "channels_last" and tensor.dim() in formats
    return tensor.to(wanted.device).contiguous(memory_format=formats[tensor.dim()] if last else torch.contiguous_format)


def _array(tensor: Tensor) -> Array:
    found: Array = (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
    return found


@contextmanager
def _with_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
