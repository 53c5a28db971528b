"""How much of the face can be redrawn from its release: attackers -> records.

A reconstruction is judged against the original (PSNR, SSIM, MS-SSIM, perceptual distance, the
recogniser's cosine), by whether it can be matched with *other* pictures of its person, and by what
a classifier of ordinary pictures reads from it (see `reconstruction_scores`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from veil.attacks.attack import Attack, AttackSplit, Ints
from veil.attacks.convolution import AiaAdversary
from veil.attacks.linear import Logistic
from veil.attacks.reconstruction import Inversion, MeanFace, Reconstruction
from veil.data.dataset import RECONSTRUCTION
from veil.errors import VeilError
from veil.evidence import Evidence
from veil.progress import Advance
from veil.recognition import Recogniser
from veil.reconstruction_scores import Originals
from veil.records import Record
from veil.seeds import seed_for
from veil.statistics import mean_interval, people_of

PICTURES: Final[Mapping[AttackSplit, int]] = {"select": 256, "test": 512}
READERS: Final[tuple[Attack, ...]] = (Logistic("whitened"), AiaAdversary("standardised"))


def reconstruction_records(
    evidence: Evidence,
    inversions: Sequence[Inversion],
    recogniser: Recogniser | None,
    seeds: int,
    seed: int,
    advance: Advance,
    readers: Sequence[Attack] = READERS,
) -> tuple[list[Record], Reconstruction]:
    """Redraw the pictures of select and test from their releases, and score what comes out.

    `score` is the mean SSIM over the test pictures, with an interval over people. `select`, by
    which the worst attacker and its seed are chosen, is the same mean on select of
    1 / (1 + perceptual distance) where the recogniser shows its features, else of SSIM: higher is
    closer in both. `floor` is the mean face's SSIM, which a record of its own (family "floor")
    holds with all the other figures; a record of family "ceiling", "the originals", holds what
    can be matched and read when nothing is hidden. `scores` are, where they are defined:

    - psnr (dB), ms_ssim, perceptual (`image_quality`): means over the test pictures;
    - ssim_strangers: SSIM with the picture of somebody else: what resembles everybody's face as
      much as its own shows nobody;
    - identity_cosine: mean cosine between reconstruction and original; identity_cosine_floor:
      between originals of two people;
    - feature_similarity: mean cosine between a release and the release of its reconstruction,
      where the release is a function and not random;
    - eer, tar_at_far_0.01, rank1: the reconstruction against originals of *other* photos (floors
      0.5, 0.01 and rank1_floor, 1 / people); `rank1` asks everybody's first picture;
    - read_back:LABEL: balanced accuracy, on the reconstructions of test, of a classifier trained
      on the originals of attack and chosen on those of select, for each private class label.

    A random release is reconstructed from the mean of the most draws at hand.

    Args:
        evidence: the release; its originals must be at hand.
        inversions: the attackers; those unfit for the release are left out.
        recogniser: for perceptual distance and identity; None leaves those figures out.
        seeds: runs of an attacker whose result depends on the seed.
        seed: of the audit; the pictures scored (`rows_shown`) follow from it alone.
        advance: called with (1, name) for each attacker.
        readers: candidates for reading attributes back.

    Returns:
        The records, and the pictures that the worst attacker redrew: those of `rows_shown`.

    Raises:
        VeilError: there are no originals, or they are smaller than an SSIM window.
    """
    if evidence.originals is None:
        raise VeilError(
            f"{evidence.name}: reconstruction is scored against the original images, which are not "
            "at hand; put them into the file as x"
        )
    originals = Originals(_shown(evidence, seed), recogniser, seed)
    outcomes = [_outcome(MeanFace(), originals, seeds, seed)]
    for inversion in inversions:
        advance(1, inversion.name)
        is_floor = isinstance(inversion, MeanFace)
        if not is_floor and inversion.unfit_for(originals.knowledge) is None:
            outcomes.append(_outcome(inversion, originals, seeds, seed))
    read, by = originals.read_back([o.reconstruction.test for o in outcomes], readers)
    records = [_record(o, originals, r, seed) for o, r in zip(outcomes, read, strict=False)]
    floor = records[0].score
    records = [record.model_copy(update={"floor": floor}) for record in records]
    worst = max(outcomes[1:] or outcomes, key=lambda outcome: max(outcome.select))
    return [*records, _ceiling(originals, read[-1], by)], worst.reconstruction


def rows_shown(evidence: Evidence, seed: int) -> dict[AttackSplit, Ints]:
    """The rows of select and test that are redrawn: whole people in drawn order, up to `PICTURES`.

    A person with more pictures than fit is passed over, unless that leaves nobody.
    """
    shown = {}
    for split, most in PICTURES.items():
        count = len(evidence.z[split])
        units = people_of(None if evidence.identity is None else evidence.identity[split], count)
        rng = np.random.default_rng(seed_for(seed, "reconstruction", split))
        order = rng.permutation(units.max() + 1)
        photos = np.bincount(units)[order]
        kept: list[int] = []
        room = most
        for person, size in zip(order, photos, strict=True):
            if size <= room:
                kept.append(person)
                room -= size
        rows = np.flatnonzero(np.isin(units, kept or order[:1]))
        shown[split] = rows[:most]
    return shown


@dataclass(frozen=True)
class _Outcome:
    """One attacker's best seed, and the select criterion of every seed."""

    inversion: Inversion
    reconstruction: Reconstruction
    select: tuple[float, ...]


def _outcome(inversion: Inversion, originals: Originals, seeds: int, seed: int) -> _Outcome:
    """Run an attacker over its seeds."""
    drawn = [
        inversion.run(originals.knowledge, seed_for(seed, "inversion", inversion.name, i))
        for i in range(seeds if inversion.seeded else 1)
    ]
    reached = tuple(originals.closeness(reconstruction.select) for reconstruction in drawn)
    return _Outcome(inversion, drawn[int(np.argmax(reached))], reached)


def _record(
    outcome: _Outcome, originals: Originals, read: Mapping[str, float], seed: int
) -> Record:
    """The record of an attacker."""
    x_hat = outcome.reconstruction.test
    similarity = originals.similarity(x_hat)
    embedded = originals.embedding(x_hat)
    draws = originals.knowledge.draws
    inversion = outcome.inversion
    return Record(
        target=RECONSTRUCTION,
        kind="reconstruction",
        attack=inversion.name + (f", mean of {draws} draws" if draws > 1 else ""),
        family=inversion.family,
        metric="ssim",
        score=float(similarity.mean()),
        interval=mean_interval(similarity, originals.people, seed_for(seed, "interval")),
        select=max(outcome.select),
        scores={**originals.likeness(x_hat, embedded), **originals.matching(embedded), **read},
        n=len(x_hat),
        seeds=len(outcome.select),
        spread=float(np.std(outcome.select)) if len(outcome.select) > 1 else None,
        config=_config(inversion) | {"draws": draws},
    )


def _ceiling(originals: Originals, read: Mapping[str, float], by: Mapping[str, str]) -> Record:
    """What can be matched and read where nothing is hidden."""
    return Record(
        target=RECONSTRUCTION,
        kind="reconstruction",
        attack="the originals",
        family="ceiling",
        metric="ssim",
        score=None,
        interval=None,
        scores={**originals.matching(originals.embedded), **read},
        n=len(originals.test),
        config={"readers": dict(by)},
    )


def _shown(evidence: Evidence, seed: int) -> Evidence:
    """The rows that are redrawn, of one release: the mean of the most draws where it is random."""
    if evidence.averaged:
        z = evidence.averaged[evidence.draws]
        evidence = replace(evidence, z=z, averaged={evidence.draws: z}, deviation=None)
    chosen: dict[AttackSplit, NDArray[np.bool_]] = {
        "attack": np.ones(len(evidence.z["attack"]), dtype=bool)
    }
    for split, rows in rows_shown(evidence, seed).items():
        chosen[split] = np.isin(np.arange(len(evidence.z[split])), rows)
    return evidence.only(chosen, "redrawn")


def _config(inversion: Inversion) -> dict[str, Any]:
    """An attacker's hyperparameters as plain data; networks and other attackers by their names."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        if isinstance(value, bool | int | float | str):
            return value
        return getattr(value, "name", type(value).__name__)

    return {field.name: plain(getattr(inversion, field.name)) for field in fields(inversion)}  # type: ignore[arg-type]
