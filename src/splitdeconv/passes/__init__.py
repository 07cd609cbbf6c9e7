"""The conversion as a pass of ``onnx_ir``, between the other passes of one process (extra ``onnx``)."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir

import splitdeconv


class SplitDeconvs(ir.passes.FunctionalPass):
    """Rewrites the deconvs of a model; ``modified`` tells whether there was one to rewrite.

    Args:
        options: of :func:`splitdeconv.convert`, ``target`` and so on.

    Attributes:
        result: of the last call, with the proof and the record; None before.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.result: Any = None

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The rewritten model, which is another one also where nothing was rewritten.

        Raises:
            PreconditionError: the model or an option cannot be used.
            PassError: the result is not equal, or an output could not be compared.
        """
        try:
            self.result = splitdeconv.convert(ir.to_proto(model), **self.options)
        except splitdeconv.VerificationError as error:
            raise ir.passes.PassError(str(error)) from error
        except splitdeconv.SplitdeconvError as error:
            raise ir.passes.PreconditionError(str(error)) from error
        modified = self.result.record.is_changed
        return ir.passes.PassResult(ir.from_proto(self.result.model), modified)
