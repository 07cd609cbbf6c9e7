#!/bin/sh
# TensorRT, by the tool that comes with it:
#     splitdeconv convert model.onnx out.onnx --target 'command:examples/commands/trtexec.sh {model}'
# It leaves no outputs: the proof runs on ONNX Runtime here. Times are those of the GPU alone.
set -e
if [ "$1" = --describe ]; then
    trtexec --help 2>&1 | head -n 1
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
    exit
fi
times=$(mktemp)
trap 'rm -f "$times"' EXIT
trtexec --onnx="$1" --iterations=20 --warmUp=200 --duration=0 --exportTimes="$times" >&2
python3 -c 'import json, sys; print(*(run["computeMs"] for run in json.load(open(sys.argv[1]))), sep="\n")' "$times"
