"""The conversion as a pass of Olive (extra ``olive``), chosen in its JSON as ``"type": "OnnxSplitDeconvs"``.

Olive takes passes from its package configuration. ``python -m splitdeconv.passes.olive > package.json`` writes its own
with this pass added, for ``olive run --package-config package.json``; :func:`package_config` is the same in Python.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
from olive.hardware.accelerator import AcceleratorSpec
from olive.model import ONNXModelHandler
from olive.model.utils import resolve_onnx_path
from olive.package_config import OlivePackageConfig
from olive.passes import Pass
from olive.passes.pass_config import BasePassConfig, PassConfigParam

import splitdeconv
from splitdeconv.pipeline.request import ConvertRequest, Help

_JSON: Mapping[Any, Any] = {tuple[str, ...]: list[str], Path | None: str}  # other types are written as mappings
_PLAIN = (bool, str, int, float)
_FILE = "split_deconvs.onnx"  # a name like the original's: Olive would take that, if it is in the working folder


class OnnxSplitDeconvs(Pass):  # type: ignore[misc]  # Olive's types are not looked into
    """Rewrites the deconvs of an ONNX model; its options are those of :func:`splitdeconv.convert`.

    Arrays of ``inputs`` are names of ``.npy`` files, sizes of ``in_shapes`` are lists.
    """

    @classmethod
    def _default_config(cls, accelerator_spec: AcceleratorSpec) -> dict[str, PassConfigParam]:  # noqa: ARG003  # Olive's
        hints = get_type_hints(ConvertRequest, include_extras=True)
        found = {}
        for each in fields(ConvertRequest):
            base, *told = get_args(hints[each.name]) or (None,)
            if told and isinstance(told[-1], Help):
                kind = base if base in _PLAIN else _JSON.get(base, dict)
                default = each.default if base in _PLAIN and each.default is not MISSING else None
                found[each.name] = PassConfigParam(type_=kind, default_value=default, description=told[-1].text)
        return found

    def _run_for_config(
        self, model: ONNXModelHandler, config: type[BasePassConfig], output_model_path: str
    ) -> ONNXModelHandler:
        """The rewritten model in Olive's folder.

        Raises:
            SplitdeconvError: as of :func:`splitdeconv.convert`; Olive stops then.
        """
        out = Path(resolve_onnx_path(output_model_path, _FILE))
        given = {each.name: getattr(config, each.name, None) for each in fields(ConvertRequest) if each.init}
        options = {name: value for name, value in given.items() if value is not None}
        if "inputs" in options:
            options["inputs"] = {name: np.load(file) for name, file in options["inputs"].items()}
        if "in_shapes" in options:
            options["in_shapes"] = {name: tuple(sizes) for name, sizes in options["in_shapes"].items()}
        out.parent.mkdir(parents=True, exist_ok=True)
        splitdeconv.convert(_file_of(model), out, **options)
        if list(out.parent.iterdir()) == [out]:
            return ONNXModelHandler(model_path=str(out))
        return ONNXModelHandler(model_path=str(out.parent), onnx_file_name=out.name)  # with external data


def _file_of(model: ONNXModelHandler) -> Path:
    """The file of a model; of one in a folder Olive takes a file in the working folder that has the same name."""
    place = Path(model.get_resource("model_path"))
    file = place / Path(model.onnx_file_name or "").name
    return file if file.is_file() else Path(model.model_path)


def package_config() -> dict[str, Any]:
    """Olive's own package configuration with :class:`OnnxSplitDeconvs`, for ``olive.run(…, package_config=…)``."""
    text = Path(OlivePackageConfig.get_default_config_path()).read_text()
    found: dict[str, Any] = json.loads(text)
    everywhere = {key: ["*"] for key in ("supported_providers", "supported_accelerators", "supported_precisions")}
    found["passes"]["OnnxSplitDeconvs"] = {"module_path": f"{__spec__.name}.OnnxSplitDeconvs", **everywhere}
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(package_config(), indent=2) + "\n")
