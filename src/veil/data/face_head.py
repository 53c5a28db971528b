"""The head that the parts are drawn on: its measures, pose, landmarks, skin and shading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veil.data.face_causes import Faces
from veil.data.face_drawing import Colour, Field, Patch, mix, rgb, squared

CHIN = 0.66


@dataclass(frozen=True)
class Head:
    """The measures of n heads and how they are held; (n, 1, 1) fields.

    Lengths are in units of half the picture at scale 1, angles in radians.
    """

    width: Field  # half the width, at the eyes
    taper: Field  # how much narrower the chin is
    square: Field  # how angular the jaw is
    eye_x: Field
    eye_y: Field
    nose_y: Field
    mouth_y: Field
    mouth_width: Field
    smile: Field  # -0.14 (serious) to 0.96
    gap: Field  # half the height of the open mouth
    scale: Field
    left: Field
    top: Field
    tilt: Field
    turn: Field
    nod: Field

    @classmethod
    def of(cls, f: Faces) -> Head:
        male, child = f["Male"], f.child
        smiling, opened = f["Smiling"], f["Mouth_Slightly_Open"]
        smile = smiling * (0.66 + 0.30 * f.chance_of_photo("smile"))
        smile = smile + (1 - smiling) * (0.22 * f.chance_of_photo("serious") - 0.14)
        width = 0.475 + 0.018 * f.of_person("face width") + 0.025 * male + 0.05 * child
        width = width + 0.055 * f["Chubby"] - 0.035 * f["Oval_Face"]
        taper = 0.30 + 0.035 * f.of_person("jaw") - 0.10 * male - 0.17 * f["Chubby"]
        mouth_width = 0.185 + 0.012 * f.of_person("mouth width") + 0.008 * male
        lower = 0.05 * child
        return cls(
            width=width,
            taper=taper + 0.10 * f["Oval_Face"] + 0.04 * (1 - male) - 0.05 * child,
            square=0.12 + 0.05 * f.of_person("jaw angle") + 0.32 * male * (1 - 0.5 * child),
            eye_x=0.213 + 0.012 * f.of_person("eye distance") + 0.01 * child,
            eye_y=-0.05 + 0.015 * f.of_person("eye height") + lower,
            nose_y=0.185 + 0.018 * f.of_person("nose length") + 0.5 * lower,
            mouth_y=0.375 + 0.014 * f.of_person("mouth height") + 0.3 * lower,
            mouth_width=mouth_width * (1 + 0.28 * np.maximum(smile, 0) - 0.1 * opened),
            smile=smile,
            gap=opened * (0.042 + 0.030 * f.chance_of_photo("gap")),
            scale=1.09 + 0.032 * f.of_photo("scale"),
            left=0.03 * f.of_photo("left"),
            top=-0.01 + 0.025 * f.of_photo("top"),
            tilt=0.075 * f.of_photo("tilt"),
            turn=0.17 * f.of_photo("turn"),
            nod=0.018 * f.of_photo("nod"),
        )

    def patch(self, size: int, blur: Field) -> Patch:
        """A black patch of n whole pictures, with its coordinates; `blur` in pixels."""
        n = len(self.scale)
        centres = ((np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1).astype(np.float32)
        x, y = centres[None, None, :], centres[None, :, None]
        cos, sin = np.cos(self.tilt) / self.scale, np.sin(self.tilt) / self.scale
        u = cos * (x - self.left) + sin * (y - self.top)
        v = cos * (y - self.top) - sin * (x - self.left)
        depth = np.sqrt(np.maximum(squared(self._roundness) - squared(u), 0))
        across = u * np.cos(self.turn) - depth * np.sin(self.turn)
        sharp = np.float32(size / 2) * self.scale / blur
        black = np.zeros((3, n, size, size), dtype=np.float32)
        return Patch(black, x, y, u, v, across, v - self.nod, self.distance(u, v), sharp)

    @property
    def _roundness(self) -> Field:
        return 1.25 * self.width

    def pixel(self, across: Field, down: Field, size: int) -> tuple[Field, Field]:
        """Where a point of the face lies in the picture, in pixels from its top left corner."""
        depth = np.sqrt(squared(self._roundness) - squared(across))
        u = across * np.cos(self.turn) + depth * np.sin(self.turn)
        v = down + self.nod
        x = self.left + self.scale * (np.cos(self.tilt) * u - np.sin(self.tilt) * v)
        y = self.top + self.scale * (np.sin(self.tilt) * u + np.cos(self.tilt) * v)
        return (x + 1) * (size / 2) - 0.5, (y + 1) * (size / 2) - 0.5

    def landmarks(self, size: int) -> NDArray[np.float32]:
        """(n, 10) left eye, right eye, nose tip, left and right mouth corner: x1, y1, ..., y5.

        Left and right of the picture; pixels, (0, 0) the centre of the top left pixel.
        """
        corner_y = self.mouth_y - self.lift * 0.62
        points: tuple[tuple[Field, Field], ...] = (
            (-self.eye_x, self.eye_y),
            (self.eye_x, self.eye_y),
            (self.nose_shift, self.nose_y - 0.045),
            (-self.mouth_width, corner_y),
            (self.mouth_width, corner_y),
        )
        columns = [c for across, down in points for c in self.pixel(across, down, size)]
        return np.concatenate(columns, axis=1)[:, :, 0].astype(np.float32)

    @property
    def nose_shift(self) -> Field:
        """The nose stands out, so it moves further when the head turns."""
        return 0.13 * np.sin(self.turn)

    @property
    def lift(self) -> Field:
        """How far a smile lifts the corners of the mouth above its middle."""
        return 0.105 * self.smile

    def distance(self, u: Field, v: Field) -> Field:
        """Signed distance to the outline: an ellipse, below the eyes tapered and angular."""
        down = v / np.float32(CHIN)
        below = squared(np.clip(down, 0, 1))
        across = squared(u / (self.width * (1 - self.taper * below)))
        radius = across + squared(down)
        across *= below
        across *= self.square
        radius -= across
        np.maximum(radius, 0, out=radius)
        np.sqrt(radius, out=radius)
        radius -= 1
        radius *= self.width
        return radius


def skin_colour(f: Faces) -> Colour:
    tone = f.skin() * (1 + 0.07 * f.of_person("skin lightness"))
    warmth = 0.012 * f.of_person("skin warmth")
    tone = tone + np.concatenate([warmth[None], 0 * warmth[None], -warmth[None]])
    pale = mix(tone, rgb(0.99, 0.91, 0.87), 0.66 * f["Pale_Skin"])
    return np.clip(pale, 0.05, 0.98).astype(np.float32)


def shade(p: Patch, f: Faces, head: Head, outline: Field) -> None:
    """Shade the head as a rounded body under one lamp (Lambert)."""
    towards_x, towards_y = 0.42 * f.of_photo("light x"), -0.25 + 0.22 * f.of_photo("light y")
    x, y = p.u / (1.12 * head.width), p.v / (1.12 * CHIN)
    z = np.sqrt(np.maximum(1 - squared(x) - squared(y), 0.02))
    facing = (towards_x * x + towards_y * y + 0.9 * z) / np.sqrt(
        squared(towards_x) + squared(towards_y) + 0.81
    )
    light = 0.52 + 0.56 * np.maximum(facing, 0)
    light = 1 + outline * (light - 1)
    p.rgb[0] *= 0.35 + 0.65 * light  # skin scatters red: its shadows are warm
    p.rgb[1:] *= light
