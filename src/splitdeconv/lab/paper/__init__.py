"""The paper's tables and figures made again, ours beside theirs: ``splitdeconv reproduce``."""

from __future__ import annotations
