"""A lowering with its options, and why it does not apply."""

from __future__ import annotations

from dataclasses import dataclass

# How the phases are put back together (rearrange.py); of equal cost, what more runtimes do in one go comes first.
FORMS = ("rows", "depth_to_space", "transpose", "concat", "stack", "two_steps")
QUANTISED = ("qdq", "qdq_u8", "qlinear", "qlinear_u8", "float")
RELAYOUT = "relayout"


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """A lowering with its options; written ``split:union:depth_to_space``.

    Attributes:
        lowering: its name.
        window: which variant of the lowering, such as the outputs that a merged convolution computes (``union``,
            ``crop``, ``full``, ``grouped``), or empty. A name of the lowering's own, none of the other options.
        form: how the phases are put back together, one of ``FORMS``, or empty.
        quant: how quantised convolutions are written, one of ``QUANTISED``, or empty.
        after: ``relayout`` where an operation follows that lets a compiler choose the output's layout, or empty.
        layout: of the maps inside, where a runtime offers several; written ``split_rows@NHWC``; or empty.
    """

    lowering: str
    window: str = ""
    form: str = ""
    quant: str = ""
    after: str = ""
    layout: str = ""

    def __post_init__(self) -> None:
        assert _kind(self.window) == "window", f"'{self.window}' is no name for a window: it means something else"
        assert self.form in ("", *FORMS), f"no form is called '{self.form}'"
        assert self.quant in ("", *QUANTISED), f"no form of a quantised convolution is called '{self.quant}'"
        assert self.after in ("", RELAYOUT), f"no operation after it is called '{self.after}'"

    def __str__(self) -> str:
        text = ":".join(part for part in (self.lowering, *self._options()) if part)
        return f"{text}@{self.layout}" if self.layout else text

    def _options(self) -> tuple[str, ...]:
        return self.window, self.form, self.quant, self.after

    @classmethod
    def parse(cls, text: str) -> Candidate:
        """The candidate whose ``str`` is ``text``."""
        text, _, layout = text.partition("@")
        lowering, *options = text.split(":")
        return cls(lowering, **{_kind(option): option for option in options}, layout=layout)

    def matches(self, text: str) -> bool:
        """Whether ``text`` names this candidate, or its lowering, or some of its parts in order."""
        text, _, layout = text.partition("@")
        lowering, *options = text.split(":")
        return lowering == self.lowering and set(options) <= set(self._options()) and layout in ("", self.layout)


def _kind(option: str) -> str:
    """Which option of a candidate a written one is."""
    if option in FORMS:
        return "form"
    if option in QUANTISED:
        return "quant"
    return "after" if option == RELAYOUT else "window"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A ``candidate`` that does not apply, and the ``reason`` why: one sentence."""

    candidate: Candidate
    reason: str


NATIVE = Candidate("native")
COMPOSITE = Candidate("native", "deconv")  # a written-out deconv as one transposed convolution of the runtime's
