"""What a front-end does for one model format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from splitdeconv.deconv.ops import Layout, Program
from splitdeconv.deconv.spec import Deconv
from splitdeconv.deconv.weights import Array, Weights
from splitdeconv.formats.model import Findings, Input, Site


class Frontend(Protocol):
    """Reads a model, finds its deconvs, writes programs as models, and puts programs into models.

    ``Model`` objects are the front-end's own; the rest of the road passes them around unopened. No method changes its
    arguments.

    Attributes:
        name: of the format, ``onnx`` or ``tflite``; targets name the formats that they run.
        layout: of the format's maps.
        suffix: of its files, with the dot.
    """

    name: str
    layout: Layout
    suffix: str

    def load(self, path: Path) -> Any:
        """The model in ``path``.

        Raises:
            InputError: not a readable model; the message names the file, what was found and what was wanted.
        """
        ...

    def layer(self, deconv: Deconv, epilogue: Sequence[str]) -> Any:
        """A model of one deconv of definite sizes with random weights, and the operators of ``epilogue`` behind it.

        Raises:
            UsageError: the format cannot express it.
        """
        ...

    def find(self, model: Any, in_shapes: Mapping[str, tuple[int, ...]] | None = None) -> Findings:
        """All deconvs, in the model's order.

        Args:
            model: what :meth:`load` returned.
            in_shapes: sizes for inputs whose shape the model leaves open.

        Raises:
            InputError: a deconv contradicts itself or its input.
        """
        ...

    def refuse(self, model: Any, site: Site, program: Program) -> str | None:
        """Why ``model``'s own version of the format cannot express ``program`` in place of ``site``, or None."""
        ...

    def emit(self, model: Any, site: Site, program: Program, weights: Weights | None = None) -> bytes:
        """A stand-alone model of one site under ``program``, its epilogue included, with one input and one output.

        The program may lack a reshape at its end; then the output has the shape from before it.

        Args:
            weights: used instead of the site's own, of the same shapes and types; without the epilogue then.
        """
        ...

    def splice(self, model: Any, programs: Mapping[str, Program]) -> Any:
        """A model in which each site named in ``programs`` is replaced by its program."""
        ...

    def inputs(self, model: Any) -> tuple[Input, ...]:
        """What a caller of the model must supply."""
        ...

    def float64(self, model: Any, feeds: Mapping[str, Array]) -> dict[str, Array] | str:
        """All outputs of ``model`` on ``feeds`` in float64, or the reason why that cannot be had in a few seconds."""
        ...

    def adopt(self, found: object) -> Any:
        """The model in ``found``, an object of the format's own library, or None where it is none."""
        ...

    def hand_over(self, model: Any) -> object:
        """The model as an object of the format's own library."""
        ...

    def files(self, model: Any) -> tuple[Path, ...]:
        """The files that hold the model, its own first; none for an adopted one."""
        ...

    def save(self, model: Any, path: Path) -> None:
        """Write the model to ``path``, and what does not fit into one file to files beside it named after it.

        Raises:
            OSError: it cannot be written there; part of it may be.
        """
        ...
