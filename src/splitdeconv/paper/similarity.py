"""SSIM of SD's and of the inexact conversions' pictures against the exact ones (extra ``paper``)."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.errors import InputError, MissingExtraError, OutputError, SplitdeconvError
from splitdeconv.paper.child import in_child
from splitdeconv.paper.models import trained_model, zoo_model
from splitdeconv.paper.part import Part, Progress, Setting, Step
from splitdeconv.paper.published import published
from splitdeconv.paper.result import Cell, Column, Gallery, Result, Sheet
from splitdeconv.results import Json
from splitdeconv.weights import Array

SAMPLES = 4  # pictures of a generator, in a two-by-two sheet
GENERATOR, FST = "generator", "fst"
_TANH = 1.001  # pictures within this are taken to run from −1 to 1, all others from 0 to 255
_PACKAGES = ("onnx", "onnx-ir", "scikit-image")


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
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError("SSIM", error.name or "scikit-image", "paper") from error


@dataclass(frozen=True, slots=True)
class Comparison:
    """All schemes on one model.

    Attributes:
        compared: scheme → its comparisons, one for each picture, or the reason why there are none.
        pictures: scheme → its pictures side by side, 8 bits, ``(height, width, 3)``.
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
    from splitdeconv.paper.schemes import EXACT, SCHEMES, image_of  # noqa: PLC0415  # needs onnx, an extra

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
        pictures[name] = np.concatenate([to_bytes(*each) for each in zip(images, limits, strict=True)], axis=1)
    return Comparison(compared, pictures)


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
    from splitdeconv.frontends.onnx import OnnxFrontend  # noqa: PLC0415  # needs onnx, an extra

    front = OnnxFrontend()
    inputs = front.inputs(front.load(model))
    shape = tuple(size or 1 for size in inputs[0].shape or ())
    if len(inputs) != 1 or not (len(shape) == 2 or shape[:2] == (1, 3)):
        found = "; ".join(f"{each.name} {list(each.shape or ())}" for each in inputs)
        raise InputError(f"{model}: inputs {found}; wanted one, a latent vector [1, N] or a picture [1, 3, H, W]")
    name = inputs[0].name
    if len(shape) == 4:
        return [{name: photograph(shape[2], shape[3])}]
    return [{name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)} for seed in range(SAMPLES)]


def _measure(source: str, model: Path, out: Path, progress: Progress) -> Json:
    """Compare, and keep the pictures in the report's folder."""
    found = compare_model(model, feeds_of(model), progress)
    files = {}
    for number, (scheme, picture) in enumerate(found.pictures.items()):
        files[scheme] = f"ssim/{source}-{number}-{scheme.split(' ', 1)[0].lower()}.png"
        _save(out / files[scheme], picture)
    compared = {
        scheme: each if isinstance(each, str) else [asdict(one) for one in each]
        for scheme, each in found.compared.items()
    }
    return {"compared": compared, "pictures": files}


def _save(path: Path, picture: Array) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _skimage("skimage.io").imsave(path, picture, check_contrast=False)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error})") from None


def _steps(setting: Setting) -> Sequence[Step]:
    """The trained generator, and a style-transfer network: the user's, or the zoo's.

    Raises:
        InputError: the user's model cannot be read.
    """
    command = f"splitdeconv reproduce {setting.out} --only ssim"

    def generator(progress: Progress) -> Json:
        return _measure(GENERATOR, trained_model(), setting.out, progress)

    def fst(progress: Progress) -> Json:
        if setting.fst is not None:
            return _measure(FST, setting.fst, setting.out, progress)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fst.onnx"
            in_child(zoo_model, "fst", path)
            return _measure(FST, path, setting.out, progress)

    trained = {"model": _digest(trained_model())} if trained_model().exists() else {}
    own = {} if setting.fst is None else {"model": _digest(setting.fst)}
    packages = _PACKAGES if setting.fst is not None else (*_PACKAGES, "torch")
    with_own = command if setting.fst is None else f"{command} --fst {setting.fst}"
    return (
        Step(GENERATOR, "counted", command, _PACKAGES, generator, trained),
        Step(FST, "counted", with_own, packages, fst, own),
    )


def _digest(path: Path) -> str:
    """What tells one model file from another.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); wanted an ONNX model") from None


_TITLES = {GENERATOR: "trained generator", FST: "fast style transfer"}


def _result(found: Mapping[str, Json]) -> Result:
    rows: list[tuple[Cell, ...]] = []
    galleries = []
    for source, step in found.items():
        rows += [_row(_TITLES[source], scheme, each) for scheme, each in step["compared"].items()]
        pictures = tuple((scheme, file) for scheme, file in step["pictures"].items())
        galleries.append(Gallery(f"{_TITLES[source]}: what each conversion makes of the same input", pictures))
    columns = (
        Column("model"),
        Column("conversion"),
        Column("SSIM, whole picture", "", 4),
        Column("SSIM, common part", "", 4),
        Column("size"),
        Column("lies at"),
        Column("largest difference"),
        Column("paper's SSIM"),
    )
    sheet = Sheet(
        "ssim", "Pictures against the exact ones, evaluated in float64", "counted", columns, tuple(rows), _NOTES
    )
    return Result((sheet,), galleries=tuple(galleries))


def _row(source: str, scheme: str, found: Any) -> tuple[Cell, ...]:
    if isinstance(found, str):
        return (source, scheme, None, None, f"none: {found}", None, None, None)
    one = found[0]
    whole, overlap = (float(np.mean([each[key] for each in found])) for key in ("whole", "overlap"))
    largest = max(each["largest"] for each in found)
    size, offset = ("×".join(map(str, one["size"])), ", ".join(map(str, one["offset"])))
    return (
        source,
        scheme,
        whole,
        overlap,
        size,
        offset,
        f"{largest:.2g}" if largest else "0, equal bits",
        _theirs(scheme),
    )


def _theirs(scheme: str) -> str:
    """What the paper publishes for a scheme."""
    if not scheme.startswith(("SD", "Shi", "Chang")):
        return ""
    figure = published(f"ssim-{scheme.split(' ', 1)[0].lower()}")
    return figure.status if not figure.values else f"{figure.values['dcgan']:g}"


_NOTES = (
    "Inputs and weights of every deconv are rounded (to about 20 bits) so that float64 adds their products without "
    "rounding, in every scheme: what differs is the conversion, never the order of summation. SD's pictures then equal "
    "the exact ones in every bit, and their SSIM is exactly 1.",
    "SSIM as Wang et al. define it, by scikit-image, with a Gaussian window of σ = 1.5, averaged over the pictures.",
    "A smaller picture is placed where it differs least from the exact one; in the whole picture black stands "
    "for what it "
    "has lost, and the common part is the picture itself.",
    "The inexact conversions are ours, after their descriptions and the authors' comparison pictures, of which "
    "Shi's DCGAN "
    "picture has 50×50 instead of 64×64 pixels and Chang's is moved by seven.",
)

PART = Part(
    "ssim",
    "Similarity of the pictures",
    "The paper's check that a conversion is right: the structural similarity (SSIM) of the pictures that converted "
    "networks make. The two earlier conversions are here for this comparison only; no command converts a model "
    "by them.",
    _steps,
    _result,
)
