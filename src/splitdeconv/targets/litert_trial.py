"""The child process in which LiteRT first meets a model: allocate and run it once on zeros."""

from __future__ import annotations

import sys
from contextlib import suppress

import numpy as np

from splitdeconv.targets.litert import interpreter
from splitdeconv.workers.serve import serve


def main() -> None:
    """Serve trials until standard input ends."""
    kernels, threads = sys.argv[1], int(sys.argv[2])

    def trial(model: bytes) -> bytes:
        made = interpreter(model, kernels, threads)
        with suppress(ValueError, RuntimeError):  # zeros may be no valid input; what counts is that it survives them
            for detail in made.get_input_details():
                made.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
            made.invoke()
        return b""

    serve(trial)


if __name__ == "__main__":
    main()
