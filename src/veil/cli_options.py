"""What the commands share: options, the data that they name, and where output goes."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veil.errors import VeilError

if TYPE_CHECKING:
    from rich.console import Console

    from veil.data.sources import DataConfig


class Source(StrEnum):
    """Where images come from."""

    synthfaces = "synthfaces"
    celeba = "celeba"
    fairface = "fairface"
    lfw = "lfw"
    utkface = "utkface"
    vggface = "vggface"
    table = "table"


DataOption = Annotated[Source | None, typer.Option(help="Data source; synthfaces by default.")]
RootOption = Annotated[Path | None, typer.Option(help="Folder of the data; synthfaces has none.")]
SizeOption = Annotated[int | None, typer.Option(help="Side of the images in pixels.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE; KEY is a field of the method, or section.field."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def data_flags(data: Source | None, root: Path | None, size: int | None) -> list[str]:
    """KEY=VALUE settings that say the same as the flags of a data source."""
    return [
        *([f"data.source={json.dumps(data.value)}"] if data else []),
        *([f"data.root={json.dumps(str(root))}"] if root else []),
        *([f"data.size={size}"] if size else []),
    ]


def named_data(
    data: Source | None, root: Path | None, size: int | None, settings: list[str] | None
) -> DataConfig:
    """The data source that flags name; in --set its fields need no section."""
    from veil.config import data_config, with_settings

    flags = [
        *data_flags(data, root, size),
        *(f"data.{s.removeprefix('data.')}" for s in settings or []),
    ]
    return data_config(with_settings({"data": {}}, flags)["data"], "the command line")


def refuse_overwriting(out: Path, force: bool) -> None:
    """End the command where it would overwrite what is there."""
    if out.exists() and not force:
        raise VeilError(f"{out}: exists; --force overwrites it, another --out keeps it")


def progress_console(quiet: bool = False) -> Console | None:
    """Where progress is drawn: standard error, unless nobody is to be disturbed."""
    from rich.console import Console

    return None if quiet else Console(stderr=True)


def output_console() -> Console:
    """Where tables go: standard output, 100 columns where it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100)


def say(line: str) -> None:
    """One line on standard output."""
    print(line)
