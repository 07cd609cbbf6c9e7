"""What the PyTorch tests share."""

from __future__ import annotations

import pytest

try:
    import torch
except ModuleNotFoundError:
    pass
else:

    @pytest.fixture(autouse=True)
    def _fresh_torch():
        """The same random numbers in every test, no compiled code of another one, one thread for small tensors."""
        torch.manual_seed(0)
        torch.set_num_threads(1)
        yield
        torch.compiler.reset()
