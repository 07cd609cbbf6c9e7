"""Today's processors: each runtime in each type, and how one network is timed on it by the project's own bench."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from splitdeconv import targets
from splitdeconv.files import make_folder
from splitdeconv.lab.paper.child import in_child
from splitdeconv.lab.paper.models import SEED, digest, zoo_model
from splitdeconv.lab.paper.part import Progress
from splitdeconv.pipeline import bench
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.report.page import Kind
from splitdeconv.results.bench import BenchRecord

QUICK_SECONDS, FULL_SECONDS = 2.0, 20.0  # for each network on each runtime, all its forms together
QUICK_FORMS = 3  # of each deconv, besides those of the paper ...
QUICK_TORCH_FORMS = 6  # ... and in PyTorch, where three memory layouts are among them
EXPORTERS = {
    ".onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    ".tflite": ("torch", "litert-torch", "ai-edge-quantizer"),
}


@dataclass(frozen=True, slots=True)
class PaperRuntime:
    """One runtime in one type.

    Attributes:
        name: for tables and files.
        title: for headings.
        target: as on the command line.
        dtype: of the model: ``float32`` or ``int8``.
        suffix: of its models; empty for PyTorch, which takes modules.
        packages: whose versions the times depend on.
        kind: measured or estimated.
        inserts_zeros: it computes its own deconv by inserting zeros and takes no other such form.
    """

    name: str
    title: str
    target: str
    dtype: str
    suffix: str
    packages: tuple[str, ...]
    kind: Kind = "measured"
    inserts_zeros: bool = False

    @property
    def all_packages(self) -> tuple[str, ...]:
        """Those of its models' exporters too."""
        return tuple(dict.fromkeys((*self.packages, *EXPORTERS.get(self.suffix, ("torch",)))))


RUNTIMES = (
    PaperRuntime("onnxruntime-float32", "ONNX Runtime, float32", "onnxruntime", "float32", ".onnx", ("onnxruntime",)),
    PaperRuntime("onnxruntime-int8", "ONNX Runtime, int8", "onnxruntime", "int8", ".onnx", ("onnxruntime",)),
    PaperRuntime("litert-float32", "LiteRT, float32", "litert", "float32", ".tflite", ("ai-edge-litert",)),
    PaperRuntime("litert-int8", "LiteRT, int8", "litert", "int8", ".tflite", ("ai-edge-litert",)),
    PaperRuntime("openvino-float32", "OpenVINO, float32", "openvino", "float32", ".onnx", ("openvino",)),
    PaperRuntime("openvino-int8", "OpenVINO, int8", "openvino", "int8", ".onnx", ("openvino",)),
    PaperRuntime("torch-float32", "PyTorch eager, float32", "torch", "float32", "", ("torch",)),
    PaperRuntime(
        "ethos-u55-128",
        "Ethos-U55-128, int8, Vela's estimate",
        "vela:ethos-u55-128",
        "int8",
        ".tflite",
        ("ethos-u-vela",),
        "estimated",
        inserts_zeros=True,
    ),
)


@dataclass(frozen=True, slots=True)
class Export:
    """A network's model files in one format, each made once for each set of exporter versions.

    Attributes:
        network: its name.
        suffix: ``.onnx`` or ``.tflite``.
        folder: keeps the files from run to run.
    """

    network: str
    suffix: str
    folder: Path

    def path(self, dtype: str) -> Path:
        """The file in ``float32`` or ``int8``."""
        return self.folder / f"{self.network}-{dtype}-{digest(EXPORTERS[self.suffix])}{self.suffix}"

    def __call__(self, progress: Progress) -> None:
        """Make the files that are not there.

        Raises:
            OutputError: the folder cannot be made.
            UsageError: the exporter is not installed.
        """
        for dtype in ("float32", "int8"):  # in this order: the second is made from the first
            self.made(dtype, progress)

    def made(self, dtype: str, progress: Progress) -> Path:
        """The file in ``dtype``, made if it is not there; errors as above."""
        path, plain = self.path(dtype), self.path("float32")
        if not path.exists():
            progress("exporting", 0.0)
            make_folder(self.folder)
            in_child(zoo_model, self.network, path, dtype, plain if plain.exists() else None)
        return path


def export_of(name: str, runtime: PaperRuntime, folder: Path) -> Export | None:
    """The files of a network that a runtime reads; None for PyTorch, which takes modules."""
    return Export(name, runtime.suffix, folder) if runtime.suffix else None


def time_network(name: str, runtime: PaperRuntime, folder: Path, progress: Progress, *, quick: bool) -> BenchRecord:
    """Every form of every deconv of a network, and the whole network, in one run.

    Args:
        name: of the network.
        runtime: where.
        folder: keeps the exported models from run to run.
        progress: told what is measured.
        quick: less time and fewer forms.

    Raises:
        MissingExtraError: the runtime is not installed.
        UsageError: what exports its models is not installed.
        CompileError: the runtime does not take the network.
    """
    seconds = QUICK_SECONDS if quick else FULL_SECONDS
    export = export_of(name, runtime, folder)
    targets.target(runtime.target)  # before the minutes of an export, that it is there
    request = BenchRequest(
        runtime.target,
        budget=seconds,
        forms=(QUICK_FORMS if export else QUICK_TORCH_FORMS) if quick else 0,
        equal_work=False,
        progress=progress,
    )
    if export is not None:
        return bench.bench_model(export.made(runtime.dtype, progress), request)
    import torch  # noqa: PLC0415  # an extra

    from splitdeconv.formats.torch.modules import ModuleModel  # noqa: PLC0415  # needs torch
    from splitdeconv.lab import zoo  # noqa: PLC0415  # as above

    network = zoo.build(name, SEED)
    module = ModuleModel.of(network, (network.sample(torch.Generator().manual_seed(SEED)),), measured=True)
    return bench.bench_model(module, replace(request, inputs=module.feeds()))
