"""The copula gives the rates and correlations it promises; the draws are uniform and normal."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from veil.data.face_attributes import ATTRIBUTES, celeba_correlations
from veil.data.face_latents import (
    CUTS,
    NAMES,
    RATES,
    Correlations,
    both_probability,
    copula,
    latent_correlation,
    nearest_positive,
    normal,
    uniform,
)
from veil.data.synthfaces import labels
from veil.errors import VeilError

COUNT = 60_000


def drawn(correlations: Correlations, label_noise: bool = True) -> NDArray[np.int64]:
    """(COUNT, k) labels of one photo each of as many people."""
    model = copula(correlations, label_noise)
    index = np.arange(COUNT, dtype=np.uint64)
    return model.annotate(0, model.latent(0, index, index) > CUTS, index)


def phi(bits: NDArray[np.int64], first: str, second: str) -> float:
    return float(np.corrcoef(bits[:, NAMES.index(first)], bits[:, NAMES.index(second)])[0, 1])


@pytest.fixture(scope="module")
def celeba() -> NDArray[np.int64]:
    return drawn("celeba")


def test_uniform_draws_are_uniform_and_normal_ones_normal() -> None:
    from scipy import stats

    counter = np.arange(20_000, dtype=np.uint64)
    assert stats.kstest(uniform(0, "a", counter), "uniform").pvalue > 1e-3
    assert stats.kstest(normal(0, "a", counter), "norm").pvalue > 1e-3
    assert abs(np.corrcoef(normal(0, "a", counter), normal(0, "b", counter))[0, 1]) < 0.03
    assert abs(np.corrcoef(normal(0, "a", counter), normal(1, "a", counter))[0, 1]) < 0.03
    z = normal(0, "a", counter)
    assert abs(np.corrcoef(z[1:], z[:-1])[0, 1]) < 0.03


def test_bivariate_probability_agrees_with_scipy() -> None:
    from scipy.stats import multivariate_normal

    for first, second, rho in [(0.1, -0.7, 0.4), (1.9, 0.2, -0.95), (0.0, 0.0, 0.99), (2, 2, 0.0)]:
        expected = multivariate_normal.cdf([-first, -second], cov=[[1, rho], [rho, 1]])
        got = both_probability(np.array([first]), np.array([second]), np.array([rho]))
        assert got[0] == pytest.approx(expected, abs=2e-6)


def test_latent_correlation_of_medians_is_the_sine() -> None:
    """At rates of one half, phi = 2 asin(rho) / pi (Sheppard 1899)."""
    target = np.array([-0.7, -0.1, 0.0, 0.5316])
    zero = np.zeros(4)
    np.testing.assert_allclose(
        latent_correlation(target, zero, zero), np.sin(np.pi * target / 2), atol=1e-6
    )


def test_rates_are_celebas_with_and_without_noise(celeba: NDArray[np.int64]) -> None:
    bound = 4.5 * np.sqrt(RATES * (1 - RATES) / COUNT)
    for bits in (celeba, drawn("celeba", label_noise=False)):
        assert (np.abs(bits.mean(axis=0) - RATES) < bound).all()


@pytest.mark.parametrize(
    ("first", "second", "published"),
    [
        ("Mouth_Slightly_Open", "Smiling", 0.5316),  # Cramer's V, NARL
        ("Male", "Smiling", -0.1367),  # Cramer's V, NARL
        ("High_Cheekbones", "Smiling", 0.68),
        ("Wearing_Lipstick", "Smiling", 0.18),
    ],
)
def test_published_correlations_within_sampling_error(
    celeba: NDArray[np.int64], first: str, second: str, published: float
) -> None:
    assert abs(phi(celeba, first, second) - published) < 4.5 / np.sqrt(COUNT)


def test_all_of_celebas_correlations_are_near(celeba: NDArray[np.int64]) -> None:
    """Measured once on 400,000 faces: the error is 0.027 in quadratic mean, 0.12 at most."""
    target = np.eye(len(NAMES))
    for (a, b), value in celeba_correlations().items():
        target[NAMES.index(a), NAMES.index(b)] = target[NAMES.index(b), NAMES.index(a)] = value
    error = np.corrcoef(celeba.T) - target
    assert np.abs(error).max() < 0.14
    assert np.sqrt((error**2).mean()) < 0.035
    assert phi(celeba, "Male", "Wearing_Lipstick") < -0.74
    assert phi(celeba, "Male", "Heavy_Makeup") < -0.62


def test_independent_attributes_are_independent() -> None:
    bits = drawn("independent")
    off = np.corrcoef(bits.T) - np.eye(len(NAMES))
    assert np.abs(off).max() < 4.5 / np.sqrt(COUNT)


@pytest.mark.parametrize("label_noise", [True, False])
def test_pairs_asked_for_hold_for_the_labels(label_noise: bool) -> None:
    bits = drawn({"Male,Smiling": -0.5, "Young, Eyeglasses": 0.1}, label_noise)
    bound = 4.5 / np.sqrt(COUNT)
    assert abs(phi(bits, "Male", "Smiling") + 0.5) < bound
    assert abs(phi(bits, "Young", "Eyeglasses") - 0.1) < bound
    assert abs(phi(bits, "Male", "Young")) < bound


def test_correlations_hold_across_photos_of_few_people() -> None:
    """Smiling is photo-level and Male person-level: their phi is the same in every photo."""
    index = np.arange(COUNT, dtype=np.int64)
    named = labels(0, index, correlations={"Male,Smiling": -0.4}, photos_per_person=5)
    got = np.corrcoef(named["Male"], named["Smiling"])[0, 1]
    assert abs(got + 0.4) < 4.5 / np.sqrt(COUNT / 5)


def test_noise_is_the_share_of_labels_that_contradict_the_picture() -> None:
    model = copula("independent", label_noise=True)
    index = np.arange(COUNT, dtype=np.uint64)
    shown = model.latent(0, index, index) > CUTS
    wrong = (model.annotate(0, shown, index) != shown).mean(axis=0)
    noise = np.array([attribute.noise for attribute in ATTRIBUTES.values()])
    assert (np.abs(wrong - noise) <= 4.5 * np.sqrt(noise * (1 - noise) / COUNT)).all()
    assert noise[NAMES.index("Smiling")] > 0


def test_what_persists_comes_first() -> None:
    """The copula's triangular factor may not mix a photo's draws into a person's attributes."""
    persistence = [attribute.persistence for attribute in ATTRIBUTES.values()]
    permanent = sum(share == 1 for share in persistence)
    assert all(share == 1 for share in persistence[:permanent])


def test_nearest_positive_keeps_what_it_must() -> None:
    matrix = np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    kept = np.zeros((3, 3), dtype=bool)
    kept[0, 1] = kept[1, 0] = True
    near = nearest_positive(matrix, kept)
    assert near[0, 1] == 0.9
    assert np.linalg.eigvalsh(near)[0] > 0
    np.testing.assert_allclose(np.diag(near), 1)
    with pytest.raises(VeilError, match="not those of any distribution"):
        nearest_positive(matrix, np.ones((3, 3), dtype=bool))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"Male,Smilng": 0.1}, "did you mean 'Smiling'"),
        ({"Male": 0.1}, "name two attributes"),
        ({"Male,Male": 0.1}, "name two attributes"),
        ({"Male,Smiling": 1.5}, "between -1 and 1"),
        ({"Male,Smiling": 0.1, "Smiling,Male": 0.1}, "given twice"),
        ({"Bald,Smiling": 0.6}, "out of reach"),
        ({"Male,Smiling": 0.7, "Male,Young": 0.35, "Smiling,Young": -0.35}, "no distribution"),
    ],
)
def test_impossible_correlations_are_refused(pairs: dict[str, float], message: str) -> None:
    with pytest.raises(VeilError, match=message):
        copula(pairs, label_noise=True)


def test_no_pairs_are_independence() -> None:
    np.testing.assert_array_equal(copula({}, True).factor, np.eye(len(NAMES)))
