"""``python -m splitdeconv.cli.demo FOLDER``: a trained generator converted and proved equal, and its images."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

import splitdeconv
from splitdeconv import codec
from splitdeconv.cli.app import console, emit_json
from splitdeconv.cli.convert import show
from splitdeconv.deconv.weights import Array
from splitdeconv.lab.zoo import trained

COLUMNS, ROWS, SCALE = 8, 2, 2  # images in a row, rows, and how much each pixel is enlarged
LATENT = 16  # numbers that make a face


def main(folder: Path) -> None:
    """Write the models, the images and the record into ``folder``, and print the table of layers."""
    folder.mkdir(parents=True, exist_ok=True)
    before, after = folder / "faces.onnx", folder / "faces_split.onnx"
    shutil.copyfile(trained(), before)
    conversion = splitdeconv.convert(before, after)
    show(console(), conversion.record)
    emit_json(codec.run_to_json(conversion.record), folder / "record.json")
    latents = np.random.default_rng(1).standard_normal((COLUMNS * ROWS, LATENT)).astype(np.float32)
    old, new = _images(before, latents), _images(after, latents)
    _write(folder / "before.png", old)
    _write(folder / "after.png", new)
    out = console()
    out.print(f"images: {folder / 'before.png'}, {folder / 'after.png'}", soft_wrap=True)
    out.print(f"largest difference of a pixel: {np.abs(old - new).max():.1e} of values between -1 and 1")


def _images(path: Path, latents: Array) -> Array:
    """One image for each latent vector: ``(COLUMNS·ROWS, 3, 64, 64)``."""
    session = onnxruntime.InferenceSession(path)
    return np.concatenate([session.run(None, {"z": latent[np.newaxis]})[0] for latent in latents])


def _write(path: Path, images: Array) -> None:
    """The images in rows, as a PNG."""
    rows = np.split(images.transpose(0, 2, 3, 1), ROWS)
    page = np.concatenate([np.concatenate(list(row), axis=1) for row in rows])
    pixels = ((page + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
