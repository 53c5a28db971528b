"""matplotlib figures as SVG that belongs to its page: the page's fonts, colours and ids."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Stand-ins that the page replaces by its own (light or dark) colours; see report.css.
INK = "#010101"
MUTED = "#020202"
RULE = "#030303"
PAPER = "#040404"
RUNS = tuple(f"#0500{number:02x}" for number in range(1, 9))
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule", PAPER: "--paper"} | {
    color: f"--run-{number}" for number, color in enumerate(RUNS, start=1)
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "figure.dpi": 72,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 1,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "text.color": INK,
}


def run_color(index: int) -> str:
    """The stand-in colour of the run at `index` (they repeat after eight)."""
    return RUNS[index % len(RUNS)]


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure of `width` x `height` CSS pixels in the report's style.

    Text that DejaVu cannot measure (a run named in Chinese) is drawn by the reader's own fonts.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure = Figure(figsize=(width / 72, height / 72))
        FigureCanvasAgg(figure)
        yield figure


def inline(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element.

    Args:
        figure: drawn within `canvas`.
        name: unique in the page; prefixes every id, so that figures do not share definitions.
        description: what a reader who cannot see it should know.
    """
    from matplotlib import rc_context

    text = StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata=nothing, transparent=True)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->\n?", "", svg, flags=re.DOTALL)
    svg = re.sub(r" ?font-family: [^;\"]*;", "", svg)
    svg = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", svg)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace("xlink:href=", "href=")
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    width, height = (round(72 * side) for side in figure.get_size_inches())
    opening = (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(description)}">'
    )
    return opening + svg[svg.index(">") + 1 :]
