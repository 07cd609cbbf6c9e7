"""The child process in which LiteRT first meets a model: allocate and run it once on zeros."""

from __future__ import annotations

import sys

from splitdeconv.targets.base import CompileError, one_line
from splitdeconv.targets.child import serve
from splitdeconv.targets.litert import interpreter


def main() -> None:
    """Serve trials until standard input ends."""
    kernels, threads = sys.argv[1], int(sys.argv[2])

    def trial(model: bytes) -> bytes:
        made = interpreter(model, kernels, threads)
        try:
            made.invoke()
        except (ValueError, RuntimeError) as error:
            raise CompileError(one_line(error)) from None
        return b""

    serve(trial)


if __name__ == "__main__":
    main()
