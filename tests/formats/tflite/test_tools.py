"""What other tools expect of a converted file: names that are unique, and tensors that can all be read."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert")

from ai_edge_litert.interpreter import Interpreter

from splitdeconv.formats.tflite.graph import text
from splitdeconv.lowerings import lower
from splitdeconv.lowerings.candidate import Candidate
from tests.tflite_models import Case, build, loaded

FORMS = (Candidate("split", "crop", "depth_to_space"), Candidate("split_rows"), Candidate("zero_insert"))


@pytest.mark.filterwarnings("ignore:.*experimental_preserve_all_tensors")
@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("case", [Case(), Case(kind="int8", after=("RELU=",)), Case(same=False, computed=True)])
def test_every_tensor_of_a_converted_file_can_be_read_under_a_name_of_its_own(case: Case, form: Candidate) -> None:
    model = loaded(build(case))
    (site,) = model.find().sites
    converted = model.splice({site.id: lower(site.deconv, "NHWC", form)})
    names = [text(tensor.name) for tensor in converted.root.subgraphs[0].tensors]
    assert len(names) == len(set(names))
    runner = Interpreter(model_content=converted.to_object(), experimental_preserve_all_tensors=True)
    runner.allocate_tensors()
    (given,) = runner.get_input_details()
    runner.set_tensor(given["index"], np.ones(given["shape"], given["dtype"]))
    runner.invoke()
    for tensor in runner.get_tensor_details():
        runner.get_tensor(tensor["index"])  # what LiteRT's quantiser does with each
