"""Two roads from PyTorch to a split ONNX file: convert the module and export it, or export it and convert the file.

For each network of the zoo both files are run on the same input, and the outputs of the first are held against the
float64 evaluation of the second, as the verification does it: the error may be four times the second's own and 64
roundings. Where float64 cannot be had, the second itself stands for it, and its noise is its change when inputs move by
some roundings. No timing: run it anywhere.

    python -m benchmarks.zoo_exports [NAME ...]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import onnx
import torch

import splitdeconv
import splitdeconv.torch as split
from splitdeconv import formats
from splitdeconv.deconv.network import Compilable
from splitdeconv.lab import zoo
from splitdeconv.lab.zoo import to_onnx
from splitdeconv.lab.zoo.quiet import quiet
from splitdeconv.proof.whole import compare_models
from splitdeconv.results.verdict import OutputCheck
from splitdeconv.targets import target


def compare(name: str) -> tuple[OutputCheck, ...]:
    """The checks of one network's outputs."""
    network = zoo.build(name)
    x = network.sample(torch.Generator().manual_seed(1)).numpy()
    with quiet():
        first = to_onnx.exported(split.freeze(split.convert(network)), network)
        second = splitdeconv.convert(to_onnx.export(network), target="generic", verify=False).model
    assert isinstance(first, onnx.ModelProto)
    assert isinstance(second, onnx.ModelProto)
    for model in (first, second):
        assert not any(node.op_type == "ConvTranspose" for node in model.graph.node)
    runner = target("onnxruntime")
    before, after = (runner.compile(Compilable(model.SerializeToString())) for model in (second, first))
    checks, _ = compare_models(formats.from_object(second), before, after, {network.input_name: np.asarray(x)})
    return checks


def main(names: Sequence[str]) -> None:
    print(f"{'network':9}{'output':12}{'file converted':>16}{'module converted':>18}{'bound':>10}")
    for name in names or zoo.NETWORKS:
        for check in compare(name):
            figures = f"{check.before:16.1e}{check.after:18.1e}{check.bound:10.1e}"
            state = "equal" if check.passed else "NOT EQUAL"
            print(f"{name:9}{check.name:12}{figures}  {state}, against {check.against}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
