"""What commands begin with: plan files and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitdeconv.errors import InputError, UsageError
from splitdeconv.pipeline.open import read_plan
from tests import invented_records as invented


def test_a_plan_file_has_sites_and_their_candidates_only(tmp_path: Path) -> None:
    plan, path = invented.by_rule().plan, tmp_path / "plan.json"
    path.write_text(plan.to_json(), "utf-8")
    assert read_plan(path) == {choice.site: str(choice.chosen) for choice in plan.choices}
    assert path.read_text("utf-8").startswith('{\n  "schema": 1,\n  "target": "generic",\n  "sites": {\n    "')


def test_a_plan_written_by_hand_needs_no_target(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": 1, "sites": {"up": "split"}}')
    assert read_plan(path) == {"up": "split"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is no object of names and values"),
        ("{}", "schema is missing"),
        ('{"schema": 1}', "sites is missing"),
        ('{"schema": 1, "sites": ["split"]}', "sites is"),
    ],
)
def test_what_is_no_plan_file_is_told_what_was_wanted(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"plan\.json: {said}.*wanted the file that --save-plan writes"):
        read_plan(path)


def test_a_plan_of_another_schema_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": 2, "sites": {}}')
    with pytest.raises(UsageError, match="plan of schema 2, this version reads 1; plan anew"):
        read_plan(path)
