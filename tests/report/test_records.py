"""Pages of invented records: every deconv is named, the verdict is in words, and JSON gives the same page again."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from html import escape as html_of
from pathlib import Path

import pytest
from rich.console import Console

import splitdeconv
from splitdeconv import codec
from splitdeconv.errors import InputError, one_line
from splitdeconv.pipeline.records import PrintedRecord
from splitdeconv.report import bench, conversion, inspection, printed, records
from splitdeconv.report.page import Page, html
from splitdeconv.results.bench import BenchRecord, ModelTimes
from splitdeconv.results.plan import Plan
from splitdeconv.results.record import ModelSize, RunRecord, WholeTimes
from splitdeconv.results.verdict import Verdict
from tests import invented_records as invented
from tests.pages import parsed, words

CONVERSIONS = (
    invented.converted,
    invented.failed,
    invented.taken_back,
    invented.by_rule,
    invented.estimated,
)


RUNS = [*CONVERSIONS, invented.inspected, invented.restored]


def read(record: RunRecord) -> str:
    return words(parsed(html(conversion.page(record))))


@pytest.mark.parametrize("make", CONVERSIONS, ids=lambda make: make.__name__)
def test_every_deconv_and_its_reason_is_on_the_page(make: object) -> None:
    record: RunRecord = make()  # type: ignore[operator]
    text = read(record)
    for choice in record.plan.choices:
        assert choice.site in text
        assert choice.reason in text
        assert all(each.reason in text for each in choice.refusals)
        assert all(str(option.candidate) in text for option in choice.options)
    assert all(each.reason in text and each.where in text for each in record.skipped)
    assert all(note in text for note in record.notes)
    assert "splitdeconv convert 'a model.onnx' out.onnx" in text
    assert "onnxruntime 1.27.0" in text
    assert "2026-01-02 03:04:05 UTC" in text


def test_success_says_proved_and_how_much_faster() -> None:
    record = invented.converted()
    assert record.verdict is not None
    assert "! proved, with notes" in read(record)
    text = read(replace(record, verdict=replace(record.verdict, notes=())))
    assert "✓ proved" in text
    assert "3 of 3 sites bit-equal" in text
    assert "the whole model took 20 ms; now 2.00×, faster in 20 of 20 rounds (2.00–2.00×), measured." in text
    assert "3 of 5" in text, "one stays, one cannot be rewritten"


SIZES = (
    "Conv 9 15",
    "ConvTranspose 4 0",
    "com.microsoft::DepthToSpaceOfALongName 0 3",
    "all other operators 30 30",
    "stored size 6.62 MB 812 B",
    "peak memory of maps, estimated 2.10 MB 2.63 MB",
)


def test_operators_file_and_memory_stand_before_and_after() -> None:
    text = read(invented.converted())
    assert "What the model is made of" in text
    assert all(row in text for row in SIZES)
    unknown = replace(invented.converted(), after=ModelSize({"Conv": 15}, 812))
    assert "peak memory" not in read(unknown).casefold()
    assert "What the model is made of" not in read(replace(invented.converted(), before=None, after=None))


@pytest.mark.parametrize("width", [60, 80])
def test_they_fit_a_terminal(width: int) -> None:
    text = io.StringIO()
    printed.run(Console(file=text, width=width, force_terminal=True, no_color=True), invented.converted())
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert all(row in lines for row in SIZES)


def test_failure_is_in_words_and_nothing_was_written() -> None:
    record = invented.failed()
    tree = parsed(html(conversion.page(record)))
    text = words(tree)
    (heading,) = (" ".join(each.itertext()) for each in tree.iter("h1"))
    assert "conversion failed, nothing was written" in heading
    assert "is not equal to the original" in text
    assert "3 of 40 elements differ, the first at [0, 1, 2]" in text
    assert "✗ differs" in text
    assert "✓ proved" not in text


def test_a_model_that_stops_is_a_failure_too() -> None:
    verdict = Verdict(failure="the rewritten model stops where the original runs (no kernel)")
    assert not verdict.passed
    text = read(replace(invented.converted(), verdict=verdict, output=""))
    assert text.count("stops where the original runs (no kernel)") >= 2


def test_what_was_taken_back_is_said_with_its_times() -> None:
    text = read(invented.taken_back())
    assert "Nothing was rewritten" in text
    assert "The rewritten model was 0.99×, faster in 0 of 20 rounds (0.99–0.99×)" in text


def test_what_was_asked_for_by_name_stays_without_a_false_claim_of_speed() -> None:
    times = WholeTimes(invented.time(10.0), invented.time(10.1), kept=False)
    text = read(replace(invented.converted(), whole=times))
    assert "only what was asked for by name was kept" in text
    assert "times as fast" not in text


def test_outputs_that_were_not_compared_are_not_called_equal() -> None:
    record = invented.converted()
    assert record.verdict is not None
    text = read(replace(record, verdict=replace(record.verdict, outputs=())))
    assert "each proved equal alone; the whole model's outputs were not compared" in text
    assert "proved equal to the original" not in text


def test_without_times_none_are_shown() -> None:
    text = read(invented.by_rule())
    assert "chosen by rule and not timed; the model may be slower" in text
    assert "measured" not in text.replace("measured with assumed sizes", "").partition("Verification")[0]


def test_estimates_are_never_called_measured() -> None:
    tree = parsed(html(conversion.page(invented.estimated())))
    kinds = {"".join(each.itertext()) for each in tree.iter("span") if (each.get("class") or "").startswith("kind")}
    assert kinds == {"estimated", "counted"}
    assert "OUTPUTS NOT COMPARED: litert does not run the model" in words(tree)


@pytest.mark.parametrize("verdict", [None, Verdict(skipped="switched off by the user")])
def test_a_missing_proof_is_loud(verdict: Verdict | None) -> None:
    text = read(replace(invented.converted(), verdict=verdict))
    assert "NOT VERIFIED" in text
    assert "without being proved equal" in text


def test_a_model_without_deconvs_has_a_page() -> None:
    record = invented.converted()
    text = read(replace(record, plan=Plan("generic", ()), work=(), skipped=(), verdict=Verdict(skipped="nothing")))
    assert "It has no deconv that can be rewritten" in text
    assert record.notes[0] in text


@pytest.mark.parametrize("make", CONVERSIONS, ids=lambda make: make.__name__)
def test_every_table_of_times_says_where_they_come_from(make: object) -> None:
    record: RunRecord = make()  # type: ignore[operator]
    kind = "estimated" if make is invented.estimated else "measured"
    for table in parsed(html(conversion.page(record))).iter("table"):
        caption = "".join(next(table.iter("caption")).itertext())
        headers = " ".join("".join(each.itertext()) for each in table.iter("th") if each.get("scope") == "col")
        if "ms" in headers.split():
            assert kind in caption.split(), caption
        assert len({"measured", "estimated", "counted"} & set(caption.split())) <= 1


def page_again(text: str) -> Page:
    """The page of what ``--json`` has written."""
    return records.page_of(codec.from_json(text, "run.json"))


@pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)
def test_json_gives_the_same_page_again(make: object) -> None:
    record: RunRecord = make()  # type: ignore[operator]
    assert html(page_again(codec.run_to_json(record))) == html(records.page_of(record))


def bench_words(*found: BenchRecord) -> str:
    return words(parsed(html(bench.page(found))))


def test_a_benchmark_names_every_layer_form_and_figure() -> None:
    record = invented.benchmark()
    text = bench_words(record)
    for layer in record.layers:
        assert layer.name in text
        assert layer.reason in text
    _best, *shown = record.summaries()
    assert len(shown) == 3
    assert all(f"{each.mean:.2f}×" in text for each in shown)
    assert "the whole model is 2.00 times as fast converted as it came" in text
    assert "the paper's split 15 ±2% 1.33×" in text
    again = page_again(codec.bench_to_json([record]))
    assert html(again) == html(bench.page([record]))


def test_the_line_of_the_whole_model_has_units_beside_their_numbers() -> None:
    line = printed.summary_lines(invented.benchmark())[-1]
    assert line.startswith(
        "whole model: native 20 ms ±2%, zero_insert 40 ms ±2%, split 15 ms ±2%, converted 10 ms ±2%;"
    )


def test_a_benchmark_of_two_targets_tells_them_apart() -> None:
    first = invented.benchmark()
    second = replace(
        first, environment=replace(first.environment, target="openvino"), model=ModelTimes(reason="too large")
    )
    text = bench_words(first, second)
    assert "Layers on onnxruntime" in text
    assert "Layers on openvino" in text
    assert "The whole model was not timed: too large." in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run.json: is not JSON"),
        ("[]", "is no record of a run"),
        ('{"schema": 1, "command": "inspect"}', "model is missing"),
        ('{"schema": 99, "command": "convert"}', "record of schema 99, this version reads 1"),
        ('{"schema": 1, "command": "convert", "model": 3}', "output is missing"),
        ('{"schema": 1, "command": "bench"}', "runs is None"),
        ('{"schema": 1, "command": "bench", "runs": []}', r"runs is \[\]; wanted"),
    ],
)
def test_what_is_no_record_is_one_clear_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        page_again(text)
    assert "\n" not in str(caught.value)


def test_the_page_of_an_inspection_tells_what_is_printed() -> None:
    record = invented.inspected()
    assert record.inspected is not None
    text = words(parsed(html(records.page_of(record))))
    for choice in record.plan.choices:
        assert all(each in text for each in (choice.site, choice.deconv.describe(), str(choice.chosen)))
    assert all(f"{each.site} {each.where} {each.reason}" in text for each in record.skipped)
    assert all(line in text for line in (inspection.sums(record), *inspection.possible(record)))
    assert "runs it kernels of 4×3 stay on the CPU" in text
    assert "--fold puts BatchNormalization into the weights of 'up2', 'up3'" in text
    assert "splitdeconv convert" in text, "its command"
    nothing = replace(record, plan=Plan("generic", ()), skipped=())
    assert "no deconv that can be rewritten" in words(parsed(html(records.page_of(nothing))))


def test_the_page_of_a_restoration_tells_what_stays_and_whether_it_is_equal() -> None:
    record = invented.restored()
    text = words(parsed(html(records.page_of(record))))
    assert "out.onnx: 2 deconvs restored" in text
    assert "2 of 3 deconvs as they were, with the bits of their weights; proved equal to the converted model." in text
    assert "its filter 'w' is gone" in text
    assert record.verdict is not None
    (output,) = record.verdict.outputs
    failed = replace(record, verdict=Verdict(outputs=(replace(output, after=1.0),)), output="")
    text = words(parsed(html(records.page_of(failed))))
    assert "restoration failed, nothing was written" in text
    assert "NOT EQUAL" in text
    assert "✓ restored" not in text
    assert "without being proved equal" in words(parsed(html(records.page_of(replace(record, verdict=None)))))


@pytest.mark.parametrize("make", RUNS, ids=lambda make: make.__name__)
def test_what_was_read_prints_and_has_a_page(make: object, tmp_path: Path) -> None:
    record: RunRecord = make()  # type: ignore[operator]
    found = splitdeconv.from_json(codec.run_to_json(record))
    assert isinstance(found, PrintedRecord)
    assert all(one_line(choice.site) in str(found) for choice in record.plan.choices)
    assert str(found).startswith("site ")
    assert html_of(str(found)) in found._repr_html_()
    found.report(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text() == html(records.page_of(record))


def test_a_damaged_record_names_the_place() -> None:
    damaged = json.loads(codec.run_to_json(invented.converted()))
    damaged["plan"]["choices"][1]["deconv"]["axes"][0]["kernel"] = "four"
    with pytest.raises(InputError, match=r"plan\.choices\.deconv\.axes\.kernel is four"):
        page_again(json.dumps(damaged))
