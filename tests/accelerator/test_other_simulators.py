"""Development only: the closed forms against SCALE-Sim, the dot-production array against ZigZag."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from splitdeconv.accelerator import dot_product, systolic
from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.layers import plain_work
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.accelerator.work import Convolution
from splitdeconv.deconv.layers import ConvAxis, PlainConv
from splitdeconv.deconv.network import Layer
from tests.accelerator.test_counts import DOT, full_split, square, zero_insert

SCALE_SIM = """[general]
run_name = run
[architecture_presets]
ArrayHeight:    {rows}
ArrayWidth:     {columns}
IfmapSramSzkB:   6144
FilterSramSzkB:  6144
OfmapSramSzkB:   2048
IfmapOffset:    0
FilterOffset:   10000000
OfmapOffset:    20000000
Bandwidth : 10
Dataflow : {dataflow}
MemoryBanks:   1
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport : false
SparseRep : ellpack_block
OptimizedMapping : false
BlockSize : 8
RandomNumberGeneratorSeed : 40
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""


def scale_sim_cycles(conv: Convolution, rows: int, columns: int, dataflow: str, folder: Path) -> int:
    """SCALE-Sim's own compute cycles of one convolution over its padded input."""
    scalesim = pytest.importorskip("scalesim.scale_sim").scalesim
    (folder / "run.cfg").write_text(SCALE_SIM.format(rows=rows, columns=columns, dataflow=dataflow), "utf-8")
    height, width = (len(line.occupied) for line in conv.lines)
    sizes = [height, width, *conv.kernel, conv.in_channels, conv.out_channels, 1]
    head = "Layer name,IFMAP Height,IFMAP Width,Filter Height,Filter Width,Channels,Num Filter,Strides,Sparsity,\n"
    (folder / "run.csv").write_text(head + f"conv,{','.join(map(str, sizes))},1:1,\n", "utf-8")
    (folder / "layout.csv").write_text("Layer name,\n", "utf-8")
    simulator = scalesim(
        save_disk_space=True,
        verbose=False,
        config=str(folder / "run.cfg"),
        topology=str(folder / "run.csv"),
        layout=str(folder / "layout.csv"),
        input_type_gemm=False,
    )
    simulator.run_scale(top_path=str(folder))
    with next(folder.rglob("COMPUTE_REPORT.csv")).open(newline="") as file:
        row = {key.strip(): value for key, value in next(csv.DictReader(file)).items() if key}
    stalls = float(row["Stall Cycles"])
    return int(float(row["Total Cycles"]) - stalls)


def convolution(size: tuple[int, int], kernel: tuple[int, int], ins: int, outs: int) -> Convolution:
    axes = tuple(ConvAxis(n, k) for n, k in zip(size, kernel, strict=True))
    return plain_work(Layer("conv", PlainConv(axes, ins, outs))).convolutions[0]


@pytest.mark.parametrize(("dataflow", "name"), [("ws", "systolic-ws-32x32"), ("os", "systolic-os-32x32")])
@pytest.mark.parametrize(
    ("conv", "rows", "columns"),
    [
        (convolution((9, 7), (3, 2), 5, 6), 8, 4),
        (convolution((6, 6), (1, 1), 16, 16), 16, 16),
        (convolution((10, 5), (2, 3), 3, 20), 4, 8),
        (convolution((5, 5), (3, 3), 8, 9), 8, 8),
    ],
)
def test_systolic_cycles_are_scale_sims(
    conv: Convolution,
    rows: int,
    columns: int,
    dataflow: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = pytest.importorskip("scalesim.memory.double_buffered_scratchpad_mem")
    largest = lambda *found: int(np.max(found))  # noqa: E731  # its own max() of arrays fails with NumPy 2
    monkeypatch.setattr(memory, "max", largest, raising=False)
    monkeypatch.chdir(tmp_path)
    arch = load_architecture(name).varied(rows=rows, columns=columns)
    assert systolic.count(conv, arch, Skip()).cycles == scale_sim_cycles(conv, rows, columns, dataflow, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("work", [zero_insert(square(4, 2, 4, 64, 32)), full_split(square(4, 2, 4, 64, 32))])
def test_dot_production_cycles_are_zigzags_without_its_stalls(work: object) -> None:
    zigzag = pytest.importorskip("splitdeconv.accelerator.zigzag")
    hardware = zigzag.find_hardware("tpu_like")
    arch = DOT.varied(rows=32, columns=32)
    (conv,) = work.convolutions  # type: ignore[attr-defined]
    found = zigzag.cost(conv, hardware)
    assert dot_product.count(conv, arch, Skip()).cycles == found.compute_cycles
    assert found.energy_pj > 0
