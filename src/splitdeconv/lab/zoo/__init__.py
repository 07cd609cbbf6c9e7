"""The six networks of the paper, whole, a small trained generator, and networks of today; and their official exports.

Names and the deconvs that each network must show need no framework: they come from the same lists of layers that
``simulate`` reads. Building and exporting need PyTorch (extra ``zoo``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
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
    "monodepth2": "splitdeconv.lab.zoo.monodepth2:MonoDepth2",
    "progan": "splitdeconv.lab.zoo.progan:ProGAN",
    "rrdb": "splitdeconv.lab.zoo.rrdb:RRDB",
    "stylegan2": "splitdeconv.lab.zoo.stylegan2:StyleGAN2",
    "superresolution": "splitdeconv.lab.zoo.superresolution:LightSuperResolution",
    "vae": "splitdeconv.lab.zoo.vae:VAE",
}
RESIZING = ("monodepth2", "progan", "rrdb", "stylegan2", "superresolution", "vae")  # that upsample and convolve
PAPER = tuple(name for name in NETWORKS if name not in ("faces", *RESIZING))
FORMATS = (".onnx", ".tflite")
DTYPES = ("float32", "int8")
EXTRA = "zoo"


def network(name: str) -> Network:
    """The layers of the network ``name`` with title and source, at its own width; needs no framework.

    Of networks that upsample and convolve only the deconvs are listed.

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


def build(name: str, seed: int = 0, weights: str | Path | None = None, width: int | None = None) -> ZooNetwork:
    """A network as a ``torch.nn.Module`` in evaluation mode.

    Args:
        name: one of ``NETWORKS``.
        seed: of the initial weights, and of the inputs from which batch norm takes its statistics.
        weights: a state dict instead, as ``torch.save`` (``.pt``) or ``numpy.savez`` (``.npz``) writes it.
        width: channels of the finest maps, for networks of ``RESIZING``; None for the network's own.

    Raises:
        UsageError: no such network, or it cannot have this width.
        InputError: the file is not a state dict of this network.
        MissingExtraError: PyTorch is not installed.
    """
    if name not in NETWORKS:
        raise UsageError(f"no network is called '{name}'; there are {', '.join(NETWORKS)}")
    parameters = _module("splitdeconv.lab.zoo.parameters")
    module, attribute = NETWORKS[name].split(":")
    made: ZooNetwork = parameters.make(_wide(name, getattr(import_module(module), attribute), width), seed, weights)
    return made


def _wide(name: str, kind: type[ZooNetwork], width: int | None) -> Callable[[], ZooNetwork]:
    """The constructor for a width."""
    if width is None:
        return kind
    if kind.width is None:
        raise UsageError(f"'{name}' has one width only; a width can be chosen for {', '.join(RESIZING)}")
    if width < kind.width_step or width % kind.width_step:
        raise UsageError(f"width is {width}, wanted a multiple of {kind.width_step} for '{name}'")
    return partial(kind, width)


def export(
    name: str,
    out: str | Path,
    *,
    dtype: str = "float32",
    seed: int = 0,
    weights: str | Path | None = None,
    plain: Path | None = None,
    width: int | None = None,
) -> None:
    """Write a network as ``.onnx`` or ``.tflite``, whole or not at all.

    Args:
        name: one of ``NETWORKS``.
        out: the file; its ending says which format.
        dtype: ``float32``, or ``int8``: static, weights per channel, calibrated on random inputs of the same seed.
        seed, weights, width: as for :func:`build`.
        plain: its float32 file of the same format and weights, which is then quantised and not exported again.

    Raises:
        UsageError: an unknown network, format or type, or a width that the network cannot have.
        InputError: the file of weights does not fit.
        OutputError: the file cannot be written.
        MissingExtraError: a package of the extra ``zoo`` is not installed.
    """
    path = Path(out)
    if path.suffix not in FORMATS:
        raise UsageError(f"{path}: wanted a file that ends in {' or '.join(FORMATS)}")
    if dtype not in DTYPES:
        raise UsageError(f"no dtype is called '{dtype}'; there are {', '.join(DTYPES)}")
    if (name, path.suffix, dtype, weights, seed, width) == ("faces", ".onnx", "float32", None, 0, None):
        _copy(trained(), path)
        return
    with quiet():
        made = build(name, seed, weights, width)
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
