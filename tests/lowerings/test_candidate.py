"""What a candidate is called: the name says all of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitdeconv.deconv.ops import Layout
from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings import candidates
from splitdeconv.lowerings.candidate import FORMS, QUANTISED, RELAYOUT, Candidate
from tests.strategies import deconvs

LAYOUTS: tuple[Layout, ...] = ("NCHW", "NHWC")


AFTER, INSIDE = ("", RELAYOUT), ("", "NHWC-NCHW")


@given(deconvs(), st.sampled_from(["", *QUANTISED]), st.sampled_from(AFTER), st.sampled_from(INSIDE))
def test_every_candidate_is_read_back_as_it_is_written(deconv: Deconv, quant: str, after: str, inside: str) -> None:
    simpler = replace(deconv, crop=((0, 0),) * len(deconv.axes))
    for layout in LAYOUTS:
        for plain in (*candidates(deconv, layout)[0], *candidates(simpler, layout)[0]):
            candidate = replace(plain, quant=quant, after=after, layout=inside)
            assert Candidate.parse(str(candidate)) == candidate
            assert candidate.matches(str(candidate))


def test_names_of_lowerings_that_are_not_there_are_read_too() -> None:
    assert Candidate.parse("theirs:halves:rows@NHWC") == Candidate("theirs", "halves", "rows", layout="NHWC")


@pytest.mark.parametrize("name", [*FORMS, *QUANTISED, RELAYOUT])
def test_a_window_has_no_name_of_another_option(name: str) -> None:
    with pytest.raises(AssertionError, match="is no name for a window"):
        Candidate("split", window=name)


def test_a_layout_is_matched_only_where_it_is_named() -> None:
    candidate = Candidate("split_rows", layout="NHWC")
    assert candidate.matches("split_rows")
    assert candidate.matches("split_rows@NHWC")
    assert not candidate.matches("split_rows@NCHW")
