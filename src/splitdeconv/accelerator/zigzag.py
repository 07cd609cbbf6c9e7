"""Convolutions on ZigZag's hardware descriptions (extra ``zigzag``): the user's own files, or those that come with it.

ZigZag passes over ``ConvTranspose`` in silence (no cycles, no energy), so it is only ever given lowered convolutions,
and a cost of zero is an error. It models neither skipped zeros nor links between PEs. Source: L. Mei et al., ZigZag,
IEEE Trans. Computers 2021; package ``zigzag-dse``.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from zigzag.api import get_hardware_performance_zigzag

from splitdeconv.accelerator.work import Convolution
from splitdeconv.errors import InputError, UsageError

SHIPPED = ("tpu_like", "edge_tpu_like", "ascend_like", "tesla_npu_like", "meta_prototype", "eyeriss_like")
_MAPPINGS = {"meta_prototype": "meta_prototype_like", "eyeriss_like": "default"}
_EQUATION = "O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]"


@dataclass(frozen=True, slots=True)
class ZigZagCost:
    """What ZigZag finds for one convolution.

    Attributes:
        energy_pj: in total.
        cycles: with stalls, loading and unloading.
        compute_cycles: of the mapping without stalls.
    """

    energy_pj: float
    cycles: int
    compute_cycles: int

    def __add__(self, other: ZigZagCost) -> ZigZagCost:
        cycles = self.cycles + other.cycles, self.compute_cycles + other.compute_cycles
        return ZigZagCost(self.energy_pj + other.energy_pj, *cycles)


@dataclass(frozen=True, slots=True)
class ZigZagHardware:
    """Two of ZigZag's files.

    Attributes:
        name: for tables.
        hardware, mapping: paths of the YAML files.
    """

    name: str
    hardware: Path
    mapping: Path


def find_hardware(text: str) -> ZigZagHardware:
    """ZigZag's own by name, or the user's ``HARDWARE.yaml,MAPPING.yaml``.

    Raises:
        UsageError: none is called so.
        InputError: a file is missing.
    """
    if text in SHIPPED:
        inputs = Path(str(resources.files("zigzag"))) / "inputs"
        mapping = _MAPPINGS.get(text, text)
        return ZigZagHardware(text, inputs / "hardware" / f"{text}.yaml", inputs / "mapping" / f"{mapping}.yaml")
    first, _, second = text.partition(",")
    if not first.endswith((".yaml", ".yml")) or not second.endswith((".yaml", ".yml")):
        raise UsageError(f"zigzag:{text}: wanted one of {', '.join(SHIPPED)}, or HARDWARE.yaml,MAPPING.yaml")
    for name in (first, second):
        if not Path(name).is_file():
            raise InputError(f"{name}: no such file, wanted a YAML file of ZigZag's")
    return ZigZagHardware(Path(first).stem, Path(first), Path(second))


def refuse(conv: Convolution) -> str | None:
    """Why ZigZag cannot be asked, or None."""
    return None if len(conv.lines) <= 2 else "ZigZag's convolutions have two spatial axes at most"


@lru_cache(maxsize=1024)
def cost(conv: Convolution, hardware: ZigZagHardware) -> ZigZagCost:
    """Cycles and energy of one convolution under the mapping of the lowest product of both that ZigZag finds.

    Args:
        conv: not one that :func:`refuse` refuses.
        hardware: where to.

    Raises:
        InputError: ZigZag does not take the files, or finds a cost of zero.
    """
    with TemporaryDirectory() as folder, _quiet():
        workload = Path(folder) / "workload.yaml"
        workload.write_text(yaml.safe_dump([_layer(conv)]), "utf-8")
        try:
            energy, latency, results = get_hardware_performance_zigzag(
                str(workload),
                str(hardware.hardware),
                str(hardware.mapping),
                opt="EDP",
                dump_folder=folder,
                loma_show_progress_bar=False,
            )
        except (Exception, SystemExit) as error:  # ZigZag raises whatever went wrong inside
            message = " ".join(str(error).split())[:200]
            raise InputError(f"zigzag:{hardware.name}: ZigZag failed ({type(error).__name__}: {message})") from None
    if not energy or not latency:
        raise InputError(f"zigzag:{hardware.name}: ZigZag found a cost of zero, which no convolution has")
    return ZigZagCost(float(energy), int(latency), int(_compute_cycles(results)))


def _compute_cycles(results: Any) -> float:
    """Cycles of the mapping itself; ZigZag nests its results by layer."""
    found = results[0][0]
    while not hasattr(found, "ideal_temporal_cycle"):
        found = found[0]
    return float(found.ideal_temporal_cycle)


def _layer(conv: Convolution) -> dict[str, Any]:
    lines = dict(zip(("y", "x")[-len(conv.lines) :], conv.lines, strict=True))
    sizes = {"B": conv.batch, "G": conv.groups, "K": conv.out_channels // conv.groups}
    sizes["C"] = conv.in_channels // conv.groups
    relations, inputs, pads = [], [], []
    for name in ("y", "x"):
        line = lines.get(name)
        sizes[f"O{name.upper()}"] = line.out_size if line else 1
        sizes[f"F{name.upper()}"] = line.kernel if line else 1
        stride, dilation = (line.stride, line.dilation) if line else (1, 1)
        relations.append(f"i{name}={stride}*o{name}+{dilation}*f{name}")
        inputs.append(len(line.occupied) if line else 1)
        pads.append([0, 0])  # the pads are counted as part of the input
    return {
        "id": 0,
        "name": "conv",
        "operator_type": "Conv",
        "equation": _EQUATION,
        "dimension_relations": relations,
        "loop_dims": list(sizes),
        "loop_sizes": list(sizes.values()),
        "operand_precision": {"W": 8, "I": 8, "O": 16, "O_final": 8},
        "operand_source": {"W": 0, "I": 0},
        "pr_loop_dims": ["IY", "IX"],
        "pr_loop_sizes": inputs,
        "padding": pads,
    }


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without ZigZag's log lines, bars, and its change of the root logger."""
    root = logging.getLogger()
    handlers, level, disabled = list(root.handlers), root.level, root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.disable(disabled)
