"""`veil reclassify`: what classifiers that know only originals read from released pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veil.cli_options import (
    ForceOption,
    QuietOption,
    output_console,
    progress_console,
    refuse_overwriting,
    say,
)
from veil.cli_tables import DASH, print_line, print_table
from veil.errors import VeilError

if TYPE_CHECKING:
    from rich.console import Console

    from veil.reclassified import Rate, Reclassification, Reclassified


def reclassify(
    runs: Annotated[list[Path], typer.Argument(help="Folders of trained runs on the same data.")],
    labels: Annotated[
        list[str] | None,
        typer.Option(help="Class label to read (repeatable); by default the seven of the paper."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the originals for the classifiers; 8.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the classifiers and of the releases.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the result; the run's own where there is one.")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Read released pictures with classifiers trained on originals: utility, fooling rate.

    Says how released pictures pass in existing software; 'veil audit' says what they leak.
    """
    from veil.fixed_classifiers import Training
    from veil.reclassify import RESULT
    from veil.reclassify import reclassify as reclassify_runs

    if out is None and len(runs) > 1:
        raise VeilError("several runs have no folder in common: say --out FOLDER")
    folder = runs[0] if out is None else out
    refuse_overwriting(folder / RESULT, force)
    training = Training() if epochs is None else Training(epochs=epochs)
    found = reclassify_runs(runs, folder, labels or (), seed, training, progress_console(quiet))
    print_reclassification(found, output_console())
    say(f"wrote {folder / RESULT}")


def print_reclassification(found: Reclassification, console: Console) -> None:
    """Print what was read from each run's releases, and where there are several, all runs."""
    for run in found.runs:
        head = f"{run.run}: {run.method} on {found.data}, {found.pictures:,} pictures"
        print_line(console, head, "bold")
        print_table(console, "Read by classifiers of originals, balanced accuracy", *_read(run))
        if run.fooling:
            print_table(console, "Fooled: the classifier reads the value drawn", *_fooled(run))
        if run.correlations is not None and any(
            name in run.correlations.labels for name in run.private
        ):
            print_table(console, "Correlation with what is hidden", *_correlated(run))
    print_table(console, "What was kept, and what was changed", *_summary(found))


Cells = tuple[list[str], list[list[str]], int]
"""The names of columns, the rows, and how many columns hold words."""


def _read(run: Reclassified) -> Cells:
    rows = [
        [
            f"{r.label} (hidden)" if r.private else r.label,
            *_rate(r.original),
            *_rate(r.released),
            f"{r.original_accuracy:.3f}",
            f"{r.released_accuracy:.3f}",
        ]
        for r in run.readings
    ]
    kept = [r for r in run.readings if not r.private]
    if kept:
        scores = [*_rate(run.utility_original), *_rate(run.utility_released)]
        accuracies = (
            sum(r.original_accuracy for r in kept) / len(kept),
            sum(r.released_accuracy for r in kept) / len(kept),
        )
        rows.append(["utility score", *scores, *(f"{mean:.3f}" for mean in accuracies)])
    header = ["label", "originals", "95 %", "released", "95 %", "acc. orig.", "acc. rel."]
    return header, rows, 1


def _fooled(run: Reclassified) -> Cells:
    rows = []
    for f in run.fooling:
        rows.append([f.label, "all pictures", *_rate(f.rate), f"{f.rate.n:,}"])
        drawn_against = f"{f.changed.n:,}" if f.changed else "0"
        rows.append(["", "drawn against the truth", *_rate(f.changed), drawn_against])
        rows += [
            ["", f"truly {name}", *_rate(rate), f"{rate.n:,}"] for name, rate in f.by_class.items()
        ]
    return ["label", "of", "rate", "95 %", "n"], rows, 2


def _correlated(run: Reclassified) -> Cells:
    assert run.correlations is not None
    labels = run.correlations.labels
    rows = []
    for hidden in (name for name in run.private if name in labels):
        j = labels.index(hidden)
        for i, name in enumerate(labels):
            if i != j:
                of = run.correlations
                figures = (table[i][j] for table in (of.truth, of.originals, of.released))
                rows.append([hidden, name, *(_signed(figure) for figure in figures)])
    return ["hidden", "label", "labels", "read from originals", "read from releases"], rows, 2


def _summary(found: Reclassification) -> Cells:
    rows = [
        [
            run.run,
            ", ".join(run.private),
            *_rate(run.utility_released),
            ", ".join(f"{f.rate.value:.3f}" for f in run.fooling) or DASH,
            f"{run.mse:.4f}",
            f"{run.psnr:.1f}",
        ]
        for run in found.runs
    ]
    return ["run", "hides", "utility", "95 %", "fooling rate", "MSE", "PSNR dB"], rows, 2


def _rate(rate: Rate | None) -> tuple[str, str]:
    """The figure and its interval."""
    if rate is None:
        return DASH, ""
    low, high = rate.interval
    return f"{rate.value:.3f}", f"{low:.3f}-{high:.3f}"


def _signed(figure: float | None) -> str:
    return DASH if figure is None else f"{figure:+.2f}"
