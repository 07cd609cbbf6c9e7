"""What the tests of PyTorch share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def fresh_torch() -> Iterator[None]:
    """The same random numbers in every test, no compiled code of another one, one thread for small tensors."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    yield
    torch.compiler.reset()
