"""Where PyTorch runs a module: the devices and types that its targets have names for."""

from __future__ import annotations

import torch
from torch import nn

from splitdeconv.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
DEVICES = ("cpu", "cuda")


def runtime_of(module: nn.Module) -> str:
    """The target that runs ``module`` where it is and in its type: ``torch:cuda:float16``.

    Raises:
        UsageError: there is none.
    """
    tensors = [each for each in (*module.parameters(), *module.buffers()) if each.is_floating_point()]
    devices = list(dict.fromkeys(each.device.type for each in tensors)) or ["cpu"]
    types = list(dict.fromkeys(each.dtype for each in tensors)) or [torch.float32]
    names = [name for name, each in DTYPES.items() if each == types[0]]
    if len(devices) > 1 or devices[0] not in DEVICES or len(types) > 1 or not names:
        found = f"the module is in {' and '.join(map(str, types))} on {' and '.join(devices)}"
        raise UsageError(f"{found}; PyTorch's targets are one of {', '.join(DTYPES)} on {' or '.join(DEVICES)}")
    return f"torch:{devices[0]}:{names[0]}"
