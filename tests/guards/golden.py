"""What the command line does on a corpus of models: exit codes, output, records, and digests of the bytes written.

    PYTHONPATH=…/src python -m tests.guards.golden OUT_DIR     # every case, with the package that PYTHONPATH chooses
    python -m tests.guards.golden --compare BEFORE AFTER       # unified diffs; exit code 1 if there are any

Cases are the models of ``onnx_corpus`` and ``tflite_corpus``, the quantised fixtures of the tests, and third-party
models from a folder ``shared/models`` beside the checkout where there is one. Numbers that the machine decides are
replaced.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.guards import snapshots
from tests.guards.snapshots import Case
from tests.guards.terminal import digest, normal, run, transcript, workplace

if TYPE_CHECKING:
    import onnx

TESTS = Path(__file__).resolve().parents[1]
FIXTURES = TESTS / "fixtures" / "quantised"
SHARED = TESTS.parents[1] / "shared" / "models"
REAL = (
    "phasenet_1d.onnx",
    "deepbrain_v1_128.onnx",
    "fst_rain_princess_256.onnx",
    "ppocr_det_v1.1.onnx",
    "lyragan.tflite",
    "mediapipe_selfie_custom_op.tflite",
    "prisma_f32.tflite",
    "prisma_int8.tflite",
    *(f"seanet_int16/transpose_conv{number}.tflite" for number in range(5)),
)
UNVERIFIED = ("deepbrain_v1_128.onnx",)  # its proof takes a quarter of a minute
RULE = "--target generic"  # said each time: what commands use otherwise may measure
COMMANDS = ("inspect", "convert", "restore", "bench", "report", "targets", "simulate", "sweep", "zoo", "reproduce")

# Options on small models that go beyond the lowerings: name of the case, model, arguments ({} is the model).
OPTIONS: tuple[tuple[str, str, str], ...] = (
    ("layer", "chain", "convert {} out.onnx --target generic --layer second=split_phases --no-verify"),
    (
        "layer_candidate",
        "chain",
        "convert {} out.onnx --target generic --layer first=split:union:transpose --layer second=native",
    ),
    ("only", "chain", "convert {} out.onnx --target generic --only sec*"),
    ("skip", "chain", "convert {} out.onnx --target generic --skip sec*"),
    ("skip_all", "chain", "convert {} out.onnx --target generic --skip *"),
    ("json_on_stdout", "chain", "convert {} out.onnx --target generic --json - --no-verify"),
    ("inspect_json_on_stdout", "chain", "inspect {} --json -"),
    ("accelerator", "chain", "convert {} out.onnx --target accelerator --json run.json"),
    ("inspect_targets", "chain", "inspect {} --target accelerator --target onnxruntime --target openvino"),
    ("simulate", "chain", "simulate {} --layers --json run.json"),
    ("simulate_output_shape", "output_shape", "simulate {} --layers"),
    ("inspect_sizes", "open_sizes", "inspect {} --input-shape x=1,4,5,6"),
    ("convert_sizes", "open_sizes", "convert {} out.onnx --target generic --input-shape x=1,4,5,6 --json run.json"),
    ("simulate_sizes", "open_sizes", "simulate {} --input-shape x=1,4,5,6"),
    ("simulate_open", "open_sizes", "simulate {}"),
    ("fused", "tflite_int8_per_channel", "convert {} out.tflite --target generic --numerics fused --json run.json"),
    ("fused_float", "tflite_same", "convert {} out.tflite --target generic --numerics fused"),
    ("fused_onnx", "plane", "convert {} out.onnx --target generic --numerics fused"),
    ("vela", "tflite_int8", "inspect {} --target vela"),
    ("onto_itself", "plane", "convert {} {} --target generic"),
    ("other_format", "plane", "convert {} out.tflite --target generic"),
    ("no_folder", "plane", "convert {} none/out.onnx --target generic"),
    ("unknown_lowering", "plane", "convert {} out.onnx --target generic --lowering fft"),
    ("unknown_candidate", "plane", "convert {} out.onnx --target generic --layer up=split:fast"),
    ("unknown_site", "plane", "convert {} out.onnx --target generic --layer down=split"),
    ("no_such_pattern", "plane", "convert {} out.onnx --target generic --only down*"),
    ("unknown_target", "plane", "convert {} out.onnx --target abacus"),
    ("target_of_other_format", "plane", "convert {} out.onnx --target litert"),
    ("unknown_option_of_target", "plane", "convert {} out.onnx --target onnxruntime:abacus"),
    ("unknown_precision", "plane", "convert {} out.onnx --target onnxruntime --precision int3"),
    ("negative_threads", "plane", "convert {} out.onnx --target onnxruntime --threads -1"),
    ("unknown_numerics", "plane", "convert {} out.onnx --target generic --numerics sloppy"),
    ("no_value", "plane", "convert {} out.onnx --target generic --layer up"),
    ("no_plan", "plane", "convert {} out.onnx --target generic --plan {}"),
    ("no_array", "plane", "convert {} out.onnx --target generic --input x={}"),
    ("bad_sizes", "plane", "convert {} out.onnx --target generic --input-shape x=1,-1"),
    ("wrong_rank_of_input", "plane", "convert {} out.onnx --target generic --input-shape x=1,4"),
    ("unknown_input", "plane", "inspect {} --input-shape z=1,4,5,6"),
    ("unknown_flag", "plane", "convert {} out.onnx --target generic --fast"),
    ("missing_argument", "plane", "convert {}"),
    ("bad_number", "plane", "convert {} out.onnx --target generic --budget soon"),
    ("bench_without_anything", "plane", "bench"),
    ("bench_unknown_target", "plane", "bench {} --target abacus"),
    ("bench_bad_plot", "plane", "bench {} --plot ratios.gif"),
    ("report_of_no_record", "plane", "report {} out.html"),
)

GENERAL: tuple[tuple[str, str], ...] = (
    ("help", "--help"),
    ("version", "--version"),
    ("no_command", "paint"),
    *((f"help_{command}", f"{command} --help") for command in COMMANDS),
    ("targets", "targets"),
    ("zoo", "zoo list"),
    ("simulate_zoo", "simulate dcgan --json run.json"),
    ("simulate_layers", "simulate faces --layers --arch systolic-ws-32x32"),
    ("simulate_paper", "simulate paper --arch ganax-16x16"),
    ("simulate_assumptions", "simulate faces --assumptions --sensitivity --arch fcn-engine-16x16"),
    ("simulate_forms", "simulate sngan --arch regular-2d-32x7 --form split:union --form split_rows --skip both"),
    ("simulate_unknown", "simulate alexnet"),
    ("simulate_unknown_architecture", "simulate dcgan --arch abacus"),
    ("missing_file", "convert absent.onnx out.onnx"),
    ("missing_file_tflite", "inspect absent.tflite"),
    ("folder", "inspect ."),
)


def cases() -> Iterator[Case]:
    """All cases, one folder for each model."""
    yield from ((f"general.{name}", partial(_general, arguments)) for name, arguments in GENERAL)
    yield "general.layers", _layers
    yield "general.objects", _objects
    yield "general.external_data", _external_data
    for name, suffix, content in (*_built(), *_fixtures()):
        yield from _of_model(name, suffix, content, candidates=True)
    yield from _malformed()
    for path in (SHARED / name for name in REAL if (SHARED / name).exists()):
        name = f"real_{path.stem.replace('.', '_')}" + ("_tflite" if path.suffix == ".tflite" else "")
        yield from _of_model(name, path.suffix, path.read_bytes, verify=path.name not in UNVERIFIED)
    contents = {name: (suffix, content) for name, suffix, content in _built()}
    for name, model, arguments in OPTIONS:
        yield f"options.{name}", partial(_command, *contents[model], arguments)


def _built() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Models that are built here: name, suffix and content."""
    from tests.guards import onnx_corpus, tflite_corpus  # noqa: PLC0415  # not needed to compare

    for name, build in onnx_corpus.MODELS.items():
        yield name, ".onnx", partial(_serialised, build)
    for name, make in tflite_corpus.MODELS.items():
        yield name, ".tflite", make


def _serialised(build: Callable[[], onnx.ModelProto]) -> bytes:
    return bytes(build().SerializeToString())


def _fixtures() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    return ((path.stem, path.suffix, path.read_bytes) for path in sorted(FIXTURES.glob("*.onnx")))


def _of_model(
    name: str, suffix: str, content: Callable[[], bytes], *, candidates: bool = False, verify: bool = True
) -> Iterator[Case]:
    """Inspection, a whole conversion, each lowering without its proof, and for small models each candidate."""
    command = partial(_command, suffix, content)
    out = f"out{suffix}"
    yield f"{name}.inspect", partial(command, "inspect {} --json run.json")
    proof = "" if verify else " --no-verify"
    yield f"{name}.convert", partial(command, f"convert {{}} {out} {RULE} --json run.json --save-plan plan.json{proof}")
    for lowering in _lowerings():
        yield f"{name}.{lowering}", partial(command, f"convert {{}} {out} {RULE} --lowering {lowering} --no-verify")
    if candidates:
        yield f"{name}.candidates", partial(_candidates, suffix, content)


def _malformed() -> Iterator[Case]:
    """Files that are no models, or only half of one."""
    contents = {name: (suffix, content) for name, suffix, content in _built()}
    for name in ("plane", "tflite_same"):
        suffix, content = contents[name]
        whole = content()
        broken = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"no model at all\n" * 9}
        for kind, part in broken.items():
            command = partial(_command, suffix, partial(bytes, part))
            yield f"malformed.{kind}_{name}_inspect", partial(command, "inspect {}")
            yield f"malformed.{kind}_{name}_convert", partial(command, f"convert {{}} out{suffix}")


def _command(suffix: str, content: Callable[[], bytes], arguments: str) -> str:
    """One command on a model that lies in the current folder as ``in`` with its suffix."""
    with workplace() as folder:
        (folder / f"in{suffix}").write_bytes(content())
        return transcript(arguments.replace("{}", f"in{suffix}").split())


def _general(arguments: str) -> str:
    with workplace():
        return transcript(arguments.split())


def _candidates(suffix: str, content: Callable[[], bytes]) -> str:
    """What each candidate of the model's sites writes: one line for each."""
    with workplace() as folder:
        source, out = folder / f"in{suffix}", Path(f"out{suffix}")
        source.write_bytes(content())
        _, record, _ = run(["inspect", source.name, "--json", "-"])
        if not record.startswith("{"):
            return "no record\n"
        choices = json.loads(record)["plan"]["choices"]
        names = dict.fromkeys(option["candidate"] for choice in choices for option in choice["options"])
        lines = []
        for name in names:
            code, _, error = run(
                ["convert", source.name, out.name, "--target", "generic", "--lowering", name, "--no-verify"]
            )
            lines.append(f"{name}: exit code {code}, {digest(out) if out.exists() else normal(error.strip())}")
            out.unlink(missing_ok=True)
        return "\n".join(lines) + "\n"


def _lowerings() -> Sequence[str]:
    """The lowerings that the product names when it is asked for one that it does not have."""
    if not _KNOWN:
        with workplace() as folder:
            shutil.copy(sorted(FIXTURES.glob("*.onnx"))[0], folder / "in.onnx")
            _, _, error = run(["convert", "in.onnx", "out.onnx", "--lowering", "?"])
        found = re.search(r"there are (.*)", error)
        if found is None:
            raise SystemExit(f"no list of lowerings in {error!r}")
        _KNOWN.extend(found[1].split(", "))
    return _KNOWN


_KNOWN: list[str] = []


def _layers() -> str:
    """Lists of layers, as ``bench`` and as ``simulate`` take them."""
    deconv = {"kind": "deconv", "name": "up", "in_channels": 8, "out_channels": 5, "kernel": [4, 3], "stride": [2, 2]}
    network = {"name": "network", "layer": [{**deconv, "in_size": [9, 7], "pad_begin": [1, 0], "pad_end": 1}]}
    entry = {"name": "plane", "in_channels": 4, "out_channels": 3, "kernel": 4, "stride": 2, "in_size": [5, 6]}
    with workplace() as folder:
        (folder / "layers.json").write_text(json.dumps([{**entry, "pad_begin": 1}]))
        (folder / "network.json").write_text(json.dumps(network))
        commands = (
            "simulate network.json --layers",
            "simulate layers.json",
            "bench --layers layers.json --only none",
            "bench --layers network.json",
            "bench --layers absent.json",
        )
        return "\n".join(transcript(each.split()) for each in commands)


def _external_data() -> str:
    """A model whose weights lie in a file beside it, converted, and copied because nothing is rewritten."""
    import onnx  # noqa: PLC0415  # not needed to compare

    from tests.guards import onnx_corpus  # noqa: PLC0415

    with workplace():
        model = onnx_corpus.MODELS["chain"]()
        onnx.save(model, "in.onnx", save_as_external_data=True, location="in.data", size_threshold=0)
        Path("other").mkdir()
        convert = f"convert in.onnx {{}} {RULE}"
        commands = (convert.format("out.onnx") + " --json run.json", convert.format("other/out.onnx") + " --skip *")
        return "\n".join(transcript(each.split()) for each in commands)


def _objects() -> str:
    """The Python functions on a model in memory, and on what is no model."""
    import splitdeconv  # noqa: PLC0415  # not needed to compare
    from tests.guards import onnx_corpus  # noqa: PLC0415

    source = onnx_corpus.MODELS["chain"]()
    conversion = splitdeconv.convert(source, target="generic")
    written = conversion.model.SerializeToString()  # type: ignore[attr-defined]
    lines = [
        f"sites: {json.loads(conversion.plan.to_json())['sites']}",
        f"passed: {conversion.verdict.passed}",
        f"sha256 {hashlib.sha256(written).hexdigest()}",
    ]
    for call in (splitdeconv.convert, splitdeconv.inspect, splitdeconv.bench):
        try:
            call([])
        except splitdeconv.SplitdeconvError as error:
            lines.append(f"{call.__name__}: {type(error).__name__}: {error}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(snapshots.main(str(__doc__).splitlines()[0], cases))
