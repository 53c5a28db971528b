"""What classifiers that know only originals read from released pictures.

The evaluation of Martinsson, Listo Zec, Gillblad, Mogren (arXiv 2006.08039): the utility score of
section 4, the fooling rate of table 1, the correlations of tables 3 and 4. It says how pictures
pass in existing software, and nothing about leakage: whoever trains on releases reads more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from veil.checkpoint import written_beside
from veil.data.dataset import MISSING, Dataset, Label
from veil.errors import VeilError
from veil.fixed_classifiers import FixedClassifiers, Training, fixed_classifiers, pictures_of
from veil.image_quality import psnr
from veil.method import Replacement
from veil.metrics import Flags, Labels, accuracy, balanced_accuracy
from veil.pictures import sample_rows
from veil.progress import bar
from veil.reclassified import (
    Correlations,
    Fooling,
    Matrix,
    Rate,
    Reading,
    Reclassification,
    Reclassified,
    Said,
    correlations,
    utility_score,
)
from veil.reclassify_figures import draw_correlations, draw_pictures
from veil.release import released
from veil.runs import Run, load
from veil.seeds import generator, seed_for
from veil.statistics import ClassMetric, interval_for

RESULT = "reclassify.json"
PICTURES = "reclassify_pictures.png"
CORRELATIONS = "reclassify_correlations.png"
PAPERS_LABELS = (
    "Smiling",
    "Male",
    "Wearing_Lipstick",
    "Young",
    "High_Cheekbones",
    "Mouth_Slightly_Open",
    "Heavy_Makeup",
)


def reclassify(
    paths: Sequence[Path],
    out: Path,
    labels: Sequence[str] = (),
    seed: int = 0,
    training: Training | None = None,
    console: Console | None = None,
) -> Reclassification:
    """Read runs' releases of `test` with classifiers trained on the originals of `fit`.

    Writes reclassify.json, reclassify_pictures.png and reclassify_correlations.png into `out`.

    Args:
        paths: folders of trained runs on the same data.
        out: the folder for the result.
        labels: names of class labels; by default those of the paper that the data have, else all
            class labels. The runs' private labels always come with them.
        seed: decides the classifiers and the releases' noise.
        training: of the classifiers.
        console: where progress is drawn; None draws nothing.

    Raises:
        VeilError: a run releases no pictures, runs are on different data, or a label is unknown or
            has no classes.
    """
    training = training or Training()
    paths = [*dict.fromkeys(paths)]
    runs = [load(path, console) for path in paths]
    for run in runs:
        _refuse(run, runs[0])
    splits = runs[0].splits
    names = labels_read(splits.fit.schema, labels, [n for r in runs for n in r.problem.private])
    classifiers = fixed_classifiers(splits.fit, splits.select, names, seed, training, console)
    before = classifiers.read(pictures_of(splits.test))
    shown = sample_rows(runs[0])
    pictures = {"original": splits.test.batch(shown, labels=()).x}
    found = []
    for name, run in zip(_names(paths), runs, strict=True):
        after = _releases(run, classifiers, shown, seed, console)
        found.append(_compared(name, run, before, after, seed))
        pictures[f"{name}: {run.method.title()}"] = after.samples
    result = Reclassification(splits.test.name, len(splits.test), seed, training, tuple(found))
    with written_beside(out / RESULT) as beside:
        beside.write_text(result.dumps(), encoding="utf-8")
    with written_beside(out / PICTURES) as beside:
        draw_pictures(pictures, beside)
    first = found[0].correlations
    if first is not None:
        tables = {"labels": first.truth, "read from originals": first.originals}
        tables |= {f"read from {r.run}": r.correlations.released for r in found if r.correlations}
        with written_beside(out / CORRELATIONS) as beside:
            draw_correlations(first.labels, tables, beside)
    return result


def labels_read(
    schema: Mapping[str, Label], asked: Sequence[str], private: Collection[str]
) -> tuple[str, ...]:
    """The names of the labels to read: those asked for or the default, and the private ones.

    Args:
        schema: what the data have.
        asked: by the caller; empty for the default (see `reclassify`).
        private: of the runs; those without classes are left out.
    """
    papers = [name for name in PAPERS_LABELS if name in schema]
    every = [name for name, label in schema.items() if label.is_class]
    hidden = [name for name in private if name in schema and schema[name].is_class]
    return tuple(dict.fromkeys([*(asked or papers or every), *hidden]))


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' own names, or their whole paths where two have the same name."""
    names = [path.resolve().name for path in paths]
    return names if len({*names}) == len(names) else [str(path) for path in paths]


def _refuse(run: Run, first: Run) -> None:
    """Raise `VeilError` unless the run releases pictures, of the same originals as the first."""
    if not run.method.obfuscator.pictures:
        raise VeilError(
            f"{run.path}: {run.method.title()} releases no pictures that a classifier of originals "
            "could read; 'veil audit' attacks what it releases"
        )
    for split in ("fit", "test"):
        ours, theirs = (r.splits[split].content() for r in (run, first))
        if not np.array_equal(ours, theirs):
            raise VeilError(
                f"{run.path} and {first.path} are not about the same pictures, so they would not "
                "be read by the same classifiers: reclassify them apart"
            )


@dataclass(frozen=True)
class _Releases:
    """What is kept of a run's releases of `test`: (n,) each, and (k, c, h, w) samples."""

    said: Said
    drawn: Said
    squared_error: NDArray[np.float64]
    psnr: NDArray[np.float64]
    samples: Tensor


def _releases(
    run: Run,
    classifiers: FixedClassifiers,
    shown: NDArray[np.int64],
    seed: int,
    console: Console | None,
) -> _Releases:
    said: dict[str, list[Labels]] = {}
    drawn: dict[str, list[Labels]] = {}
    errors, ratios, done = [], [], 0
    samples: dict[int, Tensor] = {}
    test = run.splits.test
    with bar(console, f"reading {run.method.title()}", len(test)) as advance:
        for x, z, s_new in _released_chunks(run, test, seed):
            for into, columns in ((said, classifiers.read([z])), (drawn, s_new)):
                for name, column in columns.items():
                    into.setdefault(name, []).append(column)
            errors.append((x - z).double().square().flatten(1).mean(1).numpy())
            ratios.append(psnr(x, z).double().numpy())
            here = shown[(shown >= done) & (shown < done + len(x))]
            samples |= {int(row): z[row - done] for row in here}
            done += len(x)
            advance(len(x), "")
    return _Releases(
        {name: np.concatenate(parts) for name, parts in said.items()},
        {name: np.concatenate(parts) for name, parts in drawn.items()},
        np.concatenate(errors),
        np.concatenate(ratios),
        torch.stack([samples[int(row)] for row in shown]),
    )


@torch.no_grad()
def _released_chunks(
    run: Run, dataset: Dataset, seed: int
) -> Iterator[tuple[Tensor, Tensor, dict[str, Labels]]]:
    """Originals, their releases, and the values drawn where the run draws any."""
    obfuscator = run.method.obfuscator.eval()
    device = next(obfuscator.parameters(), torch.empty(0)).device
    for number, x in enumerate(pictures_of(dataset)):
        rng = generator(seed, "reclassify", number, device=device)
        if isinstance(obfuscator, Replacement):
            z, s_new = obfuscator.replace(x.to(device), rng)
            yield x, z.float().cpu(), {name: s.cpu().numpy() for name, s in s_new.items()}
        else:
            yield x, released(obfuscator, x.to(device), rng), {}


def _compared(name: str, run: Run, before: Said, after: _Releases, seed: int) -> Reclassified:
    test, private = run.splits.test, run.problem.private
    truth = {label: test.column(label) for label in before}
    people = test.identity
    kept = {label: column for label, column in truth.items() if label not in private}

    def scored(metric: ClassMetric, s: Labels, guess: Labels, rows: Flags) -> Rate:
        score = balanced_accuracy if metric == "balanced_accuracy" else accuracy
        who = None if people is None else people[rows]
        interval = interval_for(metric, s[rows], guess[rows], who, seed_for(seed, "reclassify"))
        return Rate(score(s[rows], guess[rows]), interval, int(rows.sum()))

    readings = []
    for label, s in truth.items():
        known = s != MISSING
        if known.any():
            readings.append(
                Reading(
                    label,
                    label in private,
                    scored("balanced_accuracy", s, before[label], known),
                    scored("balanced_accuracy", s, after.said[label], known),
                    accuracy(s[known], before[label][known]),
                    accuracy(s[known], after.said[label][known]),
                )
            )
    fooling = []
    for label, s_new in after.drawn.items():
        s, guess = truth[label], after.said[label]
        against = s_new != s
        classes = {k: s == k for k in np.unique(s)}
        fooling.append(
            Fooling(
                label,
                scored("accuracy", s_new, guess, np.ones(len(s), dtype=bool)),
                scored("accuracy", s_new, guess, against) if against.any() else None,
                {
                    test.label(label).classes[k]: scored("accuracy", s_new, guess, rows)
                    for k, rows in classes.items()
                },
            )
        )
    return Reclassified(
        run=name,
        method=run.method.title(),
        private=private,
        readings=tuple(readings),
        utility_original=utility_score(kept, before, people, seed),
        utility_released=utility_score(kept, after.said, people, seed),
        fooling=tuple(fooling),
        correlations=_correlations(test.schema, truth, before, after.said),
        mse=float(after.squared_error.mean()),
        psnr=float(after.psnr.mean()),
    )


def _correlations(
    schema: Mapping[str, Label], truth: Said, before: Said, after: Said
) -> Correlations | None:
    names = tuple(name for name in truth if schema[name].kind == "binary")
    if len(names) < 2:
        return None
    known = np.all([truth[name] != MISSING for name in names], axis=0)

    def table(columns: Said) -> Matrix:
        return correlations(np.stack([columns[name][known] for name in names], axis=1))

    return Correlations(names, table(truth), table(before), table(after))
