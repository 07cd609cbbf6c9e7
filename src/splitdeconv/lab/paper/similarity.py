"""The part that compares pictures: SSIM of SD and of the inexact conversions, on a generator and on style transfer."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from splitdeconv.errors import InputError
from splitdeconv.lab.paper.child import in_child
from splitdeconv.lab.paper.inexact import EXACT
from splitdeconv.lab.paper.models import trained_model, zoo_model
from splitdeconv.lab.paper.part import PaperPart, PaperSetting, PaperStep, Progress, needing
from splitdeconv.lab.paper.pictures import compare_model, feeds_of, save
from splitdeconv.lab.paper.published import published
from splitdeconv.lab.paper.result import Cell, Column, Gallery, Result, Sheet
from splitdeconv.results.schema import Json

GENERATOR, FST = "generator", "fst"
_PACKAGES = ("onnx", "onnx-ir", "scikit-image")


def _measure(source: str, model: Path, out: Path, progress: Progress) -> Json:
    """Compare, and keep the pictures in the report's folder."""
    with needing("SSIM", "paper"):
        found = compare_model(model, feeds_of(model), progress)
    files = {}
    for number, (scheme, picture) in enumerate(found.pictures.items()):
        files[scheme] = f"ssim/{source}-{number}-{scheme.split(' ', 1)[0].lower()}.png"
        save(out / files[scheme], picture)
    compared = {
        scheme: each if isinstance(each, str) else [asdict(one) for one in each]
        for scheme, each in found.compared.items()
    }
    return {"compared": compared, "pictures": files}


def _steps(setting: PaperSetting) -> Sequence[PaperStep]:
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

    own = {} if setting.fst is None else {"model": _digest(setting.fst)}
    packages = _PACKAGES if setting.fst is not None else (*_PACKAGES, "torch")
    with_own = command if setting.fst is None else f"{command} --fst {setting.fst}"
    return (
        PaperStep(GENERATOR, "counted", command, _PACKAGES, generator, {"model": _digest(trained_model())}),
        PaperStep(FST, "counted", with_own, packages, fst, own),
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
        compared = {scheme: each for scheme, each in step["compared"].items() if scheme != EXACT}
        rows += [_row(_TITLES[source], scheme, each) for scheme, each in compared.items()]
        pictures = tuple((scheme, file) for scheme, file in step["pictures"].items())
        galleries.append(
            Gallery(f"{_TITLES[source]}: what each conversion makes of the same input; grey is lost", pictures)
        )
    columns = (
        Column("model"),
        Column("conversion"),
        Column("SSIM, whole picture", "", 4),
        Column("SSIM, common part", "", 4),
        Column("size"),
        Column("first row, column"),
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
