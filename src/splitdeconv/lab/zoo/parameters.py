"""Weights of the zoo's networks: from a seed, or from a file."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splitdeconv.errors import InputError
from splitdeconv.lab.zoo.modules import ZooNetwork, settle_batch_norm

WANTED = "wanted a state dict as torch.save (.pt) or numpy.savez (.npz) writes it"


def make(kind: Callable[[], ZooNetwork], seed: int, weights: str | Path | None) -> ZooNetwork:
    """A network with its weights, in evaluation mode; the caller's random numbers are not touched.

    Raises:
        InputError: the file is not a state dict of this network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind()
    if weights is not None:
        _load(network, Path(weights))
    elif (shipped := network.shipped()) is not None:
        network.load_state_dict(shipped)
    else:
        settle_batch_norm(network, torch.Generator().manual_seed(seed))
    network.eval()
    return network


def _load(network: ZooNetwork, path: Path) -> None:
    found = _read(path)
    wanted = network.state_dict()
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    if missing := sorted(needed - set(found)):
        raise InputError(f"{path}: '{missing[0]}' and {len(missing) - 1} more are missing; {type(network).__name__}")
    if extra := sorted(set(found) - set(wanted)):
        raise InputError(f"{path}: '{extra[0]}' is no parameter of {type(network).__name__}")
    for name, tensor in found.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(f"{path}: '{name}' has shape {list(tensor.shape)}, wanted {list(wanted[name].shape)}")
    network.load_state_dict(dict(found), strict=False)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path}: cannot be read ({reason}); {WANTED}") from None
    if not isinstance(loaded, Mapping) or not all(isinstance(each, Tensor) for each in loaded.values()):
        raise InputError(f"{path}: holds a {type(loaded).__name__}; {WANTED}")
    return loaded
