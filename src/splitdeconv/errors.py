"""Everything that splitdeconv raises on purpose.

SplitdeconvError                 exit code 2 unless said otherwise
├── InputError                   the model, an input array or an architecture file cannot be used
├── UsageError                   an option or an argument does not fit
├── OutputError                  exit code 3: the result cannot be written
├── MissingExtraError            a plug-in needs a package that is not installed
└── VerificationError            exit code 1: the rewritten model is not equal to the original

A layer that cannot be rewritten is not an error: it is a ``Refusal`` or ``Skipped`` with a reason (see ``results``).
Nor is a model that a target does not take: ``CompileError`` says so inside the package, and becomes such a reason.
"""

from __future__ import annotations


def one_line(text: str) -> str:
    """``text`` with escapes in place of what ends a line, moves a cursor or is no character."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


# What native libraries say, each in an error of its own, where they get no memory: PyTorch, protobuf twice, C++.
_NO_MEMORY = ("can't allocate memory", "Arena alloc failed", "Failed to serialize proto", "bad_alloc")


def lacks_memory(error: BaseException) -> bool:
    """Whether memory is what was lacking, so that nothing need be wrong with what was read."""
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in _NO_MEMORY):
        return True
    return error.__cause__ is not None and lacks_memory(error.__cause__)


class SplitdeconvError(Exception):
    """Base of all. Its message is one line: where, what was found, what was wanted, what to do."""

    exit_code = 2

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(SplitdeconvError):
    """The input cannot be used: not a model, truncated, inconsistent, missing external data."""


class UsageError(SplitdeconvError):
    """An option does not fit the model or the installed targets."""


class OutputError(SplitdeconvError):
    """The result cannot be written where it was asked for. Nothing partial is left behind."""

    exit_code = 3


class MissingExtraError(SplitdeconvError):
    """A plug-in needs a package that is not installed; the message names the extra to install."""

    def __init__(self, plugin: str, package: str, extra: str) -> None:
        super().__init__(f"{plugin} needs {package}: pip install 'splitdeconv[{extra}]'")


class VerificationError(SplitdeconvError):
    """The rewritten model is not equal to the original. Nothing was written.

    Attributes:
        record: of the run (``results.RunRecord``), which says what differs; None where there is none.
    """

    exit_code = 1

    def __init__(self, message: str, record: object = None) -> None:
        super().__init__(message)
        self.record = record


class CompileError(Exception):
    """The target does not take a model; the message is the reason, in the target's own words where it has them."""
