"""A study with people: which pictures they are shown, and what these show.

The user study of NARL (Jeong, Cho, Benz, Kim; UAI 2023, supplement C): 30 pictures whose originals
a reference classifier reads rightly, balanced over the classes and shuffled, and people who say
what they see. `study_scores` scores their answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from torch import Tensor

from veil.attacks.reconstruction import Inversion, LearnedDecoder, LinearDecoder, eight_bit
from veil.checkpoint import written_beside
from veil.data.dataset import MISSING, RECONSTRUCTION, Dataset, Rows
from veil.data.splits import Splits
from veil.errors import VeilError
from veil.evidence import of_release
from veil.fixed_classifiers import Training, fixed_classifiers, pictures_of
from veil.metrics import Flags
from veil.progress import bar
from veil.reconstructing import PICTURES, reconstruction_records
from veil.release import release_split
from veil.report.study_page import render_study
from veil.runs import Run, load
from veil.seeds import seed_for
from veil.statistics import people_of
from veil.study_scores import Key, Shown

PAGE, KEY, RESULT = "study.html", "key.json", "study.json"
MOST = PICTURES["test"]
# The nearest face is left out: it shows somebody else, sharply, and people would judge that one.
ATTACKERS: tuple[Inversion, ...] = (LinearDecoder(), LearnedDecoder())


def make_study(
    path: Path,
    out: Path,
    private: str,
    pictures: int = 30,
    seed: int = 0,
    training: Training | None = None,
    attackers: Sequence[Inversion] = ATTACKERS,
    console: Console | None = None,
) -> Key:
    """Write study.html, which participants get, and key.json, which they do not, into `out`.

    Shown is the released picture where the run releases pictures, drawn once; else what the
    attacker rebuilds who, of those trained on the releases of `attack`, comes closest on `select`.

    Args:
        path: the folder of a trained run.
        out: the folder to write into.
        private: a class label of its data.
        pictures: how many, a multiple of the number of classes, at most 512.
        seed: decides the pictures, their order, the reference classifier and the releases' noise.
        training: of the reference classifier, on the originals of `fit`.
        attackers: who rebuild pictures.
        console: where progress is drawn; None draws nothing.

    Raises:
        VeilError: `private` has no classes, or too few pictures of one are read rightly.
    """
    run = load(path, console)
    splits = run.splits
    _refuse(splits.test, private, pictures)
    out.mkdir(parents=True, exist_ok=True)
    reader = fixed_classifiers(splits.fit, splits.select, [private], seed, training, console)
    truth = splits.test.column(private)
    right = reader.read(pictures_of(splits.test))[private] == truth
    rows = study_rows(splits.test, private, right, pictures, seed)
    x, shows = _shown(run, replace(splits, test=splits.test.view(rows)), seed, attackers, console)
    order = np.random.default_rng(seed_for(seed, "study", "order")).permutation(pictures)
    rows = rows[order]
    images = eight_bit(x[order].clamp(0, 1)).permute(0, 2, 3, 1).contiguous().numpy()
    classes = splits.test.label(private).classes
    # Of nothing but what the page shows: from more the answers could be found by trying.
    digest = hashlib.blake2b(f"{private} {classes}".encode() + images.tobytes(), digest_size=6)
    key = Key(
        study=digest.hexdigest(),
        method=run.method.title(),
        data=splits.test.name,
        label=private,
        classes=classes,
        shows=shows,
        seed=seed,
        read_right=float(right[truth != MISSING].mean()),
        pictures=tuple(
            Shown(picture=number, answer=classes[truth[row]], row=int(row))
            for number, row in enumerate(rows, start=1)
        ),
    )
    with written_beside(out / KEY) as key_beside, written_beside(out / PAGE) as page_beside:
        key_beside.write_text(key.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
        page = render_study(key.study, private, classes, images)
        page_beside.write_text(page, encoding="utf-8")
    return key


def study_rows(test: Dataset, name: str, right: Flags, pictures: int, seed: int) -> Rows:
    """(pictures,) positions in `test`, rising: as many of each class, one of a person.

    Args:
        test: the pictures to choose from.
        name: of the class label.
        right: (n,) which of them may be chosen, if the label is known.
        pictures: how many, a multiple of the number of classes.
        seed: decides which.

    Raises:
        VeilError: a class has too few.
    """
    s, classes = test.column(name), test.label(name).classes
    rng = np.random.default_rng(seed_for(seed, "study", "pictures"))
    rows = rng.permutation(np.flatnonzero(right & (s != MISSING)))
    people = people_of(test.identity, len(test))[rows]
    rows = rows[np.sort(np.unique(people, return_index=True)[1])]
    of_class = [rows[s[rows] == k] for k in range(len(classes))]
    fewest = int(np.argmin([len(members) for members in of_class]))
    most, each = len(of_class[fewest]), pictures // len(classes)
    if most < each:
        raise VeilError(
            f"{test.name}: {each} test pictures of different people are needed with {name} "
            f"'{classes[fewest]}' that the reference classifier reads rightly; there are {most}"
            + (f": ask for at most {most * len(classes)} pictures" if most else "")
        )
    return np.sort(np.concatenate([members[:each] for members in of_class]))


def _refuse(test: Dataset, private: str, pictures: int) -> None:
    """Raise `VeilError` unless so many pictures can be divided evenly over the label's classes."""
    label = test.label(private)
    if not label.is_class:
        raise VeilError(f"'{private}' is {label.kind}: people are asked for a class label")
    k = len(label.classes)
    if not k <= pictures <= MOST or pictures % k:
        near = max(k, pictures // k * k if pictures <= MOST else MOST // k * k)
        raise VeilError(
            f"{pictures} pictures cannot be divided evenly over the {k} classes of '{private}' "
            f"(at most {MOST} are shown): ask for {near}"
        )


def _shown(
    run: Run,
    splits: Splits,
    seed: int,
    attackers: Sequence[Inversion],
    console: Console | None,
) -> tuple[Tensor, str]:
    """(n, c, h, w) pictures for the releases of `splits.test`, and what they are."""
    obfuscator, seed = run.method.obfuscator, seed_for(seed, "study")
    if obfuscator.pictures:
        return release_split(obfuscator, splits.test, seed, "study"), "released pictures"
    evidence = of_release(obfuscator, splits, (RECONSTRUCTION,), (), seed, run.method.title())
    with bar(console, "rebuilding pictures", len(attackers)) as advance:
        records, rebuilt = reconstruction_records(
            evidence, attackers, None, 1, seed, advance, readers=()
        )
    # The records are of the floor, of the attackers, and of the originals, which has no `select`.
    reached = {r.attack: r.select for r in records if r.family == "reconstruction"}
    if not reached:
        raise VeilError(f"{run.path}: none of the attackers can rebuild pictures from its releases")
    strongest = max(reached, key=lambda name: reached[name] or 0.0)
    return rebuilt.test, f"pictures that an attacker rebuilt from releases ({strongest})"
