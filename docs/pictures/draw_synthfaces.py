"""Draws docs/pictures/synthfaces.png: `python docs/pictures/draw_synthfaces.py`.

Above, the first photo of each of forty people; below, five photos of each of two.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from veil.data.synthfaces import faces

ROWS, COLUMNS, SIZE, SEED = 4, 10, 96, 8


def sheet() -> Image.Image:
    people = np.arange(ROWS * COLUMNS) * 5
    photos = 5 * ROWS * COLUMNS + np.arange(COLUMNS)
    tiles = faces(SEED, np.concatenate([people, photos]), SIZE)
    grid = tiles.reshape(ROWS + 1, COLUMNS, SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4)
    whole = Image.fromarray(grid.reshape((ROWS + 1) * SIZE, COLUMNS * SIZE, 3))
    return whole.quantize(256, dither=Image.Dither.NONE)


if __name__ == "__main__":
    sheet().save(Path(__file__).with_name("synthfaces.png"), optimize=True)
