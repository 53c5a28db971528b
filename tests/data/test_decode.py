"""Decoding: exact where nothing is resampled, close to a plain reference, never a crash."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from veil.data.decode import BadImage, decode_image


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def gradient(height: int, width: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:height, 0:width]
    planes = [255 * x / width, 255 * y / height, 128 + 60 * np.sin(x / width * 6)]
    return np.stack(planes, axis=2).astype(np.uint8)


def encoded(pixels: NDArray[np.uint8] | Image.Image, form: str = "PNG", **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG written by hand, for headers that Pillow does not write."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_a_picture_of_the_right_size_is_kept_bit_for_bit() -> None:
    pixels = noise(32, 32)
    assert np.array_equal(decode_image(encoded(pixels), 32, 3, crop=178), pixels)


def test_the_official_celeba_square_is_rows_20_to_198() -> None:
    pixels = noise(218, 178)
    assert np.array_equal(decode_image(encoded(pixels), 178, 3, crop=178), pixels[20:198])


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 60), st.integers(8, 60), st.integers(4, 70))
def test_the_centre_square_equals_a_slice(height: int, width: int, crop: int) -> None:
    pixels = noise(height, width)
    side = min(height, width, crop)
    top, left = (height - side) // 2, (width - side) // 2
    expected = pixels[top : top + side, left : left + side]
    assert np.array_equal(decode_image(encoded(pixels), side, 3, crop), expected)


def test_a_crop_smaller_than_the_result_is_enlarged() -> None:
    """The crop is honoured even where the picture already has the size asked for."""
    pixels = gradient(64, 64)
    assert not np.array_equal(decode_image(encoded(pixels), 64, 3, crop=32), pixels)


def test_resizing_is_antialiased() -> None:
    """A one-pixel checkerboard becomes grey; without antialiasing it would stay black and white."""
    board = np.indices((256, 256)).sum(axis=0).astype(np.uint8) % 2 * 255
    small = decode_image(encoded(np.stack([board] * 3, axis=2)), 32, 3)
    assert np.abs(small.astype(int) - 128).max() < 20


def test_grey_is_itu_r_601_luma() -> None:
    pixels = noise(16, 16)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    grey = decode_image(encoded(pixels), 16, 1)
    assert grey.shape == (16, 16, 1)
    assert np.abs(grey[..., 0] - luma).max() <= 1


def test_a_grey_file_has_three_equal_channels() -> None:
    pixels = noise(16, 16, channels=1)
    assert np.array_equal(decode_image(encoded(pixels), 16, 3), np.stack([pixels] * 3, axis=2))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_on_white(mode: str) -> None:
    image = Image.fromarray(np.zeros((16, 16, 4), dtype=np.uint8)).convert(mode)
    data = encoded(image, transparency=0) if mode == "P" else encoded(image)
    assert (decode_image(data, 16, 3) == 255).all()


def test_opaque_black_stays_black() -> None:
    """The negative control of the test above."""
    assert (decode_image(encoded(Image.new("RGBA", (16, 16), "black")), 16, 3) == 0).all()


def test_a_palette_is_looked_up() -> None:
    image = Image.fromarray(gradient(16, 16)).quantize(16)
    assert np.array_equal(decode_image(encoded(image), 16, 3), np.asarray(image.convert("RGB")))


def test_exif_rotation_is_applied() -> None:
    pixels = noise(24, 16)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    turned = decode_image(encoded(pixels, exif=exif.tobytes()), 16, 3)
    assert np.array_equal(turned, np.rot90(pixels, -1)[:, 4:20])


def test_a_large_jpeg_decoded_in_part_looks_the_same() -> None:
    """The quarter-size decoding of a large JPEG against Pillow's full one."""
    data = encoded(gradient(1500, 2000), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as image:
        full = image.crop((250, 0, 1750, 1500)).resize((64, 64), Image.Resampling.BICUBIC)
    difference = decode_image(data, 64, 3).astype(int) - np.asarray(full)
    assert np.abs(difference).max() <= 3


def animation(form: str) -> bytes:
    frames = [Image.fromarray(noise(16, 16, seed=i)) for i in range(3)]
    return encoded(frames[0], form, save_all=True, append_images=frames[1:])


JPEG = encoded(gradient(64, 64), "JPEG")
REFUSED = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \n", "is empty"),
    "html": (b"<!DOCTYPE html><html><title>Quota exceeded</title>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s11--ab.jpg\n", "git annex get"),
    "pdf": (b"%PDF-1.7 ...", "is a PDF"),
    "truncated": (JPEG[: len(JPEG) // 2], "is damaged"),
    "header only": (JPEG[:10], "is damaged"),
    "text": (b"these are not pixels", "is no picture that can be read"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is no picture"),
    "16-bit grey": (encoded(Image.fromarray(np.zeros((8, 8), np.uint16))), "16-bit"),
    "16-bit RGB": (raw_png(2, 2, 16, 2, bytes(2 * 13)), "16-bit"),
    "float": (encoded(Image.new("F", (8, 8)), "TIFF"), "mode F"),
    "CMYK": (encoded(Image.new("CMYK", (8, 8)), "JPEG"), "mode CMYK"),
    "GIF": (animation("GIF"), "3 frames"),
    "PNG": (animation("PNG"), "3 frames"),
    "WebP": (animation("WEBP"), "3 frames"),
    "TIFF": (animation("TIFF"), "3 frames"),
    "bomb": (raw_png(9_000, 9_000, 8, 2, b""), "80 million pixels"),
    "large bomb": (raw_png(60_000, 60_000, 8, 2, b""), "80 million pixels"),
}


@pytest.mark.parametrize(("data", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_used_is_refused_with_a_reason(data: bytes, words: str) -> None:
    with pytest.raises(BadImage, match=words) as refusal:
        decode_image(data, 8, 3)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG"])
def test_still_pictures_of_the_same_formats_are_taken(form: str) -> None:
    """The negative control of the refusals."""
    assert decode_image(encoded(gradient(16, 16), form), 16, 3).shape == (16, 16, 3)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([JPEG, encoded(gradient(64, 64)), encoded(gradient(64, 64), "WEBP")]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=6),
    st.integers(0, 10_000),
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, silenced in the cache as well
def test_damage_never_gives_anything_but_a_picture_or_a_reason(
    data: bytes, flips: list[tuple[int, int]], length: int
) -> None:
    damaged = bytearray(data)
    for at, value in flips:
        damaged[at % len(damaged)] = value
    with suppress(BadImage):
        assert decode_image(bytes(damaged[:length]), 16, 3).shape == (16, 16, 3)
