"""The measured tables of docs/method_results.md: every row trained, audited afresh, written down.

    python experiments/method_tables.py run experiments/tables/male_smiling.toml FACES
    python experiments/method_tables.py show experiments/tables/male_smiling.toml

FACES is the folder that holds the table's data set. A table's TOML file has the sections [data],
[problem], [audit] and [fit] that all its rows share, and one [rows.NAME.method] for each row.
What was done already is not done again, so that an interrupted run goes on, and several processes
may share the rows among them (`--row NAME`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from veil.auditing import audit_run
from veil.config import parse, read_tables
from veil.evidence import DRAWS
from veil.records import Audit, Record
from veil.runs import RUN, train

app = typer.Typer(add_completion=False, help=(__doc__ or "").partition("\n")[0])
OUT = Annotated[Path, typer.Option(help="Folder of all tables' runs.")]


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of its folder and for `--row`.
        run: the tables of its run's configuration.
        published: label -> the paper's figure, in per cent.
    """

    name: str
    run: dict[str, Any]
    published: dict[str, float]


@dataclass(frozen=True)
class Table:
    """A published table, made again.

    Attributes:
        title: what is hidden and what is kept.
        rows: from top to bottom.
        audit: arguments of the audit: `suite`, `seeds`, `also`, `draws`.
    """

    title: str
    rows: tuple[Row, ...]
    audit: dict[str, Any]


def read_table(path: Path) -> Table:
    """A table's TOML file; a row's own sections go on top of what all share."""
    tables = read_tables(path)
    about, rows = tables["table"], tables["rows"]
    return Table(
        title=about["title"],
        audit=tables["audit"],
        rows=tuple(
            Row(
                name=name,
                run={
                    section: tables.get(section, {}) | row.get(section, {})
                    for section in ("data", "problem", "fit", "method")
                },
                published=row.get("published", {}),
            )
            for name, row in rows.items()
        ),
    )


@app.command()
def run(
    table: Path,
    faces: Path,
    out: OUT = Path("runs/tables"),
    row: Annotated[list[str] | None, typer.Option(help="Only these rows.")] = None,
) -> None:
    """Train and audit the rows that are not finished."""
    console = Console(stderr=True)
    read = read_table(table)
    for wanted in read.rows:
        folder = out / table.stem / wanted.name
        if (row and wanted.name not in row) or (folder / "audit.json").exists():
            continue
        wanted.run["data"]["root"] = str(faces)
        if not (folder / RUN).exists():
            train(parse(wanted.run, f"{table} [rows.{wanted.name}]"), folder, console)
        audit_run(
            folder,
            folder / "audit.json",
            suite=read.audit["suite"],
            seeds=read.audit["seeds"],
            console=console,
            also=tuple(read.audit.get("also", ())),
            draws=read.audit.get("draws", DRAWS[-1]),
        )
        console.print(f"{wanted.name}: audited")


@app.command()
def show(table: Path, out: OUT = Path("runs/tables")) -> None:
    """The table in Markdown, from the records of its finished rows."""
    read = read_table(table)
    found = {
        row.name: Audit.load(path)
        for row in read.rows
        if (path := out / table.stem / row.name / "audit.json").exists()
    }
    targets = list(dict.fromkeys(name for audit in found.values() for name in audit.targets))
    print(f"### {read.title}\n")
    headings = ["", *(_heading(name, found) for name in targets), "published"]
    print(f"| {' | '.join(headings)} |\n|{'---|' * len(headings)}")
    for row in read.rows:
        if row.name not in found:
            continue
        audit = found[row.name]
        cells = [
            audit.name.rpartition(" on ")[0] + (" **refused**" if audit.refusals else ""),
            *(_cell(audit, name) for name in targets),
            " / ".join(f"{name} {figure:g}" for name, figure in row.published.items()),
        ]
        print(f"| {' | '.join(cells)} |")


def _heading(name: str, found: dict[str, Audit]) -> str:
    worst = [audit.targets[name].worst for audit in found.values() if name in audit.targets]
    floors = [r.floor for r in worst if r.floor is not None]
    ceilings = [r.ceiling for r in worst if r.ceiling is not None]
    useful = any(a.targets[name].kind == "utility" for a in found.values() if name in a.targets)
    limits = [f"ceiling {max(ceilings):.3f}"] if ceilings else []
    if floors and not useful:
        limits.append(f"floor {min(floors):.3f} to {max(floors):.3f}")
    return f"{name} {'kept' if useful else 'leaks at least'} ({', '.join(limits)})"


def _cell(audit: Audit, name: str) -> str:
    """The worst attacker's score with its interval; of a useful label the heads' scores."""
    if name not in audit.targets:
        return ""
    if audit.targets[name].kind != "utility":
        worst = audit.targets[name].worst
        return f"{_figure(worst)} {worst.attack}"
    records = [r for r in audit.records if r.kind == "utility" and r.target == name]
    own = [r for r in records if r.attack == "own head"]
    fresh = [audit.targets[name].worst] if audit.targets[name].worst not in own else []
    parts = [f"own {_figure(r)}" for r in own] + [f"fresh {_figure(r)}" for r in fresh]
    return ", ".join(parts)


def _figure(record: Record) -> str:
    if record.score is None or record.interval is None:
        return "–" if record.score is None else f"{record.score:.3f}"
    low, high = record.interval
    return f"{record.score:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    app()
