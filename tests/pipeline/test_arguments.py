"""The Python API names the argument of a wrong type, says what it was, and what was wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import splitdeconv
from splitdeconv.errors import UsageError
from tests.models import deconv_model

SHAPES = "wanted a mapping from texts to lists of whole numbers or lists of lists of whole numbers or None"
WRONG: tuple[tuple[str, Any, str], ...] = (
    ("out", 3, "out is 3 (int); wanted a text or a path or None"),
    ("target", None, "target is None (NoneType); wanted a text"),
    ("layers", ["up"], "layers is ['up'] (list); wanted a mapping from texts to texts or None"),
    ("only", "up*", "only is 'up*' (str); wanted a list of texts"),
    ("inputs", [np.zeros(3)], "inputs is [array([0., 0., 0.])] (list); wanted a mapping from texts to values or None"),
    (
        "in_shapes",
        {"x": "1,2"},
        f"in_shapes is {{'x': '1,2'}} (dict); {SHAPES}",
    ),
    ("in_shapes", {"x": (1, 2.5)}, "in_shapes is {'x': (1, 2.5)} (dict); wanted a mapping"),
    ("verify", 1, "verify is 1 (int); wanted True or False"),
    ("threads", True, "threads is True (bool); wanted a whole number"),
    ("threads", 1.5, "threads is 1.5 (float); wanted a whole number"),
    ("budget", "10", "budget is '10' (str); wanted a number"),
    ("progress", 1, "progress is 1 (int); wanted a function or None"),
)


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=lambda each: str(each)[:30])
def test_a_wrong_type_is_refused_by_name(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError) as raised:
        splitdeconv.convert(deconv_model(), **{name: value})
    assert str(raised.value).startswith(f"convert: {message}")


def test_values_that_pass_for_the_type_are_taken(tmp_path: Path) -> None:
    model = deconv_model((None, 4, 5, 6))
    found = splitdeconv.convert(
        model,
        str(tmp_path / "out.onnx"),
        target="generic",
        only=("up",),
        in_shapes={"x": [np.int64(1), 4, 5, 6]},  # type: ignore[dict-item]  # a list is taken too
        budget=np.float32(3),  # type: ignore[arg-type]
        verify=False,
    )
    assert found.record.converted == ("up",)


def test_the_other_doors_check_too() -> None:
    with pytest.raises(UsageError, match=r"^inspect: targets is 'vela' "):
        splitdeconv.inspect(deconv_model(), targets="vela")
    with pytest.raises(UsageError, match=r"^bench: dtype is 8 "):
        splitdeconv.bench(deconv_model(), dtype=8)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^from_json: text is of type PosixPath|of type WindowsPath; wanted a text"):
        splitdeconv.from_json(Path("record.json"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"--input x: is a list, wanted a NumPy array"):
        splitdeconv.convert(deconv_model(), target="generic", inputs={"x": [1.0]})  # type: ignore[dict-item]


def test_pytorch_is_checked_too() -> None:
    torch = pytest.importorskip("torch")
    import splitdeconv.torch as split  # noqa: PLC0415

    network = torch.nn.ConvTranspose2d(2, 2, 2)
    with pytest.raises(UsageError, match=r"^convert: example_inputs is 3 \(int\); wanted a list of values or a Tensor"):
        split.convert(network, 3)
    with pytest.raises(UsageError, match=r"^convert: module is of type ModelProto; wanted a Module of torch"):
        split.convert(deconv_model())
    for function in (split.restore, split.record, split.freeze, split.thaw, split.merge_upsampling):
        with pytest.raises(UsageError, match=rf"^{function.__name__}: module is 'network' "):
            function("network")
