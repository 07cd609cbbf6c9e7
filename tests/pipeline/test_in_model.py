"""Forms are chosen inside the whole model where a target estimates it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.lowerings.candidate import NATIVE, Candidate
from splitdeconv.pipeline.in_model import refine
from splitdeconv.results.plan import Choice, Cost, Option, Plan
from splitdeconv.results.times import Measurement

ROWS, PHASES = Candidate("split_rows"), Candidate("split_phases", form="rows")
DECONV = Deconv((Axis(3, 2, in_size=4), Axis(3, 2, in_size=4)), 2, 2)


class Model:
    layout = "NHWC"
    suffix = ".made"

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def splice(self, programs: Any) -> Model:
        return Model({site: program.name for site, program in programs.items()})

    def save(self, path: Path) -> None:
        path.write_text(";".join(f"{site}={name}" for site, name in sorted(self.names.items())))


class Compiler:
    """Alone ``split_rows`` is best; beside another rewritten site it costs a change of layout."""

    kind = "estimated"

    def __init__(self) -> None:
        self.compiled: list[str] = []

    def compile(self, path: Path, *, whole: bool) -> str:
        self.compiled.append(path.read_text())
        return self.compiled[-1]

    def measure(self, candidates: Any, inputs: Any, seconds: float) -> Any:
        ((key, forms),) = candidates.items()
        time = 10.0 - 2 * forms.count("split_rows") - 1.5 * forms.count("split_phases")
        if forms.count("split_rows") > 1:
            time += 3
        return {key: Measurement(time, time, time, 1, "estimated")}


def plan_of(*sites: str) -> Plan:
    times = {NATIVE: 5.0, ROWS: 3.0, PHASES: 3.5}
    options = tuple(
        Option(candidate, Cost(1, 1, 1), Measurement(time, time, time, 1, "estimated"))
        for candidate, time in times.items()
    )
    return Plan("made", tuple(Choice(site, DECONV, ROWS, "fastest", options) for site in sites))


def quiet(_stage: str, _share: float) -> None:
    pass


def refined(plan: Plan, overrides: Overrides) -> tuple[Plan, str, Compiler]:
    compiler = Compiler()
    better, note = refine(Model({}), plan, compiler, overrides, quiet)  # type: ignore[arg-type]
    return better, note, compiler


def test_one_site_gives_way_so_that_the_whole_is_faster() -> None:
    better, note, compiler = refined(plan_of("first", "second"), Overrides())
    assert [choice.chosen for choice in better.choices] == [PHASES, ROWS]
    assert "1 sites got another form in the whole model: 9 ms before that, 6.5 ms after" in note
    assert "alone it is split_rows" in better.choices[0].reason
    assert len(compiler.compiled) == len(set(compiler.compiled)), "nothing is compiled twice"


def test_a_single_site_keeps_what_is_best_alone() -> None:
    better, note, _ = refined(plan_of("only"), Overrides())
    assert better == plan_of("only")
    assert note == ""


def test_what_the_user_decided_stays() -> None:
    better, _, _ = refined(plan_of("first", "second"), Overrides(lowering="split_rows"))
    assert [choice.chosen for choice in better.choices] == [ROWS, ROWS]
