"""Fresh heads of landmarks: found where the release holds them, nothing where it does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from veil.attacks.attack import Attack, AttackSplit, Knowledge
from veil.attacks.convolution import AiaAdversary
from veil.attacks.landmarks import (
    LandmarkConvolution,
    LandmarkMlp,
    LandmarkRidge,
    landmark_ceilings,
    landmark_heads,
    standard_points,
)
from veil.quantity_metrics import points_r2

SIZES: dict[AttackSplit, int] = {"attack": 600, "select": 200, "test": 300}
SHORT = LandmarkMlp(steps=200)


def released(
    constant: bool = False,
) -> tuple[Knowledge, dict[AttackSplit, NDArray[np.float32]]]:
    """Points of very different deviations, the second in the product of two release entries."""
    rng = np.random.default_rng(0)
    z = {split: rng.normal(size=(n, 6)).astype(np.float32) for split, n in SIZES.items()}
    points = {
        split: np.stack(
            [5 + 0.1 * v[:, 0], 50 - 20 * v[:, 1], 30 + 5 * v[:, 2] * v[:, 3], v[:, 4]], axis=1
        )
        for split, v in z.items()
    }
    if constant:
        points = {split: np.where(np.arange(4) == 3, 7.0, v) for split, v in points.items()}
    s = {split: v.astype(np.float32) for split, v in points.items()}
    knowledge = Knowledge(
        target="points",
        classes=0,
        z={split: torch.from_numpy(v) for split, v in z.items()},
        s={"attack": s["attack"], "select": s["select"]},
    )
    return knowledge, s


def r2_of_each(head: Attack, knowledge: Knowledge, s: NDArray[np.float32]) -> list[float]:
    guess = head.run(knowledge, 0)
    assert guess.attack.shape == knowledge.s["attack"].shape
    error = ((guess.test - s) ** 2).sum(axis=0)
    return list(1 - error / ((s - knowledge.s["attack"].mean(axis=0)) ** 2).sum(axis=0))


def test_ridge_reads_linear_coordinates_whatever_their_scale() -> None:
    knowledge, s = released()
    found = r2_of_each(LandmarkRidge(), knowledge, s["test"])
    assert [found[i] for i in (0, 1, 3)] == pytest.approx([1, 1, 1], abs=0.01)
    assert found[2] < 0.1


def test_a_perceptron_reads_the_product_too() -> None:
    knowledge, s = released()
    found = r2_of_each(SHORT, knowledge, s["test"])
    assert min(found) > 0.7


@pytest.mark.parametrize("head", [LandmarkRidge(), SHORT])
def test_an_unrelated_release_says_nothing(head: Attack) -> None:
    knowledge, s = released()
    noise = {
        split: torch.randn(v.shape, generator=torch.Generator().manual_seed(1))
        for split, v in knowledge.z.items()
    }
    assert max(r2_of_each(head, replace(knowledge, z=noise), s["test"])) < 0.1


def test_convolutions_find_a_bright_spot_and_do_not_mirror() -> None:
    """Where the spot lies is the landmark: a mirrored picture would have it elsewhere."""
    rng = np.random.default_rng(0)
    place = {split: rng.integers(4, 28, size=(n, 2)) for split, n in SIZES.items()}
    z: dict[AttackSplit, torch.Tensor] = {}
    for split, at in place.items():
        pictures = torch.zeros(len(at), 1, 32, 32)
        for picture, (x, y) in zip(pictures, at, strict=True):
            picture[0, y - 2 : y + 2, x - 2 : x + 2] = 1
        z[split] = pictures
    s = {split: at.astype(np.float32) for split, at in place.items()}
    knowledge = Knowledge("points", 0, z, {"attack": s["attack"], "select": s["select"]})
    guess = LandmarkConvolution(AiaAdversary(steps=60, epochs=4)).run(knowledge, 0)
    baseline = s["attack"].mean(axis=0)
    assert points_r2(s["test"], guess.test, baseline) > 0.8
    assert LandmarkConvolution().unfit_for(released()[0]) == "the release has no spatial map"


def test_a_coordinate_that_never_varies_is_guessed_as_it_is() -> None:
    knowledge, _ = released(constant=True)
    assert (standard_points(knowledge)[:, 3] == 0).all()
    for head in (LandmarkRidge(), LandmarkMlp(steps=20, epochs=1)):
        guess = head.run(knowledge, 0)
        assert np.isfinite(guess.test).all()
        assert guess.test[:, 3] == pytest.approx(7, abs=1e-4)


def test_the_same_seed_gives_the_same_guess() -> None:
    knowledge, _ = released()
    short = LandmarkMlp(steps=20, epochs=1)
    first, again, other = (short.run(knowledge, seed) for seed in (0, 0, 1))
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_names_are_unique_and_shorter_forms_train_less() -> None:
    heads = landmark_heads()
    assert len({head.name for head in heads}) == len(heads)
    assert {head.name for head in landmark_ceilings()} <= {head.name for head in heads}
    assert LandmarkRidge().shortened(0.5) == LandmarkRidge()
    assert LandmarkMlp().shortened(0.5).steps == 300
    assert LandmarkConvolution().shortened(0.5).architecture.steps == 150
