"""``splitdeconv demo``."""

from __future__ import annotations

import shutil
from importlib import import_module
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli import app as shared
from splitdeconv.deconv.weights import Array
from splitdeconv.errors import MissingExtraError
from splitdeconv.files import make_folder
from splitdeconv.lab.zoo import trained
from splitdeconv.report import listing

COLUMNS, ROWS, SCALE = 8, 2, 2  # images in a row, rows, and how much each pixel is enlarged
LATENT = 16  # numbers that make a face


@shared.app.command(epilog="Example: `splitdeconv demo`")
def demo(
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder for the models, the images and the record.")
    ] = Path("demo"),
    json: shared.Json = None,
) -> None:
    """Convert a trained generator of faces, which comes along, and show the faces before and after (extra `demo`)."""
    _check()
    make_folder(out)
    before, after = out / "faces.onnx", out / "faces_split.onnx"
    shutil.copyfile(trained(), before)
    with shared.progress_bar() as progress:
        conversion = splitdeconv.convert(before, after, progress=progress)
    record = codec.run_to_json(conversion.record)
    shared.emit_json(record, out / "record.json")
    latents = np.random.default_rng(1).standard_normal((COLUMNS * ROWS, LATENT)).astype(np.float32)
    old, new = _images(before, latents), _images(after, latents)
    _write(out / "before.png", old)
    _write(out / "after.png", new)
    if json is not None:
        shared.emit_json(record, json)
    if json is not None and str(json) == "-":
        return
    console = shared.console()
    conversion.show(console)
    listing.say(console, f"images: {out / 'before.png'}, {out / 'after.png'}")
    listing.say(console, f"largest difference of a pixel: {np.abs(old - new).max():.1e} of values between -1 and 1")


def _check() -> None:
    """Before anything is written, that all packages are there.

    Raises:
        MissingExtraError: one is not.
    """
    for package in ("onnxruntime", "PIL"):
        try:
            import_module(package)
        except ModuleNotFoundError as error:
            raise MissingExtraError("the demo", package, "demo") from error


def _images(path: Path, latents: Array) -> Array:
    """One image for each latent vector: ``(COLUMNS·ROWS, 3, 64, 64)``."""
    import onnxruntime  # noqa: PLC0415  # of an extra

    session = onnxruntime.InferenceSession(path)
    return np.concatenate([session.run(None, {"z": latent[np.newaxis]})[0] for latent in latents])


def _write(path: Path, images: Array) -> None:
    """The images in rows, as a PNG."""
    from PIL import Image  # noqa: PLC0415  # as above

    rows = np.split(images.transpose(0, 2, 3, 1), ROWS)
    page = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    pixels = ((page + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)).save(path)
