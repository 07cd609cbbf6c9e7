"""Whole TFLite models before and after, on LiteRT (measured) or on Ethos-U (Vela's estimates).

    python -m benchmarks.tflite_models prisma_int8.tflite prisma_f32.tflite --target litert
    python -m benchmarks.tflite_models prisma_int8.tflite --target vela
    python -m benchmarks.tflite_models prisma_int8.tflite --target litert --numerics fused

Measured times need an otherwise idle machine.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.tflite_layers import VELA

import splitdeconv


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--target", default="litert", help="litert, or vela for five configurations, or one of them")
    parser.add_argument("--numerics", default="exact")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    wanted = VELA.values() if asked.target == "vela" else [asked.target]
    for path in asked.models:
        for name in wanted:
            options = {"threads": asked.threads, "numerics": asked.numerics, "cache": False}
            conversion = splitdeconv.convert(path, target=name, **options)
            print(f"{path.name} on {name}")
            for choice in conversion.plan.choices:
                print(f"    {choice.deconv.describe():24} {choice.chosen}")
            for note in conversion.record.notes:
                print(f"    {note}")


if __name__ == "__main__":
    main()
