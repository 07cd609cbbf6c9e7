"""A network on a modelled processor, layer by layer, in one form and with one kind of skipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splitdeconv.accelerator.arch import Architecture
from splitdeconv.accelerator.counts import Counts, no_counts
from splitdeconv.accelerator.energy import Energies
from splitdeconv.accelerator.evaluate import Evaluation, evaluate_network
from splitdeconv.accelerator.layers import Network
from splitdeconv.accelerator.sparsity import Skip
from splitdeconv.accelerator.traffic import smallest_tile_bits
from splitdeconv.accelerator.work import LayerWork
from splitdeconv.deconv.network import Layer
from splitdeconv.deconv.weights import Array
from splitdeconv.lab.simulation.forms import CROPPED, NATIVE, layer_work


@dataclass(frozen=True, slots=True, eq=False)
class LayerResult:
    """One layer's counts.

    Attributes:
        layer: which.
        form: that was computed; the layer's only one for convolutions and dense layers.
        reason: why it is not the form that was asked for, or empty.
        evaluation: counts, and where they hold.
        energy: in the unit of the energy table.
    """

    layer: Layer
    form: str
    reason: str
    evaluation: Evaluation
    energy: Array


@dataclass(frozen=True, slots=True, eq=False)
class NetworkResult:
    """A network in one form on one architecture, or on an array of them.

    Attributes:
        network, arch, energies, form, skip: what was asked for.
        layers: all layers, in order.
    """

    network: Network
    arch: Architecture
    energies: Energies
    form: str
    skip: Skip
    layers: tuple[LayerResult, ...]

    def counts(self, deconvs_only: bool = True) -> Counts:
        """Sum over the deconvs, or over all layers."""
        return sum((each.evaluation.counts for each in self._taken(deconvs_only)), start=no_counts())

    def energy(self, deconvs_only: bool = True) -> Array:
        """Sum over the deconvs, or over all layers, in the unit of the energy table."""
        total: Array = sum((each.energy for each in self._taken(deconvs_only)), start=np.zeros(()))
        return total

    def fits(self) -> Array:
        """Where every layer's tiles fit the buffers."""
        fits: Array = np.all([np.broadcast_to(each.evaluation.fits, self.arch.shape()) for each in self.layers], axis=0)
        return fits

    def _taken(self, deconvs_only: bool) -> list[LayerResult]:
        return [each for each in self.layers if not deconvs_only or each.layer.kind == "deconv"]


def simulate(network: Network, arch: Architecture, energies: Energies, form: str, skip: Skip) -> NetworkResult | str:
    """All layers of a network with its deconvs in ``form``, or the reason why that cannot be.

    A deconv that has no such form (a stride of 1 has no phases) is computed as ``split:cropped`` and says so.

    Args:
        network: layers in order; maps stay on chip between them where they fit.
        arch: one architecture, or many at once.
        energies: energy per action.
        form: one of ``forms.FORMS``, or a candidate's name.
        skip: zeros that cost no cycles.
    """
    if reason := arch.refuse_skip(skip):
        return reason
    works: list[LayerWork] = []
    reasons: list[str] = []
    for layer in network.layers:
        work = layer_work(layer, arch, form)
        reasons.append(work if isinstance(work, str) else "")
        if isinstance(work, str):
            if form in (NATIVE, CROPPED):
                return f"{layer.name}: {work}"
            work = layer_work(layer, arch, CROPPED)
        if isinstance(work, str):
            return f"{layer.name}: {work}"
        works.append(work)
    evaluations = evaluate_network(works, arch, skip)
    layers = tuple(
        LayerResult(layer, work.form, reason, evaluation, energies.total(evaluation.counts, arch.data_bits))
        for layer, work, reason, evaluation in zip(network.layers, works, reasons, evaluations, strict=True)
    )
    result = NetworkResult(network, arch, energies, form, skip, layers)
    return result if result.fits().any() else _too_small(works, result)


def _too_small(works: Sequence[LayerWork], result: NetworkResult) -> str:
    """Which buffer is too small for which layer."""
    arch = result.arch
    for work, found in zip(works, result.layers, strict=True):
        if not found.evaluation.fits.any():
            bits = int(arch.data_bits.min()), int(arch.sum_bits.min())
            maps, weights = smallest_tile_bits(work, *bits, arch.overlapped)
            return (
                f"{arch.name}: memory.maps_buffer and memory.weights_buffer: "
                f"found {int(arch.maps_buffer_bytes.max())} and {int(arch.weights_buffer_bytes.max())} B, "
                f"wanted at least {-(-maps // 8)} and {-(-weights // 8)} B "
                f"(twice the first where maps stay on chip) for one tile of layer '{found.layer.name}'"
            )
    return f"{arch.name}: no one architecture fits every layer"
