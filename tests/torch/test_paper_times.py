"""The reproduction's times in PyTorch: each deconv and the whole network in NZP, native, SD and the chosen form."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from splitdeconv import codec  # noqa: E402
from splitdeconv.lab import zoo  # noqa: E402
from splitdeconv.lab.paper.times import FORMS, Times  # noqa: E402
from splitdeconv.lab.paper.torch_times import time_module  # noqa: E402
from splitdeconv.measuring.rounds import LOST_AFTER  # noqa: E402


def test_every_deconv_and_the_network_have_comparable_times_in_every_form() -> None:
    found = time_module("dcgan", "torch", 0.1, lambda _stage, _share: None)
    assert len(found.layers) == len(zoo.deconvs("dcgan"))
    for layer in found.layers:
        assert set(layer.times) == set(FORMS), layer
        assert all(time is not None and time.rounds >= LOST_AFTER for time in layer.times.values()), layer
        assert layer.split.startswith("split:full"), layer
        native, chosen = layer.times["native"], layer.times["chosen"]
        assert (layer.plan == "native") == (native == chosen)
    assert set(found.whole) == set(FORMS)
    assert found.ratio("zero_insert", "chosen") is not None
    assert codec.from_object(Times, codec.to_object(found), "here") == found
