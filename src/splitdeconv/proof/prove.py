"""The verdict on a rewritten model: each site, then the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.program import Program
from splitdeconv.errors import VerificationError
from splitdeconv.formats.model import Model, Site
from splitdeconv.proof.sites import check_fused, noise_of_site, prove_site, wrong_numbers
from splitdeconv.proof.whole import Given, compare
from splitdeconv.results.verdict import Verdict
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
    own_numbers: bool,
    progress: Progress,
) -> Verdict:
    """The proof that the model ``rewritten`` equals ``model``.

    Args:
        model: the original.
        programs: of the sites that were rewritten.
        original, rewritten: both, for targets.
        given: inputs to compare them on.
        runner: what runs them.
        own_numbers: whether to note what the runner computes wrong with a quantised site's own numbers.
        progress: called with the stage and the fraction done.
    """
    proofs, noise, doubts = [], [], []
    for number, (site, program) in enumerate(programs.items()):
        progress(f"proving {site.id}", number / len(programs))
        proofs.append(prove_site(model, site, program, runner))
        if own_numbers and site.weights.quant is not None and (wrong := wrong_numbers(model, site, program, runner)):
            doubts.append(f"site '{site.id}': {wrong}")
        if (check := noise_of_site(model, site, program, runner)) is not None:
            noise.append(check)
    progress("comparing the whole model", 0.9)
    fused = [site for site in programs if model.numerics == "fused" and _is_integer(site)]
    if fused:
        try:
            checks = [check_fused(model, site, programs[site], runner) for site in fused]
        except CompileError as error:
            failure = f"fused numerics cannot be compared with the original on {runner.name} ({error})"
            return Verdict(tuple(proofs), tuple(noise), notes=tuple(doubts), failure=failure)
        notes = (*(note for _, note in checks), "fused numerics change the outputs, which are not compared")
        return Verdict(tuple(proofs), tuple(noise), tuple(check for check, _ in checks), notes)
    quantised = any(site.deconv.quant is not None for site in programs)
    try:
        outputs, notes = compare(model, original, rewritten, given, runner, quantised=quantised)
    except VerificationError as error:
        return Verdict(tuple(proofs), tuple(noise), notes=tuple(doubts), failure=str(error))
    return Verdict(tuple(proofs), tuple(noise), outputs, (*doubts, *notes))


def _is_integer(site: Site) -> bool:
    """Whether a site computes on integers, whose bits its epilogue's rounding steps decide."""
    return site.deconv.quant is not None and "int" in site.deconv.quant.activation
