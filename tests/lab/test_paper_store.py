"""Results on disk: what holds, and what must be done again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from splitdeconv.errors import InputError
from splitdeconv.lab.paper import store
from splitdeconv.lab.paper.part import PaperStep
from splitdeconv.lab.paper.store import StoredStep


def step(inputs: Mapping[str, str] | None = None, *, effort: bool = False, packages: tuple[str, ...] = ()) -> PaperStep:
    return PaperStep("s", "counted", "make s", packages, lambda _progress: {}, Mapping[str, int], inputs or {}, effort)


def keep(folder: Path, made: PaperStep, *, quick: bool = False) -> StoredStep:
    stored = StoredStep("p", made.name, made.kind, made.command, made.environment(), quick, store.now(), 0.5, {"n": 1})
    store.keep(folder, stored, made.holds)
    return stored


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    assert store.find(tmp_path, "p", step(), quick=False) == (None, "")
    stored = keep(tmp_path, step())
    assert store.find(tmp_path, "p", step(), quick=False) == (stored, "")


def test_another_model_or_version_makes_it_anew(tmp_path: Path) -> None:
    keep(tmp_path, step({"model": "abc"}))
    assert store.find(tmp_path, "p", step({"model": "def"}), quick=False)[1] == "model was abc, is def"
    assert store.find(tmp_path, "p", step(), quick=False)[1] == "model was abc, is absent"
    with_package = step({"model": "abc"}, packages=("no-such-package",))
    assert store.find(tmp_path, "p", with_package, quick=False)[1] == "no-such-package was absent, is not installed"


def test_only_a_quick_run_takes_up_a_quick_measurement(tmp_path: Path) -> None:
    keep(tmp_path, step(effort=True), quick=True)
    assert store.find(tmp_path, "p", step(effort=True), quick=True)[0] is not None
    assert store.find(tmp_path, "p", step(effort=True), quick=False) == (None, "it was made with --quick")
    assert store.find(tmp_path, "p", step(), quick=False)[0] is not None  # a count takes no effort


def test_what_comes_along_keeps_its_own_model_but_not_another_version(tmp_path: Path) -> None:
    stored = keep(tmp_path, step({"model": "abc"}, effort=True), quick=True)
    assert store.find(tmp_path, "p", step(effort=True), quick=False, asked=False) == (stored, "")
    assert store.find(tmp_path, "p", step({"model": "def"}), quick=False, asked=False) == (stored, "")
    path = store.path_of(tmp_path, "p", "s")
    path.write_text(path.read_text().replace(stored.environment["numpy"], "1.0"))
    assert store.find(tmp_path, "p", step(), quick=False, asked=False)[1].startswith("numpy was 1.0, is ")


def test_another_schema_is_done_again_and_another_file_is_an_error(tmp_path: Path) -> None:
    keep(tmp_path, step())
    path = store.path_of(tmp_path, "p", "s")
    path.write_text(path.read_text().replace(f'"schema": {store.SCHEMA}', '"schema": 0'))
    assert "another form" in store.find(tmp_path, "p", step(), quick=False)[1]
    keep(tmp_path, step())
    path.write_text(path.read_text().replace('"n": 1', '"n": "one"'))
    with pytest.raises(InputError, match=r"s\.json: found: .*wanted a result of this command"):
        store.find(tmp_path, "p", step(), quick=False)
    path.write_text("[]")
    with pytest.raises(InputError, match=r"s\.json: .*wanted a result of this command"):
        store.find(tmp_path, "p", step(), quick=False)
