"""Audit a folder of releases whose true leakage is known, and set the verdicts beside the truth.

    python benchmarks/fixtures.py FOLDER [--suite full] [--seeds 2]

FOLDER holds released files and truth.json: file stem -> {"kind": "leak" | "independent" | "floor" |
"refuse", "best_balanced_accuracy": ...}. The audit itself never sees truth.json; it is read here,
after every verdict. Two files are audited at a time, one thread each.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

TOLERANCE = 0.03


def audited(path: Path, suite: str, seeds: int) -> dict[str, Any]:
    """The verdict on one file, and how long it took."""
    import torch

    from veil import audit_file

    torch.set_num_threads(1)
    started = time.monotonic()
    with TemporaryDirectory() as folder:
        found = audit_file(path, Path(folder) / "audit.json", suite, seeds)
    return {
        "verdict": found.verdict,
        "refusals": [refusal.id for refusal in found.refusals],
        "targets": {name: summary.worst for name, summary in found.targets.items()},
        "seconds": time.monotonic() - started,
    }


def judged(kind: str, truth: float | None, found: dict[str, Any]) -> str:
    """What the truth says of a verdict."""
    if kind == "refuse":
        return "as it should" if found["verdict"] == "refused" else "NOT REFUSED"
    if found["verdict"] == "refused":
        return f"WRONGLY REFUSED ({', '.join(found['refusals'])})"
    worst = found["targets"]["s"]
    if kind == "independent":
        return "FALSE ALARM" if worst.interval[0] > worst.floor else "no alarm"
    assert truth is not None
    apart = worst.score - truth
    verdict = "found" if apart >= -TOLERANCE else "MISSED"
    return f"{verdict} ({apart:+.3f})"


def main(
    folder: Path, suite: str = "full", seeds: int = 2, only: Annotated[str, typer.Option()] = ""
) -> None:
    """Audit every file of FOLDER whose name begins with --only."""
    files = sorted(path for path in folder.glob("*.npz") if path.name.startswith(only))
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(partial(audited, suite=suite, seeds=seeds), files))
    truths = json.loads((folder / "truth.json").read_text("utf-8"))
    table = Table(title=f"suite {suite}, {seeds} seeds", box=box.SIMPLE_HEAD)
    for column in ("release", "truth", "worst", "95 %", "floor", "attacker", "verdict", "s"):
        table.add_column(column, overflow="fold")
    for path, one in zip(files, found, strict=True):
        known = truths.get(path.stem, {"kind": "unknown"})
        truth = known.get("best_balanced_accuracy")
        for name, worst in one["targets"].items():
            low, high = worst.interval
            table.add_row(
                path.stem if name == "s" else f"  {name}",
                known["kind"] if truth is None else f"{truth:.3f}",
                f"{worst.score:.3f}",
                f"{low:.3f}-{high:.3f}",
                f"{worst.floor:.3f}",
                worst.attack,
                judged(known["kind"], truth, one) if name == "s" else "",
                f"{one['seconds']:.0f}" if name == "s" else "",
            )
        if not one["targets"]:
            table.add_row(path.stem, known["kind"], "", "", "", "", judged("refuse", None, one), "")
    Console(width=150).print(table)


if __name__ == "__main__":
    typer.run(main)
