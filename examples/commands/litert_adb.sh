#!/bin/sh
# LiteRT on an Android phone, by its own benchmark tool, which was put there once:
#     adb push benchmark_model /data/local/tmp && adb shell chmod +x /data/local/tmp/benchmark_model
#     splitdeconv convert model.tflite out.tflite --target 'command:examples/commands/litert_adb.sh {model}'
# It prints a time for each of several runs, and leaves no outputs: the proof runs on LiteRT here.
set -e
place=/data/local/tmp
if [ "$1" = --describe ]; then
    adb shell 'getprop ro.product.model; getprop ro.build.fingerprint'
    exit
fi
adb push -q "$1" "$place/splitdeconv.tflite" >/dev/null
for run in 1 2 3 4 5; do
    adb shell "$place/benchmark_model" --graph="$place/splitdeconv.tflite" \
        --num_threads="${SPLITDECONV_THREADS:-0}" --warmup_runs=3 --num_runs=10 --min_secs=0 2>&1 |
        sed -n 's/.*Inference (avg): *\([0-9.e+]*\).*/\1/p' | awk '{ print $1 / 1000 }'
done
