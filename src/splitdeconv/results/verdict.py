"""The proof of equality, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SiteProof:
    """Equality of one rewritten site.

    Attributes:
        site: its name.
        exact: equal to the definition on integer-valued tensors, bit by bit unless ``rounded``.
        where: what computed the rewritten side.
        detail: what differs, or why it does not run, or empty.
        ran: whether it runs there at all; what does not is not proved, and not unequal either.
        rounded: whether runtimes round it on whole numbers too (an interpolation's places and weights); it is equal
            within these roundings then.
    """

    site: str
    exact: bool
    where: str
    detail: str = ""
    ran: bool = True
    rounded: bool = False


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """Errors of one output on real-valued inputs, relative to its largest magnitude.

    Attributes:
        name: of a model's output, or of a site.
        before, after: error of the original and of the rewritten side.
        bound: what ``after`` may be.
        against: what the errors are measured against: ``float64``, or what stood in for it.
    """

    name: str
    before: float
    after: float
    bound: float
    against: str

    @property
    def passed(self) -> bool:
        """Whether the rewritten side stays within the bound."""
        return self.after <= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """The proof of equality.

    Attributes:
        proofs: one for each rewritten site.
        sites: errors of each rewritten site alone against float64.
        outputs: errors of the model's outputs, the worst over all inputs that were tried.
        folds: errors against float64 of each site and the operators that became part of its weights, before and after.
        failure: why the rewritten model does not run where the original does, or empty.
        notes: what could not be checked, and why.
        skipped: the reason why nothing was checked, or empty.
    """

    proofs: tuple[SiteProof, ...] = ()
    sites: tuple[OutputCheck, ...] = ()
    outputs: tuple[OutputCheck, ...] = ()
    notes: tuple[str, ...] = ()
    skipped: str = ""
    failure: str = ""
    folds: tuple[OutputCheck, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether everything that was checked is equal."""
        return (
            not self.failure
            and all(proof.exact for proof in self.proofs)
            and all(each.passed for each in (*self.folds, *self.sites, *self.outputs))
        )

    def bit_equal(self) -> int:
        """Number of sites with the definition's bits."""
        return sum(proof.exact and not proof.rounded for proof in self.proofs)

    def rounded_in_words(self) -> str:
        """What is to be said of sites that are equal within roundings; empty where there is none."""
        rounded = sum(proof.exact and proof.rounded for proof in self.proofs)
        return f", {rounded} within the roundings of an interpolation" if rounded else ""

    def folded_in_words(self) -> str:
        """One sentence on the sites with operators in their weights."""
        passed = sum(each.passed for each in self.folds)
        worst = max(self.folds, key=lambda each: each.after / each.bound)
        return (
            f"verified: {passed} of {len(self.folds)} folded sites within the noise bound, not bit-equal: weights were "
            f"rounded once; worst: '{worst.name}', error {worst.after:.1e}, original {worst.before:.1e}, "
            f"bound {worst.bound:.1e} (against {worst.against})"
        )

    def worst(self) -> str:
        """One sentence: what differs, or what came nearest to its bound."""
        if self.failure:
            return self.failure
        for proof in self.proofs:
            if not proof.exact:
                equal = "equal" if proof.rounded else "bit-equal"
                return f"site '{proof.site}' is not {equal} to the definition: {proof.detail}"
        kinds = [("folding at site", each) for each in self.folds]
        kinds += [("site", each) for each in self.sites] + [("output", each) for each in self.outputs]
        if not kinds:
            return "nothing to compare"
        kind, worst = max(kinds, key=lambda pair: pair[1].after / pair[1].bound)
        return (
            f"{kind} '{worst.name}': error {worst.after:.1e}, original {worst.before:.1e}, "
            f"bound {worst.bound:.1e} (against {worst.against})"
        )


@dataclass(frozen=True, slots=True)
class FusedDifference:
    """One site under fused numerics, on one input. All numbers are in steps of the output's scale (LSB).

    Attributes:
        site: its id.
        largest: between original and fused, over outputs for which no operator of the original clips.
        share: of outputs that differ at all.
        clipped: share of outputs for which an operator before the last clips in the original, and loses what the
            fused form keeps.
        bound: what ``largest`` may be: half a step of every tensor that is no longer rounded to, and half a step for
            each of the two results; 2 where all scales are alike.
        error_before, error_after: root mean square against float64, of the original and of the fused form.
    """

    site: str
    largest: int
    share: float
    clipped: float
    error_before: float
    error_after: float
    bound: int

    @property
    def passed(self) -> bool:
        """Whether the difference is what dropping rounding steps explains."""
        return self.largest <= self.bound
