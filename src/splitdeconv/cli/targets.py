"""``splitdeconv targets``."""

from __future__ import annotations

import json as json_text

from splitdeconv.cli import app as shared
from splitdeconv.errors import SplitdeconvError
from splitdeconv.files import together
from splitdeconv.lowerings import LOWERINGS
from splitdeconv.pipeline.open import GENERIC
from splitdeconv.report import listing
from splitdeconv.report.listing import Listing
from splitdeconv.targets import TARGETS, target


@shared.app.command("targets", epilog="Example: `splitdeconv targets --json -`")
def show_targets(json: shared.Json = None) -> None:
    """List the targets: what is installed, what each takes, and how to install the rest; and the lowerings."""
    found = [_describe(name) for name in sorted(TARGETS)]
    found.insert(0, {"target": GENERIC, "takes": "all formats", "kind": "rule", "state": "always there"})
    if json is not None:
        with together([], [("--json", json)]):
            shared.emit_json(json_text.dumps(found, indent=2) + "\n", json)
        if str(json) == "-":
            return
    out = shared.console()
    rows = [(each["target"], each["takes"], each["kind"], each["state"]) for each in found]
    listing.show(out, Listing(("target", "takes", "kind", "state"), rows, text="state"))
    out.print()
    named = [(each.name, each.summary, each.source) for each in LOWERINGS.values()]
    listing.show(out, Listing(("lowering", "what it does", "source"), named, text="what it does"))


def _describe(name: str) -> dict[str, str]:
    """One target, or how to install it."""
    try:
        made = target(name)
    except SplitdeconvError as error:
        return {"target": name, "takes": "", "kind": "", "state": str(error)}
    versions = ", ".join(f"{package} {version}" for package, version in made.environment().versions.items())
    return {"target": name, "takes": ", ".join(made.formats), "kind": made.kind, "state": f"installed: {versions}"}
