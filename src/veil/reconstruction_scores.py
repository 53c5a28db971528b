"""What a reconstruction shows of its original: likeness, a face that is found, labels read back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.attacks.attack import Attack, Floats, Ints, Knowledge
from veil.attacks.features import Releases
from veil.attacks.pairs import Pairs, distances, draw_pairs, rank1, recurring_people
from veil.attacks.reconstruction import (
    Features,
    InversionKnowledge,
    eight_bit,
    perceived,
    unit_range,
)
from veil.attacks.training import in_chunks
from veil.data.dataset import MISSING
from veil.evidence import ATTACK_SPLITS, Evidence, Oracle
from veil.image_quality import ms_ssim, psnr, ssim
from veil.metrics import LOW_RATE, eer, tar_at_far
from veil.recognition import Recogniser
from veil.scoring import balanced
from veil.seeds import generator, seed_for
from veil.statistics import people_of

AT_ONCE = 128


class Originals:
    """The originals, and everything that reconstructions are held against.

    Args:
        evidence: the release, with its originals, of the rows that are redrawn.
        recogniser: for perceptual distance and identity; None leaves those figures out.
        seed: of the audit.

    Attributes:
        knowledge: what the attackers hold.
        people: (n,) who the test pictures show, or None.
        embedded: (n, d) unit vectors of the test pictures, or None without a recogniser.
    """

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

    def closeness(self, x_hat: Tensor) -> float:
        """The criterion on select, higher is closer."""
        if self.knowledge.features is None:
            return float(_by_chunks(ssim, x_hat, self.select).mean())
        distance = perceived(x_hat, self.select, self.knowledge.features)
        return float((1 / (1 + distance)).mean())

    def similarity(self, x_hat: Tensor) -> NDArray[np.float64]:
        """(n,) SSIM of each test picture."""
        return _by_chunks(ssim, x_hat, self.test)

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
        if self.evidence.oracle is not None and not self.evidence.random:
            found["feature_similarity"] = self.released_alike(x_hat, self.evidence.oracle)
        return found

    def released_alike(self, x_hat: Tensor, oracle: Oracle) -> float:
        """Mean cosine between a release and that of its reconstruction (Xiao et al. 2020)."""
        rng = generator(self.seed, "released again")
        again = in_chunks(lambda x: oracle(x, rng), x_hat, AT_ONCE).flatten(1)
        z = self.evidence.z["test"].flatten(1)
        return float(torch.cosine_similarity(again, z).mean())

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


def _strangers(units: Ints, seed: int) -> Ints:
    """For each row the first row of another person; everybody is a stranger to one other."""
    rng = np.random.default_rng(seed_for(seed, "reconstruction", "strangers"))
    first = np.unique(units, return_index=True)[1]
    circle = rng.permutation(len(first))
    following = np.empty_like(circle)
    following[circle] = np.roll(circle, -1)
    strangers: Ints = first[following[units]]
    return strangers


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
