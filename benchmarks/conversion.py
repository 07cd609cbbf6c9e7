"""Time and memory of converting large ONNX models, against loading and saving the same model.

Two models: 2,000 nodes, and 1 GB of weights in a file beside the model. Each run is a process of its own, so that its
peak is its own; what imports take is not in the times, what they occupy is in the peaks. Aims: under twice the time of
load and save without verification; below 300 MB for the model of 1 GB.

Run on an idle machine: python -m benchmarks.conversion [--repeats 5] [--nodes 2000] [--gigabytes 1.0]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx import helper, numpy_helper

DECONV_SHARE = 100  # one node in so many is a deconv
CHANNELS = 8
WIDE = 1024  # channels of the large model: 16.8 MB for a 2×2 deconv, 37.7 MB for a 3×3 convolution
KINDS = ("load+save", "convert")
SAMPLE_SECONDS = 0.005


def weight(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(rng.standard_normal(shape, np.float32), name)


def save(path: Path, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto], channels: int) -> None:
    x, y = (helper.make_tensor_value_info(name, 1, ["N", channels, "H", "W"]) for name in ("x", nodes[-1].output[0]))
    graph = helper.make_graph(nodes, "benchmark", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path, save_as_external_data=channels == WIDE, location=path.name + ".data")


def many_nodes(path: Path, count: int) -> None:
    """A chain of convolutions and activations with a deconv every so often."""
    rng, nodes, weights, value = np.random.default_rng(0), [], [], "x"
    for number in range(count // 2):
        name, kind = f"layer{number}", "ConvTranspose" if number % (DECONV_SHARE // 2) == 0 else "Conv"
        weights.append(weight(rng, f"{name}.weight", CHANNELS, CHANNELS, 4, 4))
        attributes: dict[str, Any] = {"pads": [1, 1, 2, 2]}
        if kind == "ConvTranspose":
            attributes = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node(kind, [value, f"{name}.weight"], [name], name=name, **attributes))
        nodes.append(helper.make_node("Relu", [name], [f"{name}.relu"], name=f"{name}/relu"))
        value = f"{name}.relu"
    save(path, nodes, weights, CHANNELS)


def many_bytes(path: Path, size: float) -> None:
    """Wide convolutions, and a deconv for every four of them; ``size`` in bytes."""
    rng, value, total = np.random.default_rng(0), "x", 0
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    while total < size:
        number = len(nodes)
        name, kind, kernel = f"layer{number}", "Conv", 3
        if number % 5 == 0:
            kind, kernel = "ConvTranspose", 2
        weights.append(weight(rng, f"{name}.weight", WIDE, WIDE, kernel, kernel))
        total += len(weights[-1].raw_data)
        nodes.append(
            helper.make_node(kind, [value, f"{name}.weight"], [name], name=name, strides=[kernel // 2 + 1] * 2)
        )
        value = name
    save(path, nodes, weights, WIDE)


def load_and_save(source: Path, out: Path) -> None:
    external = source.with_name(source.name + ".data").is_file()
    onnx_ir.save(onnx_ir.load(source), out, external_data=out.name + ".data" if external else None)


def convert(source: Path, out: Path) -> None:
    import splitdeconv  # noqa: PLC0415 (only the process that converts pays for it)

    splitdeconv.convert(source, out, target="generic", verify=False)


def status(name: str) -> int:
    """A line of Linux's account of this process, in bytes; 0 elsewhere."""
    path = Path("/proc/self/status")
    lines = path.read_text().splitlines() if path.is_file() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))


def watch_own_memory(peaks: dict[str, int]) -> None:
    """Keep the largest size of the process's own memory: without mapped files, whose pages the system may drop."""
    while True:
        peaks["own_peak_bytes"] = max(peaks["own_peak_bytes"], status("RssAnon"))
        time.sleep(SAMPLE_SECONDS)


def one_run(kind: str, source: Path, out: Path) -> None:
    """One run in this process; time in seconds and peaks in bytes on the standard output."""
    run = convert if kind == "convert" else load_and_save
    if kind == "convert":
        import splitdeconv.formats.onnx  # noqa: PLC0415 (imports are not what is timed)
        import splitdeconv.pipeline.convert  # noqa: F401, PLC0415 (as above)
    peaks = {"own_peak_bytes": 0}
    threading.Thread(target=watch_own_memory, args=(peaks,), daemon=True).start()
    start = time.perf_counter()
    run(source, out)
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak_bytes": status("VmHWM"), **peaks}))


def measure(kind: str, source: Path, repeats: int) -> dict[str, list[float]]:
    """``repeats`` runs, each in a process of its own."""
    found: dict[str, list[float]] = {}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=source.parent) as folder:
            command = [sys.executable, __file__, "--one", kind, str(source), str(Path(folder, "out.onnx"))]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for name, value in json.loads(answer).items():
                found.setdefault(name, []).append(value)
    return found


def report(title: str, source: Path, repeats: int) -> None:
    data = source.with_name(source.name + ".data")
    size = source.stat().st_size + (data.stat().st_size if data.is_file() else 0)
    print(f"\n{title}: {size / 1e6:.0f} MB")
    medians = {}
    for kind in KINDS:
        found = measure(kind, source, repeats)
        medians[kind] = statistics.median(found["seconds"])
        spread = f"{min(found['seconds']):.3f}–{max(found['seconds']):.3f}"
        peaks = ", ".join(
            f"{name.removesuffix('_bytes').replace('_', ' ')} {max(found[name]) / 1e6:.0f} MB"
            for name in ("peak_bytes", "own_peak_bytes")
        )
        print(f"  {kind:10} {medians[kind]:.3f} s (median of {repeats}, {spread}); {peaks}")
    print(f"  convert / load+save: {medians['convert'] / medians['load+save']:.2f}")


def main(arguments: Sequence[str]) -> None:
    if arguments[:1] == ["--one"]:
        one_run(arguments[1], Path(arguments[2]), Path(arguments[3]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    asked = parser.parse_args(arguments)
    print(f"{platform.machine()}, Python {platform.python_version()}, onnx {onnx.__version__}, ", end="")
    print(f"onnx_ir {onnx_ir.__version__}, NumPy {np.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        nodes, large = Path(folder, "nodes.onnx"), Path(folder, "large.onnx")
        many_nodes(nodes, asked.nodes)
        report(f"{asked.nodes} nodes", nodes, asked.repeats)
        many_bytes(large, asked.gigabytes * 1e9)
        report(f"{asked.gigabytes:g} GB of weights in another file", large, asked.repeats)


if __name__ == "__main__":
    main(sys.argv[1:])
