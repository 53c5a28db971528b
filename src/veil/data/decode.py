"""One picture's bytes to one uint8 array: crop, antialiased resize, and clear words about the rest.

Converted: palettes, grey, bilevel; transparency is laid on white; EXIF rotation is applied; of a
camera's multi-picture JPEG the first picture is taken. Refused, with a reason: 16-bit or
floating-point samples, CMYK, Lab, animations, many-page TIFF, more than `MAX_PIXELS`, damage.

Pillow decodes alone. simplejpeg gave the same bits on 2,525 CelebA files and decodes about twice
as fast, but images are decoded once, and one decoder means one result everywhere.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from veil.data.impostors import impostor

DECODER = "pillow-bicubic-1"
"""Part of every cache key: change it whenever a pixel can change."""

MAX_PIXELS = 80_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr")


class BadImage(Exception):
    """A file that holds no usable picture; the message follows its name ("is damaged: ...")."""


def decode_image(
    data: bytes, size: int, channels: int, crop: int | None = None
) -> NDArray[np.uint8]:
    """The picture's centre square, resized.

    The square's side is `crop`, or the picture's shorter side where that is smaller or `crop` is
    None; CelebA's official square is `crop=178` of 178 x 218. A square of side `size` is kept
    bit for bit. Others are resized with Pillow's bicubic filter, whose support grows with the
    reduction: no aliasing, more detail than bilinear, less ringing than Lanczos. JPEGs four
    times too large or more are decoded at half, a quarter or an eighth, never below twice `size`.
    Grey is ITU-R 601 luma.

    Args:
        data: the file's bytes.
        size: height and width of the result in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop: side of the centre square in pixels of the picture.

    Returns:
        (size, size, channels) uint8.

    Raises:
        BadImage: the bytes hold no picture, a damaged one or one that cannot be converted honestly.
    """
    if what := impostor(data):
        raise BadImage(what)
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _refuse(image)
            return _pixels(image, size, "RGB" if channels == 3 else "L", crop)
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(f"is no picture that can be read (it starts with {data[:12]!r})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(_too_large()) from None
    except Exception as error:  # Pillow's readers raise nearly anything on damaged bytes
        raise BadImage(f"is damaged ({error}): download it again") from None


def _refuse(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(_too_large())
    # Pillow reads 16-bit RGB as 8-bit without a word; only the tile's raw mode tells.
    if ";16" in str(getattr(image, "tile", "")) or image.mode.startswith("I"):
        raise BadImage("is a 16-bit picture: save it with 8 bits a channel")
    if image.mode not in MODES:
        raise BadImage(f"is a picture of mode {image.mode}: save it as RGB, 8 bits a channel")
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise BadImage(f"is animated or has pages ({frames} frames): save one of them as a picture")


def _too_large() -> str:
    return f"has more than {MAX_PIXELS // 1_000_000} million pixels: make it smaller"


def _pixels(image: Image.Image, size: int, mode: str, crop: int | None) -> NDArray[np.uint8]:
    width, height = image.size
    enough = 2 * size / min(width, height, crop or width)
    image.draft(None, (math.ceil(width * enough), math.ceil(height * enough)))
    shrunk = width / image.width
    ImageOps.exif_transpose(image, in_place=True)
    flat = _on_white(image).convert(mode)
    side = min(flat.width, flat.height, crop / shrunk if crop else math.inf)
    left, top = (flat.width - side) // 2, (flat.height - side) // 2
    box = (left, top, left + side, top + side)
    if side != size:
        flat = flat.resize((size, size), Image.Resampling.BICUBIC, box=box)
    elif flat.size != (size, size):
        flat = flat.crop((int(left), int(top), int(left) + size, int(top) + size))
    return np.array(flat, dtype=np.uint8).reshape(size, size, len(mode))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))
