"""What each deconv of a model is turned into: the default rule, one lowering by name, or the measured fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from splitdeconv.deconv.spec import Deconv
from splitdeconv.errors import UsageError
from splitdeconv.lowerings import find_lowering
from splitdeconv.results.plan import Choice
from splitdeconv.targets.torch import Torch
from splitdeconv.torch.measure import choose_measured
from splitdeconv.torch_modules.forms import find_form
from splitdeconv.torch_modules.layers import Layer


@dataclass(frozen=True, slots=True)
class Decision:
    """What one site gets.

    Attributes:
        lowering: name of the form, or None for the default rule.
        left_alone: why the site keeps its own deconv, or empty.
        choice: the measured table, or None.
    """

    lowering: str | None = None
    left_alone: str = ""
    choice: Choice | None = None


class Chooser:
    """Decides site by site; equal layers are measured once.

    Args:
        target: where to measure, or None.
        lowering: the same lowering for every site that it applies to, or None.
        seconds: measuring time for each distinct layer.
        forms: as :func:`splitdeconv.torch.measure.choose_measured` takes it.

    Raises:
        UsageError: no lowering of that name.
    """

    def __init__(self, target: Torch | None, lowering: str | None, seconds: float, forms: int = 0) -> None:
        if lowering is not None:
            find_lowering(lowering.partition("@")[0].split(":")[0])
        self.target = target
        self.lowering = lowering
        self._seconds, self._forms = seconds, forms
        self._measured: dict[Layer, tuple[Choice, str | None]] = {}

    def decide(self, site: str, deconv: Deconv | None, layers: Sequence[Layer]) -> Decision:
        """What the site gets.

        Args:
            site: its name.
            deconv: its geometry, or None where it is not known yet (lazy modules).
            layers: its calls with their sizes; the one with the most arithmetic is measured.
        """
        if self.target is not None:
            return self._measure(site, layers)
        if self.lowering is None or deconv is None:
            return Decision(self.lowering)
        try:
            find_form(deconv, self.lowering, channels_last=False)
        except UsageError as error:
            return Decision(left_alone=str(error))
        return Decision(self.lowering)

    def _measure(self, site: str, layers: Sequence[Layer]) -> Decision:
        assert self.target is not None, "asked to measure without a target"
        if not layers:
            return Decision(left_alone="no call of it was seen with the example inputs, so nothing could be measured")
        layer = max(layers, key=Layer.macs)
        if layer not in self._measured:
            self._measured[layer] = choose_measured(site, layer, self.target, self._seconds, self._forms)
        choice, form = self._measured[layer]
        choice = dataclasses.replace(choice, site=site)
        return Decision(form, "" if form else choice.reason, choice)
