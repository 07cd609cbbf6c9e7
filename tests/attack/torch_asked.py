"""Exported programs with arithmetic to fold, sub-pixel convolutions, run-time weights and interpolations."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from tests.attack.harness import Outcome, Worker
from tests.attack.torch_programs import FORMS, on_sound_program

SHORT = ("--budget", "0.1", "--no-cache")
INTERPOLATIONS: tuple[dict[str, Any], ...] = (
    {"mode": "bilinear"},
    {"mode": "bilinear", "align_corners": True},
    {"mode": "bicubic"},
    {"mode": "area"},
)


def asked(worker: Worker, rng: Random) -> Outcome:
    """A conversion of one of these, with the option for it."""
    kind = rng.choice((_foldable, _sub_pixel, _computed, _interpolated))
    found = _exported(*kind(rng))
    if found is None:
        return Outcome("not a case")
    target = "torch" if kind is _sub_pixel else rng.choice(("generic", "generic", "torch"))
    options = {_foldable: ["--fold"], _sub_pixel: ["--to-deconv"]}.get(kind, [])
    form = rng.choice((*FORMS, "convolve_first") if kind is _interpolated else FORMS)
    options += ["--lowering", form] if form and kind is not _sub_pixel else []
    return on_sound_program(worker, found, ["convert", "m.pt2", "o.pt2", "--target", target, *SHORT, *options])


def _exported(module: Any, *examples: Any) -> Any:
    """The program; None where the module does not take the examples."""
    import torch  # noqa: PLC0415  # an extra

    module.eval()
    try:
        module(*examples)
    except RuntimeError:
        return None
    return torch.export.export(module, examples)


def _forward(forward: Callable[..., Any], **parts: Any) -> Any:
    """A module of these parts, of which ``forward`` gets the module and the inputs."""
    from torch import nn  # noqa: PLC0415

    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *inputs: Any) -> Any:
            return forward(self, *inputs)

    return Module()


def _numbers(rng: Random, rank: int) -> dict[str, Any]:
    """Of a deconv."""
    kernel = tuple(rng.choice((1, 2, 3, 4)) for _ in range(rank))
    stride = tuple(rng.choice((1, 2, 2, 3)) for _ in range(rank))
    padding = tuple(rng.randrange(0, size) // 2 for size in kernel)
    beyond = tuple(rng.randrange(0, each) for each in stride)
    return {"kernel_size": kernel, "stride": stride, "padding": padding, "output_padding": beyond}


def _map(rng: Random, channels: int, rank: int) -> Any:
    import torch  # noqa: PLC0415

    torch.manual_seed(rng.getrandbits(32))
    return torch.randn(rng.choice((1, 2)), channels, *(rng.randrange(2, 7) for _ in range(rank)))


def _foldable(rng: Random) -> tuple[Any, ...]:
    """Arithmetic with numbers and with one for each channel, and batch norms, around a deconv."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    rank, channels, outs = rng.choice((1, 2, 2, 3)), rng.choice((1, 2, 4)), rng.choice((1, 2, 4))
    x = _map(rng, channels, rank)
    deconv = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[rank - 1]
    parts: dict[str, Any] = {"up": deconv(channels, outs, bias=rng.random() < 0.6, **_numbers(rng, rank))}

    def step(name: str, size: int) -> Callable[[Any, Any], Any]:
        kind = rng.choice(("mul", "add", "sub", "rsub", "div", "norm", "relu" if name[0] == "b" else "mul"))
        if kind == "norm":
            parts[name] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[rank - 1](size)
            return lambda module, y: getattr(module, name)(y)
        if kind == "relu":
            return lambda _, y: y.relu()
        parts[name] = nn.Parameter(torch.rand(rng.choice((1, size)), *[1] * rank) + 0.5)
        arithmetic: dict[str, Callable[[Any, Any], Any]] = {
            "mul": lambda y, s: y * s,
            "add": lambda y, s: y + s,
            "sub": lambda y, s: y - s,
            "rsub": lambda y, s: s - y,
            "div": lambda y, s: y / s,
        }
        return lambda module, y: arithmetic[kind](y, getattr(module, name))

    front = [step(f"front{number}", channels) for number in range(rng.randrange(3))]
    behind = [step(f"behind{number}", outs) for number in range(rng.randrange(1, 4))]

    def forward(module: Any, y: Any) -> Any:
        for each in front:
            y = each(module, y)
        y = module.up(y)
        for each in behind:
            y = each(module, y)
        return y

    return _forward(forward, **parts), x


def _sub_pixel(rng: Random) -> tuple[Any, ...]:
    """PixelShuffle, or reshaping by hand."""
    from torch import nn  # noqa: PLC0415

    channels, outs, block = rng.choice((1, 2, 4)), rng.choice((1, 2, 3)), rng.choice((2, 2, 3))
    kernel = rng.choice((1, 2, 3)), rng.choice((1, 2, 3))
    conv = nn.Conv2d(channels, outs * block**2, kernel, padding=rng.randrange(2), bias=rng.random() < 0.6)
    by_hand = rng.random() < 0.4

    def forward(module: Any, x: Any) -> Any:
        y = module.conv(x)
        if not by_hand:
            return nn.functional.pixel_shuffle(y, block).relu()
        batch, _, height, width = y.shape
        parts = y.reshape(batch, block, block, outs, height, width).permute(0, 3, 4, 1, 5, 2)
        return parts.reshape(batch, outs, block * height, block * width)

    return _forward(forward, conv=conv), _map(rng, channels, 2)


def _computed(rng: Random) -> tuple[Any, ...]:
    """A deconv whose weights a style scales in each run; images as groups, or not."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    rank, channels, outs = rng.choice((1, 2, 2, 3)), rng.choice((1, 2, 3)), rng.choice((1, 2))
    numbers = _numbers(rng, rank)
    kernel = numbers.pop("kernel_size")
    x, grouped = _map(rng, channels, rank), rng.random() < 0.4
    call = (nn.functional.conv_transpose1d, nn.functional.conv_transpose2d, nn.functional.conv_transpose3d)[rank - 1]
    weight, ones = nn.Parameter(torch.randn(channels, outs, *kernel)), (1,) * (rank + 1)

    def forward(module: Any, y: Any, style: Any) -> Any:
        if not grouped:
            return call(y, module.weight * style[0].reshape(-1, *ones), **numbers)
        batch = y.shape[0]
        scaled = (module.weight[None] * style.reshape(batch, -1, *ones)).reshape(-1, outs, *kernel)
        made = call(y.reshape(1, -1, *y.shape[2:]), scaled, groups=batch, **numbers)
        return made.reshape(batch, outs, *made.shape[2:])

    return _forward(forward, weight=weight), x, torch.rand(x.shape[0], channels)


def _interpolated(rng: Random) -> tuple[Any, ...]:
    """A convolution, mostly 1×1, of an interpolated map, alone or beside another."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    channels, other, outs = rng.choice((1, 2, 6)), rng.choice((0, 0, 2)), rng.choice((1, 2, 4))
    x, options = _map(rng, channels, 2), rng.choice(INTERPOLATIONS)
    sizes = [int(size * rng.choice((1, 1.5, 2, 2, 3))) for size in x.shape[2:]]
    kernel = 1 if rng.random() < 0.8 else rng.choice((2, 3))
    conv = nn.Conv2d(channels + other, outs, kernel, padding=rng.randrange(kernel), bias=rng.random() < 0.6)

    def forward(module: Any, y: Any, *beside: Any) -> Any:
        large = nn.functional.interpolate(y, size=sizes, **options)
        return module.conv(torch.cat([large, *beside], 1)).relu()

    return _forward(forward, conv=conv), x, *([torch.randn(x.shape[0], other, *sizes)] if other else [])
