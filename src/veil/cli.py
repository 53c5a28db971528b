"""The command line: veil demo, train, audit, release, reclassify, report, study, toy, data.

Nothing heavy is imported before a command needs it: `veil --help` answers at once.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from veil.cli_audit import audit
from veil.cli_options import (
    DataOption,
    ForceOption,
    QuietOption,
    RootOption,
    SetOption,
    SizeOption,
    data_flags,
    named_data,
    output_console,
    progress_console,
    refuse_overwriting,
    say,
)
from veil.cli_reclassify import reclassify
from veil.cli_study import study_app
from veil.cli_toy import toy
from veil.errors import Refused, VeilError

app = typer.Typer(
    help="Learn, release and audit face representations that carry a task, not an attribute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at a data source before training on it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(study_app, name="study")

BAD_INPUT, REFUSED, INTERRUPTED = 2, 3, 130


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        say(f"veil {version('veil')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Learn, release and audit face representations that carry a task, not an attribute."""


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for runs and report.")] = Path("runs/demo"),
    force: ForceOption = False,
) -> None:
    """The whole job on drawn faces: learn four releases, attack them afresh, write a report."""
    from veil.demo import run_demo

    with _resumable():
        run_demo(out, progress_console(), force)


@app.command()
def train(
    method: Annotated[str | None, typer.Argument(help="The method, such as aia.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the run.")] = Path("runs/latest"),
    data: DataOption = None,
    root: RootOption = None,
    size: SizeOption = None,
    private: Annotated[list[str] | None, typer.Option(help="Label to hide (repeatable).")] = None,
    utility: Annotated[
        list[str] | None, typer.Option(help="Label to keep; 'identity' is face matching.")
    ] = None,
    settings: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; flags go on top.")] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Learn a release. Ctrl-C saves; the same command goes on and ends with the same bits."""
    from veil.config import parse, read_tables, with_settings
    from veil.runs import train as train_run

    tables: dict[str, Any] = read_tables(config) if config else {}
    flags = [
        *data_flags(data, root, size),
        *([f"fit.seed={seed}"] if seed is not None else []),
        *([f"method.name={json.dumps(method)}"] if method else []),
    ]
    tables = with_settings(tables, flags + (settings or []))
    chosen = {"private": private, "utility": utility}
    tables["problem"] = tables.get("problem", {}) | {k: v for k, v in chosen.items() if v}
    where = str(config) if config else "the command line"
    with _resumable():
        run = train_run(parse(tables, where), out, progress_console(quiet), force)
    say(f"trained {run.method.title()} into {out}; next: veil audit {out}")


app.command()(audit)


@app.command()
def release(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    out: Annotated[Path, typer.Option(help="Folder (with --images), or .npz / .safetensors.")],
    images: Annotated[Path | None, typer.Option(help="Folder of pictures to release.")] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Split of the run's data: attack, select or test (repeatable)."),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the noise; whoever knows it can take it away.")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Release pictures, or a split of the run's data in the file format that audits read."""
    from veil.releasing import release_folder, release_splits

    if (images is None) == (not split):
        raise VeilError("say what to release: --images FOLDER, or --split test (repeatable)")
    refuse_overwriting(out, force)
    console = progress_console(quiet)
    seed = secrets.randbits(63) if seed is None else seed
    if images is not None:
        count = release_folder(run, images, out, seed, console)
    else:
        count = release_splits(run, split or [], out, seed, console)
    say(f"released {count} images into {out}")


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that hold an audit.json.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """One self-contained HTML page: verdict, trade-off, attackers, doubts, pictures."""
    from veil.doubts import EXPLANATIONS
    from veil.records import Audit
    from veil.report import print_comparison, write_report

    write_report(runs, out, EXPLANATIONS)
    print_comparison([Audit.load(run / "audit.json") for run in runs], output_console())
    say(f"wrote {out}")


app.command()(reclassify)
app.command()(toy)


@data_app.command()
def inspect(
    data: DataOption = None,
    root: RootOption = None,
    size: SizeOption = None,
    settings: SetOption = None,
    quiet: QuietOption = False,
) -> None:
    """Count images, people and labels, and show what goes with what."""
    from veil.inspecting import print_data

    print_data(named_data(data, root, size, settings), output_console(), progress_console(quiet))


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C ends the command with a line that says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where it stopped", INTERRUPTED)


def main() -> None:
    """Run the command line; every foreseen failure is one line and an exit status."""
    # Idle OpenMP threads sleep instead of spinning: on a busy machine spinning costs a factor ten.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        sys.exit(app(prog_name="veil", standalone_mode=False))
    except typer.TyperException as usage:
        if message := usage.format_message().rstrip("."):
            command = getattr(getattr(usage, "ctx", None), "command_path", "veil")
            _fail(f"{message} (see {command} --help)", BAD_INPUT)
        sys.exit(BAD_INPUT)  # a command alone, whose help was printed
    except Refused as why:
        _fail(f"refused [{why.id}]: {why}", REFUSED)
    except VeilError as error:
        _fail(str(error), BAD_INPUT)
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", BAD_INPUT)


def _fail(message: str, status: int) -> None:
    print(f"veil: {message}", file=sys.stderr)
    sys.exit(status)
