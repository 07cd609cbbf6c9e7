"""How often the noise test lets forms of equal speed win, and how often it sees a gain: simulated, and on this machine.

``python -m benchmarks.noise`` simulates 10,000 tables of each kind. ``--target onnxruntime`` races copies of one model,
compiled several times: each win there is false, and the largest ratio shows what ``SMALLEST_GAIN`` has to cover.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from itertools import permutations
from typing import TYPE_CHECKING

from splitdeconv.deconv.network import Compilable
from splitdeconv.results import times
from splitdeconv.results.times import SMALLEST_GAIN, Measurement

if TYPE_CHECKING:
    import numpy as np

    from splitdeconv.targets import Target

SEED = 20260101
GAINS = (0.0, 0.03, 0.1)
ROUNDS = (10, 20, 50)
LAYERS = {"64 channels @8": (64, 8), "64 channels @32": (64, 32), "128 channels @64": (128, 64)}

Noise = Callable[[random.Random, int], list[float]]


def one_hump(rng: random.Random, rounds: int) -> list[float]:
    """Normal, 3 %: a quiet machine."""
    return [1 + 0.03 * rng.gauss(0, 1) for _ in range(rounds)]


def two_humps(rng: random.Random, rounds: int) -> list[float]:
    """A clock rate 20 % slower in three of ten rounds, and one round in twenty interrupted."""
    slow = [1.2 if rng.random() < 0.3 else 1.0 for _ in range(rounds)]
    pause = [5.0 if rng.random() < 0.05 else 0.0 for _ in range(rounds)]
    return [rate * (1 + 0.01 * rng.gauss(0, 1)) + stop for rate, stop in zip(slow, pause, strict=True)]


def drift(rng: random.Random, rounds: int) -> list[float]:
    """A machine that slows down to twice the time from the first round to the last, with 5 % of noise."""
    return [(1 + number / rounds) * (1 + 0.05 * rng.gauss(0, 1)) for number in range(rounds)]


NOISES: dict[str, Noise] = {"one hump": one_hump, "two humps": two_humps, "drift": drift}


def simulated(rng: random.Random, noise: str, gain: float, rounds: int) -> tuple[Measurement, Measurement]:
    """Challenger and holder of 1 ms, in common rounds; noise is drawn for both alone, the worst case for pairs.

    Args:
        noise: a name of ``NOISES``.
        gain: share of the holder's time that the challenger saves.
    """
    challenger, holder = (NOISES[noise](rng, rounds) for _ in range(2))
    faster = times.summary([1e6 * (1 - gain) * time for time in challenger])
    return faster, times.summary([1e6 * time for time in holder])


def simulate(tables: int) -> None:
    """Print the share of wins for every noise, number of rounds and gain, with and without the smallest gain."""
    print(
        f"{tables} tables for each figure, seed {SEED}; wins in %: with a smallest gain of {SMALLEST_GAIN:.0%} / of 0"
    )
    print(f"{'noise':<12}{'rounds':>8}" + "".join(f"{f'gain {gain:.0%}':>18}" for gain in GAINS))
    for noise in NOISES:
        for rounds in ROUNDS:
            cells = [shares(noise, gain, rounds, tables) for gain in GAINS]
            row = "".join(f"{100 * with_gain:>10.2f} /{100 * without:>6.2f}" for with_gain, without in cells)
            print(f"{noise:<12}{rounds:>8}{row}", flush=True)


def shares(noise: str, gain: float, rounds: int, tables: int) -> tuple[float, float]:
    """Share of wins, with and without the smallest gain."""
    rng = random.Random(SEED)
    pairs = [simulated(rng, noise, gain, rounds) for _ in range(tables)]
    wins = sum(times.wins(*pair) for pair in pairs)
    return wins / tables, sum(times.wins(*pair, smallest_gain=0.0) for pair in pairs) / tables


def race(options: argparse.Namespace) -> None:
    """Print how copies of one model differ on the targets."""
    from splitdeconv.targets import target  # noqa: PLC0415  # simulating needs no runtime

    print(f"{'target':<14}{'layer':<20}{'rounds':>8}{'largest ratio':>15}{'false wins':>12}{'without floor':>15}")
    for name in options.target:
        runtime = target(name, threads=options.threads)
        for layer, (channels, size) in LAYERS.items():
            report(runtime, layer, channels, size, options)


def report(runtime: Target, layer: str, channels: int, size: int, options: argparse.Namespace) -> None:
    from splitdeconv.lowerings.candidate import Candidate  # noqa: PLC0415  # as in race
    from splitdeconv.targets.target import KEEP_ALL  # noqa: PLC0415  # as in race

    model, x = conv_model(channels, size)
    pairs = wins = bare_wins = rounds = 0
    ratio = 1.0
    for _ in range(options.trials):
        copies = {Candidate(f"copy {number}"): runtime.compile(Compilable(model)) for number in range(options.copies)}
        taken = list(times.timed(runtime.measure(copies, {"x": x}, options.seconds, drop=KEEP_ALL)).values())
        medians = [time.median_ms for time in taken]
        ratio = max(ratio, max(medians) / min(medians))
        rounds = min(time.rounds for time in taken)
        for one, other in permutations(taken, 2):
            pairs += 1
            wins += times.wins(one, other)
            bare_wins += times.wins(one, other, smallest_gain=0.0)
    false = f"{100 * wins / pairs:>11.1f}%{100 * bare_wins / pairs:>14.1f}%"
    print(f"{runtime.name:<14}{layer:<20}{rounds:>8}{ratio:>15.3f}{false}", flush=True)


def conv_model(channels: int, size: int) -> tuple[bytes, np.ndarray]:
    """A 3×3 convolution of ``x``, and an input for it."""
    import numpy as np  # noqa: PLC0415  # as in race
    import onnx  # noqa: PLC0415  # as in race
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415  # as in race

    rng = np.random.default_rng(0)
    shape = (1, channels, size, size)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(rng.random((channels, channels, 3, 3), np.float32), "w")],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString(), rng.random(shape, np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables", type=int, default=10_000, help="to simulate for each figure")
    parser.add_argument("--target", action="append", help="race copies of a model here instead of simulating")
    parser.add_argument("--copies", type=int, default=8)
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0, help="for each trial")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    if options.target:
        race(options)
    else:
        simulate(options.tables)


if __name__ == "__main__":
    main()
