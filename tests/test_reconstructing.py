"""Records of reconstructions: every figure against a direct computation, with known answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from small_evidence import made_up
from veil import reconstructing
from veil.attacks.attack import AttackSplit, Guess, Kind, Knowledge, Whole
from veil.attacks.inversion import Optimisation
from veil.attacks.linear import Logistic
from veil.attacks.pairs import draw_pairs
from veil.attacks.reconstruction import (
    Inversion,
    InversionKnowledge,
    LearnedDecoder,
    LinearDecoder,
    MeanFace,
    NearestFace,
    Reconstruction,
)
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.image_quality import ms_ssim, perceptual_distance, psnr, ssim
from veil.metrics import eer, tar_at_far
from veil.recognition import Recogniser
from veil.reconstructing import reconstruction_records, rows_shown
from veil.records import Record
from veil.seeds import seed_for

PEOPLE, PHOTOS, SIDE = 120, 3, 16


class Eyes(Recogniser):
    """Sees a picture shrunk to 8x8, less its mean."""

    source, digest, held_out = "a test", "0", None

    def embed(self, x: Tensor) -> Tensor:
        small = nn.functional.avg_pool2d(x, 2).flatten(1)
        return nn.functional.normalize(small - small.mean(1, keepdim=True))

    def features(self, x: Tensor) -> list[Tensor]:
        return [nn.functional.avg_pool2d(x, 2) + 0.1, x.flatten(1)[:, :3, None, None] + 0.1]


class Blind(Recogniser):
    """Shows no features."""

    source, digest, held_out = "a test", "1", None

    def embed(self, x: Tensor) -> Tensor:
        return Eyes().embed(x)

    def features(self, x: Tensor) -> None:
        return None


@dataclass(frozen=True)
class Redrawn:
    """Returns what it was given."""

    select: Tensor = field(repr=False)
    test: Tensor = field(repr=False)
    name: str = "redrawn"
    why: str | None = None

    family = "reconstruction"
    seeded = False

    def unfit_for(self, knowledge: InversionKnowledge) -> str | None:
        return self.why

    def run(self, knowledge: InversionKnowledge, seed: int) -> Reconstruction:
        return Reconstruction(self.select, self.test)


@dataclass(frozen=True)
class Sure(Whole):
    """A reader who says the truth on select, or nowhere but there."""

    truth: tuple[int, ...] = field(repr=False)
    name: str
    right: bool

    family = "stub"
    kind: Kind = "attribute"
    seeded = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        def said(s: np.ndarray, right: bool) -> np.ndarray:
            return np.where(np.eye(2)[s if right else 1 - s] > 0, 0.0, -9.0).astype(np.float32)

        test = np.tile(self.truth, len(knowledge.z["test"]) // len(self.truth))
        attack, select = knowledge.s["attack"], knowledge.s["select"]
        return Guess(said(attack, True), said(select, self.right), said(test, not self.right))


def world(private: tuple[str, ...] = ("s",)) -> Evidence:
    """Three photos each of people with a pattern; half of them are brighter on the left."""
    rng = np.random.default_rng(0)
    identity = np.repeat(np.arange(PEOPLE), PHOTOS)
    s = identity % 2
    coarse = np.repeat(rng.normal(0, 0.12, (PEOPLE, 3, 4, 4)), PHOTOS, axis=0)
    x = 0.5 + np.kron(coarse, np.ones((4, 4))) + rng.normal(0, 0.03, (PEOPLE * PHOTOS, 3, 16, 16))
    x[:, :, :, :8] += 0.2 * s[:, None, None, None]
    x = x.clip(0, 1).astype(np.float32)
    shown = x.reshape(len(x), 3, 8, 2, 8, 2).mean((3, 5))
    return made_up(shown, s, identity=identity, originals=x, private=private)


def originals(evidence: Evidence, split: AttackSplit) -> Tensor:
    assert evidence.originals is not None
    return evidence.originals(split)


def held_out(evidence: Evidence) -> tuple[Tensor, Tensor]:
    """The originals of select and test."""
    return originals(evidence, "select"), originals(evidence, "test")


def records_of(
    evidence: Evidence, inversions: Sequence[Inversion], recogniser: Recogniser | None = None
) -> dict[str, Record]:
    """Records by attack, read back by one cheap reader; all of select and test are redrawn."""
    records, _ = reconstruction_records(
        evidence, inversions, recogniser, 2, 0, lambda *_: None, (Logistic("whitened"),)
    )
    return {record.attack: record for record in records}


def perfect(evidence: Evidence) -> Redrawn:
    return Redrawn(*held_out(evidence), name="perfect")


def noise(evidence: Evidence) -> Redrawn:
    rng = torch.Generator().manual_seed(0)
    select, test = (torch.rand(x.shape, generator=rng) for x in held_out(evidence))
    return Redrawn(select, test, "noise")


def test_perfect_pictures_score_as_the_originals_and_noise_scores_nothing() -> None:
    evidence = world()
    found = records_of(evidence, [perfect(evidence), noise(evidence)], Eyes())
    best, nothing, ceiling = found["perfect"], found["noise"], found["the originals"]
    assert best.score == pytest.approx(1.0)
    assert best.select == pytest.approx(1.0)
    assert best.scores["perceptual"] == pytest.approx(0.0, abs=1e-6)
    assert best.scores["identity_cosine"] == pytest.approx(1.0)
    for name in ("eer", "tar_at_far_0.01", "rank1", "read_back:s"):
        assert best.scores[name] == pytest.approx(ceiling.scores[name])
    assert ceiling.score is None
    assert ceiling.family == "ceiling"
    assert (ceiling.scores["eer"] or 0) < 0.05
    assert (ceiling.scores["rank1"] or 0) > 0.9
    assert (ceiling.scores["read_back:s"] or 0) > 0.95
    assert nothing.score is not None
    assert nothing.score < 0.2
    assert abs((nothing.scores["eer"] or 0) - 0.5) < 0.12
    assert (nothing.scores["rank1"] or 0) < 0.15
    assert abs((nothing.scores["read_back:s"] or 0) - 0.5) < 0.12
    assert abs(nothing.scores["identity_cosine"] or 0) < 0.1
    assert abs(best.scores["ssim_strangers"] or 0) < 0.6


def test_the_figures_are_what_a_direct_computation_gives() -> None:
    evidence = world()
    rng = torch.Generator().manual_seed(1)
    x, x_select = originals(evidence, "test"), originals(evidence, "select")
    x_hat, select = (0.5 * v + 0.5 * torch.rand(v.shape, generator=rng) for v in (x, x_select))
    record = records_of(evidence, [Redrawn(select, x_hat)], Eyes())["redrawn"]
    each = ssim(x_hat, x)
    assert record.metric == "ssim"
    assert record.n == len(x)
    assert record.score == pytest.approx(each.mean().item())
    assert record.interval is not None
    assert record.interval[0] < each.mean().item() < record.interval[1]
    scores = record.scores
    assert scores["psnr"] == pytest.approx(psnr(x_hat, x).mean().item(), rel=1e-5)
    assert scores["ms_ssim"] == pytest.approx(ms_ssim(x_hat, x).mean().item(), rel=1e-5)
    eyes = Eyes()
    expected = perceptual_distance(eyes.features(x_hat), eyes.features(x)).mean().item()
    assert scores["perceptual"] == pytest.approx(expected, rel=1e-5)
    seen, original = eyes.embed(x_hat).numpy(), eyes.embed(x).numpy()
    cosine = np.mean([a @ b for a, b in zip(seen, original, strict=True)])
    assert scores["identity_cosine"] == pytest.approx(float(cosine), abs=1e-6)
    distance = perceptual_distance(eyes.features(select), eyes.features(x_select))
    closeness = (1 / (1 + distance)).mean().item()
    assert record.select == pytest.approx(closeness, rel=1e-5)


def test_matching_asks_other_photos_of_the_person() -> None:
    """rank-1 and the equal error rate by slow loops; the same photo is never asked for."""
    evidence = world()
    assert evidence.identity is not None
    people = evidence.identity["test"]
    rng = torch.Generator().manual_seed(2)
    x = originals(evidence, "test")
    x_hat = 0.3 * x + 0.7 * torch.rand(x.shape, generator=rng)
    redrawn = Redrawn(originals(evidence, "select"), x_hat)
    record = records_of(evidence, [redrawn], Eyes())["redrawn"]
    seen, original = Eyes().embed(x_hat).numpy(), Eyes().embed(x).numpy()
    firsts = {person: int(np.flatnonzero(people == person)[0]) for person in np.unique(people)}
    hits = []
    for row, person in enumerate(people):
        if row in firsts.values():
            continue
        nearest = min(firsts, key=lambda p: float(np.linalg.norm(seen[row] - original[firsts[p]])))
        hits.append(nearest == person)
    assert 0.1 < np.mean(hits) < 1
    assert record.scores["rank1"] == pytest.approx(np.mean(hits))
    assert record.scores["rank1_floor"] == pytest.approx(1 / len(firsts))
    pairs = draw_pairs(people, seed_for(0, "reconstruction", "pairs"))
    assert (pairs.left != pairs.right).all()
    apart = [
        float(np.linalg.norm(seen[i] - original[j]))
        for i, j in zip(pairs.left, pairs.right, strict=True)
    ]
    distance = np.array(apart)
    assert record.scores["eer"] == pytest.approx(eer(pairs.same, distance), abs=1e-3)
    assert record.scores["tar_at_far_0.01"] == pytest.approx(
        tar_at_far(pairs.same, distance, 0.01), abs=5e-3
    )


def test_a_memory_of_the_very_photo_does_not_count_as_the_person() -> None:
    """Negative control: noise of a photo's own, kept by the reconstruction, matches no other."""
    evidence = world()
    images = {split: originals(evidence, split) for split in ATTACK_SPLITS}
    rng = torch.Generator().manual_seed(3)
    images = {split: torch.rand(x.shape, generator=rng) for split, x in images.items()}
    evidence = replace(evidence, originals=images.__getitem__)
    found = records_of(evidence, [perfect(evidence)], Eyes())["perfect"]
    assert found.score == pytest.approx(1.0)
    assert abs((found.scores["eer"] or 0) - 0.5) < 0.12
    assert (found.scores["rank1"] or 0) < 0.15


def test_a_small_picture_is_redrawn_better_than_the_mean_face() -> None:
    evidence = world()
    decoder = LearnedDecoder(width=16, steps=40, batch=40)
    found = records_of(evidence, [LinearDecoder(), NearestFace(), decoder, MeanFace()], Eyes())
    floor = found["mean face"]
    assert list(found) == [
        "mean face",
        "linear decoder",
        "nearest face",
        "decoder pixels",
        "the originals",
    ]
    assert floor.family == "floor"
    assert floor.score is not None
    for name in ("linear decoder", "decoder pixels"):
        record = found[name]
        assert record.score is not None
        assert record.score > floor.score + 0.1
        assert record.floor == floor.score
        assert record.ceiling is None
        assert (record.scores["read_back:s"] or 0) > 0.9
    assert found["decoder pixels"].seeds == 2
    assert found["decoder pixels"].spread is not None
    assert found["linear decoder"].seeds == 1
    assert floor.scores["read_back:s"] == pytest.approx(0.5)


def test_the_pictures_returned_are_those_of_the_best_on_select() -> None:
    evidence = world()
    best, worse = perfect(evidence), noise(evidence)
    _, pictures = reconstruction_records(
        evidence, [worse, best, MeanFace()], Eyes(), 1, 0, lambda *_: None, ()
    )
    assert torch.equal(pictures.test, best.test)
    # Select decides, though test says the contrary.
    swapped = [replace(worse, select=best.select), replace(best, select=worse.select)]
    _, pictures = reconstruction_records(evidence, swapped, None, 1, 0, lambda *_: None, ())
    assert torch.equal(pictures.test, worse.test)


def test_without_features_ssim_chooses_and_without_people_nobody_is_matched() -> None:
    evidence = replace(world(), identity=None)
    redrawn = noise(evidence)
    for recogniser in (Blind(), None):
        record = records_of(evidence, [redrawn], recogniser)["noise"]
        expected = ssim(redrawn.select, originals(evidence, "select")).mean().item()
        assert record.select == pytest.approx(expected, rel=1e-5)
        assert "perceptual" not in record.scores
        assert "eer" not in record.scores
        assert ("identity_cosine" in record.scores) == (recogniser is not None)


def test_every_attacker_is_told_apart_counted_and_written() -> None:
    evidence = world()
    told: list[tuple[int, str]] = []
    inversions: list[Inversion] = [
        MeanFace(),
        Optimisation(),  # no oracle here
        replace(perfect(evidence), why="not today"),
        LinearDecoder(),
    ]
    records, _ = reconstruction_records(
        evidence, inversions, None, 1, 0, lambda n, name: told.append((n, name)), ()
    )
    assert told == [(1, i.name) for i in inversions]
    assert [r.attack for r in records] == ["mean face", "linear decoder", "the originals"]
    for record in records:
        assert record.target == record.kind == "reconstruction"
        assert Record.model_validate_json(record.model_dump_json()) == record
    plain = reconstructing._config(Optimisation())
    assert plain["first"] == ["mean face", "nearest face", "linear decoder"]
    assert plain["steps"] == Optimisation().steps


def test_a_random_release_is_redrawn_from_the_mean_of_most_draws() -> None:
    evidence = world()
    rng = torch.Generator().manual_seed(0)

    def drawn(noise: float) -> dict[AttackSplit, Tensor]:
        return {s: z + noise * torch.randn(z.shape, generator=rng) for s, z in evidence.z.items()}

    random = replace(evidence, z=drawn(1.0), averaged={4: drawn(0.5), 16: drawn(0.01)}, random=True)
    found = records_of(random, [LinearDecoder()])
    exact = records_of(evidence, [LinearDecoder()])["linear decoder"]
    record = found["linear decoder, mean of 16 draws"]
    assert record.config["draws"] == 16
    assert record.score == pytest.approx(exact.score, abs=0.02)


def test_a_release_and_that_of_its_reconstruction_are_compared_where_it_is_a_function() -> None:
    evidence = world()

    def oracle(x: Tensor, _: torch.Generator) -> Tensor:
        return nn.functional.avg_pool2d(x, 2)

    known = replace(evidence, oracle=oracle)
    found = records_of(known, [perfect(evidence), noise(evidence)])
    assert found["perfect"].scores["feature_similarity"] == pytest.approx(1.0)
    again = oracle(noise(evidence).test, torch.Generator()).flatten(1)
    released = evidence.z["test"].flatten(1)
    wanted = [float(a @ b / (a.norm() * b.norm())) for a, b in zip(again, released, strict=True)]
    assert found["noise"].scores["feature_similarity"] == pytest.approx(np.mean(wanted), abs=1e-5)
    for without in (evidence, replace(known, random=True)):
        assert "feature_similarity" not in records_of(without, [])["mean face"].scores


def test_the_reader_is_chosen_on_originals_of_select() -> None:
    evidence = world()
    truth = tuple(evidence.labels["s"]["test"])
    readers = (Sure(truth, "right on test", False), Sure(truth, "right on select", True))
    for order in (readers, readers[::-1]):
        records, _ = reconstruction_records(evidence, [], None, 1, 0, lambda *_: None, order)
        assert [record.scores["read_back:s"] for record in records] == [0.0, 0.0]
        assert records[-1].config["readers"] == {"s": "right on select"}


def test_rows_without_the_label_are_not_read_back() -> None:
    evidence = world()
    known = records_of(evidence, [perfect(evidence)])["perfect"].scores["read_back:s"]
    s = {split: column.copy() for split, column in evidence.labels["s"].items()}
    for column in s.values():
        column[::4] = -1
    gaps = replace(evidence, labels={"s": s})
    found = records_of(gaps, [perfect(gaps)])["perfect"]
    assert found.scores["read_back:s"] == pytest.approx(known, abs=0.05)
    assert found.n == len(evidence.z["test"])


def test_few_pictures_are_shown_whole_people_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = world()
    assert evidence.identity is not None
    monkeypatch.setattr(reconstructing, "PICTURES", {"select": 10, "test": 20})
    rows = rows_shown(evidence, 0)
    lengths: dict[AttackSplit, int] = {"select": 9, "test": 18}
    for split, most in lengths.items():
        shown, people = rows[split], evidence.identity[split]
        assert len(shown) == most
        assert sorted(shown) == sorted(np.flatnonzero(np.isin(people, people[shown])))
    assert np.array_equal(rows["test"], rows_shown(evidence, 0)["test"])
    assert not np.array_equal(rows["test"], rows_shown(evidence, 1)["test"])
    one = {
        split: np.zeros_like(column) + i
        for i, (split, column) in enumerate(evidence.identity.items())
    }
    assert len(rows_shown(replace(evidence, identity=one), 0)["test"]) == 20
    records, pictures = reconstruction_records(
        evidence, [LinearDecoder()], None, 1, 0, lambda *_: None, ()
    )
    assert pictures.test.shape == (18, 3, SIDE, SIDE)
    truth = originals(evidence, "test")[torch.from_numpy(rows["test"])]
    assert records[1].n == 18
    assert records[1].score == pytest.approx(ssim(pictures.test, truth).mean().item(), rel=1e-5)


def test_without_originals_there_is_nothing_to_score_against() -> None:
    evidence = replace(world(), originals=None)
    with pytest.raises(VeilError, match="original images"):
        reconstruction_records(evidence, [LinearDecoder()], None, 1, 0, lambda *_: None)
