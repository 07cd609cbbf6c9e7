#!/usr/bin/env python3
"""ONNX Runtime of another environment: put that environment's Python into the first line, or call it by that Python.

splitdeconv convert model.onnx out.onnx --target 'command:./onnxruntime_elsewhere.py {model} {inputs} {outputs}'
"""

import os
import sys
import time

import numpy as np
import onnxruntime

ROUNDS, WARM_UP = 10, 3

if sys.argv[1:] == ["--describe"]:
    print("onnxruntime", onnxruntime.__version__, onnxruntime.get_available_providers()[0])
    sys.exit()

model, inputs, outputs = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ.get("SPLITDECONV_THREADS", "0"))
session = onnxruntime.InferenceSession(model, options)
feeds = dict(np.load(inputs))
names = [output.name for output in session.get_outputs()]
for _ in range(WARM_UP):
    results = session.run(names, feeds)
if outputs:
    np.savez(outputs, **dict(zip(names, results, strict=True)))
    sys.exit()
for _ in range(ROUNDS):
    start = time.perf_counter()
    session.run(names, feeds)
    print(1e3 * (time.perf_counter() - start))
