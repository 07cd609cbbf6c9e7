"""The tests of this folder all start afresh."""

from tests.fresh_torch import fresh_torch  # noqa: F401  # a fixture that pytest finds here
