"""The command line: veil demo, train, audit, release, report, data inspect.

Nothing heavy is imported before a command needs it: `veil --help` answers at once.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from veil.errors import Refused, VeilError

if TYPE_CHECKING:
    from rich.console import Console

    from veil.data.sources import DataConfig
    from veil.data.splits import Splits

app = typer.Typer(
    help="Learn, release and audit face representations that carry a task, not an attribute.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at a data source before training on it.", no_args_is_help=True)
app.add_typer(data_app, name="data")

BAD_INPUT, REFUSED, INTERRUPTED = 2, 3, 130


class Source(StrEnum):
    """Where images come from."""

    synthfaces = "synthfaces"
    celeba = "celeba"
    table = "table"


DataOption = Annotated[Source | None, typer.Option(help="Data source; synthfaces by default.")]
RootOption = Annotated[Path | None, typer.Option(help="Folder of the data (celeba, table).")]
SizeOption = Annotated[int | None, typer.Option(help="Side of the images in pixels.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE; KEY is a field of the method, or section.field."),
]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite what is there.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]
SuiteOption = Annotated[str, typer.Option(help="Set of attackers: quick, standard or full.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Runs of every attacker that is random.")]
RunArgument = Annotated[Path, typer.Argument(help="Folder of a trained run.")]


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        _say(f"veil {version('veil')}")
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
        run_demo(out, _console(), force)


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
        *_data_flags(data, root, size),
        *([f"fit.seed={seed}"] if seed is not None else []),
        *([f"method.name={json.dumps(method)}"] if method else []),
    ]
    tables = with_settings(tables, flags + (settings or []))
    chosen = {"private": private, "utility": utility}
    tables["problem"] = tables.get("problem", {}) | {k: v for k, v in chosen.items() if v}
    where = str(config) if config else "the command line"
    with _resumable():
        run = train_run(parse(tables, where), out, _console(quiet), force)
    _say(f"trained {run.method.title()} into {out}; next: veil audit {out}")


@app.command()
def audit(
    run: Annotated[Path | None, typer.Argument(help="Folder of a trained run.")] = None,
    released: Annotated[
        Path | None, typer.Option(help="Anyone's release: .npz or .safetensors.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of released pictures, named as their originals.")
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="Anyone's encoder, run on --data.")] = None,
    data: DataOption = None,
    root: RootOption = None,
    size: SizeOption = None,
    settings: SetOption = None,
    private: Annotated[
        list[str] | None,
        typer.Option(help="Label to attack, 'identity' or 'reconstruction' (repeatable)."),
    ] = None,
    utility: Annotated[
        list[str] | None, typer.Option(help="Label that should survive (--images, --onnx).")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Class label by whose values leakage is reported apart.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="Gate: 'Male <= 0.60', 'utility:Smiling >= 0.85' (repeatable)."),
    ] = None,
    suite: SuiteOption = "standard",
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Run every attacker in full with every seed.")
    ] = False,
    seeds: SeedsOption = 2,
    seed: Annotated[int, typer.Option(help="Seed of the audit.")] = 0,
    mechanism: Annotated[
        str | None,
        typer.Option(help="What releases provably end with: 'clip=1.0 sigma=2.0'."),
    ] = None,
    recogniser: Annotated[
        str | None,
        typer.Option(help="Face recognition for reconstructions: synthfaces, or a file."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.001, help="GiB that a released file may take in memory.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The audit.json to write; beside what is audited.")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Attack a release with fresh attackers and say how much it leaks at least.

    Exit status: 0 verdict given and every --require met, 1 a requirement not met, 2 bad input,
    3 verdict refused.
    """
    from veil import auditing
    from veil.attacks.suites import suite_named
    from veil.gate import exit_status, outcomes, parse, print_outcomes
    from veil.mechanism import mechanism_from
    from veil.report import print_audit

    things = {"RUN": run, "--released": released, "--images": images, "--onnx": onnx}
    named = [name for name, path in things.items() if path is not None]
    if len(named) != 1:
        raise VeilError(
            "name one thing to audit: a run folder, --released FILE, --images FOLDER or --onnx FILE"
        )
    _refuse_idle(
        named[0],
        {
            "--data": (data, ("--images", "--onnx")),
            "--root": (root, ("--images", "--onnx")),
            "--size": (size, ("--images", "--onnx")),
            "--set": (settings, ("--images", "--onnx")),
            "--utility": (utility, ("--images", "--onnx")),
            "--group": (group, ("RUN", "--images", "--onnx")),
            "--mechanism": (mechanism, ("--released", "--onnx")),
            "--memory": (memory, ("--released",)),
        },
    )
    gate = tuple(parse(text) for text in require or ())
    proved = mechanism_from(mechanism) if mechanism else None
    audited = things[named[0]]
    assert audited is not None
    out = out or (run / "audit.json" if run else audited.resolve().with_suffix(".audit.json"))
    _refuse_overwriting(out, force)
    chosen = suite_named(suite).exhaustive() if exhaustive else suite_named(suite)
    effort = (chosen, seeds, seed, _console(quiet))
    attacked, kept = tuple(private or ()), tuple(utility or ())
    if run is not None:
        found = auditing.audit_run(
            run, out, *effort, also=attacked, group=group, recogniser=recogniser, gate=gate
        )
    elif released is not None:
        found = auditing.audit_file(
            released,
            out,
            *effort,
            private=attacked,
            mechanism=proved,
            recogniser=recogniser,
            memory=None if memory is None else round(memory * 2**30),
            gate=gate,
        )
    else:
        if not attacked:
            raise VeilError("name at least one label to attack: --private Male")
        splits = _open_data(data, root, size, settings, seed, _console(quiet))
        if images is not None:
            found = auditing.audit_folder(
                images,
                splits,
                out,
                attacked,
                kept,
                *effort,
                group=group,
                recogniser=recogniser,
                gate=gate,
            )
        else:
            found = auditing.audit_onnx(
                audited,
                splits,
                out,
                attacked,
                kept,
                *effort,
                group=group,
                mechanism=proved,
                recogniser=recogniser,
                gate=gate,
            )
    print_audit(found, _output())
    _say(f"wrote {out}")
    judged = outcomes(found, gate)
    print_outcomes(judged, _output())
    if status := exit_status(found, judged):
        raise typer.Exit(status)


def _refuse_idle(audited: str, options: Mapping[str, tuple[object, tuple[str, ...]]]) -> None:
    """Refuse options that would do nothing for what is audited."""
    for name, (value, useful_for) in options.items():
        if value is not None and audited not in useful_for:
            what = "a run folder" if audited == "RUN" else audited
            fits = ", ".join("a run folder" if u == "RUN" else u for u in useful_for)
            raise VeilError(f"{name} does nothing with {what}; it is for {fits}")


def _open_data(
    data: Source | None,
    root: Path | None,
    size: int | None,
    settings: list[str] | None,
    seed: int,
    console: Console | None,
) -> Splits:
    """The splits of a data source named by flags."""
    from veil.progress import counting

    with counting(console, "reading images") as counted:
        return _data_config(data, root, size, settings).splits(seed, counted)


def _data_config(
    data: Source | None, root: Path | None, size: int | None, settings: list[str] | None
) -> DataConfig:
    from veil.config import data_config, with_settings

    flags = [
        *_data_flags(data, root, size),
        *(f"data.{s.removeprefix('data.')}" for s in settings or []),
    ]
    return data_config(with_settings({"data": {}}, flags)["data"], "the command line")


@app.command()
def release(
    run: RunArgument,
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
    _refuse_overwriting(out, force)
    console = _console(quiet)
    seed = secrets.randbits(63) if seed is None else seed
    if images is not None:
        count = release_folder(run, images, out, seed, console)
    else:
        count = release_splits(run, split or [], out, seed, console)
    _say(f"released {count} images into {out}")


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
    print_comparison([Audit.load(run / "audit.json") for run in runs], _output())
    _say(f"wrote {out}")


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

    print_data(_data_config(data, root, size, settings), _output(), _console(quiet))


def _data_flags(data: Source | None, root: Path | None, size: int | None) -> list[str]:
    return [
        *([f"data.source={json.dumps(data.value)}"] if data else []),
        *([f"data.root={json.dumps(str(root))}"] if root else []),
        *([f"data.size={size}"] if size else []),
    ]


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
        app()
    except Refused as why:
        _fail(f"refused [{why.id}]: {why}", REFUSED)
    except VeilError as error:
        _fail(str(error), BAD_INPUT)
    except OSError as error:  # a full disk, a folder that may not be written
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}", BAD_INPUT)


def _fail(message: str, status: int) -> None:
    print(f"veil: {message}", file=sys.stderr)
    sys.exit(status)


def _refuse_overwriting(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise VeilError(f"{out}: exists; --force overwrites it, another --out keeps it")


def _console(quiet: bool = False) -> Console | None:
    """Where progress is drawn: standard error, unless nobody is to be disturbed."""
    from rich.console import Console

    return None if quiet else Console(stderr=True)


def _output() -> Console:
    """Where tables go: standard output, 100 columns where it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 100)


def _say(line: str) -> None:
    print(line)
