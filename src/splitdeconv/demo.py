"""``python -m splitdeconv.demo FOLDER``: a DCGAN generator built, converted and proved equal; its images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from PIL import Image

import splitdeconv
from splitdeconv.cli.app import console, emit_json
from splitdeconv.cli.convert import show
from splitdeconv.weights import Array
from splitdeconv.zoo import dcgan

IMAGES, SCALE = 8, 2  # images in a row, and how much each pixel is enlarged


def main(folder: Path) -> None:
    """Write the models, the images and the record into ``folder``, and print the table of layers."""
    folder.mkdir(parents=True, exist_ok=True)
    before, after = folder / "dcgan.onnx", folder / "dcgan_split.onnx"
    onnx.save(dcgan.build(), before)
    conversion = splitdeconv.convert(before, after)
    show(console(), conversion.record)
    emit_json(conversion.record.to_json(), folder / "record.json")
    latents = np.random.default_rng(1).standard_normal((IMAGES, dcgan.LATENT)).astype(np.float32)
    old, new = _images(before, latents), _images(after, latents)
    _write(folder / "before.png", old)
    _write(folder / "after.png", new)
    out = console()
    out.print(f"images: {folder / 'before.png'}, {folder / 'after.png'}", soft_wrap=True)
    out.print(f"largest difference of a pixel: {np.abs(old - new).max():.1e} of values between -1 and 1")


def _images(path: Path, latents: Array) -> Array:
    """One image for each latent vector: ``(IMAGES, 3, 64, 64)``."""
    session = onnxruntime.InferenceSession(path)
    return np.concatenate([session.run(None, {"z": latent[np.newaxis]})[0] for latent in latents])


def _write(path: Path, images: Array) -> None:
    """The images in one row, as a PNG."""
    row = np.concatenate(list(images.transpose(0, 2, 3, 1)), axis=1)
    pixels = ((row + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels.repeat(SCALE, axis=0).repeat(SCALE, axis=1)).save(path)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
