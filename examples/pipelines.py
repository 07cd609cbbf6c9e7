"""Simplify, split and quantise an ONNX model in each order; each result is proved, timed and held against the original.

    python examples/pipelines.py model.onnx            # passes of onnx_ir, in one process
    python examples/pipelines.py model.onnx --olive    # the same through Olive (extra `olive`)

Wants onnxscript (simplifies) and ONNX Runtime (quantises and runs).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime import quantization
from onnxscript import optimizer

from splitdeconv.passes import SplitDeconvs

ROUNDS, CALIBRATION = 60, 8
SPLIT = {"target": "onnxruntime", "threads": 1, "budget": 20.0}  # options of splitdeconv.convert
ORDERS = (
    ("simplify",),
    ("simplify", "split"),
    ("split", "simplify"),
    ("simplify", "quantise"),
    ("simplify", "split", "quantise"),
    ("simplify", "quantise", "split"),
)
Feeds = dict[str, np.ndarray[Any, Any]]


def feeds_of(model: onnx.ModelProto, seed: int) -> Feeds:
    """Random float32 inputs; open sizes are 1."""
    rng, given = np.random.default_rng(seed), {tensor.name for tensor in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in given]
    shapes = {each.name: [dim.dim_value or 1 for dim in each.type.tensor_type.shape.dim] for each in inputs}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


class Simplify(ir.passes.InPlacePass):
    """onnxscript's optimizer."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The same model, simplified."""
        optimizer.optimize_ir(model)
        return ir.passes.PassResult(model, True)


class Quantise(ir.passes.FunctionalPass):
    """ONNX Runtime's static quantiser: QDQ, uint8 maps, int8 weights per channel in 7 bits."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Another model, quantised."""

        class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
            batches = iter([feeds_of(ir.to_proto(model), seed) for seed in range(CALIBRATION)])

            def get_next(self) -> Feeds | None:
                return next(self.batches, None)

        with tempfile.TemporaryDirectory() as folder:
            source, out = Path(folder) / "float.onnx", Path(folder) / "quantised.onnx"
            ir.save(model, source)
            quantization.quantize_static(str(source), str(out), Reader(), per_channel=True, reduce_range=True)
            return ir.passes.PassResult(ir.from_proto(onnx.load(out)), True)


def by_passes(source: Path, order: tuple[str, ...]) -> onnx.ModelProto:
    """One order in one process; SplitDeconvs raises where its result is not equal."""
    split = partial(SplitDeconvs, **SPLIT)
    kinds: Mapping[str, Callable[[], Any]] = {"simplify": Simplify, "split": split, "quantise": Quantise}
    return ir.to_proto(ir.passes.Sequential(*(kinds[step]() for step in order))(ir.load(source)).model)


def by_olive(source: Path, order: tuple[str, ...]) -> onnx.ModelProto:
    """One order as Olive's JSON says it; Olive leaves a pass out that raises, as ours does where it is not equal."""
    import torch  # noqa: PLC0415  # only with --olive
    from olive import run  # noqa: PLC0415  # only with --olive
    from olive.data.registry import Registry  # noqa: PLC0415  # only with --olive

    from splitdeconv.passes.olive import package_config  # noqa: PLC0415  # only with --olive

    @Registry.register_dataset()
    def random_feeds(**_: object) -> list[Any]:
        batches = [feeds_of(onnx.load(source), seed) for seed in range(CALIBRATION)]
        return [({name: torch.from_numpy(array[0]) for name, array in each.items()}, 0) for each in batches]

    data = {"name": "random", "type": "DataContainer", "load_dataset_config": {"type": "random_feeds"}}
    steps: Mapping[str, Any] = {
        "simplify": {"type": "OnnxPeepholeOptimizer"},
        "split": {"type": "OnnxSplitDeconvs", **SPLIT},
        "quantise": {
            "type": "OnnxStaticQuantization",
            "data_config": "random",
            "per_channel": True,
            "reduce_range": True,
            "quant_preprocess": False,
            "activation_type": "uint8",
            "precision": "int8",
        },
    }
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "input_model": {"type": "ONNXModel", "model_path": str(source)},
            "data_configs": [data],
            "passes": {step: steps[step] for step in order},
            "output_dir": f"{folder}/out",
            "cache_dir": f"{folder}/cache",
            "log_severity_level": 3,
        }
        run(config, package_config=package_config())
        (found,) = Path(folder, "out").glob("**/*.onnx")
        return onnx.load(found)


def milliseconds(models: Mapping[str, onnx.ModelProto], feeds: Feeds) -> dict[str, float]:
    """Medians of interleaved rounds, ONNX Runtime on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        name: onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        for name, model in models.items()
    }
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(ROUNDS):
        for name, session in sessions.items():
            start = time.perf_counter()
            session.run(None, feeds)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in times.items()}


def outputs(model: onnx.ModelProto, feeds: Feeds) -> np.ndarray[Any, Any]:
    """All outputs, one after the other."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.concatenate([np.ravel(each) for each in session.run(None, feeds)])


def main() -> None:
    """A row for each order: milliseconds, largest error over the largest output, nodes, QuantizeLinear nodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--olive", action="store_true")
    given = parser.parse_args()
    make = by_olive if given.olive else by_passes
    models = {" → ".join(order): make(given.model, order) for order in ORDERS}
    feeds = feeds_of(onnx.load(given.model), CALIBRATION)
    wanted, times = outputs(onnx.load(given.model), feeds), milliseconds(models, feeds)
    for name, model in models.items():
        error = np.abs(outputs(model, feeds) - wanted).max() / np.abs(wanted).max()
        quantisers = sum(node.op_type == "QuantizeLinear" for node in model.graph.node)
        print(f"| {name} | {times[name]:.3g} | {error:.1e} | {len(model.graph.node)} | {quantisers} |")


if __name__ == "__main__":
    main()
