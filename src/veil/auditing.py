"""Audits of run folders and of released files, written beside what they audit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor

from veil.audit import audit, refused
from veil.checkpoint import written_beside
from veil.data.splits import Splits
from veil.errors import Refused, VeilError
from veil.evidence import of_release
from veil.pictures import write_samples
from veil.records import Audit
from veil.release import FunctionRelease
from veil.released_file import from_file
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


def audit_release(
    release: Callable[[Tensor, torch.Generator], Tensor],
    splits: Splits,
    private: tuple[str, ...],
    utility: tuple[str, ...] = (),
    suite: str = "standard",
    seeds: int = 2,
    seed: int = 0,
    name: str = "a release function",
    console: Console | None = None,
) -> Audit:
    """Audit any release that is a Python function, on any data.

    Args:
        release: (n, c, h, w) in [0, 1] and a generator, its one source of randomness -> (n, ...).
        splits: the data; nobody of `fit` is looked at.
        private, utility: names of labels of the data; "identity" is the person.
        suite, seeds, seed, console: see `audit.audit`.
        name: what messages and reports call it.
    """
    wrapped = FunctionRelease(release)
    evidence = of_release(
        wrapped, splits.having((*private, *utility)), private, utility, seed, name
    )
    return audit(evidence, suite, seeds, seed, console)


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
