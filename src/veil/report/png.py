"""Pictures as they stand in a page that makes no request."""

from __future__ import annotations

import base64
from io import BytesIO

from veil.report.runs import Pictures


def data_uri(picture: Pictures) -> str:
    """A (h, w, 1 or 3) uint8 picture as PNG of its own size, without any note."""
    from PIL import Image

    png = BytesIO()
    Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode('ascii')}"
