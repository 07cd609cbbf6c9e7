"""Records of runs that never were: everything that a report can meet, with names that try to break it."""

from __future__ import annotations

from dataclasses import replace

from splitdeconv.deconv.spec import Axis, Deconv, Quant
from splitdeconv.lowerings.candidate import Candidate, Refusal
from splitdeconv.results.bench import NATIVE, ZERO_INSERT, BenchRecord, LayerTimes, ModelTimes
from splitdeconv.results.plan import Choice, Cost, Option, Plan, Skipped
from splitdeconv.results.record import (
    Environment,
    FoldedSite,
    Inspected,
    ModelSize,
    Provenance,
    RunRecord,
    SiteWork,
    WholeTimes,
)
from splitdeconv.results.times import Measurement
from splitdeconv.results.verdict import OutputCheck, SiteProof, Verdict

SPLIT, ROWS = Candidate("split", "union", "depth_to_space"), Candidate("split_rows", "grouped")
LONG = "model/generator/" + "decoder_block_with_a_long_name/" * 5 + "Conv2DTranspose<3>;\"quoted\" & 'more'"
PLANE = Deconv((Axis(5, 2, 1, 2, 1, 0, 8), Axis(5, 2, 1, 2, 1, 0, 8)), 256, 128)
OPEN = Deconv((Axis(4, 2, 1, 1, 1), Axis(3, 1, 2, 1, 1)), 64, 32, 4, None)
INT8 = Deconv((Axis(7, 3, 1, 0, 0, 1, 100),), 16, 8, 1, 1, quant=Quant("uint8", "int8", per_channel=True))
DEEP = Deconv((Axis(2, 2, 1, 0, 0, 0, 4),) * 3, 8, 4)
HERE = Environment("onnxruntime", {"onnxruntime": "1.27.0"}, "A processor", 2, {"provider": "CPU", "memory_gib": "8"})
MADE = Provenance(
    ("convert", "a model.onnx", "out.onnx"), {"splitdeconv": "0.1.0"}, "Linux", "2026-01-02T03:04:05+00:00"
)


def time(median_ms: float, rounds: int = 20, kind: str = "measured") -> Measurement:
    spread = 0.02 * median_ms if kind == "measured" else 0.0
    each = (median_ms,) * (rounds if kind == "measured" else 0)
    return Measurement(median_ms, median_ms - spread, median_ms + spread, rounds, kind, each)  # type: ignore[arg-type]


def choice(site: str, deconv: Deconv, chosen: Candidate, kind: str = "measured", **times: float) -> Choice:
    known = {"native": NATIVE, "zero_insert": ZERO_INSERT, "split": SPLIT, "rows": ROWS, "dropped": Candidate("col2im")}
    options = tuple(
        Option(known[name], Cost(deconv.macs(), 100, 1), time(median, 2 if name == "dropped" else 20, kind))
        for name, median in times.items()
    )
    refusals = (Refusal(Candidate("split_row_groups"), f"no two rows of '{site}' share a window"),)
    return Choice(site, deconv, chosen, f"because of {site}", options, refusals)


def work(site: str, deconv: Deconv, chosen: float = 0.75) -> SiteWork:
    return SiteWork(site, deconv, deconv.macs(), deconv.zero_insert_macs(), round(chosen * deconv.zero_insert_macs()))


def converted() -> RunRecord:
    """A conversion in which everything happened but a failure."""
    choices = (
        choice(LONG, PLANE, SPLIT, native=4.0, zero_insert=9.0, split=1.5, rows=2.0, dropped=50.0),
        choice("up2", OPEN, NATIVE, native=0.5, split=0.6),
        choice("up3", INT8, ROWS, native=2.0, rows=1.0),
        choice("never timed", DEEP, SPLIT),
    )
    verdict = Verdict(
        tuple(SiteProof(each.site, True, "onnxruntime") for each in choices if each.chosen != NATIVE),
        (OutputCheck(LONG, 1e-7, 1.2e-7, 5e-7, "float64"),),
        (OutputCheck("image", 1e-6, 1.1e-6, 4e-6, "float64"),),
        ("output 'image' was not fed with what it was made for",),
    )
    return RunRecord(
        "convert",
        "a model.onnx",
        "out.onnx",
        (HERE,),
        Plan("onnxruntime", choices),
        (Skipped("dynamic", "body of 'If3'", "its weights are computed while the model runs"),),
        verdict,
        ("measured with assumed sizes",),
        tuple(work(each.site, each.deconv) for each in choices),
        123_456_789,
        WholeTimes(time(20.0), time(10.0)),
        MADE,
        before=ModelSize({"ConvTranspose": 4, "Conv": 9, "Relu": 30}, 6_620_000, 2_100_000),
        after=ModelSize({"Conv": 15, "Relu": 30, "com.microsoft::DepthToSpaceOfALongName": 3}, 812, 2_630_000),
    )


def failed() -> RunRecord:
    """The same, with a site that is not equal."""
    whole = converted()
    assert whole.verdict is not None
    first, *rest = whole.verdict.proofs
    wrong = replace(first, exact=False, detail="3 of 40 elements differ, the first at [0, 1, 2]")
    return replace(whole, output="", verdict=replace(whole.verdict, proofs=(wrong, *rest)), whole=None)


def taken_back() -> RunRecord:
    """The same, of which the whole model's time has left nothing."""
    whole = converted()
    choices = tuple(replace(each, chosen=NATIVE) for each in whole.plan.choices)
    slow = WholeTimes(time(10.0), time(10.1), kept=False)
    verdict = Verdict(skipped="nothing was rewritten")
    works = tuple(replace(each, chosen=each.native) for each in whole.work)
    return replace(whole, plan=replace(whole.plan, choices=choices), whole=slow, verdict=verdict, work=works)


def by_rule() -> RunRecord:
    """A conversion without any times."""
    whole = converted()
    choices = tuple(
        replace(each, options=tuple(replace(option, time=None) for option in each.options))
        for each in whole.plan.choices
    )
    return replace(whole, plan=Plan("generic", choices), whole=None)


def estimated() -> RunRecord:
    """A conversion for a target that estimates."""
    times = WholeTimes(time(20.0, 1, "estimated"), time(10.0, 1, "estimated"))
    choices = (choice("up", PLANE, SPLIT, "estimated", native=4.0, split=2.0),)
    npu = Environment("vela:ethos-u55-128", {"ethos-u-vela": "5.1"})
    proofs = Verdict((SiteProof("up", True, "litert"),), notes=("litert does not run the model",))
    return replace(
        converted(), environments=(npu, HERE), plan=Plan("vela:ethos-u55-128", choices), whole=times, verdict=proofs,
        work=(work("up", PLANE),), skipped=(),
    )  # fmt: skip


def inspected() -> RunRecord:
    """An inspection with everything that one can tell."""
    whole = by_rule()
    sites = [each.site for each in whole.plan.choices]
    told = Inspected(
        {
            "litert": dict.fromkeys(sites, ""),
            "vela:ethos-u55-128": dict.fromkeys(sites, "kernels of 4×3 stay on the CPU"),
        },
        {"up2": ("Relu",)},
        tuple(FoldedSite(name, ("BatchNormalization",)) for name in ("up2", "up3")),
        {"pixels": PLANE},
    )
    return RunRecord(
        "inspect", "a model.onnx", "", (HERE,), whole.plan, whole.skipped, other_macs=123_456_789, provenance=MADE,
        inspected=told,
    )  # fmt: skip


def restored() -> RunRecord:
    """A restoration of which one site stays."""
    choices = tuple(Choice(name, PLANE, NATIVE, "as it was; it was split", ()) for name in ("up", LONG))
    verdict = Verdict(outputs=(OutputCheck("image", 1e-6, 1.1e-6, 4e-6, "float64"),))
    skipped = (Skipped("lost", "graph", "its filter 'w' is gone"),)
    works = tuple(SiteWork(each.site, PLANE, PLANE.macs(), PLANE.zero_insert_macs(), PLANE.macs()) for each in choices)
    return RunRecord(
        "restore", "out.onnx", "back.onnx", (HERE,), Plan("", choices), skipped, verdict, work=works, provenance=MADE
    )


def benchmark() -> BenchRecord:
    """A benchmark of a model."""
    record = converted()
    layers = tuple(
        LayerTimes(each.site, "", each.deconv, each.options, each.refusals, time(1.4), each.chosen, each.reason)
        for each in record.plan.choices
    )
    medians = {"native": 20.0, "zero_insert": 40.0, "split": 15.0, "converted": 10.0}
    times = ModelTimes({name: time(median) for name, median in medians.items()})
    return BenchRecord("a model.onnx", HERE, layers, times, record.skipped, record.notes, MADE)
