"""The candidates of one site as stand-alone models on a target, each checked before it is timed."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from splitdeconv import lowerings
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.deconv.written import beside_shape, is_requantised
from splitdeconv.formats.model import Model, Site
from splitdeconv.lowerings.bound import least_work
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.proof.draw import cut_down
from splitdeconv.proof.sites import prove_site, wrong_numbers
from splitdeconv.results.bench import EQUAL_WORK
from splitdeconv.results.times import UNTRIED, Untimed
from splitdeconv.targets.target import Compiled, CompileError, Target

# A candidate whose result is further from the first one's than this is broken, not noisy: sums of float16 products
# differ by a few thousandths of the largest value, those of float32 by a few millionths.
WRONG = 0.02
ENOUGH = 8  # refused forms beside one that runs; where a target computes all forms alike, some hundred would follow


class Trials:
    """Proofs of forms before they are timed; equal sites share them.

    Args:
        runner: what runs the trials.
    """

    def __init__(self, runner: Target) -> None:
        self._runner = runner
        self._known: dict[tuple[Deconv, Candidate, str], str] = {}

    def refusal(self, model: Model, site: Site, candidate: Candidate, program: Program) -> str:
        """Why a form is not equal to the definition on whole numbers, or nothing."""
        own = site.id if site.weights.quant is not None else ""  # the types of its scales are its own
        key = (cut_down(site.deconv), candidate, own)
        if key not in self._known:
            proof = prove_site(model, site, program, self._runner)
            self._known[key] = "" if proof.exact else f"is not equal to the definition: {proof.detail}"
        return self._known[key]


def compile_site(
    model: Model,
    site: Site,
    order: Sequence[Candidate],
    target: Target,
    trials: Trials | None = None,
    seconds: float = math.inf,
    needed: Collection[Candidate] = (),
) -> tuple[dict[Candidate, Compiled], dict[Candidate, Untimed]]:
    """The candidates of one site as stand-alone models on the target, and why the others are none.

    With fewer than two there is nothing to compare, so however few ``seconds`` there are, forms are tried until two
    pass, or one does and ``ENOUGH`` are refused; and so are those that are ``needed``. What does not pass its trial is
    refused; without ``trials`` only its numbers are compared.
    """
    compiled: dict[Candidate, Compiled] = {}
    others: dict[Candidate, Untimed] = dict.fromkeys(order, UNTRIED)
    inputs = site_inputs(model, site)
    first: Array | None = None
    deadline = time.monotonic() + seconds
    for candidate in order:
        refused = sum(not each.runs for each in others.values())
        enough = len(compiled) > 1 or (compiled and refused >= ENOUGH)
        if enough and candidate not in needed and time.monotonic() > deadline:
            continue
        program = lowerings.lower(site.deconv, model.layout, candidate)
        timed = program.without_last_reshape() if target.reshape_is_free else program
        try:
            ready = target.compile(model.emit(site, timed))
            # What others read of an upsampled map follows it. Where the target gives no outputs, trials judge alone.
            result = next(iter(ready.run(inputs).values())) if target.gives_outputs else None
        except CompileError as error:
            others[candidate] = Untimed(str(error), runs=False)
            continue
        judge = result if first is None or is_requantised(site.deconv) else first
        reason = "" if result is None or judge is None else _wrong(result, judge)
        if not reason and trials is not None and candidate != NATIVE:
            reason = trials.refusal(model, site, candidate, program)
        if not reason and site.weights.quant is not None and target.gives_outputs:
            reason = wrong_numbers(model, site, program, target) or ""
        if reason:
            others[candidate] = Untimed(reason, runs=False)
        else:
            compiled[candidate] = ready
            del others[candidate]
            first = result if first is None else first  # only what is right itself may judge the others
    return compiled, others


def compile_equal_work(model: Model, site: Site, target: Target) -> dict[Candidate, Compiled]:
    """The convolution of least work for a site in each form of a quantised convolution that runs, ready to run."""
    compiled = {}
    quant = site.deconv.quant
    for form in (quant.forms if quant else ()) or ("",):
        program = least_work(site.deconv, model.layout, form)
        timed = program.without_last_reshape() if target.reshape_is_free else program
        if model.refuse(site, program) is not None:
            continue
        with suppress(CompileError):
            ready = target.compile(model.emit(site, timed))
            if target.gives_outputs:
                ready.run(site_inputs(model, site))
            compiled[replace(EQUAL_WORK, quant=form)] = ready
    return compiled


def site_inputs(model: Model, site: Site) -> dict[str, Array]:
    """A random map for each input of a site's stand-alone models, in the layout of the format; and run-time weights."""
    deconv, layout = site.deconv, model.layout
    sizes = [size or 1 for size in deconv.in_sizes]
    batch = deconv.batch or 1
    shape = (batch, deconv.in_channels, *sizes) if layout == "NCHW" else (batch, *sizes, deconv.in_channels)
    rng = np.random.default_rng(0)
    dtype = np.dtype(site.deconv.dtype if deconv.quant is None else deconv.quant.activation)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return {"x": rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)}
    maps = {"x": rng.standard_normal(shape, np.float32).astype(dtype)}
    if deconv.written_out and deconv.written_out.beside:
        further = [size or 1 for size in beside_shape(deconv, layout)]
        maps["x1"] = rng.standard_normal(further, np.float32).astype(dtype)
    return maps | model.run_time(site, site.weights)


def _wrong(found: Array, wanted: Array) -> str:
    """What is wrong with a candidate's result, compared with the first one's; empty if nothing.

    A last reshape may be missing on either side; it would not change the order of the elements.
    """
    if found.size != wanted.size:
        return f"gives shape {list(found.shape)} on this target, wanted {list(wanted.shape)}"
    difference = np.abs(found.reshape(wanted.shape).astype(np.float64) - wanted.astype(np.float64))
    largest = float(np.max(np.abs(wanted.astype(np.float64)), initial=0.0)) or 1.0
    error = float(np.max(difference, initial=0.0)) / largest
    return f"gives wrong numbers on this target (error {error:.1e})" if not error <= WRONG else ""
