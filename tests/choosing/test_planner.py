"""Decisions from invented numbers."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitdeconv import lowerings
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.deconv import reference
from splitdeconv.deconv.ops import Conv, Layout
from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.errors import UsageError
from splitdeconv.lowerings.candidate import COMPOSITE, NATIVE, Candidate, Refusal
from splitdeconv.results.plan import Cost, Option, Plan, SiteTable
from splitdeconv.results.times import UNTRIED, Measurement, summary, wins
from tests.examples import examples
from tests.strategies import deconvs, integer_tensors

SPLIT = Candidate("split", "union", "depth_to_space")
PHASES = Candidate("split_phases", form="rows")
ZEROS = Candidate("zero_insert")
DECONV = Deconv((Axis(4, 2, 1, 1, 1, 0, 8), Axis(4, 2, 1, 1, 1, 0, 8)), 4, 4)
NO_WISH = Overrides()

COSTS = {
    NATIVE: Cost(100, 0, 1),
    SPLIT: Cost(225_000_000, 2_000_000, 1),
    PHASES: Cost(100_000_000, 4_000_000, 4),
    ZEROS: Cost(400, 10, 1),
}


def time(median_ms: float, spread: float = 0.02, rounds: int = 50) -> Measurement:
    loads = [1 + spread * (number % 5 - 2) / 4 for number in range(rounds)]
    return summary([1e6 * median_ms * load for load in loads])


def table(times: dict[Candidate, Measurement | None], *refusals: Refusal, site: str = "up1") -> SiteTable:
    options = tuple(Option(candidate, COSTS[candidate], time) for candidate, time in times.items())
    return SiteTable(site, DECONV, options, refusals)


def chosen(times: dict[Candidate, Measurement | None], overrides: Overrides = NO_WISH) -> Candidate:
    return planner.choose(table(times), overrides, "fastest").chosen


def untimed(*candidates: Candidate, site: str = "up1") -> SiteTable:
    return table(dict.fromkeys(candidates or tuple(COSTS)), site=site)


def test_the_fastest_is_taken_with_the_figures_as_reason() -> None:
    choice = planner.choose(table({NATIVE: time(2.0), SPLIT: time(1.0), PHASES: time(1.5)}), NO_WISH, "fastest")
    assert choice.chosen == SPLIT
    assert choice.reason == "1 ms; against native 2.00×, faster in 50 of 50 rounds (2.00–2.00×)"


def test_native_stays_unless_it_is_beaten_beyond_the_noise() -> None:
    choice = planner.choose(table({NATIVE: time(1.0), SPLIT: time(0.98)}), NO_WISH, "fastest")
    assert choice.chosen == NATIVE
    assert choice.reason == (
        "native 1 ms; the best other form, split:union:depth_to_space, 1.02×, faster in 50 of 50 rounds (1.02–1.02×): "
        "surely faster, but maybe by less than 3%"
    )


@pytest.mark.parametrize(
    ("other", "end"),
    [
        (None, "the budget left no time for another form"),
        (
            time(4.0, rounds=3),
            "the best other form, split:union:depth_to_space, 0.25×, faster in 0 of 3 rounds (0.25–0.25×): "
            "no gain beyond the noise",
        ),
    ],
)
def test_why_native_stays_where_all_others_were_left_out_or_dropped(other: Measurement | None, end: str) -> None:
    choice = planner.choose(table({NATIVE: time(1.0), SPLIT: other}), NO_WISH, "fastest")
    assert choice.reason == f"native 1 ms; {end}"


def test_estimates_have_no_noise() -> None:
    native, other = (Measurement(ms, ms, ms, 1, "estimated") for ms in (1.0, 4.0))
    reason = planner.choose(table({NATIVE: native, SPLIT: other}), NO_WISH, "fastest").reason
    assert reason == "native 1 ms; the best other form, split:union:depth_to_space, 0.25×: no gain"


def test_what_refuses_every_form_and_the_original_is_said() -> None:
    why = {NATIVE: "quantise first", SPLIT: "no overlap", PHASES: "one phase", Candidate("col2im"): "quantise first"}
    refusals = [Refusal(candidate, reason) for candidate, reason in why.items()]
    choice = planner.choose(table({}, *refusals), NO_WISH, "fastest")
    assert choice.reason == "nothing else applies: quantise first"


def test_of_equals_the_one_with_the_least_work_is_taken_whoever_is_ahead() -> None:
    for first, second in ((1.0, 1.01), (1.01, 1.0)):
        assert chosen({NATIVE: time(2.0), SPLIT: time(first), PHASES: time(second)}) == PHASES


def test_what_is_clearly_slower_is_no_equal_though_few_rounds_do_not_prove_it() -> None:
    noisy = summary([1.25e6] * 9 + [0.9e6])  # one round won by chance: of ten, that is within the noise
    assert not wins(time(1.0, rounds=10), noisy)
    assert chosen({NATIVE: time(2.0, rounds=10), SPLIT: time(1.0, rounds=10), PHASES: noisy}) == SPLIT


@given(
    st.permutations([(NATIVE, 2.0), (SPLIT, 1.0), (PHASES, 1.01), (ZEROS, 1.005)]), st.randoms(use_true_random=False)
)
def test_neither_order_nor_noise_changes_the_choice(rows: list[tuple[Candidate, float]], random: object) -> None:
    jitter = random.uniform  # type: ignore[attr-defined]
    times = {candidate: time(median * jitter(0.997, 1.003)) for candidate, median in rows}
    assert chosen(times) == PHASES  # type: ignore[arg-type]


def test_what_was_dropped_or_not_measured_is_not_taken() -> None:
    assert chosen({NATIVE: time(2.0), SPLIT: time(1.0, rounds=3), PHASES: None}) == NATIVE
    assert chosen({SPLIT: time(1.0), PHASES: time(2.5, rounds=3)}) == SPLIT


def test_without_a_time_for_native_nothing_can_beat_it() -> None:
    choice = planner.choose(table({NATIVE: None, SPLIT: time(1.0)}), NO_WISH, "fastest")
    assert choice.chosen == NATIVE
    assert "native was not measured" in choice.reason


def test_where_the_target_has_no_deconv_the_fastest_other_form_is_taken() -> None:
    refused = Refusal(NATIVE, "no such operator")
    choice = planner.choose(table({SPLIT: time(1.0), PHASES: time(0.5)}, refused), NO_WISH, "fastest")
    assert choice.chosen == PHASES
    assert choice.reason == "0.5 ms; the original does not run on the target: no such operator"
    assert choice.refusals == (refused,)


def test_a_deconv_that_runs_but_was_not_asked_for_is_not_said_to_fail() -> None:
    full = Candidate("split", "full", "transpose")
    known = ((NATIVE, None), (SPLIT, time(1.0)), (full, time(0.5)))
    options = tuple(Option(candidate, COSTS[SPLIT], taken) for candidate, taken in known)
    choice = planner.choose(SiteTable("up1", DECONV, options), Overrides(lowering="split"), "fastest")
    assert choice.chosen == full
    assert choice.reason == "asked for by --lowering; 0.5 ms; native was not asked for"


def test_where_nothing_could_be_measured_the_generic_rule_decides() -> None:
    choice = planner.choose(table({SPLIT: None, PHASES: None}), NO_WISH, "fastest")
    assert choice.chosen == PHASES
    assert choice.reason.startswith("nothing was measured; ")


def test_estimates_need_no_margin() -> None:
    close = {name: Measurement(ms, ms, ms, 1, "estimated") for name, ms in ((NATIVE, 1.0), (SPLIT, 0.999))}
    assert chosen(close) == SPLIT  # type: ignore[arg-type]


@given(deconvs(), st.data())
@examples(15, 600)
def test_lying_times_make_the_output_slower_never_wrong(deconv: Deconv, data: st.DataObject) -> None:
    """Any times, impossible ones too: what is chosen computes the definition, bit for bit."""
    lie = st.none() | st.builds(
        Measurement,
        st.floats(allow_nan=True),
        st.floats(allow_nan=True),
        st.floats(allow_nan=True),
        st.integers(0, 99),
        st.sampled_from(["measured", "estimated"]),
        st.sampled_from([(), (math.nan, 0.0) * 5, (0.5,) * 10, (1.0,) * 10]),
    )
    options = real_options(deconv, "NCHW")
    lies = tuple(dataclasses.replace(option, time=data.draw(lie)) for option in options)
    choice = planner.choose(SiteTable("up", deconv, lies), NO_WISH, "fastest")
    program = lowerings.lower(deconv, "NCHW", choice.chosen)
    x, weights = integer_tensors(deconv, seed=3)
    np.testing.assert_array_equal(reference.run(program, x, weights), reference.deconv(x, weights, deconv))


def real_options(deconv: Deconv, layout: Layout) -> tuple[Option, ...]:
    found = []
    for candidate in lowerings.candidates(deconv, layout)[0]:
        program = lowerings.lower(deconv, layout, candidate)
        convs = sum(isinstance(step.op, Conv) for step in program.steps)
        found.append(Option(candidate, Cost(program.macs(), program.moved(), convs)))
    return tuple(found)


def square(
    in_channels: int, out_channels: int, kernel: int, stride: int, size: int | None, pad: int, more: int
) -> Deconv:
    axis = Axis(kernel, stride, 1, pad, pad, more, size)
    return Deconv((axis, axis), in_channels, out_channels)


GENERIC = [
    # small maps and large kernels of many phases: starting convolutions costs more than their zero taps
    (square(21, 21, 16, 8, 32, 4, 0), {"NCHW": "split:crop:depth_to_space", "NHWC": "split:crop:depth_to_space"}),
    (square(56, 1, 9, 3, 85, 3, 0), {"NCHW": "split:union:depth_to_space", "NHWC": "split:union:depth_to_space"}),
    # kernel = stride: there are no zero taps to save
    (square(512, 256, 2, 2, 32, 0, 0), {"NCHW": "split:union:depth_to_space", "NHWC": "split:union:depth_to_space"}),
    # large maps: 16/9, 36/25 or 9/4 of the arithmetic is more than four convolutions
    (square(128, 64, 3, 2, 64, 1, 1), {"NCHW": "split_phases:depth_to_space", "NHWC": "split_row_groups"}),
    (square(256, 256, 4, 2, 32, 1, 0), {"NCHW": "split_phases:depth_to_space", "NHWC": "split_row_groups"}),
    # open sizes are taken to be large: the border that is cropped costs nothing
    (square(256, 128, 4, 2, None, 1, 0), {"NCHW": "split:crop:depth_to_space", "NHWC": "split:crop:depth_to_space"}),
    # stride 1: a flipped convolution
    (square(8, 8, 3, 1, 16, 1, 0), {"NCHW": "split:union:transpose", "NHWC": "split:union:transpose"}),
]


@pytest.mark.parametrize(("deconv", "wanted"), GENERIC, ids=[deconv.describe() for deconv, _ in GENERIC])
def test_the_generic_rule_on_known_layers(deconv: Deconv, wanted: dict[Layout, str]) -> None:
    for layout, name in wanted.items():
        choice = planner.choose(SiteTable("up", deconv, real_options(deconv, layout)), NO_WISH, "generic")
        assert str(choice.chosen) == name


def test_quantised_convolutions_cost_as_much_to_start_as_float_ones() -> None:
    deconv = square(256, 128, 4, 2, 8, 1, 0)
    quantised = dataclasses.replace(deconv, quant=Quant("uint8", "int8", True))
    names = [
        planner.choose(SiteTable("up", each, real_options(each, "NCHW")), NO_WISH, "generic").chosen.lowering
        for each in (deconv, quantised)
    ]
    assert names == ["split_phases", "split_phases"]


def test_the_generic_rule_takes_the_baselines_and_native_only_if_nothing_else_applies() -> None:
    col2im = Candidate("col2im", form="transpose")
    cheap = [Option(candidate, Cost(1, 1, 1)) for candidate in (NATIVE, col2im, ZEROS)]
    taken = []
    options = [Option(SPLIT, COSTS[SPLIT]), *cheap]
    while options:
        taken.append(planner.choose(SiteTable("up", DECONV, tuple(options)), NO_WISH, "generic").chosen)
        options = [option for option in options if option.candidate != taken[-1]]
    assert taken == [SPLIT, ZEROS, col2im, NATIVE]


@given(deconvs())
@examples(20, 500)
def test_no_two_candidates_have_the_same_score(deconv: Deconv) -> None:
    options = real_options(deconv, "NCHW")
    assert len({planner.generic_score(option, deconv) for option in options}) == len(options)


def test_measuring_begins_with_native_then_the_most_promising() -> None:
    assert planner.order(untimed(ZEROS, SPLIT, NATIVE, PHASES).options, DECONV) == (NATIVE, PHASES, SPLIT, ZEROS)
    variant = Option(Candidate("split_phases", form="concat"), COSTS[PHASES])
    ranked = planner.order((*untimed(SPLIT, NATIVE, PHASES).options, variant), DECONV)
    assert [each.lowering for each in ranked] == ["native", "split_phases", "split", "split_phases"]


def test_the_budget_goes_where_the_work_is_and_is_spent_whole() -> None:
    small = SiteTable("small", DECONV, (Option(SPLIT, Cost(1_000, 0, 1)),))
    large = SiteTable("large", DECONV, (Option(SPLIT, Cost(9_000, 0, 1)),))
    shares = planner.shares([small, large], 100.0)
    assert sum(shares.values()) == pytest.approx(100.0)
    assert shares["small"] == pytest.approx(10 + 8)
    assert planner.shares([], 100.0) == {}


TIMED = {NATIVE: time(1.0), SPLIT: time(0.5), PHASES: time(2.0), ZEROS: time(3.0)}
TWO = [table(TIMED, site="gen/up1"), table(TIMED, site="gen/up2")]  # type: ignore[arg-type]


def names(overrides: Overrides) -> list[str]:
    return [str(choice.chosen) for choice in planner.plan("onnxruntime", TWO, overrides, "fastest").choices]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (Overrides(), ["split:union:depth_to_space"] * 2),
        (Overrides(lowering="zero_insert"), ["zero_insert"] * 2),
        (Overrides(lowering="native"), ["native"] * 2),
        (Overrides(layers={"gen/up2": "split_phases"}), ["split:union:depth_to_space", "split_phases:rows"]),
        (Overrides(layers={"gen/up2": "native"}), ["split:union:depth_to_space", "native"]),
        (Overrides("zero_insert", layers={"gen/up2": "split_phases:rows"}), ["zero_insert", "split_phases:rows"]),
        (Overrides(only=("*2",)), ["native", "split:union:depth_to_space"]),
        (Overrides(skip=("*/up2",)), ["split:union:depth_to_space", "native"]),
        (Overrides("zero_insert", skip=("gen/*",)), ["native"] * 2),
        (Overrides(planned={"gen/up1": "split_phases:rows"}), ["split_phases:rows", "native"]),
        (Overrides(planned={"gen/up1": "native", "gen/up2": "zero_insert"}), ["native", "zero_insert"]),
    ],
)
def test_wishes(overrides: Overrides, wanted: list[str]) -> None:
    assert names(overrides) == wanted


def test_native_by_name_is_what_the_model_has_and_not_a_cheaper_form_of_it() -> None:
    options = (Option(NATIVE, Cost(36, 1, 0)), Option(COMPOSITE, Cost(16, 1, 0)))
    wish = Overrides(lowering="native")
    assert planner.choose(SiteTable("up", DECONV, options), wish, "generic").chosen == NATIVE
    assert planner.choose(SiteTable("up", DECONV, options[1:]), wish, "generic").chosen == COMPOSITE


def test_a_forced_lowering_that_does_not_apply_leaves_the_site_alone_and_says_why() -> None:
    refused = Refusal(Candidate("col2im"), "no two taps overlap")
    choice = planner.choose(table(TIMED, refused), Overrides(lowering="col2im"), "fastest")  # type: ignore[arg-type]
    assert choice.chosen == NATIVE
    assert choice.reason == "col2im does not apply: no two taps overlap"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            Overrides(layers={"gen/up1": "col2im"}),
            "--layer gen/up1=col2im: does not apply: there are native, split:union",
        ),
        (Overrides(layers={"up9": "split"}), "--layer: no site is called 'up9'; the model has gen/up1, gen/up2"),
        (Overrides(planned={"up9": "split"}), "--plan: no site is called 'up9'"),
        (Overrides(planned={"gen/up1": "split:full"}), "--plan gen/up1=split:full: does not apply"),
        (Overrides(only=("dec*",)), "--only 'dec\\*' fits no site; the model has gen/up1, gen/up2"),
        (Overrides(skip=("dec*",)), "--skip 'dec\\*' fits no site"),
    ],
)
def test_a_wish_that_cannot_be_met_is_an_error(overrides: Overrides, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        names(overrides)


def test_only_open_sites_need_measuring() -> None:
    assert planner.scope(TWO[0], NO_WISH).is_open
    assert not planner.scope(TWO[0], Overrides(lowering="split")).is_open
    assert not planner.scope(TWO[0], Overrides(skip=("*",))).is_open


def test_a_plan_read_back_gives_the_same_plan_whatever_is_measured_then() -> None:
    first = planner.plan("onnxruntime", TWO, Overrides(layers={"gen/up2": "zero_insert"}), "fastest")
    again = Overrides(planned=json.loads(first.to_json())["sites"])
    slow = [untimed(site=each.site) for each in TWO]
    for tables, rule in itertools.product((TWO, slow), ("fastest", "generic")):
        assert planner.plan("onnxruntime", tables, again, rule).to_json() == first.to_json()  # type: ignore[arg-type]


def test_a_plan_means_the_candidate_of_exactly_that_name() -> None:
    short, long = Candidate("split", "union"), Candidate("split", "union", "transpose")
    options = (Option(short, Cost(9, 9, 9)), Option(long, Cost(1, 1, 1)))
    both = SiteTable("up1", DECONV, options)
    for wanted in (short, long):
        assert planner.choose(both, Overrides(planned={"up1": str(wanted)}), "generic").chosen == wanted


def planned(overrides: Overrides = NO_WISH) -> Plan:
    return planner.plan("onnxruntime", TWO, overrides, "fastest")


def test_the_guard_lets_a_faster_model_pass() -> None:
    assert planner.guard(planned(), time(100.0), time(95.0), NO_WISH) == (planned(), "")


HALF_WON = summary([101e6, 98.6e6] * 25)


@pytest.mark.parametrize("after", [time(100.0), HALF_WON, time(120.0)])
def test_the_guard_gives_native_back_where_the_whole_is_not_faster(after: Measurement) -> None:
    plan, note = planner.guard(planned(), time(100.0), after, NO_WISH)
    assert [choice.chosen for choice in plan.choices] == [NATIVE] * 2
    assert note.startswith(f"whole model {100 / after.median_ms:.2f}×, faster in ")
    assert all("not faster beyond the noise" in choice.reason for choice in plan.choices)
    assert all(
        reverted.reason.endswith(won.reason) for reverted, won in zip(plan.choices, planned().choices, strict=True)
    )
    assert plan.choices[0].options == planned().choices[0].options


def test_the_guard_leaves_what_the_user_named() -> None:
    overrides = Overrides(layers={"gen/up1": "split"})
    plan, _ = planner.guard(planned(overrides), time(100.0), time(120.0), overrides)
    assert [choice.chosen for choice in plan.choices] == [SPLIT, NATIVE]


def test_the_guard_leaves_what_the_target_cannot_run_otherwise() -> None:
    decided = planner.plan("onnxruntime", [table({SPLIT: time(1.0), PHASES: time(0.5)})], NO_WISH, "fastest")
    assert planner.guard(decided, time(100.0), time(120.0), NO_WISH) == (decided, "")


def test_a_site_stays_native_for_the_reason_that_most_forms_have() -> None:
    refusals = [Refusal(SPLIT, "quantise first"), Refusal(PHASES, "quantise first"), Refusal(ZEROS, "no zeros here")]
    assert planner.choose(table({NATIVE: None}, *refusals), NO_WISH, "fastest").reason == (
        "nothing else applies: quantise first"
    )
    assert planner.choose(table({NATIVE: None}, *refusals[1:]), NO_WISH, "fastest").reason == "nothing else applies"
    untried = [Refusal(each, UNTRIED.reason) for each in (PHASES, ZEROS)]
    assert planner.choose(table({NATIVE: None}, refusals[0], *untried), NO_WISH, "fastest").reason == (
        "nothing else applies: quantise first"
    )
    assert planner.choose(table({NATIVE: None}, *untried), NO_WISH, "fastest").reason == (
        "nothing else applies: the seconds were used up before it was tried"
    )
