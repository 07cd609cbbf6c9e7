"""Pictures of a model by each scheme, and how similar they are to the exact ones (extra ``paper``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.deconv.weights import Array
from splitdeconv.errors import InputError, OutputError, SplitdeconvError
from splitdeconv.lab.paper.inexact import EXACT
from splitdeconv.lab.paper.part import Progress, needing

SAMPLES = 4  # pictures of a generator, two in a row
LOST = 200  # grey
_TANH = 1.001  # pictures within this are taken to run from −1 to 1, all others from 0 to 255


@dataclass(frozen=True, slots=True)
class Compared:
    """One scheme's picture against the exact one.

    Attributes:
        scheme: its name.
        size: height and width in pixels.
        offset: row and column of the exact picture where it lies.
        whole: SSIM of the whole picture; where the scheme has lost its border, black stands.
        overlap: SSIM of the part that both have.
        largest: difference in that part, as a share of the range of values.
    """

    scheme: str
    size: tuple[int, int]
    offset: tuple[int, int]
    whole: float
    overlap: float
    largest: float


def compare(scheme: str, exact: Array, found: Array, limits: tuple[float, float]) -> Compared:
    """Place ``found`` where it fits best in ``exact``, and compare.

    Args:
        scheme: name.
        exact, found: ``(height, width, 3)``; ``found`` is not larger.
        limits: the values of black and white.
    """
    offset = best_offset(exact, found)
    height, width = found.shape[:2]
    region = exact[offset[0] : offset[0] + height, offset[1] : offset[1] + width]
    canvas = np.full_like(exact, limits[0])
    canvas[offset[0] : offset[0] + height, offset[1] : offset[1] + width] = found
    span = limits[1] - limits[0]
    largest = float(np.max(np.abs(region - found))) / span
    return Compared(scheme, (height, width), offset, ssim(exact, canvas, span), ssim(region, found, span), largest)


def best_offset(exact: Array, found: Array) -> tuple[int, int]:
    """Row and column of ``exact`` at which ``found`` differs least from it, of all places where it lies within."""
    rows, columns = (many - few + 1 for many, few in zip(exact.shape[:2], found.shape[:2], strict=True))
    places = [(row, column) for row in range(rows) for column in range(columns)]
    height, width = found.shape[:2]
    return min(
        places,
        key=lambda at: float(np.mean(np.abs(exact[at[0] : at[0] + height, at[1] : at[1] + width] - found))),
    )


def ssim(first: Array, second: Array, span: float) -> float:
    """Mean SSIM of two colour pictures as Wang et al. compute it (Gaussian window, IEEE TIP 13(4), 2004), in float64.

    Equal arrays give exactly 1: numerator and denominator are then the same number in every pixel.
    """
    metrics = _skimage("skimage.metrics")
    found: float = metrics.structural_similarity(
        first,
        second,
        channel_axis=-1,
        data_range=span,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(found)


def _skimage(module: str) -> Any:
    with needing("SSIM", "paper"):
        return import_module(module)


@dataclass(frozen=True, slots=True)
class Comparison:
    """All schemes on one model.

    Attributes:
        compared: scheme → its comparisons, one for each picture, or the reason why there are none.
        pictures: scheme → its pictures in one, 8 bits, ``(height, width, 3)``, each where it lies in the exact one.
    """

    compared: Mapping[str, tuple[Compared, ...] | str]
    pictures: Mapping[str, Array]


def compare_model(model: Path, feeds: Sequence[Mapping[str, Array]], progress: Progress) -> Comparison:
    """Every scheme's pictures of a model, compared with the exact ones.

    Args:
        model: ONNX, its first output ``(1, 3, height, width)``.
        feeds: inputs of each picture.
        progress: told the scheme.
    """
    from splitdeconv.lab.paper.schemes import SCHEMES, image_of  # noqa: PLC0415  # needs onnx, an extra

    exact = [_colour(image_of(model, feed, SCHEMES[EXACT])) for feed in feeds]
    limits = [limits_of(each) for each in exact]
    compared: dict[str, tuple[Compared, ...] | str] = {}
    pictures: dict[str, Array] = {}
    for number, (name, scheme) in enumerate(SCHEMES.items()):
        progress(name, number / len(SCHEMES))
        try:
            images = exact if name == EXACT else [_colour(image_of(model, feed, scheme)) for feed in feeds]
        except SplitdeconvError as error:
            compared[name] = str(error)
            continue
        compared[name] = tuple(compare(name, *each) for each in zip(exact, images, limits, strict=True))
        places = [each.offset for each in compared[name] if isinstance(each, Compared)]
        shown = [
            on_canvas(to_bytes(image, limit), whole.shape, place)
            for image, limit, whole, place in zip(images, limits, exact, places, strict=True)
        ]
        pictures[name] = tiled(shown)
    return Comparison(compared, pictures)


def on_canvas(picture: Array, shape: tuple[int, ...], place: tuple[int, int]) -> Array:
    """A picture in 8 bits where it lies in the exact one, grey where it has lost something."""
    canvas = np.full(shape, LOST, np.uint8)
    canvas[place[0] : place[0] + picture.shape[0], place[1] : place[1] + picture.shape[1]] = picture
    return canvas


def tiled(pictures: Sequence[Array]) -> Array:
    """One picture as it is; more of them in rows of two."""
    rows = [np.concatenate(pictures[number : number + 2], axis=1) for number in range(0, len(pictures), 2)]
    found: Array = np.concatenate(rows, axis=0)
    return found


def limits_of(picture: Array) -> tuple[float, float]:
    """The values of black and white: of a tanh, or of bytes."""
    return (-1.0, 1.0) if float(np.max(np.abs(picture))) <= _TANH else (0.0, 255.0)


def to_bytes(picture: Array, limits: tuple[float, float]) -> Array:
    """The picture in 8 bits."""
    low, high = limits
    levels: Array = np.rint((picture - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
    return levels


def _colour(image: Array) -> Array:
    """``(1, 3, H, W)`` → ``(H, W, 3)``."""
    if image.ndim != 4 or image.shape[:2] != (1, 3):
        raise InputError(f"the model's first output has shape {list(image.shape)}, wanted one picture [1, 3, H, W]")
    return np.ascontiguousarray(np.moveaxis(image[0], 0, -1))


def photograph(height: int, width: int) -> Array:
    """Scikit-image's picture of an astronaut, ``(1, 3, height, width)`` float32 from 0 to 255."""
    picture = _skimage("skimage.data").astronaut()
    resized = _skimage("skimage.transform").resize(picture, (height, width), anti_aliasing=True, preserve_range=True)
    image: Array = np.moveaxis(resized, -1, 0)[np.newaxis].astype(np.float32)
    return image


def feeds_of(model: Path) -> list[dict[str, Array]]:
    """The photograph for a model that takes a picture; some latent vectors for one that takes those.

    Raises:
        InputError: the model has several inputs, or one of another shape.
    """
    from splitdeconv.formats.onnx import OnnxModel  # noqa: PLC0415  # needs onnx, an extra

    inputs = OnnxModel.load(model).inputs()
    shape = tuple(size or 1 for size in inputs[0].shape or ())
    if len(inputs) != 1 or not (len(shape) == 2 or shape[:2] == (1, 3)):
        found = "; ".join(f"{each.name} {list(each.shape or ())}" for each in inputs)
        raise InputError(f"{model}: inputs {found}; wanted one, a latent vector [1, N] or a picture [1, 3, H, W]")
    name = inputs[0].name
    if len(shape) == 4:
        return [{name: photograph(shape[2], shape[3])}]
    return [{name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)} for seed in range(SAMPLES)]


def save(path: Path, picture: Array) -> None:
    """Write a PNG file.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _skimage("skimage.io").imsave(path, picture, check_contrast=False)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error})") from None
