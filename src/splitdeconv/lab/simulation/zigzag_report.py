"""Networks on ZigZag's hardware: each form's deconvs, lowered, summed over ZigZag's own costs (extra ``zigzag``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from splitdeconv.accelerator import zigzag
from splitdeconv.accelerator.arch import load_architecture
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.lab.simulation.forms import CROPPED, NATIVE, ZERO_INSERT, layer_work
from splitdeconv.lab.simulation.records import paper_name

PLAIN = "dot-product-16x16"  # any processor without a deconv of its own lowers alike


def zigzag_records(networks: Sequence[Network], text: str, forms: Sequence[str]) -> list[dict[str, Any]]:
    """One record for each network, zero insertion first, as ``simulate`` prints and writes them."""
    hardware = zigzag.find_hardware(text)
    wanted = list(dict.fromkeys([ZERO_INSERT, *forms]))
    return [_record(network, hardware, wanted) for network in networks]


def _record(network: Network, hardware: zigzag.ZigZagHardware, forms: Sequence[str]) -> dict[str, Any]:
    costs = {form: _deconvs(network, hardware, form) for form in forms}
    base = costs[ZERO_INSERT]
    rows = [_row(form, found, base) for form, found in costs.items()]
    return {
        "network": network.name,
        "title": network.title,
        "source": network.source,
        "notes": ["ZigZag models neither skipped zeros, nor the rearrangement, nor links between PEs; deconvs only"],
        "architecture": {"name": f"zigzag:{hardware.name}", "title": f"ZigZag's {hardware.name}", "dataflow": "zigzag"},
        "kind": "estimated",
        "baseline": paper_name(ZERO_INSERT, Skip()),
        "rows": rows,
    }


def _row(form: str, found: zigzag.ZigZagCost | str, base: zigzag.ZigZagCost | str) -> dict[str, Any]:
    said: dict[str, Any] = {"form": form, "skip": "none", "name": paper_name(form, Skip())}
    if isinstance(found, str) or isinstance(base, str):
        return {**said, "refused": found if isinstance(found, str) else base}
    return {
        **said,
        "cycles": found.cycles,
        "compute_cycles": found.compute_cycles,
        "energy_pj": found.energy_pj,
        "speed_up": base.cycles / found.cycles,
        "energy_saving": 1 - found.energy_pj / base.energy_pj,
    }


def _deconvs(network: Network, hardware: zigzag.ZigZagHardware, form: str) -> zigzag.ZigZagCost | str:
    """Cost of all deconvs in ``form``, or the first reason why not."""
    total = zigzag.ZigZagCost(0.0, 0, 0)
    plain = load_architecture(PLAIN)
    for layer in network.deconvs:
        work = layer_work(layer, plain, form)
        if isinstance(work, str) and form not in (NATIVE, CROPPED):
            work = layer_work(layer, plain, CROPPED)
        if isinstance(work, str):
            return f"{layer.name}: {work}"
        for conv in work.convolutions:
            if reason := zigzag.refuse(conv):
                return f"{layer.name}: {reason}"
            total = total + zigzag.cost(conv, hardware)
    return total
