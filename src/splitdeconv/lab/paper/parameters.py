"""Parameter counts of the six networks: as they are, with SD's extended filters, and as we write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from splitdeconv.deconv.layers import Dense, PlainConv
from splitdeconv.deconv.network import Layer
from splitdeconv.deconv.ops import Conv
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lab.paper.networks import ARTGAN, NAMES, TITLES, network
from splitdeconv.lab.paper.part import PaperPart, Progress, single
from splitdeconv.lab.paper.result import Result
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.report.page import Cell, Column, Table

_MILLION = 1e6


def original_weights(spec: Deconv | PlainConv | Dense) -> int:
    """Weights of a layer, biases not counted."""
    if isinstance(spec, Dense):
        return spec.in_features * spec.out_features
    taps = prod(axis.kernel for axis in spec.axes)
    return spec.in_channels // spec.groups * spec.out_channels * taps


def lowered_weights(spec: Deconv, candidate: Candidate) -> int:
    """Weights of the filters that a form stores, zero-filled taps included."""
    steps = lower(spec, "NHWC", candidate).steps
    return sum(prod(step.op.filter_shape) for step in steps if isinstance(step.op, Conv))


def _weights(layers: Sequence[Layer], form: str) -> int:
    """Deconvs of stride 1 have one form, which has the original weights."""
    total = 0
    for layer in layers:
        spec = layer.spec
        split = isinstance(spec, Deconv) and max(spec.strides) > 1 and form
        total += lowered_weights(spec, _FORMS[form]) if isinstance(spec, Deconv) and split else original_weights(spec)
    return total


_FORMS = {"sd": Candidate("split", "full", "transpose"), "ours": Candidate("split_phases")}


@dataclass(frozen=True, slots=True)
class WeightCounts:
    """Weights of one network in the original, in SD and in our form.

    Attributes:
        deconvs: of its deconvs.
        whole: of all its layers.
    """

    deconvs: tuple[int, int, int]
    whole: tuple[int, int, int]


def parameters(progress: Progress) -> dict[str, WeightCounts]:
    """Of each of the six networks."""
    counted = {}
    for number, name in enumerate(NAMES):
        progress(TITLES[name], number / len(NAMES))
        found = network(name)
        counted[name] = WeightCounts(_in_all_forms(found.deconvs), _in_all_forms(found.layers))
    return counted


def _in_all_forms(layers: Sequence[Layer]) -> tuple[int, int, int]:
    return _weights(layers, ""), _weights(layers, "sd"), _weights(layers, "ours")


def shown(found: Mapping[str, WeightCounts]) -> Result:
    """Deconvs, and whole networks."""
    rows: list[tuple[Cell, ...]] = []
    for name, each in found.items():
        deconvs, whole = ([count / _MILLION for count in counts] for counts in (each.deconvs, each.whole))
        rows.append((TITLES[name], *deconvs, deconvs[1] / deconvs[0], *whole))
    heads = [Column(f"deconvs, {form}", "M", 3) for form in ("original", "SD", "ours")]
    wholes = [Column(f"whole, {form}", "M", 3) for form in ("original", "SD", "ours")]
    table = Table(
        "Weights, in millions",
        ("network", *heads, Column("SD over original", "×"), *wholes),
        tuple(rows),
        (
            "SD extends each filter with zeros to a multiple of the stride; ours is split_phases, which has no zero "
            "tap.",
            "Biases and normalisation are not counted. The whole networks are the layers of our lists.",
        ),
        "counted",
    )
    notes = ("The paper's parameter counts are not known here, so there is nothing beside ours.", ARTGAN)
    return Result({"parameters": table}, notes=notes)


PART: PaperPart = single(
    "parameters",
    "Parameter counts",
    "How many weights each form stores.",
    "counted",
    parameters,
    Mapping[str, WeightCounts],
    shown,
)
