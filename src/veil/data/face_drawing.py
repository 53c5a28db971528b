"""Anti-aliased drawing of many pictures at once: shapes are signed distances, edges are ramps.

A `Patch` is a band of rows of n pictures, with two coordinate systems: the head plane (`u` to the
right, `v` down, the chin near v = 0.66) and the same plane wrapped around the turned head
(`across`, `down`), in which eyes, nose and mouth are symmetric about 0. All arrays are float32
and broadcast as (n, rows, columns); what varies by picture only is (n, 1, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# NumPy's stubs take float32 times a Python number for float64, so only the kind is declared.
Field = NDArray[np.floating[Any]]  # (n, h, w), or (n, 1, 1) for one value a picture
Colour = NDArray[np.floating[Any]]  # (3, n, h, w) or (3, n, 1, 1), RGB in [0, 1]


@dataclass(frozen=True, slots=True)
class Patch:
    """A band of rows of n pictures being painted.

    Attributes:
        rgb: (3, n, h, w) the picture so far, painted in place.
        x, y: (1, 1, w) and (1, h, 1) position in the picture, -1 to 1, left to right, top down.
        u, v: (n, h, w) position in the head plane.
        across, down: (n, h, w) position on the turned face.
        edge: (n, h, w) signed distance to the outline of the head, negative inside.
        sharp: (n, 1, 1) edges per unit: pixels a unit over the width of the blur in pixels.
    """

    rgb: NDArray[np.float32]
    x: Field
    y: Field
    u: Field
    v: Field
    across: Field
    down: Field
    edge: Field
    sharp: Field

    def rows(self, top: float, bottom: float) -> Patch:
        """The band between two heights of the picture, which is all that a part may touch."""
        h = self.rgb.shape[2]
        band = slice(max(0, int((top + 1) / 2 * h)), min(h, int((bottom + 1) / 2 * h) + 1))
        return Patch(
            self.rgb[:, :, band],
            self.x,
            self.y[:, band],
            self.u[:, band],
            self.v[:, band],
            self.across[:, band],
            self.down[:, band],
            self.edge[:, band],
            self.sharp,
        )

    def paint(self, cover: Field, colour: Colour) -> None:
        """Blend `colour` over the picture where `cover` (0 to 1) says."""
        change = colour - self.rgb
        change *= cover
        self.rgb[...] += change

    def inside(self, distance: Field) -> Field:
        """Cover of the region where the signed distance is negative."""
        cover = distance * -self.sharp
        cover += np.float32(0.5)
        return np.clip(cover, 0, 1, out=cover)

    def stroke(self, distance: Field, radius: Field | float) -> Field:
        """Cover of a line `radius` to each side of distance 0; thin lines fade, never vanish."""
        half_pixel = np.float32(0.5) / self.sharp
        drawn = np.maximum(radius, half_pixel)
        cover = self.inside(np.abs(distance) - drawn)
        cover *= radius / drawn
        return cover

    def ellipse(self, x: Field, y: Field, width: Field | float, height: Field | float) -> Field:
        """Cover of the ellipse about (0, 0) with the given half-axes."""
        radius = np.sqrt(squared(x / width) + squared(y / height))
        radius -= 1
        small = np.minimum(width, height)
        cover = self.inside(radius * small)
        # Smaller than a pixel, an ellipse covers part of it only.
        cover *= np.minimum(1, 2 * small * self.sharp)
        return cover


def squared(x: Field) -> Field:
    return x * x


def glow(x: Field, y: Field, width: Field | float, height: Field | float) -> Field:
    """A soft spot: 1 at (0, 0), falling to 0 at the ellipse with the given half-axes."""
    spot = 1 - squared(x / width) - squared(y / height)
    np.maximum(spot, 0, out=spot)
    return squared(spot)


def step(x: Field, start: Field | float, end: Field | float) -> Field:
    """0 before `start`, 1 after `end`, smooth between (Hermite)."""
    t = np.clip((x - start) / (end - start), 0, 1)
    smooth: Field = t * t * (3 - 2 * t)
    return smooth


def rgb(red: float, green: float, blue: float) -> Colour:
    """One colour for every picture, (3, 1, 1, 1)."""
    return np.array([red, green, blue], dtype=np.float32).reshape(3, 1, 1, 1)


def one_of(chance: Field, colours: tuple[tuple[float, float, float], ...]) -> Colour:
    """The colour that a uniform draw on (0, 1) picks for each picture."""
    pick = (chance[:, 0, 0] * len(colours)).astype(np.int64)
    picked: Colour = np.array(colours, dtype=np.float32)[pick].T[:, :, None, None]
    return picked


def mix(first: Colour, second: Colour, share: Field | float) -> Colour:
    """`first` where share is 0, `second` where it is 1."""
    return first + (second - first) * share
