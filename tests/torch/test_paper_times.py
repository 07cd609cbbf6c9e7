"""The reproduction's times in PyTorch: each deconv and the whole network in NZP, native, SD and the chosen form."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from splitdeconv.lab import zoo
from splitdeconv.lab.paper.runtimes import RUNTIMES, time_network
from splitdeconv.lab.paper.times import FORMS, PaperTimes
from splitdeconv.measuring.rounds import LOST_AFTER


def test_every_deconv_and_the_network_have_comparable_times_in_every_form(tmp_path) -> None:
    (runtime,) = (each for each in RUNTIMES if each.target == "torch")
    record = time_network("dcgan", runtime, tmp_path, lambda _stage, _share: None, quick=True)
    found = PaperTimes(record)
    assert len(record.layers) == len(zoo.deconvs("dcgan"))
    for layer in record.layers:
        times = [found.layer(layer, form) for form in FORMS]
        assert all(time is not None and time.rounds >= LOST_AFTER for time in times), layer
        assert str(found.candidate(layer, "split")).startswith("split:full"), layer
    assert all(found.whole(form) is not None for form in FORMS)
    assert found.ratio("zero_insert", "converted") is not None
