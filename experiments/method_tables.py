"""The measured tables of docs/method_results.md: every row trained, audited afresh, written down.

    python experiments/method_tables.py run experiments/tables/male_smiling.toml FACES
    python experiments/method_tables.py keep experiments/tables/male_smiling.toml
    python docs/generate.py

FACES is the folder that holds the table's data set; drawn faces need none. A table's TOML file has
the sections [data], [problem] and [audit] that all its rows share, and one [rows.NAME.method] for
each row. What was done already is not done again, so that an interrupted run goes on, and several
processes may share the rows among them (`--row NAME`). `keep` takes the figures out of the runs'
audits into a small file beside the table, and docs/generate.py puts them into the page.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict
from rich.console import Console

from veil.auditing import audit_run
from veil.checkpoint import written_beside
from veil.config import parse, read_tables
from veil.evidence import DRAWS
from veil.records import Audit, Record
from veil.runs import RUN, train

app = typer.Typer(add_completion=False, help=(__doc__ or "").partition("\n")[0])
OUT = Annotated[Path, typer.Option(help="Folder of all tables' runs.")]
RUNS = Path("runs/tables")
OWN_HEAD = "own head"
OF_PICTURES = ("psnr", "identity_cosine", "rank1")


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: of its folder and for `--row`.
        run: the tables of its run's configuration.
        published: what is measured -> the paper's figure, in per cent.
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


class Kept(BaseModel):
    """What is remembered of one row's audit.

    Attributes:
        title: of the method.
        refused: why no verdict was given.
        worst: private target -> the strongest attacker's record.
        heads: useful label -> the records of the method's own head and of the best fresh one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    refused: tuple[str, ...]
    worst: dict[str, Record]
    heads: dict[str, tuple[Record, ...]]


class KeptTable(BaseModel):
    """The rows of a table that were measured, by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rows: dict[str, Kept]


def read_table(path: Path) -> Table:
    """A table's TOML file; a row's own sections go on top."""
    tables = read_tables(path)
    return Table(
        title=tables["table"]["title"],
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
            for name, row in tables["rows"].items()
        ),
    )


@app.command()
def run(
    table: Path,
    faces: Annotated[Path | None, typer.Argument(help="Folder of the data set.")] = None,
    out: OUT = RUNS,
    row: Annotated[list[str] | None, typer.Option(help="Only these rows.")] = None,
) -> None:
    """Train and audit the rows that are not finished."""
    console = Console(stderr=True)
    read = read_table(table)
    for wanted in read.rows:
        folder = out / table.stem / wanted.name
        if (row and wanted.name not in row) or (folder / "audit.json").exists():
            continue
        if faces is not None:
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
def keep(table: Path, out: OUT = RUNS) -> None:
    """Write TABLE.json beside the table, from the audits of its finished rows."""
    rows = {
        row.name: _kept(Audit.load(path))
        for row in read_table(table).rows
        if (path := out / table.stem / row.name / "audit.json").exists()
    }
    with written_beside(table.with_suffix(".json")) as beside:
        beside.write_text(KeptTable(rows=rows).model_dump_json(indent=1) + "\n", encoding="utf-8")


def markdown(table: Path) -> str:
    """The table in Markdown, from its kept figures."""
    read = read_table(table)
    kept = KeptTable.model_validate_json(table.with_suffix(".json").read_bytes()).rows
    private = list(dict.fromkeys(name for row in kept.values() for name in row.worst))
    useful = list(dict.fromkeys(name for row in kept.values() for name in row.heads))
    headings = [
        "",
        *(_private_heading(name, kept) for name in private),
        *(_useful_heading(name, kept) for name in useful),
        "published, %",
    ]
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for row in read.rows:
        if row.name not in kept:
            continue
        found = kept[row.name]
        cells = [
            found.title + (" (refused)" if found.refused else ""),
            *(_leaked(found.worst.get(name)) for name in private),
            *(", ".join(map(_kept_by, found.heads.get(name, ()))) for name in useful),
            ", ".join(f"{name} {figure:g}" for name, figure in row.published.items()),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _kept(audit: Audit) -> Kept:
    useful = [name for name, target in audit.targets.items() if target.kind == "utility"]
    heads = {}
    for name in useful:
        own = [
            r for r in audit.records if (r.target, r.kind, r.attack) == (name, "utility", OWN_HEAD)
        ]
        fresh = [
            r
            for r in audit.records
            if (r.target, r.kind) == (name, "utility")
            and r.family not in ("floor", "ceiling")
            and r.attack != OWN_HEAD
        ]
        heads[name] = (*own, *sorted(fresh, key=lambda r: -(r.select or 0))[:1])
    return Kept(
        title=audit.name.rpartition(" on ")[0],
        refused=tuple(doubt.text for doubt in audit.refusals),
        worst={n: t.worst for n, t in audit.targets.items() if n not in useful},
        heads=heads,
    )


def _private_heading(name: str, kept: dict[str, Kept]) -> str:
    records = [row.worst[name] for row in kept.values() if name in row.worst]
    if name == "reconstruction":
        return "redrawn: SSIM, PSNR, face cosine, rank-1"
    floors = [r.floor for r in records if r.floor is not None]
    low, high = min(floors), max(floors)
    floor = f"{low:.3f}" if high - low < 0.005 else f"{low:.3f} to {high:.3f}"
    return f"{name} leaks at least (floor {floor}, ceiling {_ceiling(records)})"


def _useful_heading(name: str, kept: dict[str, Kept]) -> str:
    records = [record for row in kept.values() for record in row.heads.get(name, ())]
    return f"{name} kept (ceiling {_ceiling(records)})"


def _ceiling(records: list[Record]) -> str:
    known = [r.ceiling for r in records if r.ceiling is not None]
    return f"{max(known):.3f}" if known else "–"


def _leaked(record: Record | None) -> str:
    if record is None:
        return ""
    if record.kind != "reconstruction":
        return f"{_figure(record)}, {record.attack}"
    shown = [record.scores.get(name) for name in OF_PICTURES]
    return ", ".join(
        [_figure(record), *("–" if x is None else f"{x:.3g}" for x in shown), record.attack]
    )


def _kept_by(record: Record) -> str:
    return f"{'own' if record.attack == OWN_HEAD else 'fresh'} {_figure(record)}"


def _figure(record: Record) -> str:
    if record.score is None or record.interval is None:
        return "–" if record.score is None else f"{record.score:.3f}"
    low, high = record.interval
    return f"{record.score:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    app()
