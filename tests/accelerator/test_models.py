"""Traffic, energy, networks, forms and the target: what is counted, and that it is the same on every road."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper

from splitdeconv.accelerator import traffic
from splitdeconv.accelerator.arch import architectures, load_architecture
from splitdeconv.accelerator.counts import Counts
from splitdeconv.accelerator.energy import load_energies
from splitdeconv.accelerator.evaluate import evaluate, evaluate_network, stay_on_chip
from splitdeconv.accelerator.layers import network_names, plain_work, read_network
from splitdeconv.accelerator.lowered import cropped_split, full_split, program_work
from splitdeconv.accelerator.sparsity import SKIPS, Skip
from splitdeconv.deconv.layers import ConvAxis, Dense, PlainConv
from splitdeconv.deconv.network import Compilable, Layer
from splitdeconv.deconv.spec import Axis, Deconv
from splitdeconv.formats.onnx import OnnxModel
from splitdeconv.lab.simulation.forms import FORMS, layer_work
from splitdeconv.lab.simulation.models import nonzero
from splitdeconv.lab.simulation.network import NetworkResult, simulate
from splitdeconv.lab.simulation.sensitivity import sensitivity, variations
from splitdeconv.lowerings import candidates, lower
from splitdeconv.lowerings.candidate import Candidate
from splitdeconv.targets import CompileError, target
from splitdeconv.targets.accelerator import EstimatedModel
from tests.accelerator.test_counts import DCGAN2, DOT, FST1, REGULAR, SNGAN2, square, zero_insert
from tests.examples import examples

NETWORKS = network_names()


@pytest.mark.parametrize(
    ("name", "native", "nzp", "split"),
    [
        ("dcgan", 109.77, 439.09, 158.07),
        ("sngan", 100.66, 402.65, 100.66),
        ("gpgan", 103.81, 415.24, 103.81),
        ("mde", 849.35, 3397.39, 1509.95),
        ("fst", 603.98, 2415.92, 1073.74),
    ],
)
def test_operation_counts_of_the_networks_are_the_papers(name: str, native: float, nzp: float, split: float) -> None:
    specs = [layer.spec for layer in read_network(NETWORKS[name]).deconvs]
    deconvs = [spec for spec in specs if isinstance(spec, Deconv)]
    macs = sum(lower(deconv, "NHWC", Candidate("native")).macs() for deconv in deconvs)
    assert round(macs / 1e6, 2) == native
    assert round(sum(zero_insert(deconv).macs for deconv in deconvs) / 1e6, 2) == nzp
    assert round(sum(cropped_split(deconv).macs for deconv in deconvs) / 1e6, 2) == split


def test_traffic_is_every_element_once_where_all_of_it_fits() -> None:
    work = plain_work(Layer("conv", PlainConv((ConvAxis(8, 3, pad_begin=1, pad_end=1),) * 2, 16, 16)))
    found = traffic.best(work, maps_bits=1 << 20, weights_bits=1 << 20, data_bits=8, sum_bits=32, overlapped=True)
    assert found == traffic.Traffic(16 * 64, 16 * 16 * 9, True)


def test_traffic_never_falls_when_a_buffer_shrinks() -> None:
    for work in (zero_insert(FST1), full_split(DCGAN2), cropped_split(SNGAN2)):
        previous = 0
        for kilobytes in (1024, 256, 64, 32, 16):
            bits = kilobytes * 8192
            found = traffic.best(work, maps_bits=bits, weights_bits=bits, data_bits=8, sum_bits=32, overlapped=True)
            assert found.fits
            assert found.in_reads + found.weight_reads >= previous
            assert found.weight_reads >= work.weight_elements
            assert found.in_reads >= work.in_elements
            previous = found.in_reads + found.weight_reads


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_fetches_are_those_of_the_loops_carried_out(count: int, out_cut: int, in_cut: int) -> None:
    """Both loop orders run tile by tile; a fetch is a tile that is not the one that is there."""
    pixels_outside = [(p, o, i) for p in range(count) for o in range(out_cut) for i in range(in_cut)]
    channels_outside = [(p, o, i) for o in range(out_cut) for p in range(count) for i in range(in_cut)]
    for order, found in zip(
        (pixels_outside, channels_outside), traffic.fetch_times(count, out_cut, in_cut), strict=True
    ):
        in_tiles, weight_tiles = [(p, i) for p, _, i in order], [(o, i) for _, o, i in order]
        fetches = [1 + sum(a != b for a, b in pairwise(tiles)) for tiles in (in_tiles, weight_tiles)]
        assert fetches == [count * in_cut * found[0], out_cut * in_cut * found[1]]


def test_every_tile_of_every_tiling_covers_the_whole_layer() -> None:
    options = traffic.tilings(full_split(DCGAN2))
    assert (options.in_reads >= 128 * 16 * 16).all()
    assert (options.weight_reads >= 4 * 64 * 128 * 9).all()
    assert options.out_tile.min() > 0


def test_buffers_too_small_for_one_tile_are_named_with_what_would_do() -> None:
    small = DOT.varied(maps_buffer_bytes=64)
    network = read_network(NETWORKS["fst"])
    reason = simulate(network, small, load_energies("horowitz-2014"), "zero_insert", Skip())
    assert isinstance(reason, str)
    assert "memory.maps_buffer" in reason
    assert "found 64" in reason
    assert "wanted at least" in reason


def test_energy_is_counts_times_one_table_and_nothing_else() -> None:
    table = load_energies("horowitz-2014")
    counts = Counts(*(np.asarray(number) for number in (10, 0, 0, 100, 50, 7, 9, 30, 10, 4, 4)))
    parts = table.of(counts, 8)
    assert parts == pytest.approx({"mac": 23.0, "register": 0, "link": 0, "buffer": 40 * 1.25, "dram": 8 * 160})
    assert float(table.total(counts, 8)) == pytest.approx(23 + 50 + 1280)
    assert float(load_energies("eyeriss-2016").total(counts, 8)) == 100 + 7 + 18 + 240 + 1600


def test_strided_writes_cost_whole_bursts_and_a_pass_costs_the_maps_twice() -> None:
    deconv = square(5, 2, 32, 64, 3)
    work = full_split(deconv)
    assert int(evaluate(work, DOT).counts.dram_writes) == 64 * 64 * 32
    assert int(evaluate(work, DOT.varied(rearrangement="free")).counts.dram_writes) == 64 * 64 * 3
    passed = evaluate(work, DOT.varied(rearrangement="pass")).counts
    assert int(passed.dram_writes) == work.computed_elements + work.moved_elements // 2
    assert passed.move_cycles > 0
    assert evaluate(work, DOT).counts.move_cycles == 0


def test_stored_zeros_are_written_and_read_and_inserted_ones_are_not() -> None:
    work = zero_insert(DCGAN2)
    kind, stored = (evaluate(work, DOT.varied(zero_insertion=way)).counts for way in ("on-the-fly", "stored"))
    assert stored.dram_writes - kind.dram_writes == work.stretched_elements == 4 * work.in_elements
    assert stored.dram_reads >= kind.dram_reads + 4 * work.in_elements
    assert stored.compute_cycles == kind.compute_cycles


def test_maps_that_fit_half_the_buffer_stay_on_chip_and_save_their_traffic() -> None:
    layers = [Layer(str(n), PlainConv((ConvAxis(8, 1),) * 2, 64, 64)) for n in range(3)]
    works = [plain_work(layer) for layer in layers]
    assert [bool(each) for each in stay_on_chip(works, DOT)] == [True, True, False]
    assert not any(stay_on_chip(works, DOT.varied(maps_buffer_bytes=8000)))
    first, second, third = (each.counts for each in evaluate_network(works, DOT))
    assert (first.dram_writes, second.dram_writes, third.dram_writes) == (0, 0, 4096)
    assert (second.dram_reads, third.dram_reads) == (4096, 4096)


@given(st.sampled_from(sorted(architectures())), st.sampled_from(sorted(NETWORKS)), st.data())
@examples(5, 120)
def test_many_architectures_at_once_count_as_each_by_itself(name: str, network: str, data: st.DataObject) -> None:
    arch = load_architecture(name)
    sizes = data.draw(st.lists(st.tuples(st.integers(4, 40), st.integers(4, 40)), min_size=2, max_size=4))
    buffers = [data.draw(st.sampled_from([20_000, 70_000, 300_000])) for _ in sizes]
    rows, columns = (np.array(side) for side in zip(*sizes, strict=True))
    form = "native" if arch.deconv != "none" else data.draw(st.sampled_from(FORMS[:-1]))
    skip = data.draw(st.sampled_from(arch.possible_skips()))
    energies, net = load_energies(arch.energy), read_network(NETWORKS[network])
    many = simulate(net, arch.varied(rows=rows, columns=columns, maps_buffer_bytes=buffers), energies, form, skip)
    for number, ((row, column), size) in enumerate(zip(sizes, buffers, strict=True)):
        one = simulate(net, arch.varied(rows=row, columns=column, maps_buffer_bytes=size), energies, form, skip)
        if isinstance(one, str) or isinstance(many, str):
            assert isinstance(many, str) or not many.fits()[number]
            continue
        counts = many.counts(deconvs_only=False)
        for each in dataclasses.fields(Counts):
            found = np.broadcast_to(getattr(counts, each.name), (len(sizes),))[number]
            assert found == getattr(one.counts(deconvs_only=False), each.name), each.name
        energy = np.broadcast_to(many.energy(), (len(sizes),))[number]
        assert energy == pytest.approx(float(one.energy()), rel=1e-12)


def test_hardware_for_deconvs_does_every_product_once() -> None:
    layer = Layer("up", SNGAN2)
    engine, ganax = load_architecture("fcn-engine-16x16"), load_architecture("ganax-16x16")
    work = layer_work(layer, engine, "native")
    assert not isinstance(work, str)
    assert evaluate(work, engine).counts.compute_cycles == 131072
    work = layer_work(layer, ganax, "native")
    assert not isinstance(work, str)
    assert evaluate(work, ganax).counts.compute_cycles == 256 * 128 * 16


def test_a_pruned_filter_costs_only_its_tiles() -> None:
    """One tile of 16×16 weights of tap (0, 0) is left: it is issued at that tap, and nothing else."""
    kernel = np.zeros((256, 128, 4, 4), bool)
    kernel[16:32, 32:48, 1, 1] = True
    work = program_work(lower(SNGAN2, "NHWC", Candidate("split_phases", form="rows")), kernel)
    assert evaluate(work, DOT, Skip(weights=True)).counts.compute_cycles == 64
    assert evaluate(work, DOT, Skip()).counts.compute_cycles == 131072
    assert cropped_split(SNGAN2, kernel).needed_macs == work.needed_macs == full_split(SNGAN2, kernel).needed_macs


@given(st.integers(0, 99))
@examples(6, 100)
def test_pruned_forms_agree_on_the_useful_products(seed: int) -> None:
    deconv = Deconv((Axis(3, 2, 1, 1, 0, 0, 4), Axis(4, 3, 1, 0, 1, 1, 3)), 4, 6, groups=2)
    kernel = np.random.default_rng(seed).random(deconv.kernel_shape) < 0.4
    tiny = DOT.varied(rows=1, columns=1)
    wanted = cropped_split(deconv, kernel).needed_macs
    for form in ("zero_insert", "split_phases"):
        named = next(each for each in candidates(deconv, "NHWC")[0] if each.lowering == form)
        work = program_work(lower(deconv, "NHWC", named), kernel)
        assert work.needed_macs == wanted
        if form == "zero_insert":
            assert evaluate(work, tiny, Skip(True, True)).counts.compute_cycles == wanted
    assert evaluate(cropped_split(deconv, kernel), tiny, Skip(True, True)).counts.compute_cycles == wanted


def test_a_skip_that_the_hardware_lacks_is_refused_with_its_name() -> None:
    network = read_network(NETWORKS["sngan"])
    arch = load_architecture("systolic-ws-32x32")
    reason = simulate(network, arch, load_energies(arch.energy), "zero_insert", SKIPS["both"])
    assert reason == "systolic-ws-32x32 cannot skip zero activations and weights"


def test_a_form_that_a_layer_does_not_have_is_replaced_and_said() -> None:
    network = read_network(NETWORKS["artgan"])
    result = simulate(network, DOT, load_energies("horowitz-2014"), "split_phases", Skip())
    assert isinstance(result, NetworkResult)
    first, second, *_ = result.layers
    assert (first.form, "only one phase" in first.reason) == ("split:cropped", True)
    assert second.form.startswith("split_phases")


def test_sensitivity_brackets_the_assumed_ratio_and_names_what_moves_it() -> None:
    network = read_network(NETWORKS["sngan"])
    found = sensitivity(
        network, REGULAR, load_energies("eyeriss-2016"), ("split:full", Skip(True, True)), ("zero_insert", Skip())
    )
    assert not isinstance(found, str)
    low, high = found.speed_up_range
    assert low <= found.assumed.speed_up <= high
    assert low < high
    assert set(found.varied) == {each.label for each in variations(REGULAR)} - {"as assumed"}
    assert found.varied["side_by_side yes"].speed_up > found.assumed.speed_up
    assert found.varied["DRAM energy ×2"].speed_up == found.assumed.speed_up
    assert found.varied["DRAM energy ×2"].saving != found.assumed.saving


def deconv_model(deconv: Deconv, path: Path) -> Path:
    """A model of one ConvTranspose whose weights are all ones."""
    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", 1, deconv.kernel_shape, np.ones(deconv.kernel_shape, np.float32).ravel())
    pads = [axis.pad_begin for axis in deconv.axes] + [axis.pad_end for axis in deconv.axes]
    more = [axis.output_pad for axis in deconv.axes]
    node = helper.make_node(
        "ConvTranspose", ["x", "w"], ["y"], "up", strides=deconv.strides, pads=pads, output_padding=more
    )
    source, result = [1, deconv.in_channels, *deconv.in_sizes], [1, deconv.out_channels, *deconv.out_sizes]
    graph = helper.make_graph([node], "g", [value("x", 1, source)], [value("y", 1, result)], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.mark.parametrize("arch", ["dot-product-16x16", "regular-2d-32x7", "systolic-os-32x32"])
@pytest.mark.parametrize(("deconv", "name"), [(SNGAN2, "sngan2"), (square(5, 2, 8, 4, 3), "small")])
def test_the_target_counts_an_emitted_model_as_the_program_it_came_from(
    arch: str, deconv: Deconv, name: str, tmp_path: Path
) -> None:
    chosen = target(f"accelerator:{arch}")
    model = OnnxModel.load(deconv_model(deconv, tmp_path / f"{name}.onnx"))
    (site,) = model.find().sites
    compared = 0
    for candidate in candidates(deconv, "NCHW")[0]:
        program = lower(deconv, "NCHW", candidate)
        if chosen.refuse(program) or model.refuse(site, program):
            continue
        compiled = chosen.compile(model.emit(site, program))
        assert isinstance(compiled, EstimatedModel)
        kernel = np.ones(deconv.kernel_shape, bool)
        wanted = evaluate(program_work(program, kernel), chosen.arch, chosen.skip).counts  # type: ignore[attr-defined]
        assert compiled.counts.compute_cycles == wanted.compute_cycles, str(candidate)
        assert compiled.counts.dram_reads == wanted.dram_reads, str(candidate)
        compared += 1
    assert compared > 3


@pytest.mark.parametrize("arch", ["dot-product-16x16", "regular-2d-32x7"])
@pytest.mark.parametrize("kind", ["float32", "int8_per_channel", "uint8"])
def test_the_target_counts_an_emitted_tflite_model_as_the_program_it_came_from(arch: str, kind: str) -> None:
    tflite_models = pytest.importorskip("tests.tflite_models", exc_type=ImportError)
    chosen = target(f"accelerator:{arch}")
    case = tflite_models.Case(kind=kind, in_sizes=(6, 5), kernel=(4, 3), in_channels=32, out_channels=3)
    model = tflite_models.loaded(tflite_models.build(case))
    (site,) = model.find().sites
    compared = 0
    for candidate in candidates(site.deconv, "NHWC")[0]:
        program = lower(site.deconv, "NHWC", candidate)
        if chosen.refuse(program) or model.refuse(site, program):
            continue
        compiled = chosen.compile(model.emit(site, program))
        assert isinstance(compiled, EstimatedModel)
        kernel = nonzero(site.weights, site.deconv)
        wanted = evaluate(program_work(program, kernel), chosen.arch, chosen.skip).counts  # type: ignore[attr-defined]
        assert compiled.counts.compute_cycles == wanted.compute_cycles, str(candidate)
        assert compiled.counts.dram_reads == wanted.dram_reads, str(candidate)
        compared += 1
    assert compared > 3


def test_a_dense_layer_is_a_matrix_product() -> None:
    work = plain_work(Layer("fc", Dense(100, 40, 3)))
    assert evaluate(work, DOT).counts.compute_cycles == 7 * 3 * 3
    assert work.macs == 100 * 40 * 3


def test_a_native_deconv_is_refused_where_the_processor_has_none() -> None:
    chosen = target("accelerator")
    assert chosen.kind == "estimated"
    assert chosen.refuse(lower(SNGAN2, "NCHW", Candidate("native"))) == "the processor has no deconv of its own"
    assert target("accelerator:ganax-16x16").refuse(lower(SNGAN2, "NCHW", Candidate("native"))) is None
    unknown = lower(SNGAN2.with_in_sizes(1, (None, 8)), "NCHW", Candidate("split_rows"))
    assert "the input size is unknown" in (chosen.refuse(unknown) or "")
    empty = OnnxModel.from_object(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])))
    assert empty is not None
    with pytest.raises(CompileError, match="nothing to estimate"):
        chosen.compile(Compilable(b"", empty.operations))
