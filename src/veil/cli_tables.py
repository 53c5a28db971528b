"""What commands print beside the audit's report: lines, and tables of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

DASH = "–"
WIDTH = 100


def print_line(console: Console, text: str, style: str = "") -> None:
    """Text as it is: names may hold what would be markup."""
    from rich.text import Text

    console.print(Text(text, style), width=min(WIDTH, console.width))


def print_table(
    console: Console,
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: int = 1,
) -> None:
    """A table of text as it is; its first columns hold words, the others figures.

    Args:
        words: how many columns hold words.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, "bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False
    )
    for i, name in enumerate(header):
        table.add_column(name, justify="left" if i < words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print()
    console.print(table, width=min(WIDTH, console.width))
