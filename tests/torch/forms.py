"""Every form of a deconv in PyTorch."""

from __future__ import annotations

from splitdeconv.deconv.spec import Deconv
from splitdeconv.lowerings import candidates
from splitdeconv.lowerings.candidate import NATIVE
from splitdeconv.torch_modules.forms import LAYOUTS
from splitdeconv.torch_modules.interpret import Form


def all_forms(deconv: Deconv) -> list[Form]:
    """Every form of every lowering, PyTorch's own deconv as the model has it first."""
    own = Form(NATIVE, "NCHW")
    by_layout = {layout: candidates(deconv, "NHWC" if layout == "NHWC" else "NCHW")[0] for layout in LAYOUTS}
    found = [Form(candidate, layout) for layout, each in by_layout.items() for candidate in each]
    return [own, *(form for form in found if form != own)]
