"""How much of the face can be redrawn from its release: attackers -> records.

A reconstruction is judged against the original (PSNR, SSIM, MS-SSIM, perceptual distance, the
recogniser's cosine), by whether it can be matched with *other* pictures of its person, and by what
a classifier of ordinary pictures reads from it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.attacks.attack import Attack, AttackSplit, Floats, Ints, Knowledge
from veil.attacks.convolution import AiaAdversary
from veil.attacks.features import Releases
from veil.attacks.linear import Logistic
from veil.attacks.pairs import Pairs, distances, draw_pairs, rank1, recurring_people
from veil.attacks.reconstruction import (
    Features,
    Inversion,
    InversionKnowledge,
    MeanFace,
    Reconstruction,
    eight_bit,
    perceived,
    unit_range,
)
from veil.attacks.training import in_chunks
from veil.data.dataset import MISSING
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, RECONSTRUCTION, Evidence
from veil.image_quality import ms_ssim, psnr, ssim
from veil.metrics import LOW_RATE, Reals, eer, tar_at_far
from veil.progress import Advance
from veil.recognition import Recogniser
from veil.records import Record
from veil.scoring import balanced
from veil.seeds import seed_for
from veil.statistics import RESAMPLES, Interval, people_of

PICTURES: Final[Mapping[AttackSplit, int]] = {"select": 256, "test": 512}
READERS: Final[tuple[Attack, ...]] = (Logistic("whitened"), AiaAdversary("standardised"))
AT_ONCE = 128


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
    evidence = _shown(evidence, seed)
    judge = _Judge(evidence, recogniser, seed)
    outcomes = [judge.outcome(MeanFace(), seeds)]
    for inversion in inversions:
        advance(1, inversion.name)
        is_floor = isinstance(inversion, MeanFace)
        if not is_floor and inversion.unfit_for(judge.knowledge) is None:
            outcomes.append(judge.outcome(inversion, seeds))
    read, by = judge.read_back([o.reconstruction.test for o in outcomes], readers)
    records = [judge.record(*pair) for pair in zip(outcomes, read, strict=False)]
    floor = records[0].score
    records = [record.model_copy(update={"floor": floor}) for record in records]
    worst = max(outcomes[1:] or outcomes, key=lambda outcome: max(outcome.select))
    return [*records, judge.ceiling(read[-1], by)], worst.reconstruction


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


class _Judge:
    """The originals, and everything that reconstructions are held against."""

    def __init__(self, evidence: Evidence, recogniser: Recogniser | None, seed: int) -> None:
        assert evidence.originals is not None
        self.evidence = evidence
        self.recogniser = recogniser
        self.seed = seed
        self.attack = eight_bit(evidence.originals("attack"))
        self.select = evidence.originals("select").contiguous()
        self.test = evidence.originals("test").contiguous()
        self.knowledge = InversionKnowledge(
            z=evidence.z,
            x={"attack": self.attack, "select": eight_bit(self.select)},
            draws=evidence.draws,
            oracle=evidence.oracle,
            features=_features(recogniser, self.select[:1]),
        )
        people = None if evidence.identity is None else evidence.identity["test"]
        self.people = people
        self.strangers = _strangers(people_of(people, len(self.test)), seed)
        self.embedded = self.embedding(self.test)
        self.pairs: Pairs | None = None
        if people is not None and recurring_people(people)[2] > 1:
            self.pairs = draw_pairs(people, seed_for(seed, "reconstruction", "pairs"))

    def outcome(self, inversion: Inversion, seeds: int) -> _Outcome:
        """Run an attacker over its seeds."""
        drawn = [
            inversion.run(self.knowledge, seed_for(self.seed, "inversion", inversion.name, i))
            for i in range(seeds if inversion.seeded else 1)
        ]
        reached = tuple(self.closeness(reconstruction.select) for reconstruction in drawn)
        return _Outcome(inversion, drawn[int(np.argmax(reached))], reached)

    def closeness(self, x_hat: Tensor) -> float:
        """The criterion on select, higher is closer."""
        if self.knowledge.features is None:
            return float(_by_chunks(ssim, x_hat, self.select).mean())
        distance = perceived(x_hat, self.select, self.knowledge.features)
        return float((1 / (1 + distance)).mean())

    def record(self, outcome: _Outcome, read: Mapping[str, float]) -> Record:
        """The record of an attacker."""
        x_hat = outcome.reconstruction.test
        similarity = _by_chunks(ssim, x_hat, self.test)
        embedded = self.embedding(x_hat)
        draws = self.evidence.draws
        inversion = outcome.inversion
        return Record(
            target=RECONSTRUCTION,
            kind="reconstruction",
            attack=inversion.name + (f", mean of {draws} draws" if draws > 1 else ""),
            family=inversion.family,
            metric="ssim",
            score=float(similarity.mean()),
            interval=mean_interval(similarity, self.people, seed_for(self.seed, "interval")),
            select=max(outcome.select),
            scores={**self.likeness(x_hat, embedded), **self.matching(embedded), **read},
            n=len(x_hat),
            seeds=len(outcome.select),
            spread=float(np.std(outcome.select)) if len(outcome.select) > 1 else None,
            config=_config(inversion) | {"draws": draws},
        )

    def ceiling(self, read: Mapping[str, float], by: Mapping[str, str]) -> Record:
        """What can be matched and read where nothing is hidden."""
        return Record(
            target=RECONSTRUCTION,
            kind="reconstruction",
            attack="the originals",
            family="ceiling",
            metric="ssim",
            score=None,
            interval=None,
            scores={**self.matching(self.embedded), **read},
            n=len(self.test),
            config={"readers": dict(by)},
        )

    def likeness(self, x_hat: Tensor, embedded: Floats | None) -> dict[str, float]:
        """Means over the test pictures of what compares each with its original."""
        found = {
            "psnr": float(_by_chunks(psnr, x_hat, self.test).mean()),
            "ms_ssim": float(_by_chunks(ms_ssim, x_hat, self.test).mean()),
            "ssim_strangers": float(_by_chunks(ssim, x_hat, self.test[self.strangers]).mean()),
        }
        if self.knowledge.features is not None:
            distance = perceived(x_hat, self.test, self.knowledge.features)
            found["perceptual"] = float(distance.mean())
        if embedded is not None and self.embedded is not None:
            found["identity_cosine"] = float((embedded * self.embedded).sum(axis=1).mean())
        return found

    def matching(self, embedded: Floats | None) -> dict[str, float]:
        """How well embedded reconstructions are matched with other photos of their people."""
        if embedded is None or self.embedded is None or self.pairs is None or self.people is None:
            return {}
        pairs, n = self.pairs, len(embedded)
        # Left is a reconstruction, right the original of another photo.
        across = Pairs(pairs.left, pairs.right + n, pairs.same)
        distance = distances(np.concatenate([embedded, self.embedded]), across)
        strangers = ~pairs.same
        apart = self.embedded[pairs.left] * self.embedded[pairs.right]
        known = np.flatnonzero(self.people != MISSING)
        first = known[np.unique(self.people[known], return_index=True)[1]]
        probes = embedded.copy()
        probes[first] = self.embedded[first]  # the gallery, where `rank1` looks for it
        return {
            "eer": eer(pairs.same, distance),
            f"tar_at_far_{LOW_RATE}": tar_at_far(pairs.same, distance, LOW_RATE),
            "rank1": rank1(probes, self.people),
            "rank1_floor": 1 / len(first),
            "identity_cosine_floor": float(apart[strangers].sum(axis=1).mean()),
        }

    def read_back(
        self, reconstructions: Sequence[Tensor], readers: Sequence[Attack]
    ) -> tuple[list[dict[str, float]], dict[str, str]]:
        """What classifiers of originals read from each reconstruction, and last from the originals.

        Returns:
            For each, "read_back:LABEL" -> balanced accuracy; and label -> the reader's name.
        """
        sets = [*reconstructions, self.test]
        found: list[dict[str, float]] = [{} for _ in sets]
        by = {}
        for name in self.evidence.private:
            if name not in self.evidence.labels or not self.evidence.meaning[name].is_class:
                continue
            s = self.evidence.labels[name]
            known = {split: np.flatnonzero(s[split] != MISSING) for split in ATTACK_SPLITS}
            test = s["test"][known["test"]]
            knowledge = Knowledge(
                target=name,
                classes=len(self.evidence.meaning[name].classes),
                # To a reader all reconstructions are one long "test" of ordinary pictures.
                z=Releases(
                    {
                        "attack": unit_range(self.attack[known["attack"]]),
                        "select": self.select[known["select"]],
                        "test": torch.cat([x[known["test"]] for x in sets]),
                    }
                ),
                s={"attack": s["attack"][known["attack"]], "select": s["select"][known["select"]]},
            )
            best = -1.0
            for reader in readers:
                if reader.unfit_for(knowledge) is not None:
                    continue
                guess = reader.run(knowledge, seed_for(self.seed, "reader", name, reader.name))
                reached = balanced(guess.select, knowledge.s["select"])
                if reached > best:
                    best, by[name] = reached, reader.name
                    for scores, log_p in zip(found, np.split(guess.test, len(sets)), strict=True):
                        scores[f"read_back:{name}"] = balanced(log_p, test)
        return found, by

    def embedding(self, x: Tensor) -> Floats | None:
        """(n, d) unit vectors, or None without a recogniser."""
        if self.recogniser is None:
            return None
        embedded: Floats = in_chunks(self.recogniser.embed, x, AT_ONCE).numpy()
        return embedded


def mean_interval(
    values: Reals, people: Ints | None, seed: int, level: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """Interval of a mean over pictures when people are resampled.

    Percentiles of the bootstrap, expanded for few people (Hesterberg 2015).

    Args:
        values: (n,) one for each picture.
        people: (n,) identities, -1 where unknown; None where all are.
    """
    from scipy.stats import norm, t

    units = people_of(people, len(values))
    count = np.bincount(units)
    total = np.bincount(units, weights=values)
    m = len(count)
    if m < 2:
        return float(values.min()), float(values.max())
    rng = np.random.default_rng(seed_for(seed, "bootstrap"))
    drawn = rng.multinomial(m, np.full(m, 1 / m), size=resamples)
    reach = np.sqrt(m / (m - 1)) * t.ppf((1 + level) / 2, m - 1)
    low, high = np.quantile((drawn @ total) / (drawn @ count), [norm.cdf(-reach), norm.cdf(reach)])
    return float(low), float(high)


def _strangers(units: Ints, seed: int) -> Ints:
    """For each row the first row of another person; everybody is a stranger to one other."""
    rng = np.random.default_rng(seed_for(seed, "reconstruction", "strangers"))
    first = np.unique(units, return_index=True)[1]
    circle = rng.permutation(len(first))
    following = np.empty_like(circle)
    following[circle] = np.roll(circle, -1)
    strangers: Ints = first[following[units]]
    return strangers


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


def _features(recogniser: Recogniser | None, x: Tensor) -> Features | None:
    """The recogniser as a perceptual network, where it is one (an ONNX file shows no stages)."""
    if recogniser is None or recogniser.features(x) is None:
        return None

    def maps(x: Tensor) -> list[Tensor]:
        found = recogniser.features(x)
        assert found is not None
        return found

    return maps


def _by_chunks(
    figure: Callable[[Tensor, Tensor], Tensor], x_hat: Tensor, x: Tensor
) -> NDArray[np.float64]:
    """(n,) a figure of each picture, a few pictures at a time."""
    parts = zip(torch.split(x_hat, AT_ONCE), torch.split(x, AT_ONCE), strict=True)
    return torch.cat([figure(a, b) for a, b in parts]).double().numpy()


def _config(inversion: Inversion) -> dict[str, Any]:
    """An attacker's hyperparameters as plain data; networks and other attackers by their names."""

    def plain(value: Any) -> Any:
        if isinstance(value, tuple):
            return [plain(v) for v in value]
        if isinstance(value, bool | int | float | str):
            return value
        return getattr(value, "name", type(value).__name__)

    return {field.name: plain(getattr(inversion, field.name)) for field in fields(inversion)}  # type: ignore[arg-type]
