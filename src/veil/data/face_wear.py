"""What surrounds a face: background, clothes, hair, hats, glasses, jewellery, and the camera."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from veil.data.face_causes import Faces
from veil.data.face_drawing import Colour, Field, Patch, glow, mix, one_of, rgb, squared, step
from veil.data.face_head import Head
from veil.data.face_parts import INK

HAIR = {
    "Gray_Hair": (0.70, 0.70, 0.71),
    "Blond_Hair": (0.88, 0.73, 0.42),
    "Black_Hair": (0.09, 0.08, 0.08),
    "Brown_Hair": (0.36, 0.22, 0.13),
}
# Hair that carries none of the four labels, as a third of CelebA's does.
OTHER_HAIR = ((0.53, 0.21, 0.11), (0.60, 0.47, 0.33), (0.57, 0.41, 0.25))


def any_colour(f: Faces, name: str, darkest: float, brightest: float) -> Colour:
    """A muted colour drawn for each photo."""
    channels = [f.chance_of_photo(f"{name} {channel}") for channel in ("red", "green", "blue")]
    hue = np.stack(channels)
    return darkest + (brightest - darkest) * (0.45 * hue + 0.55 * hue[:1])


def background(p: Patch, f: Faces) -> None:
    first, second = any_colour(f, "wall", 0.12, 0.9), any_colour(f, "far wall", 0.12, 0.9)
    slope = f.of_photo("wall slope")
    blend = step(p.y + 0.6 * slope * p.x, -1.0, 1.0)
    p.rgb[...] = mix(first, second, blend)
    for i in range(2):
        x, y = p.x - 0.6 * f.of_photo(f"spot {i} x"), p.y - 0.6 * f.of_photo(f"spot {i} y")
        p.paint(0.6 * glow(x, y, 0.7, 0.7), any_colour(f, f"spot {i}", 0.1, 0.95))


def hair_colours(f: Faces, p: Patch) -> Colour:
    """The hair's colour; streaks where more than one of the four colours is asked for."""
    none = one_of(f.chance_of_person("other hair"), OTHER_HAIR)
    first, second = none, none
    found = np.zeros_like(f["Gray_Hair"])
    for name, colour in HAIR.items():
        has = f[name]
        first = np.where(has * (found == 0) > 0, rgb(*colour), first)
        second = np.where(has > 0, rgb(*colour), second)
        found = found + has
    if bool((found > 1).any()):
        stripes = 0.5 + 0.42 * np.sin(46 * p.u)
        return mix(first, second, np.where(found > 1, stripes, np.float32(0)))
    return first


class Hair:
    """The hair of n heads: drawn behind the head first, and over it later."""

    def __init__(self, p: Patch, f: Faces, head: Head) -> None:
        male = f["Male"]
        self.f, self.head = f, head
        self.wavy, self.straight = f["Wavy_Hair"], f["Straight_Hair"]
        chance = f.chance_of_person("hair length")
        long = (chance < 0.06) * male + (chance < 0.85) * (1 - male)
        self.long = (long * (f.chance_of_photo("hair put up") > 0.2)).astype(np.float32)
        self.volume = 0.075 + 0.014 * f.of_person("hair volume") + 0.035 * self.long
        self.grown = 1 - f["Bald"]
        colour = hair_colours(f, p) * (1 + 0.06 * f.of_person("hair tone"))
        # Strands: fine and parallel when straight, broad and curling when wavy.
        curl = 0.055 * np.sin(13 * p.v + 2 * f.of_person("curl"))
        self.sway = curl * self.wavy
        strands = np.sin((52 * self.straight + 24 * (1 - self.straight)) * (p.u + 1.4 * self.sway))
        amount = 0.05 + 0.10 * self.straight + 0.14 * self.wavy
        sheen = glow(p.u + 0.1, p.v + 0.55, 0.6, 0.25)
        colour = colour * (1 + amount * strands + 0.28 * sheen)
        self.colour = np.clip(colour + 0.05 * self.straight * strands, 0, 1)

    def behind(self, p: Patch) -> None:
        """Long hair falls behind neck and shoulders."""
        head = self.head
        length = 0.62 + 0.16 * self.f.chance_of_person("long hair length")
        half = head.width + 0.7 * self.volume + 0.03 + 0.05 * np.maximum(p.v, 0)
        half = half + 1.2 * self.sway * step(p.v, -0.4, 0.2)
        fall = p.inside(
            np.maximum(
                np.abs(p.u) - half, np.maximum(p.v - length + 0.35 * squared(p.u), -0.2 - p.v)
            )
        )
        dome = p.inside(np.maximum(p.edge - self.volume, p.v))
        cover = np.maximum(fall * self.long, dome) * self.grown
        p.paint(cover, self.colour * 0.72)

    def over(self, p: Patch) -> None:
        """The cap of hair above the hairline, the sides, and bangs."""
        f, head = self.f, self.head
        side = np.abs(p.across) / head.width
        receding = f["Receding_Hairline"]
        line = -0.43 + 0.018 * f.of_person("hairline") - 0.075 * receding
        line = line + 0.05 * f.of_person("parting") * p.across / head.width
        # The hairline comes down at the temples; a receding one climbs there first.
        temples = step(side, 0.62, 1.02) * (0.36 + 0.16 * self.long)
        corners = 0.17 * receding * squared(np.maximum(1 - squared((side - 0.5) / 0.34), 0))
        hairline = line + temples - corners + 0.4 * self.sway
        outer = p.edge - self.volume - 0.6 * self.sway
        ends = 0.02 + 0.55 * self.long
        cap = p.inside(np.maximum(np.maximum(outer, p.down - hairline), p.v - ends))
        p.paint(cap * self.grown, self.colour)
        # Beside the face: curtains of long hair over the ears.
        curtain = np.maximum(head.width * 0.93 - np.abs(p.u) + 0.8 * self.sway, outer)
        curtain = np.maximum(curtain, np.maximum(p.v - 0.55, -0.35 - p.v))
        p.paint(p.inside(curtain) * self.long * self.grown, self.colour * 0.9)
        if f["Bald"].any():  # it keeps a fringe at the ears
            fringe = np.maximum(p.edge - 0.03, head.width * 0.9 - np.abs(p.u))
            fringe = np.maximum(fringe, np.abs(p.v + 0.06) - 0.13)
            p.paint(p.inside(fringe) * f["Bald"], self.colour)
        self.bangs(p)

    def bangs(self, p: Patch) -> None:
        f, head = self.f, self.head
        jag = 0.028 * np.abs(np.mod(p.across * 9 + f.of_person("bangs"), 2) - 1)
        end = -0.225 + 0.018 * f.of_person("bangs end") + jag - 0.25 * squared(p.across)
        over = np.maximum(p.down - end, p.edge - 0.5 * self.volume)
        over = np.maximum(over, np.abs(p.across) - 0.92 * head.width)
        cover = p.inside(np.maximum(over, -0.62 - p.down))
        p.paint(f["Bangs"] * cover, self.colour * 0.93)


def torso(p: Patch, f: Faces, skin: Colour) -> None:
    """Neck, clothes, necktie and necklace."""
    male = f["Male"] * (1 - 0.5 * f.child)
    neck = 0.205 + 0.012 * f.of_person("neck") + 0.075 * male + 0.04 * f["Double_Chin"]
    side = np.abs(p.u)
    column = p.inside(np.maximum(side - neck - 0.25 * squared(np.maximum(p.v - 0.7, 0)), 0.2 - p.v))
    under_chin = step(p.v, 0.95, 0.6)
    p.paint(column, skin * (0.86 - 0.30 * under_chin))
    shoulders = 0.81 + 0.42 * squared(np.maximum(side - neck, 0)) - 0.04 * male
    dip = f.chance_of_photo("collar") * 0.10 * step(side, neck, 0)
    cloth = p.inside(shoulders + dip - p.v)
    clothes = any_colour(f, "clothes", 0.05, 0.85)
    p.paint(cloth, clothes)
    tie = f["Wearing_Necktie"]
    shirt = p.inside(np.maximum(side - 0.20 - 0.1 * (0.95 - p.v), 0.77 - p.v + 0.1 * side))
    p.paint(tie * shirt, rgb(0.93, 0.93, 0.95))
    knot = p.inside(np.maximum(side - 0.055 - 0.12 * np.maximum(p.v - 0.83, 0), 0.755 - p.v))
    p.paint(tie * knot, any_colour(f, "tie", 0.05, 0.6) * rgb(1.0, 0.3, 0.6))
    arc = p.v - 0.79 + 1.1 * squared(p.u)
    beads = 0.65 + 0.35 * np.sin(60 * p.u)
    chain = p.stroke(arc + 0.02, 0.018) * step(side, neck + 0.03, neck - 0.01)
    p.paint(f["Wearing_Necklace"] * chain, rgb(0.98, 0.88, 0.55) * beads)


def earrings(p: Patch, f: Faces, head: Head) -> None:
    x, y = np.abs(p.u) - head.width * 1.03, p.v - 0.20
    gold = f.chance_of_photo("earring") < 0.6
    metal = np.where(gold, rgb(0.98, 0.80, 0.28), rgb(0.93, 0.95, 0.99))
    ring = p.ellipse(x, y - 0.015, 0.044, 0.06)
    p.paint(f["Wearing_Earrings"] * ring, mix(INK, metal, squared(ring)))


def glasses(p: Patch, f: Faces, head: Head) -> None:
    wearing = f["Eyeglasses"]
    if not wearing.any():
        return
    x, y = np.abs(p.across) - head.eye_x, p.down - head.eye_y - 0.012
    square = f.chance_of_person("frames")
    wide, high = 0.168, 0.118 + 0.02 * f.of_person("lens height")
    across, down = squared(x / wide), squared(y / high)
    corners = 0.8 * square * np.minimum(across, 1) * np.minimum(down, 1)
    outline = (np.sqrt(across + down - corners) - 1) * high
    frame = any_colour(f, "frames", 0.02, 0.35)
    p.paint(wearing * 0.16 * p.inside(outline), rgb(0.75, 0.85, 0.95))
    p.paint(wearing * p.stroke(outline, 0.017), frame)
    bridge = p.stroke(y + 0.03 - 0.3 * squared(p.across), 0.015)
    bridge *= step(np.abs(p.across), head.eye_x - 0.13, head.eye_x - 0.16)
    p.paint(wearing * bridge, frame)
    temple = (
        p.stroke(y + 0.03, 0.014)
        * step(x, 0.15, 0.17)
        * step(np.abs(p.u), head.width + 0.05, head.width)
    )
    p.paint(wearing * temple, frame)


def hat(p: Patch, f: Faces, head: Head) -> None:
    wearing = f["Wearing_Hat"]
    if not wearing.any():
        return
    cloth = any_colour(f, "hat", 0.06, 0.9)
    brim = f.chance_of_photo("brim") < 0.5
    edge = -0.36 + 0.10 * squared(p.across / head.width)
    crown = p.inside(np.maximum(p.edge - 0.13, p.v - edge))
    p.paint(wearing * crown, cloth * (0.92 + 0.10 * np.sin(40 * p.u * (1 - brim))))
    band = p.stroke(p.v - edge + 0.035, 0.04) * crown
    p.paint(wearing * band, cloth * 0.62)
    shade = p.ellipse(p.across, p.v - edge + 0.01, head.width * 1.25, 0.075)
    p.paint(wearing * brim * shade, cloth * 0.5)


def camera(p: Patch, f: Faces, size: int) -> NDArray[np.uint8]:
    """Exposure, white balance, sensor noise, 8 bits: (n, size, size, 3)."""
    slope = 0.10 * f.of_photo("light x") * p.x - 0.05 * p.y
    exposure = (1 + 0.14 * f.of_photo("exposure")) * (1 + slope)
    p.rgb[...] *= exposure
    warmth = 1 + 0.055 * f.of_photo("warmth")
    p.rgb[0] *= warmth
    p.rgb[2] /= warmth
    grain = f.grain(size)
    grain *= 0.006 + 0.010 * f.chance_of_photo("sensitivity")
    p.rgb[...] += grain
    p.rgb[...] *= 255
    p.rgb[...] += 0.5
    np.clip(p.rgb, 0, 255, out=p.rgb)
    return np.ascontiguousarray(p.rgb.transpose(1, 2, 3, 0).astype(np.uint8))


def blur(f: Faces) -> Field:
    """Width of an edge in units of the picture's half."""
    sharp = 0.018 + 0.012 * f.chance_of_photo("focus")
    return sharp + f["Blurry"] * (0.12 + 0.05 * f.chance_of_photo("out of focus"))
