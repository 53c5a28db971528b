"""Audits of run folders and of released files, written beside what they audit."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from veil.audit import audit, refused
from veil.checkpoint import written_beside
from veil.errors import Refused, VeilError
from veil.evidence import from_file
from veil.pictures import write_samples
from veil.records import Audit
from veil.runs import evidence_of, load


def audit_run(
    run: Path, out: Path, suite: str, seeds: int, seed: int, console: Console | None
) -> Audit:
    """Audit a trained run; sample pictures for the report go into the run's folder."""
    loaded = load(run, console)
    make_room(out)
    evidence = evidence_of(loaded, seed)
    found = audit(evidence, suite, seeds, seed, console)
    write_samples(loaded, evidence, run / "samples.npz", seed)
    save(found, out)
    return found


def audit_file(
    file: Path, out: Path, suite: str, seeds: int, seed: int, console: Console | None
) -> Audit:
    """Audit anyone's released data set."""
    make_room(out)
    try:
        found = audit(from_file(file, seed), suite, seeds, seed, console)
    except Refused as why:
        found = refused(file.name, why)
    save(found, out)
    return found


def make_room(out: Path) -> None:
    """Make the folder of audit.json; a place that cannot take it is found before the attack."""
    if out.is_dir():
        raise VeilError(f"{out}: is a folder; give the name of the audit.json to write")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VeilError(f"{out}: cannot be written: {error.strerror}") from None


def save(found: Audit, out: Path) -> None:
    """Write audit.json, all or nothing."""
    with written_beside(out) as beside:
        beside.write_text(found.dumps(), encoding="utf-8")
