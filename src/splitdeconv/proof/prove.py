"""The verdict on a rewritten model: each site, then the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.deconv.written import is_requantised
from splitdeconv.errors import VerificationError
from splitdeconv.formats.model import Model, Site
from splitdeconv.proof.sites import check_fused, check_requantised, noise_of_site, prove_site, wrong_numbers
from splitdeconv.proof.whole import Given, compare
from splitdeconv.results.verdict import OutputCheck, Verdict
from splitdeconv.targets.target import CompileError, Target

Progress = Callable[[str, float], None]


def prove(
    model: Model,
    programs: Mapping[Site, Program],
    original: Compilable,
    rewritten: Compilable,
    given: Given,
    runner: Target,
    *,
    came: Model,
    own_numbers: bool,
    progress: Progress,
) -> Verdict:
    """The proof that the model ``rewritten`` equals ``model``.

    Args:
        model: that holds the sites: the original, or the same with folded weights.
        programs: of the sites that were rewritten.
        original, rewritten: both, for targets.
        given: inputs to compare them on.
        runner: what runs them.
        came: the original.
        own_numbers: whether what the runner computes wrong with a quantised site's own numbers is a note, no failure.
        progress: called with the stage and the fraction done.
    """
    proofs, noise, doubts = [], [], []
    for number, (site, program) in enumerate(programs.items()):
        progress(f"proving {site.id}", number / len(programs))
        proofs.append(prove_site(model, site, program, runner))
        if own_numbers and site.weights.quant is not None and (wrong := wrong_numbers(model, site, program, runner)):
            doubts.append(f"site '{site.id}': {wrong}")
        if (error := noise_of_site(model, site, program, runner)) is not None:
            noise.append(error)
    progress("comparing the whole model", 0.9)
    if changed := [site for site in programs if _changes_numbers(model, site)]:
        try:
            checks = [_difference(model, site, programs[site], runner) for site in changed]
        except CompileError as error:
            failure = f"{model.numerics} numerics cannot be compared with the original on {runner.name} ({error})"
            return Verdict(tuple(proofs), tuple(noise), notes=tuple(doubts), failure=failure)
        figures, found = [figure for _, figure in checks], tuple(each for each, _ in checks)
        notes = (*doubts, *figures, f"{model.numerics} numerics change the outputs, which are not compared")
        return Verdict(tuple(proofs), tuple(noise), found, notes)
    quantised = any(site.deconv.quant is not None for site in programs)
    try:
        outputs, notes = compare(came, original, rewritten, given, runner, quantised=quantised, as_defined=own_numbers)
    except VerificationError as error:
        return Verdict(tuple(proofs), tuple(noise), notes=tuple(doubts), failure=str(error))
    return Verdict(tuple(proofs), tuple(noise), outputs, (*doubts, *notes))


def _difference(model: Model, site: Site, program: Program, runner: Target) -> tuple[OutputCheck, str]:
    """How far a site is from the original by the numerics that were asked for, and one sentence with the figures."""
    if model.numerics == "fused":
        return check_fused(model, site, program, runner)
    return check_requantised(site, program)


def _changes_numbers(model: Model, site: Site) -> bool:
    """Whether the numerics that were asked for may change a site's bits: those of integers only."""
    if model.numerics == "fused":
        return site.deconv.quant is not None and "int" in site.deconv.quant.activation
    return is_requantised(site.deconv)
