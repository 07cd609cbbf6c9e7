"""Sub-pixel convolutions of a model, apart from those that no deconv computes."""

from __future__ import annotations

from collections.abc import Iterable

from splitdeconv.deconv.sub_pixel import SAME_NAME
from splitdeconv.formats.model import SubPixelSite
from splitdeconv.results.plan import Skipped


def apart(found: Iterable[SubPixelSite | Skipped]) -> tuple[tuple[SubPixelSite, ...], tuple[Skipped, ...]]:
    """What could be a deconv, and what not; a name that came before is refused."""
    sites, left = dict[str, SubPixelSite](), list[Skipped]()
    for each in found:
        if isinstance(each, Skipped):
            left.append(each)
        elif each.id in sites:
            left.append(Skipped(each.id, each.where, SAME_NAME))
        else:
            sites[each.id] = each
    return tuple(sites.values()), tuple(left)
