"""Whether the outputs of two models are as large."""

from __future__ import annotations

from collections.abc import Mapping

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import VerificationError


class OtherSizesError(VerificationError):
    """Outputs of the two models have other sizes.

    Attributes:
        feeds: on these inputs.
        shapes: of the rewritten model's outputs, by name.
    """

    def __init__(self, message: str, feeds: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(message)
        self.feeds, self.shapes = feeds, shapes


def check_sizes(old: Mapping[str, Array], new: Mapping[str, Array], feeds: Mapping[str, Array]) -> None:
    """Check that outputs of both are as large.

    Raises:
        OtherSizesError: they are not.
    """
    for name in old.keys() & new.keys():
        if (was := old[name].shape) != (found := new[name].shape):
            message = f"output '{name}' has shape {list(found)}, and {list(was)} in the original"
            raise OtherSizesError(message, feeds, {each: array.shape for each, array in new.items()})
