"""OpenVINO in float32: every form of every layer, whole models, and what must be reached."""

from __future__ import annotations

from benchmarks.claims import Claim, check

if __name__ == "__main__":
    check(__doc__, "openvino", Claim(over_native=1.3, over_zero_insert=4.0))
