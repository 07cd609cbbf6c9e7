"""The reproduction's times in PyTorch: each deconv and the whole network in NZP, native, SD and the chosen form."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from splitdeconv import codec
from splitdeconv.lab import zoo
from splitdeconv.lab.paper.runtimes import RUNTIMES, time_network
from splitdeconv.lab.paper.times import FORMS, Times
from splitdeconv.measuring.rounds import LOST_AFTER


def test_every_deconv_and_the_network_have_comparable_times_in_every_form(tmp_path) -> None:
    (runtime,) = (each for each in RUNTIMES if each.target == "torch")
    found = time_network("dcgan", runtime, tmp_path, lambda _stage, _share: None, quick=True)
    assert len(found.layers) == len(zoo.deconvs("dcgan"))
    for layer in found.layers:
        assert set(layer.times) == set(FORMS), layer
        assert all(time is not None and time.rounds >= LOST_AFTER for time in layer.times.values()), layer
        assert layer.split.startswith("split:full"), layer
    assert set(found.whole) >= set(FORMS)
    assert found.ratio("zero_insert", "chosen") is not None
    assert codec.from_object(Times, codec.to_object(found), "here") == found
