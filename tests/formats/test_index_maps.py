"""Index maps: what tells how the elements of a map arrive at a convolution."""

from __future__ import annotations

import numpy as np

from splitdeconv.formats.index_maps import read


def test_a_map_without_elements_tells_nothing() -> None:
    """As where a slice takes channels that a run over a few of them does not have."""
    assert read(np.zeros((1, 0, 4, 4), np.int64), (1, 2, 4, 4)) is None


def test_a_map_that_arrives_as_it_is() -> None:
    index = read(np.arange(24).reshape(1, 2, 3, 4), (1, 2, 3, 4))
    assert index is not None
    assert (index.kind, index.factor) == (None, 1)
