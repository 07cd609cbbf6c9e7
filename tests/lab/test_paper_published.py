"""The published figures as data: what they say, and what a wrong file is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitdeconv.errors import InputError, UsageError
from splitdeconv.lab.paper.networks import NAMES
from splitdeconv.lab.paper.published import all_published, published, read_figures

GOOD = 'name = "a"\ntitle = "t"\nunit = "ms"\nstatus = "confirmed"\nsource = "s"\nvalues = { dcgan = 1 }\n'


def test_every_figure_has_a_source_and_a_status() -> None:
    for figure in all_published().values():
        assert figure.source
        assert figure.status in ("confirmed", "recollected", "unknown")
        assert bool(figure.values) == (figure.status != "unknown")
        assert not set(figure.values) & set(NAMES) or set(figure.values) <= set(NAMES)


def test_published_ratios_are_those_of_the_published_times() -> None:
    ratios = {"dcgan": 2.87, "sngan": 3.55, "fst": 2.06, "artgan": 3.46, "gpgan": 3.60, "mde": 2.12}
    for name, ratio in ratios.items():
        times = published("edgetpu-tflite-nzp").values[name], published("edgetpu-tflite-sd").values[name]
        # The authors' ratios are not always those of their times to the last digit: FST's times give 2.07.
        assert times[0] / times[1] == pytest.approx(ratio, abs=0.015)


def test_what_is_not_confirmed_says_so() -> None:
    assert published("array-configuration").status == "recollected"
    assert published("ssim-shi").status == "unknown"
    assert published("ssim-shi").value("dcgan") is None
    with pytest.raises(UsageError, match="no published figure is called 'speed'"):
        published("speed")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("status = ", "state = "), "status is missing.*exactly the keys"),
        (("unit = ", "extra = 1\nunit = "), "exactly the keys"),
        (('"confirmed"', '"sure"'), "status is sure.*a status of confirmed, recollected, unknown"),
        (('"s"', '""'), "a source that are not empty"),
        (("{ dcgan = 1 }", '{ dcgan = "one" }'), "values is .*a table of numbers"),
        (("{ dcgan = 1 }", "{}"), "an unknown figure has no values"),
    ],
)
def test_a_wrong_file_is_told_what_was_wanted(change: tuple[str, str], said: str, tmp_path: Path) -> None:
    path = tmp_path / "figures.toml"
    path.write_text(f"[[figure]]\n{GOOD}")
    assert read_figures(path)["a"].value("dcgan") == 1
    path.write_text(f"[[figure]]\n{GOOD.replace(*change)}")
    with pytest.raises(InputError, match=f"figures.toml: figure 1.*{said}"):
        read_figures(path)


def test_two_figures_of_one_name_are_a_mistake(tmp_path: Path) -> None:
    path = tmp_path / "figures.toml"
    path.write_text(f"[[figure]]\n{GOOD}[[figure]]\n{GOOD}")
    with pytest.raises(InputError, match="two figures have the same name"):
        read_figures(path)
