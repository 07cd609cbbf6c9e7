"""A lowering with its options, and why it does not apply."""

from __future__ import annotations

from dataclasses import dataclass

# Options of a candidate that are no forms; what is written between its colons names its kind by itself.
_KINDS = {
    "window": ("union", "crop", "full", "grouped"),
    "quant": ("qdq", "qdq_u8", "qlinear", "qlinear_u8", "float"),
    "after": ("relayout",),
}


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A lowering with its options; written ``split:union:depth_to_space``.

    Attributes:
        lowering: its name.
        window: which outputs a merged convolution computes (``union``, ``crop``, ``full``, ``grouped``), or empty.
        form: how the phases are put back together (``depth_to_space``, ``transpose``, ``two_steps``, ``concat``,
            ``stack``, ``rows``), or empty.
        after: ``relayout`` where an operation follows that lets a compiler choose the output's layout, or empty.
        quant: how quantised convolutions are written (``qdq``, ``qlinear``, ``float``, …), or empty.
    """

    lowering: str
    window: str = ""
    form: str = ""
    quant: str = ""
    after: str = ""

    def __str__(self) -> str:
        return ":".join(part for part in (self.lowering, *self._options()) if part)

    def _options(self) -> tuple[str, ...]:
        return self.window, self.form, self.quant, self.after

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """The candidate that is written so."""
        lowering, *options = text.split(":")
        kinds = {
            option: next((kind for kind, known in _KINDS.items() if option in known), "form") for option in options
        }
        return cls(lowering, **{kind: option for option, kind in kinds.items()})

    def matches(self, text: str) -> bool:
        """Whether ``text`` names this candidate, or its lowering, or some of its parts in order."""
        parts = text.split(":")
        return parts[0] == self.lowering and set(parts[1:]) <= set(self._options())


@dataclass(frozen=True, slots=True)
class Refusal:
    """A ``candidate`` that does not apply, and the ``reason`` why: one sentence."""

    candidate: Candidate
    reason: str


NATIVE = Candidate("native")
