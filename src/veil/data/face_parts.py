"""The face, part by part: ears, cheeks, lines, eyes, brows, nose, beard and mouth.

Every attribute has a mark of its own in a place of its own (docs/synthfaces.md lists them), so
that any combination of attributes can be drawn and every label can be read from the picture.
The picture depends on the attributes, on age, race, and on draws independent of them all, so that
who sees the picture can know the attributes shown and nothing more about what they go with.
"""

from __future__ import annotations

import numpy as np

from veil.data.face_causes import Faces
from veil.data.face_drawing import Colour, Patch, glow, mix, one_of, rgb, squared, step
from veil.data.face_head import Head, shade

INK, WHITE = rgb(0.07, 0.05, 0.05), rgb(0.97, 0.96, 0.94)
IRISES = (
    (0.20, 0.11, 0.06),
    (0.34, 0.20, 0.10),
    (0.42, 0.36, 0.16),
    (0.30, 0.46, 0.30),
    (0.28, 0.48, 0.68),
    (0.45, 0.55, 0.60),
)
EYE_SHADOWS = ((0.45, 0.22, 0.45), (0.25, 0.30, 0.48), (0.42, 0.25, 0.15))
LIPSTICKS = ((0.74, 0.06, 0.14), (0.62, 0.05, 0.22), (0.86, 0.18, 0.30))
BROW_LINE = -0.205


def draw_face(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    """Everything on the skin, from the ears to the chin, before light falls on it."""
    ears(p.rows(-0.5, 0.6), f, head, skin)
    outline = p.inside(p.edge)
    p.paint(outline, skin)
    cheeks(p.rows(-0.4, 0.8), f, head, skin)
    age_lines(p, f, head, skin)
    eyes(p.rows(-0.6, 0.5), f, head, skin)
    brows(p.rows(-0.75, 0.3), f, head)
    nose(p.rows(-0.5, 0.65), f, head, skin)
    beard(p.rows(-0.5, 1.0), f, head)
    mouth(p.rows(-0.05, 0.95), f, head, skin)
    shade(p, f, head, outline)


def ears(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    x = np.abs(p.u) - head.width * 1.01
    y = p.v - 0.02
    size = 1 + 0.08 * f.of_person("ear size")
    ear = p.ellipse(x, y, 0.075 * size, 0.14 * size)
    p.paint(ear, skin * 0.9)
    p.paint(0.5 * p.ellipse(x - 0.005, y, 0.035 * size, 0.085 * size), skin * 0.62)


def cheeks(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    """Rosy cheeks, high cheekbones, a mole."""
    side = np.abs(p.across)
    raised = 0.03 * np.maximum(head.smile, 0)
    cheek_y = p.down - 0.175 + raised
    blush = 0.62 * f["Rosy_Cheeks"] + 0.22 * f["Heavy_Makeup"]
    p.paint(blush * glow(side - 0.30, cheek_y, 0.17, 0.14), rgb(0.93, 0.36, 0.38))
    high = f["High_Cheekbones"]
    lit = glow(side - 0.305, cheek_y + 0.035 + 0.35 * (side - 0.3), 0.14, 0.07)
    p.paint(0.60 * high * lit, mix(skin, WHITE, 0.55))
    hollow = glow(side - 0.32, cheek_y - 0.105 + 0.55 * (side - 0.3), 0.15, 0.085)
    p.paint(0.62 * high * hollow, skin * 0.58)
    mole_x = 0.33 * (2 * f.chance_of_person("mole x") - 1)
    mole_y = 0.1 + 0.4 * f.chance_of_person("mole y")
    marked = f.chance_of_person("mole") < 0.3
    p.paint(0.8 * marked * p.ellipse(p.across - mole_x, p.down - mole_y, 0.02, 0.02), skin * 0.35)


def age_lines(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    """Wrinkles by age, folds by smiling, bags under the eyes, a double chin."""
    line = skin * 0.48
    brow = p.rows(-0.75, 0.0)
    for i, height in enumerate((-0.42, -0.34)):
        wave = brow.down - height - head.eye_y + 0.25 * squared(brow.across) * (1 if i else 0.6)
        reach = step(np.abs(brow.across), 0.30, 0.2)
        brow.paint(f.old * reach * brow.stroke(wave, 0.013), line)
    eye = p.rows(-0.5, 0.45)
    crow_x = np.abs(eye.across) - head.eye_x - 0.145
    crow_y = eye.down - head.eye_y
    rays = eye.stroke(np.abs(crow_y) - 0.35 * crow_x - 0.012, 0.011)
    rays *= step(crow_x, -0.01, 0.02) * step(crow_x, 0.10, 0.06)
    eye.paint(f.old * rays, line)
    bag_x = (np.abs(eye.across) - head.eye_x) / 0.125
    bag_y = crow_y - 0.105 + 0.035 * squared(bag_x)
    bags = f["Bags_Under_Eyes"]
    within = step(np.abs(bag_x), 1.0, 0.75)
    eye.paint(
        bags * 0.55 * within * glow(bag_x * 0.12, bag_y + 0.03, 0.16, 0.055), rgb(0.38, 0.25, 0.33)
    )
    eye.paint(bags * 0.85 * within * eye.stroke(bag_y, 0.012), skin * 0.5)
    low = p.rows(-0.05, 0.85)
    side = np.abs(low.across)
    fold = side - (0.115 + 0.62 * (low.down - head.nose_y + 0.03) * 0.55)
    span = step(low.down, head.nose_y - 0.04, head.nose_y + 0.02)
    span *= step(low.down, head.mouth_y + 0.05, head.mouth_y - 0.02)
    strength = np.minimum(0.9, 0.75 * np.maximum(head.smile, 0) + 0.85 * f.old)
    low.paint(strength * span * low.stroke(fold, 0.010), line)
    chin = p.rows(0.35, 1.0)
    arc = chin.v - 0.565 + 1.1 * squared(chin.u)
    double = f["Double_Chin"] * step(np.abs(chin.u), 0.26, 0.18)
    chin.paint(0.9 * double * chin.stroke(arc, 0.016), skin * 0.5)
    chin.paint(0.5 * double * glow(chin.u, arc - 0.05, 0.3, 0.05), mix(skin, WHITE, 0.4))


def eyes(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    """Whites, iris, pupil, lids, lashes, and make-up about them."""
    narrow, makeup, child = f["Narrow_Eyes"], f["Heavy_Makeup"], f.child
    width = 0.118 + 0.005 * f.of_person("eye width") + 0.01 * child
    open_ = f.looks("eyes") * (0.072 + 0.006 * f.of_person("eye opening") + 0.015 * child)
    open_ = open_ * (1 - 0.54 * narrow) * (1 - 0.16 * np.maximum(head.smile, 0))
    slant = f.looks("slant") + 0.02 * f.of_person("eye slant")
    x = np.abs(p.across) - head.eye_x
    y = p.down - head.eye_y + slant * x
    round_ = 1 - squared(x / width)
    upper, lower = y + open_ * round_, y - 0.55 * open_ * round_
    socket = glow(x, y + 0.03, 0.2, 0.15)
    p.paint(0.22 * socket, skin * 0.55)
    shadow = glow(x, y + 0.085, 0.17, 0.085)
    p.paint(0.78 * makeup * shadow, one_of(f.chance_of_photo("eye shadow"), EYE_SHADOWS))
    crease = p.stroke(y + open_ * 1.5 * round_ + 0.012, 0.009)
    p.paint(0.6 * step(np.abs(x), width, 0.7 * width) * crease, skin * 0.5)
    within = p.inside(np.maximum(-upper, lower))
    p.paint(within, rgb(0.93, 0.92, 0.90))
    mirrored = np.where(p.across < 0, np.float32(-1), np.float32(1))
    gaze_x = x - 0.012 * f.of_photo("gaze") * mirrored
    gaze_y = y + 0.12 * open_
    iris = p.ellipse(gaze_x, gaze_y, 0.060, 0.060)
    iris *= within
    p.paint(iris, one_of(f.chance_of_person("iris"), IRISES))
    p.paint(within * p.ellipse(gaze_x, gaze_y, 0.028, 0.028), INK)
    p.paint(0.9 * within * p.ellipse(gaze_x * mirrored + 0.018, gaze_y + 0.02, 0.016, 0.016), WHITE)
    on_lid = step(np.abs(x), 1.12 * width, width)
    lashes = p.stroke(upper, 0.012 + 0.014 * makeup + 0.008 * (1 - f["Male"]))
    p.paint(on_lid * lashes, INK)
    lower_lid = p.stroke(lower, 0.006 + 0.007 * makeup)
    p.paint((0.45 + 0.4 * makeup) * on_lid * lower_lid, skin * 0.3)


def brows(p: Patch, f: Faces, head: Head) -> None:
    bushy, arched = f["Bushy_Eyebrows"], f["Arched_Eyebrows"]
    boned = f["Male"] * (1 - 0.5 * f.child)
    half = 0.135 + 0.006 * f.of_person("brow length")
    along = (np.abs(p.across) - head.eye_x - 0.008) / half
    height = BROW_LINE + 0.010 * f.of_person("brow height") + (head.eye_y + 0.05)
    height = height + 0.036 * boned - 0.015 * f.of_photo("brow raised")
    # Unarched brows are nearly flat; arched ones peak at two thirds and fall steeply.
    flat = 0.018 * squared(along)
    beyond = along - 0.35
    peaked = 0.038 * np.maximum(-beyond, 0) + 0.15 * np.maximum(beyond, 0) - 0.055
    bend = flat + arched * (peaked - flat)
    thick = (0.021 + 0.003 * f.of_person("brow thickness")) * f.looks("brows")
    thick = thick * (1 + 0.5 * boned) * (1 + 0.85 * bushy)
    taper = thick * (1 - 0.35 * along)
    brow = p.stroke(p.down - height - bend, np.maximum(taper, 0.002))
    brow *= step(np.abs(along), 1.08, 0.85)
    tone = 0.10 + 0.10 * f.chance_of_person("brow tone")
    colour = np.concatenate([1.3 * tone[None], 0.9 * tone[None], 0.7 * tone[None]])
    p.paint((0.78 + 0.22 * bushy) * brow, colour)


def nose(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    """Bridge, tip, wings and nostrils; the big nose is wide, the pointed one ends in a wedge."""
    big, pointed = f["Big_Nose"], f["Pointy_Nose"]
    x = p.across - head.nose_shift * step(p.down, head.eye_y, head.nose_y)
    y = p.down - head.nose_y
    width = (0.083 + 0.006 * f.of_person("nose width")) * f.looks("nose") * (1 + 0.48 * big)
    width = width * (1 - 0.2 * f.child)
    side, dark = np.abs(x), skin * 0.58
    bridge = glow(side - 0.055 - 0.2 * width, y + 0.13, 0.05, 0.21)
    p.paint(0.40 * bridge, dark)
    ridge = glow(x, y + 0.13, 0.035 + 0.02 * big, 0.2)
    p.paint(0.38 * ridge, mix(skin, WHITE, 0.6))
    wings = p.stroke(
        np.sqrt(squared((side - width * 0.8) * 1.2) + squared(y + 0.02)) - 0.045, 0.009
    )
    p.paint(0.6 * wings * step(side, width * 0.75, width), skin * 0.5)
    base = y + 0.004 - pointed * (0.082 - 1.1 * side) + 0.5 * squared(x)
    under = p.stroke(base, 0.011 + 0.006 * big)
    p.paint(0.75 * under * step(side, 1.05 * width, 0.8 * width), skin * 0.48)
    nostril = p.ellipse(side - 0.56 * width, y - 0.002, 0.40 * width, 0.019)
    p.paint(0.85 * nostril, skin * 0.26)
    tip = glow(x, y + 0.05 - 0.04 * pointed, 0.06 - 0.02 * pointed + 0.03 * big, 0.06)
    p.paint((0.35 + 0.6 * pointed) * tip, mix(skin, WHITE, 0.75))


def mouth(p: Patch, f: Faces, head: Head, skin: Colour) -> None:
    """Lips with or without lipstick; teeth and tongue where the mouth is open."""
    lipstick = f["Wearing_Lipstick"]
    full = f.looks("lips") * (1 + 1.05 * f["Big_Lips"]) * (1 + 0.06 * f.of_person("lips"))
    full = full * (1 - 0.24 * f["Male"])
    t = p.across / head.mouth_width
    round_ = 1 - squared(t)
    line = p.down - head.mouth_y - head.lift * (0.38 - squared(t))
    bow = 1 - 0.35 * squared(np.maximum(1 - squared(p.across / 0.07), 0))
    top = line + head.gap * round_ + 0.040 * full * bow * round_
    bottom = line - 1.25 * head.gap * round_ - 0.050 * full * round_
    lips = p.inside(np.maximum(-top, bottom))
    natural = skin * rgb(0.90, 0.66, 0.66)
    red = one_of(f.chance_of_photo("lipstick"), LIPSTICKS)
    colour = mix(natural, red, 0.92 * lipstick)
    p.paint(lips, colour)
    p.paint(0.30 * glow(t * 0.1, bottom + 0.03 * full, 0.07, 0.02), WHITE)
    opened = f["Mouth_Slightly_Open"]
    upper, lower = line + head.gap * round_, line - 1.25 * head.gap * round_
    inner = opened * p.inside(np.maximum(-upper, lower))
    p.paint(inner, rgb(0.22, 0.04, 0.05))
    tongue = glow(p.across, lower + 0.01, 0.12, 0.05)
    p.paint(0.8 * inner * tongue, rgb(0.72, 0.30, 0.32))
    teeth = p.inside(upper - (0.65 + 0.5 * np.maximum(head.smile, 0)) * head.gap * 1.3)
    p.paint(0.95 * inner * teeth * step(np.abs(t), 0.92, 0.8), rgb(0.95, 0.93, 0.88))
    closed = (1 - opened) * p.stroke(line, 0.011) * step(np.abs(t), 1.06, 0.96)
    p.paint(0.85 * closed, colour * 0.32)
    corners = glow(np.abs(p.across) - head.mouth_width, line, 0.032, 0.03)
    p.paint(0.55 * corners, skin * 0.4)
    p.paint(0.35 * glow(p.across, bottom - 0.045, 0.12, 0.035), skin * 0.55)


def beard(p: Patch, f: Faces, head: Head) -> None:
    """Stubble, jaw beard, goatee, moustache and sideburns, each in its own place."""
    hair = rgb(0.13, 0.09, 0.07) * (0.75 + 0.5 * f.chance_of_person("beard tone"))
    edge, side = p.edge, np.abs(p.across)
    head_only = p.inside(edge)
    below = p.down - head.mouth_y
    stubble = step(below + 0.5 * side, -0.02, 0.12) * step(edge, 0.02, -0.05)
    stubble *= head_only
    p.paint(0.45 * f["5_o_Clock_Shadow"] * stubble, rgb(0.12, 0.13, 0.18))
    has_beard = 1 - f["No_Beard"]
    jaw = step(edge, -0.155, -0.115) * step(p.v, 0.08, 0.16) * head_only
    p.paint(0.9 * has_beard * jaw, hair)
    goatee = p.ellipse(p.across, p.down - 0.545 - 0.3 * (head.mouth_y - 0.375), 0.14, 0.115)
    p.paint(0.95 * f["Goatee"] * goatee * head_only, 0.5 * hair)
    under_nose = p.down - 0.5 * (head.nose_y + head.mouth_y) - 0.008 - 0.9 * squared(p.across)
    moustache = p.stroke(under_nose + 0.5 * head.lift * squared(side / 0.2), 0.030)
    p.paint(0.95 * f["Mustache"] * moustache * step(side, 0.2, 0.17), hair)
    strip = step(edge, -0.085, -0.06) * step(p.v, -0.22, -0.18) * step(p.v, 0.17, 0.13)
    p.paint(0.92 * f["Sideburns"] * strip * head_only, hair)
