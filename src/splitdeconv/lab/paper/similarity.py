"""The part that compares pictures: SSIM of SD and of the inexact conversions, on a generator and on style transfer."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitdeconv.errors import InputError
from splitdeconv.lab.paper.child import in_child
from splitdeconv.lab.paper.inexact import EXACT
from splitdeconv.lab.paper.models import trained_model, zoo_model
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress, needing
from splitdeconv.lab.paper.pictures import Compared, compare_model, feeds_of, save
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Result
from splitdeconv.report.page import Cell, Column, Table

GENERATOR, FST = "generator", "fst"
_PACKAGES = ("onnx", "onnx-ir", "scikit-image")


@dataclass(frozen=True, slots=True)
class Similarity:
    """One model's pictures by every scheme.

    Attributes:
        compared: as in :class:`splitdeconv.lab.paper.pictures.Comparison`.
        pictures: scheme → PNG file, relative to the report's folder.
    """

    compared: Mapping[str, tuple[Compared, ...] | str]
    pictures: Mapping[str, str]


def _measure(source: str, model: Path, out: Path, progress: Progress) -> Similarity:
    """Compare, and keep the pictures in the report's folder."""
    with needing("SSIM", "paper"):
        found = compare_model(model, feeds_of(model), progress)
    files = {}
    for number, (scheme, picture) in enumerate(found.pictures.items()):
        files[scheme] = f"ssim/{source}-{number}-{scheme.split(' ', 1)[0].lower()}.png"
        save(out / files[scheme], picture)
    return Similarity(found.compared, files)


def _steps(setting: PaperSetting) -> Sequence[PaperStep]:
    """The trained generator, and a style-transfer network: the user's, or the zoo's.

    Raises:
        InputError: the user's model cannot be read.
    """
    command = f"splitdeconv reproduce {setting.out} --only ssim"

    def generator(progress: Progress) -> Similarity:
        return _measure(GENERATOR, trained_model(), setting.out, progress)

    def fst(progress: Progress) -> Similarity:
        if setting.fst is not None:
            return _measure(FST, setting.fst, setting.out, progress)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "fst.onnx"
            in_child(zoo_model, "fst", path)
            return _measure(FST, path, setting.out, progress)

    own = {} if setting.fst is None else {"model": _digest(setting.fst)}
    packages = _PACKAGES if setting.fst is not None else (*_PACKAGES, "torch")
    with_own = command if setting.fst is None else f"{command} --fst {setting.fst}"
    return (
        PaperStep(GENERATOR, "counted", command, _PACKAGES, generator, Similarity, {"model": _digest(trained_model())}),
        PaperStep(FST, "counted", with_own, packages, fst, Similarity, own),
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


def _result(found: Mapping[str, Similarity]) -> Result:
    rows: list[tuple[Cell, ...]] = []
    pictures = {}
    for source, step in found.items():
        rows += [_row(_TITLES[source], scheme, each) for scheme, each in step.compared.items() if scheme != EXACT]
        pictures[f"{_TITLES[source]}: what each conversion makes of the same input; grey is lost"] = step.pictures
    columns = (
        "model",
        "conversion",
        Column("SSIM, whole picture", digits=4),
        Column("SSIM, common part", digits=4),
        "size",
        "first row, column",
        "largest difference",
        "paper's SSIM",
    )
    caption = "Pictures against the exact ones, evaluated in float64"
    return Result({"ssim": Table(caption, columns, tuple(rows), _NOTES, "counted")}, pictures=pictures)


def _row(source: str, scheme: str, found: Sequence[Compared] | str) -> tuple[Cell, ...]:
    if isinstance(found, str):
        return (source, scheme, None, None, f"none: {found}", None, None, None)
    largest = max(each.largest for each in found)
    return (
        source,
        scheme,
        float(np.mean([each.whole for each in found])),
        float(np.mean([each.overlap for each in found])),
        "×".join(map(str, found[0].size)),
        ", ".join(map(str, found[0].offset)),
        f"{largest:.2g}" if largest else "0, equal bits",
        _theirs(scheme),
    )


def _theirs(scheme: str) -> str:
    """What the paper publishes for a scheme."""
    figure = published(f"ssim-{scheme.split(' ', 1)[0].lower()}")
    return figure.status if not figure.values else f"{figure.values['dcgan']:g}"


_NOTES = (
    "Inputs and weights of every deconv are rounded (to about 20 bits) so that float64 adds their products without "
    "rounding, in every scheme: what differs is the conversion, never the order of summation. SD's deconvs then give "
    "the definition's bits. Whether the whole picture does is in the column of the largest difference: the model's "
    "other operators are ordinary float64.",
    "SSIM as Wang et al. define it, by scikit-image, with a Gaussian window of σ = 1.5, averaged over the pictures.",
    "A smaller picture is placed where it differs least from the exact one; in the whole picture black stands "
    "for what it has lost, and the common part is the picture itself.",
    "The inexact conversions are ours, after their descriptions and the authors' comparison pictures, of which "
    "Shi's DCGAN picture has 50×50 instead of 64×64 pixels and Chang's is moved by seven.",
)

PART = PaperPart(
    "ssim",
    "Similarity of the pictures",
    "The paper's check that a conversion is right: the structural similarity (SSIM) of the pictures that converted "
    "networks make. The two earlier conversions are here for this comparison only; no command converts a model "
    "by them.",
    _steps,
    _result,
)
