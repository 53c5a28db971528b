"""`veil demo`: AIA against its baselines on drawn faces, trained, attacked and reported."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from veil.auditing import audit_run
from veil.config import parse
from veil.doubts import EXPLANATIONS
from veil.errors import VeilError
from veil.records import Audit
from veil.report import print_comparison, write_report
from veil.runs import RUN, train

PEOPLE = 1600
SIZE = 32
PRIVATE = "Male"
UTILITY = "identity"
# Table 1 of the paper: what distinguishes its four rows.
ROWS: dict[str, dict[str, Any]] = {
    "original": {"joint_epochs": 0},
    "random": {"joint_epochs": 0, "replaced": 0.5},
    "aia_without_task": {"alpha": 0.0},
    "aia": {},
}
METHOD = {
    "name": "aia",
    "decoder_channels": [32, 16],
    "lr": 1e-3,
    "pretrain_epochs": 8,
    "joint_epochs": 12,
}


def run_demo(out: Path, console: Console | None, force: bool) -> list[Audit]:
    """Train, audit and report the four rows; finished rows of an interrupted demo are kept.

    Args:
        out: folder that gets one run folder a row, and report.html.
        console: where progress and tables go; None for silence.
        force: begin afresh.

    Returns:
        The audits, in the order of `ROWS`.
    """
    report = out / "report.html"
    if report.exists() and not force:
        raise VeilError(f"{report}: the demo ran here already; --force runs it again")
    started = time.monotonic()
    audits = []
    for row, settings in ROWS.items():
        run = out / row
        config = parse(
            {
                "data": {"source": "synthfaces", "people": PEOPLE, "size": SIZE},
                "problem": {"private": [PRIVATE], "utility": [UTILITY]},
                "method": METHOD | settings,
            },
            "the demo",
        )
        if force or not (run / RUN).exists():
            train(config, run, console, force)
        found = run / "audit.json"
        if force or not found.exists():
            audits.append(audit_run(run, found, "quick", 1, 0, console))
        else:
            audits.append(Audit.load(found))
    write_report([out / row for row in ROWS], report, EXPLANATIONS)
    if console is not None:
        tables = Console(width=None if console.is_terminal else 100)
        print_comparison(audits, tables)
        minutes = (time.monotonic() - started) / 60
        tables.print(f"{minutes:.1f} minutes; open {report} in a browser")
    return audits
