"""The race of whole plans finds what is fastest inside the model, where the forms that are fastest alone are not."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from splitdeconv.choosing.planner import Overrides, order
from splitdeconv.deconv.network import Compilable
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.deconv.weights import Array
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline import in_model
from splitdeconv.pipeline import open as opening
from splitdeconv.pipeline.in_model import Settled, settle
from splitdeconv.pipeline.open import Options, quiet
from splitdeconv.results.plan import Choice, Cost, Option, Plan
from splitdeconv.results.record import Environment
from splitdeconv.results.times import Measurement, Untimed
from splitdeconv.targets.target import CompileError

ROWS, PHASES = Candidate("split_rows"), Candidate("split_phases", form="rows")
DEPTH = Candidate("split", "union", "depth_to_space")
DECONV = Deconv((Axis(3, 2, in_size=4), Axis(3, 2, in_size=4)), 2, 2)
Kind = Literal["measured", "estimated"]
FREE = Overrides()
KINDS: tuple[Kind, ...] = ("measured", "estimated")
AGES = 1e6  # seconds: the machine is invented, and no real one is too slow for it


class Model:
    """A model of named sites; its file tells their forms."""

    layout, suffix = "NHWC", ".made"

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def splice(self, programs: Any) -> Model:
        return Model({site: program.name for site, program in programs.items()})

    def compilable(self, path: Path) -> Compilable:
        return Compilable(path)

    def save(self, path: Path) -> None:
        path.write_text(";".join(f"{site}={name}" for site, name in sorted(self.names.items())))


class Machine:
    """Alone ``split_rows`` is best; in the model each costs a change of layout, twice beside another one."""

    name = "made"

    def __init__(self, kind: Kind = "measured", refused: str = "?") -> None:
        self.kind, self.refused = kind, refused
        self.compiled: list[str] = []
        self.measured = 0

    def environment(self) -> Environment:
        return Environment(self.name, {}, "a processor", 1, {})

    def compile(self, model: Compilable, *, whole: bool) -> str:
        self.compiled.append(model.read().decode())
        if self.refused in self.compiled[-1] or self.refused == self.compiled[-1]:
            raise CompileError("no such operator")
        return self.compiled[-1]

    def uncounted(self, model: str) -> int:
        return 0

    def milliseconds(self, forms: str) -> float:
        rows = forms.count("split_rows")
        gained = 2 * rows + 1.5 * forms.count("split_phases") + 1 * forms.count("split:union")
        return 10.0 - gained + (3 if rows > 1 else 0)

    def measure(
        self, models: Mapping[str, str], inputs: Any, seconds: float, drop: float = 2.0, progress: object = None
    ) -> dict[str, Measurement]:
        self.measured += 1
        return {key: self.time(self.milliseconds(forms)) for key, forms in models.items()}

    def time(self, milliseconds: float) -> Measurement:
        rounds = 0 if self.kind == "estimated" else 20
        return Measurement(*[milliseconds] * 3, rounds or 1, self.kind, (milliseconds,) * rounds)


class Liar(Machine):
    """Its clock says anything."""

    def milliseconds(self, forms: str) -> float:
        return random.Random(f"{forms} {self.measured}").uniform(1, 100)


def plan_of(*sites: str, native: bool = True) -> Plan:
    times = {NATIVE: 5.0, ROWS: 3.0, PHASES: 3.5, DEPTH: 4.0}
    options = tuple(
        Option(candidate, Cost(1, 1, 1), Measurement(*[time] * 3, 20, "measured", (time,) * 20))
        for candidate, time in times.items()
        if native or candidate != NATIVE
    )
    return Plan("made", tuple(Choice(site, DECONV, ROWS, "fastest", options) for site in sites))


def settled(
    plan: Plan,
    machine: Machine,
    folder: Path,
    overrides: Overrides = FREE,
    *,
    cache: bool = False,
    feeds: Sequence[Mapping[str, Array]] = ({},),
    seconds: float = AGES,
) -> Settled:
    original = folder / "original.made"
    original.write_text("")
    options = Options(seconds=100.0, cache=cache)
    return settle(Model({}), Compilable(original), plan, feeds, machine, overrides, options, seconds, quiet)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_one_site_gives_way_so_that_the_whole_is_faster(kind: Kind, tmp_path: Path) -> None:
    found = settled(different(plan_of("first", "second")), Machine(kind), tmp_path)
    assert sorted(str(choice.chosen) for choice in found.plan.choices) == ["split_phases:rows", "split_rows"]
    assert found.whole is not None
    assert (found.whole.before.median_ms, found.whole.after.median_ms) == (10.0, 6.5)
    assert "1 site got another form than alone" in found.notes[0]
    assert any("best in the whole model; alone split_rows: fastest" in each.reason for each in found.plan.choices)


def different(plan: Plan) -> Plan:
    """The plan with sites of different sizes, which need not change together."""
    choices = [
        Choice(each.site, Deconv(DECONV.axes, 2, 2 + place), each.chosen, each.reason, each.options)
        for place, each in enumerate(plan.choices)
    ]
    return Plan(plan.target, tuple(choices))


@pytest.mark.parametrize("kind", KINDS)
def test_equal_sites_change_together(kind: Kind, tmp_path: Path) -> None:
    found = settled(plan_of("first", "second"), Machine(kind), tmp_path)
    assert [choice.chosen for choice in found.plan.choices] == [PHASES, PHASES]


def test_no_model_is_estimated_twice(tmp_path: Path) -> None:
    machine = Machine("estimated")
    settled(different(plan_of("first", "second", "third")), machine, tmp_path)
    assert len(machine.compiled) == len(set(machine.compiled)) == machine.measured


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_site_keeps_what_is_best_alone(kind: Kind, tmp_path: Path) -> None:
    found = settled(plan_of("only"), Machine(kind), tmp_path)
    assert found.plan == plan_of("only")
    assert found.notes == (f"whole model: 10 ms before, now 1.25×{won(kind)} ({kind} on made)",)


def won(kind: Kind) -> str:
    return "" if kind == "estimated" else ", faster in 20 of 20 rounds (1.25–1.25×)"


def test_what_the_user_decided_stays(tmp_path: Path) -> None:
    found = settled(plan_of("first", "second"), Machine(), tmp_path, Overrides(lowering="split_rows"))
    assert [choice.chosen for choice in found.plan.choices] == [ROWS, ROWS]


def test_a_model_that_gains_nothing_goes_back(tmp_path: Path) -> None:
    class Slow(Machine):
        def milliseconds(self, forms: str) -> float:
            return 10.0 + len(forms)

    found = settled(plan_of("first"), Slow(), tmp_path)
    assert [choice.chosen for choice in found.plan.choices] == [NATIVE]
    assert found.whole is not None
    assert not found.whole.kept
    assert found.plan.choices[0].reason.endswith("not faster beyond the noise; split_rows alone: fastest")


def test_the_reason_of_what_goes_back_is_that_of_the_site_alone(tmp_path: Path) -> None:
    class Slow(Machine):
        def milliseconds(self, forms: str) -> float:
            return 10.0 + forms.count("split_phases") + 2 * forms.count("split_rows") + 3 * forms.count("split:")

    found = settled(plan_of("first"), Slow(), tmp_path)
    assert [choice.chosen for choice in found.plan.choices] == [NATIVE]
    assert found.plan.choices[0].reason.startswith("whole model 0.91×")
    assert found.plan.choices[0].reason.endswith("; split_rows alone: fastest")


def test_what_the_target_does_not_take_leaves_the_others_their_times() -> None:
    models = {"native": Compilable(b""), "bound": Compilable(b"refused")}
    found = in_model.race(Machine(refused="refused"), models, {}, 1.0)  # type: ignore[arg-type]
    assert found["bound"] == Untimed("no such operator", runs=False)
    assert isinstance(found["native"], Measurement)


@pytest.mark.parametrize("seed", range(20))
def test_a_lying_clock_chooses_among_the_forms_that_were_checked(seed: int, tmp_path: Path) -> None:
    plan = plan_of("first", "second", str(seed))
    found = settled(plan, Liar(), tmp_path)
    offered = {option.candidate for option in plan.choices[0].options}
    assert all(choice.chosen in offered for choice in found.plan.choices)


def test_a_slow_model_keeps_the_seconds_for_the_comparison_that_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, last = [0.0], [0.0]

    class Slow(Machine):
        def milliseconds(self, forms: str) -> float:
            return 1000 * super().milliseconds(forms)

        def measure(
            self, models: Mapping[str, str], inputs: Any, seconds: float, **rest: Any
        ) -> dict[str, Measurement]:
            now[0], last[0] = now[0] + seconds, seconds
            return super().measure(models, inputs, seconds, **rest)

    monkeypatch.setattr(in_model.time, "monotonic", lambda: now[0])
    settled(different(plan_of("first", "second", "third")), Slow(), tmp_path, seconds=1000.0)
    assert last[0] >= 20 * 2 * 10.0  # rounds of both, of up to ten seconds each


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_not_timed_alone_is_not_tried_because_it_was_not_checked(kind: Kind, tmp_path: Path) -> None:
    (choice,) = plan_of("only").choices
    unchecked = Option(Candidate("split_row_groups"), Cost(1, 1, 1))
    machine = Machine(kind)
    settled(Plan("made", (replace(choice, options=(*choice.options, unchecked)),)), machine, tmp_path)
    assert any("split_phases" in forms for forms in machine.compiled)
    assert not any("split_row_groups" in forms for forms in machine.compiled)


@pytest.mark.parametrize("gains", [True, False])
def test_where_no_second_form_was_timed_the_first_by_rule_races(gains: bool, tmp_path: Path) -> None:
    class Slow(Machine):
        """One whose runs are so long that the budget went into the first form of each site."""

        def milliseconds(self, forms: str) -> float:
            return 1000.0 - (100.0 if gains else -100.0) * forms.count("split")

    choices = [
        replace(choice, chosen=NATIVE, options=tuple(without_time(each) for each in choice.options))
        for choice in different(plan_of("first", "second")).choices
    ]
    machine = Slow()
    found = settled(Plan("made", tuple(choices)), machine, tmp_path)
    wanted = order(choices[0].options, DECONV)[1]
    assert [choice.chosen for choice in found.plan.choices] == [wanted if gains else NATIVE] * 2
    assert len(set(machine.compiled)) == 2  # nothing that was not checked
    assert any("whole model" in note for note in found.notes)


def without_time(option: Option) -> Option:
    return option if option.candidate == NATIVE else replace(option, time=None)


@pytest.mark.parametrize("kind", KINDS)
def test_an_original_that_does_not_run_has_no_time(kind: Kind, tmp_path: Path) -> None:
    found = settled(plan_of("only", native=False), Machine(kind, refused=""), tmp_path)
    assert found.plan.choices[0].chosen == ROWS
    assert found.whole is None
    assert found.notes == ("the whole model was not timed: no such operator",)


def test_a_plan_that_does_not_compile_is_out(tmp_path: Path) -> None:
    found = settled(plan_of("only"), Machine(refused="split_rows"), tmp_path)
    assert [choice.chosen for choice in found.plan.choices] == [PHASES]


def test_the_second_run_finds_the_same_plan_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "default_path", lambda: tmp_path / "timings.sqlite3")
    plan, machine = different(plan_of("first", "second")), Machine()
    first = settled(plan, machine, tmp_path, cache=True)
    measured = machine.measured
    again = settled(plan, machine, tmp_path, cache=True)
    assert (again.plan, again.whole) == (first.plan, first.whole)
    assert machine.measured == measured
    assert "from the cache" in again.notes[-1]


def test_times_of_a_noisy_machine_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Noisy(Machine):
        def time(self, milliseconds: float) -> Measurement:
            return Measurement(milliseconds, 0.7 * milliseconds, milliseconds, 20, "measured", (milliseconds,) * 20)

    monkeypatch.setattr(opening, "default_path", lambda: tmp_path / "timings.sqlite3")
    machine = Noisy()
    settled(plan_of("only"), machine, tmp_path, cache=True)
    measured = machine.measured
    again = settled(plan_of("only"), machine, tmp_path, cache=True)
    assert machine.measured == 2 * measured
    assert "from the cache" not in again.notes[-1]


class LeavesNativeOut(Machine):
    """Its figures leave native sites out, and are the lower for it."""

    def uncounted(self, model: str) -> int:
        return 2 - model.count("split")

    def milliseconds(self, forms: str) -> float:
        return 1.0 + forms.count("split")


def test_figures_are_compared_only_where_they_count_the_same(tmp_path: Path) -> None:
    found = settled(plan_of("a", "b"), LeavesNativeOut("estimated"), tmp_path, cache=True)
    assert all(choice.chosen != NATIVE for choice in found.plan.choices)
    assert found.whole is None
    assert found.notes[-1].endswith(
        "the original has no time to compare: it leaves 2 more operators to another processor"
    )


SIZES = ({"x": (1, 4)}, {"x": (1, 40)})
FEEDS = [{name: np.zeros(shape, np.float32) for name, shape in each.items()} for each in SIZES]


class TwoSizes(Machine):
    """A machine on which the plans differ from one size to the next: milliseconds of each form, small and large."""

    times: ClassVar[Mapping[str, tuple[float, float]]]

    def measure(
        self, models: Mapping[str, str], inputs: Any, seconds: float, drop: float = 2.0, progress: object = None
    ) -> dict[str, Measurement]:
        place = [each["x"].shape for each in FEEDS].index(inputs["x"].shape)
        forms = {forms.partition("=")[2] or "native": key for key, forms in models.items()}
        return {key: self.time(self.times[form][place]) for form, key in forms.items()}


class Mixed(TwoSizes):
    """Best on the mean is what loses the small size to native; best of those that do not is ``split_phases``."""

    times: ClassVar = {
        "native": (10.0, 100.0),
        "split_rows": (11.0, 10.0),
        "split_phases:rows": (9.0, 50.0),
        "split:union:depth_to_space": (5.0, 99.0),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_for_several_sizes_is_the_best_on_the_mean_that_loses_none(kind: Kind, tmp_path: Path) -> None:
    found = settled(replace(plan_of("only"), measured_at=SIZES), Mixed(kind), tmp_path, feeds=FEEDS)
    assert [choice.chosen for choice in found.plan.choices] == [PHASES]
    assert found.whole is not None
    assert found.whole.kept
    assert found.whole.after.median_ms == pytest.approx((9 * 50) ** 0.5)
    assert [time.median_ms for time in found.whole.after.at_each_size()] == [9.0, 50.0]
    assert [note.partition(",")[0] for note in found.notes if note.startswith("at ")] == [
        "at x 1×4: 10 ms before",
        "at x 1×40: 100 ms before",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_that_loses_a_size_is_taken_back_however_much_it_gains_at_the_other(kind: Kind, tmp_path: Path) -> None:
    class Loses(TwoSizes):
        times: ClassVar = dict.fromkeys(Mixed.times, (11.0, 10.0)) | {"native": (10.0, 100.0)}

    found = settled(replace(plan_of("only"), measured_at=SIZES), Loses(kind), tmp_path, feeds=FEEDS)
    assert [choice.chosen for choice in found.plan.choices] == [NATIVE]
    assert found.whole is not None
    assert not found.whole.kept
    assert "3.02×" in found.notes[-1]
    assert found.notes[-1].endswith("slower at one of the sizes; the deconvs are left as they are")


def test_times_of_several_sizes_come_from_the_cache_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "default_path", lambda: tmp_path / "timings.sqlite3")
    plan = replace(plan_of("only"), measured_at=SIZES)
    first = settled(plan, Mixed(), tmp_path, cache=True, feeds=FEEDS)
    again = settled(plan, Mixed(), tmp_path, cache=True, feeds=FEEDS)
    assert "from the cache" in again.notes[-1]
    assert (again.plan, again.whole) == (first.plan, first.whole)
    other = settled(plan, Mixed(), tmp_path, cache=True, feeds=FEEDS[::-1])
    assert "from the cache" not in other.notes[-1]
