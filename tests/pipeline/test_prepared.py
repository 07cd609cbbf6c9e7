"""Folding is kept where the whole model gains, taken back where it does not, and benchmarks show it beside the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

import splitdeconv
from splitdeconv.choosing import planner
from splitdeconv.choosing.planner import Overrides
from splitdeconv.pipeline import bench, prepared
from splitdeconv.pipeline import convert as converting
from splitdeconv.pipeline.bench import bench_model
from splitdeconv.pipeline.in_model import Settled
from splitdeconv.pipeline.prepared import CONVERTED, FOLDED, ORIGINAL, takes
from splitdeconv.pipeline.request import BenchRequest
from splitdeconv.report import conversion
from splitdeconv.report.page import html
from splitdeconv.results.times import Measurement, Untimed
from splitdeconv.results.verdict import SiteProof
from tests import invented_records as invented
from tests.formats.onnx.test_fold import float_chain
from tests.models import op_types
from tests.pages import parsed, words
from tests.pipeline.test_trials import a_rewritten_form


def times_are(monkeypatch: pytest.MonkeyPatch, **milliseconds: float) -> None:
    """The race against the model as it came has these times, in its order."""

    def race(_target: object, models: Mapping[str, object], *_: object) -> dict[str, Measurement]:
        order = dict(zip((ORIGINAL, FOLDED, CONVERTED), milliseconds.values(), strict=True))
        return {name: invented.time(order[name]) for name in models}

    monkeypatch.setattr(prepared, "race", race)


def convert(**options: object) -> splitdeconv.pipeline.convert.Conversion:
    return splitdeconv.convert(float_chain(), target="onnxruntime", fold=True, budget=0.5, cache=False, **options)  # type: ignore[arg-type]


def test_what_gains_is_kept_and_the_gain_of_folding_alone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    times_are(monkeypatch, original=10.0, folded=8.0, converted=5.0)
    found = convert(lowering="split")
    record = found.record
    assert record.converted
    assert "BatchNormalization" not in op_types(found.model)
    assert record.whole is not None
    assert record.whole.folded is not None
    assert record.whole.folded.median_ms == 8.0
    assert "--fold: the whole model took 10 ms as it came" in str(found)
    text = words(parsed(html(conversion.page(record))))
    assert "1 operator became part of the weights of 1 deconv, proved to the noise bound and not bit for bit" in text
    assert "folded, within the noise" in text
    assert splitdeconv.from_json(splitdeconv.codec.run_to_json(record)) == record


def test_what_gains_nothing_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    times_are(monkeypatch, original=10.0, folded=10.0, converted=10.1)
    found = convert()
    assert op_types(found.model) == ["ConvTranspose", "BatchNormalization", "Relu"]
    assert not found.record.folded
    assert "--fold is taken back: not faster than the model as it came beyond the noise" in str(found)


def test_what_was_asked_for_by_name_stays_with_folded_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    times_are(monkeypatch, original=10.0, folded=10.0, converted=12.0)
    found = convert(lowering="split")
    assert op_types(found.model)[0] == "Conv"
    assert found.record.folded
    assert found.record.whole is not None
    assert not found.record.whole.kept


def test_an_original_without_a_time_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def race(_target: object, models: Mapping[str, object], *_: object) -> dict[str, Untimed]:
        return dict.fromkeys(models, Untimed("no such operator", runs=False))

    monkeypatch.setattr(prepared, "race", race)
    assert "what --fold gains was not timed: no such operator" in str(convert(lowering="split"))


def test_a_benchmark_times_native_with_folded_weights_beside_native() -> None:
    request = BenchRequest("onnxruntime", budget=0.1, forms=1, equal_work=False, fold=True)
    found = bench_model(float_chain(), request)
    assert found.model is not None
    assert [*found.model.times][:2] == ["native", "native, folded"]
    assert "folded into 'site': BatchNormalization" in found.notes


def test_a_benchmark_tells_which_whole_model_the_target_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """And times the others."""

    def race(_target: object, models: Mapping[str, object], *_: object) -> dict[str, Measurement | Untimed]:
        refused = Untimed("no such operator", runs=False)
        return {name: refused if name.startswith("bound") else invented.time(1.0) for name in models}

    monkeypatch.setattr(bench, "race", race)
    found = bench_model(float_chain(), BenchRequest("onnxruntime", budget=0.1, forms=1))
    assert "the whole model has no comparable time as bound: no such operator" in found.notes
    assert found.model is not None
    assert "native" in found.model.times


def test_patterns_choose_what_is_folded() -> None:
    assert takes(Overrides(only=("up*",)), "up1")
    assert not takes(Overrides(only=("up*",)), "down")
    assert not takes(Overrides(skip=("up*",)), "up1")


def test_inspect_tells_what_could_be_folded() -> None:
    assert "--fold puts BatchNormalization into the weights of 'site'" in str(splitdeconv.inspect(float_chain()))


def test_no_form_gives_way_where_what_was_done_before_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one would fail as well, and the next, until there is none."""
    proved: list[str] = []
    prepare, prove = converting.prepare, converting.prove

    def prepare_wrongly(*args: object) -> prepared.Prepared:
        found = prepare(*args)  # type: ignore[arg-type]
        (site,) = found.model.find().sites
        return replace(found, proofs=(SiteProof(site.id, False, "onnxruntime", "3 of 98 outputs differ"),))

    monkeypatch.setattr(converting, "prepare", prepare_wrongly)
    monkeypatch.setattr(converting, "prove", lambda *args, **more: (proved.append(""), prove(*args, **more))[1])
    monkeypatch.setattr(planner, "_fastest", a_rewritten_form)
    monkeypatch.setattr(converting, "_settled", lambda _case, plan, *_others: Settled(plan))
    with pytest.raises(splitdeconv.VerificationError, match="3 of 98 outputs differ"):
        convert()
    assert len(proved) == 1
