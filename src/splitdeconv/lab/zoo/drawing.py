"""Cartoon faces drawn from sixteen numbers: what the small generator is trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor

NUMBERS = 16  # of each face: see draw()
SOFTNESS = 1.25  # of edges, in pixels


def draw(z: Tensor, size: int = 64) -> Tensor:
    """Faces, ``(N, 3, size, size)``, values between −1 and 1.

    Args:
        z: ``(N, 16)``, standard normal: hues of background, skin, hair and shirt; the head's width, height, place and
            tilt; size and distance of the eyes, gaze; curve and opening of the mouth; brows; how long the hair is.
        size: pixels of a side.
    """
    a = torch.erf(z / math.sqrt(2)).unbind(1)  # uniform between −1 and 1
    page = _Page(len(z), size, _tint(a[0], 0.35, 0.85))
    page.move(0.05 * a[4], 0.04 * a[5], 0.12 * a[6])
    width, height = 0.50 + 0.10 * a[7], 0.60 + 0.09 * a[8]
    hair, skin = _tint(a[1], 0.55, 0.42), _tint(0.07 + 0.05 * a[2], 0.5, 0.92, turns=True)
    length = 0.35 + 0.35 * a[9]
    page.ellipse(0, 0.95, 0.62, 0.42, _tint(a[3], 0.6, 0.75))  # shirt
    page.ellipse(0, -0.10 + 0.25 * length, width + 0.12, height * (0.75 + 0.45 * length), hair)
    page.ellipse(0, 0.72, 0.17, 0.22, skin * 0.9)  # neck
    page.ellipse(0, 0.05, width, height, skin)
    page.ellipse(0, 0.05 - height * 0.92, width * 0.85, height * 0.42, hair)  # fringe
    _eyes(page, a)
    _mouth(page, a)
    return page.image * 2 - 1


def _eyes(page: _Page, a: tuple[Tensor, ...]) -> None:
    white, black = page.colour(1.0, 1.0, 1.0), page.colour(0.08, 0.07, 0.12)
    size, apart = 0.13 + 0.04 * a[10], 0.24 + 0.05 * a[11]
    for side in (-1, 1):
        page.ellipse(side * apart, -0.03, size, size * 1.15, white)
        page.ellipse(side * apart + 0.05 * a[12], -0.02, size * 0.52, size * 0.6, black)
        page.ellipse(side * apart, -0.27, 0.13, 0.035, black, slope=side * 0.5 * a[13])


def _mouth(page: _Page, a: tuple[Tensor, ...]) -> None:
    """A bow: thick where the mouth is open, bent up or down."""
    opening = 0.055 + 0.04 * a[15]
    page.ellipse(0, 0.36, 0.27, opening, page.colour(0.55, 0.08, 0.12), bend=-1.8 * a[14])
    page.ellipse(0, 0.20, 0.045, 0.07, page.colour(0.0, 0.0, 0.0), strength=0.18)  # nose


class _Page:
    """Images under the pen, and where the pen's origin is."""

    def __init__(self, count: int, size: int, background: Tensor) -> None:
        places = (torch.arange(size) + 0.5) / size * 2 - 1
        self.y, self.x = torch.meshgrid(places, places, indexing="ij")
        self.unit = 2 / size
        shade = 1 - 0.12 * self.y
        self.image = (background[:, :, None, None] * shade).clamp(0, 1)
        self.count = count

    def colour(self, red: float, green: float, blue: float) -> Tensor:
        """One colour for all images."""
        return torch.tensor([red, green, blue]).expand(self.count, 3)

    def move(self, right: Tensor, down: Tensor, angle: Tensor) -> None:
        """Shift and turn what is drawn from here on."""
        x, y = self.x - right[:, None, None], self.y - down[:, None, None]
        cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
        self.x, self.y = cosine * x + sine * y, cosine * y - sine * x

    def ellipse(
        self,
        x: Tensor | float,
        y: Tensor | float,
        radius_x: Tensor | float,
        radius_y: Tensor | float,
        colour: Tensor,
        *,
        slope: Tensor | float = 0.0,
        bend: Tensor | float = 0.0,
        strength: float = 1.0,
    ) -> None:
        """A filled ellipse, sheared by ``slope`` and bent into a bow by ``bend``."""
        cx, cy, rx, ry, slope, bend = (self._spread(each) for each in (x, y, radius_x, radius_y, slope, bend))
        dx = self.x - cx
        dy = self.y - cy - slope * dx - bend * (dx * dx - rx * rx / 3)
        distance = torch.sqrt((dx / rx) ** 2 + (dy / ry) ** 2 + 1e-9)
        gradient = torch.sqrt((dx / rx**2) ** 2 + (dy / ry**2) ** 2 + 1e-9) / distance
        cover = ((1 - distance) / gradient / (SOFTNESS * self.unit) + 0.5).clamp(0, 1) * strength
        self.image = self.image + cover[:, None] * (colour[:, :, None, None] - self.image)

    @staticmethod
    def _spread(value: Tensor | float) -> Tensor:
        return value[:, None, None] if isinstance(value, Tensor) else torch.tensor(value)


def _tint(hue: Tensor, saturation: float, value: float, *, turns: bool = False) -> Tensor:
    """RGB of hues: ``(N,)`` to ``(N, 3)``; −1 to 1 goes over most of the circle unless given in ``turns``."""
    angle = hue if turns else 0.45 * hue + 0.5
    offsets = torch.tensor([0.0, 1 / 3, 2 / 3])
    wave = torch.cos(2 * math.pi * (angle[:, None] - offsets))
    return value * (1 - saturation / 2 + saturation / 2 * wave)
