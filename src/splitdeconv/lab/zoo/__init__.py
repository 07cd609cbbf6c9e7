"""The six networks of the paper, whole, and a small trained generator; and their export through official exporters.

Names and the deconvs that each network must show need no framework: they come from the same lists of layers that
``simulate`` reads. Building and exporting need PyTorch (extra ``zoo``).
"""

from __future__ import annotations

import shutil
from importlib import import_module, resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splitdeconv.accelerator.layers import Network, network_names, read_network
from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import MissingExtraError, UsageError
from splitdeconv.files import staged
from splitdeconv.lab.zoo.quiet import quiet

if TYPE_CHECKING:
    from splitdeconv.lab.zoo.modules import ZooNetwork

__all__ = ["build", "deconvs", "export", "network", "trained"]

NETWORKS = {
    "artgan": "splitdeconv.lab.zoo.artgan:ArtGAN",
    "dcgan": "splitdeconv.lab.zoo.dcgan:DCGAN",
    "fst": "splitdeconv.lab.zoo.fst:FST",
    "gpgan": "splitdeconv.lab.zoo.gpgan:GPGAN",
    "mde": "splitdeconv.lab.zoo.mde:MDE",
    "sngan": "splitdeconv.lab.zoo.sngan:SNGAN",
    "faces": "splitdeconv.lab.zoo.faces:Faces",
}
PAPER = tuple(name for name in NETWORKS if name != "faces")
FORMATS = (".onnx", ".tflite")
DTYPES = ("float32", "int8")
EXTRA = "zoo"


def network(name: str) -> Network:
    """The layers of the network ``name`` with title and source; needs no framework.

    Raises:
        UsageError: no such network.
    """
    if name not in NETWORKS:
        raise UsageError(f"no network is called '{name}'; there are {', '.join(NETWORKS)}")
    path = network_names().get(name) or _file(f"{name}.toml")
    return read_network(path, path.name)


def deconvs(name: str) -> tuple[Deconv, ...]:
    """The deconvs that the network ``name`` must show, in order; needs no framework.

    All of them have a bias in the modules, which is not part of these specs: exporters drop one that is zero.

    Raises:
        UsageError: no such network.
    """
    return tuple(layer.spec for layer in network(name).deconvs if isinstance(layer.spec, Deconv))


def build(name: str, seed: int = 0, weights: str | Path | None = None) -> ZooNetwork:
    """A network as a ``torch.nn.Module`` in evaluation mode.

    Args:
        name: one of ``NETWORKS``.
        seed: of the initial weights, and of the inputs from which batch norm takes its statistics.
        weights: a state dict instead, as ``torch.save`` (``.pt``) or ``numpy.savez`` (``.npz``) writes it.

    Raises:
        UsageError: no such network.
        InputError: the file is not a state dict of this network.
        MissingExtraError: PyTorch is not installed.
    """
    if name not in NETWORKS:
        raise UsageError(f"no network is called '{name}'; there are {', '.join(NETWORKS)}")
    parameters = _module("splitdeconv.lab.zoo.parameters")
    module, attribute = NETWORKS[name].split(":")
    made: ZooNetwork = parameters.make(getattr(import_module(module), attribute), seed, weights)
    return made


def export(
    name: str,
    out: str | Path,
    *,
    dtype: str = "float32",
    seed: int = 0,
    weights: str | Path | None = None,
    plain: Path | None = None,
) -> None:
    """Write a network as ``.onnx`` or ``.tflite``, whole or not at all.

    Args:
        name: one of ``NETWORKS``.
        out: the file; its ending says which format.
        dtype: ``float32``, or ``int8``: static, weights per channel, calibrated on random inputs of the same seed.
        seed, weights: as for :func:`build`.
        plain: its float32 file of the same format and weights, which is then quantised and not exported again.

    Raises:
        UsageError: an unknown network, format or type.
        InputError: the file of weights does not fit.
        OutputError: the file cannot be written.
        MissingExtraError: a package of the extra ``zoo`` is not installed.
    """
    path = Path(out)
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: wanted a file that ends in {' or '.join(FORMATS)}")
    if dtype not in DTYPES:
        raise UsageError(f"no dtype is called '{dtype}'; there are {', '.join(DTYPES)}")
    if (name, path.suffix, dtype, weights, seed) == ("faces", ".onnx", "float32", None, 0):
        _copy(trained(), path)
        return
    with quiet():
        made = build(name, seed, weights)
        writer = _module(f"splitdeconv.lab.zoo.to_{path.suffix[1:]}")
        writer.write(made, path, dtype, seed, plain)


def trained() -> Path:
    """The ONNX file of the trained generator that comes with the package; needs no framework."""
    return _file("faces.onnx")


def _copy(source: Path, path: Path) -> None:
    with staged(path) as folder:
        shutil.copyfile(source, folder / path.name)


def _file(name: str) -> Path:
    return Path(str(resources.files("splitdeconv.lab.zoo") / name))


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        package = (error.name or "torch").split(".")[0]
        if package == "splitdeconv":
            raise
        raise MissingExtraError("the zoo", package, EXTRA) from error
