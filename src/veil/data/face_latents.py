"""The hidden causes of a synthetic face, drawn from its index by counter-based randomness.

Draws: SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA
2014) evaluated at a counter, with one key per seed and purpose: any order, any batch, same bits.

Attributes: a Gaussian copula. A face has z = L g, g standard normal, L the Cholesky factor of the
latent correlations; attribute i is shown where z_i exceeds the quantile of its rate. Attribute i
keeps the share `persistence` of g_i's variance from photo to photo; because what persists comes
first in the triangular L, every photo has exactly the latent correlations asked for, and so have
the people.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from veil.data.face_attributes import AGES, ATTRIBUTES, celeba_correlations
from veil.errors import VeilError, nearest
from veil.seeds import seed_for

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Correlations = Literal["celeba", "independent"] | Mapping[str, float]

NAMES = tuple(ATTRIBUTES)
RATES = np.array([attribute.rate for attribute in ATTRIBUTES.values()])
CUTS = np.array([-NormalDist().inv_cdf(rate) for rate in RATES])
STRONGEST = 0.99  # latent correlation; at 1 two attributes would be one

# CelebA's rounded, noisy coefficients have no exact Gaussian twin; these pairs are kept exactly
# and the others move as little as makes the matrix positive definite.
EXACT = {
    ("Male", "Smiling"),
    ("Male", "Wearing_Lipstick"),
    ("Male", "Heavy_Makeup"),
    ("Smiling", "Mouth_Slightly_Open"),
    ("Smiling", "High_Cheekbones"),
    ("Smiling", "Wearing_Lipstick"),
}


def hashed(seed: int, purpose: str, counter: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """64 random bits per counter, for one purpose of one seed; shape of `counter`."""
    x = (counter + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(_key(seed, purpose))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@lru_cache(maxsize=4096)
def _key(seed: int, purpose: str) -> int:
    return seed_for(seed, "synthfaces", purpose)


def uniform(seed: int, purpose: str, counter: NDArray[np.uint64]) -> Floats:
    """Uniform on (0, 1), one per counter."""
    high_bits = (hashed(seed, purpose, counter) >> np.uint64(11)).astype(np.float64)
    return (high_bits + 0.5) * 2.0**-53


def normal(seed: int, purpose: str, counter: NDArray[np.uint64]) -> Floats:
    """Standard normal, one per counter (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log(uniform(seed, purpose + " radius", counter)))
    angle: Floats = radius * np.cos(2 * np.pi * uniform(seed, purpose + " angle", counter))
    return angle


def share_above(cut: Floats) -> Floats:
    """P(x > cut) of a standard normal, elementwise."""
    cdf = NormalDist().cdf
    return np.array([cdf(-c) for c in cut.ravel()]).reshape(cut.shape)


def both_probability(first: Floats, second: Floats, correlation: Floats) -> Floats:
    """P(x > first, y > second) of a bivariate normal, elementwise.

    The integral over the correlation of the density at the corner (Plackett 1954), with the
    correlation written as a sine (Drezner and Wesolowsky 1990): exact to 1e-9 up to 0.99.
    """
    nodes, weights = np.polynomial.legendre.leggauss(64)
    end = np.arcsin(correlation)[..., None]
    angle = end * (nodes + 1) / 2
    h, k = first[..., None], second[..., None]
    exponent = (h * h + k * k - 2 * h * k * np.sin(angle)) / (2 * np.cos(angle) ** 2)
    area = (np.exp(-exponent) @ weights) * end[..., 0] / (4 * np.pi)
    both: Floats = share_above(first) * share_above(second) + area
    return both


def latent_correlation(phi: Floats, first: Floats, second: Floats) -> Floats:
    """The correlation of two normals whose exceedances of two cuts have the given phi.

    The tetrachoric correlation (Pearson 1900), elementwise by bisection; where no correlation
    up to +-0.99 is strong enough, +-0.99.
    """
    p, q = share_above(first), share_above(second)
    target = p * q + phi * np.sqrt(p * (1 - p) * q * (1 - q))
    low, high = np.full_like(phi, -STRONGEST), np.full_like(phi, STRONGEST)
    for _ in range(40):
        middle = (low + high) / 2
        below = both_probability(first, second, middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Copula:
    """Attributes with prescribed rates and correlations.

    Attributes:
        factor: (k, k) lower triangular L; z = L g has the latent correlations.
        noise: (k,) share of labels that contradict the picture.
    """

    factor: Floats
    noise: Floats

    def latent(self, seed: int, person: NDArray[np.uint64], photo: NDArray[np.uint64]) -> Floats:
        """(n, k) the normals z of each photo; persistent attributes depend on the person alone."""
        z = np.zeros((len(photo), len(NAMES)))
        for i, (name, attribute) in enumerate(ATTRIBUTES.items()):
            g = np.sqrt(attribute.persistence) * normal(seed, f"{name} of person", person)
            if attribute.persistence < 1:
                rest = np.sqrt(1 - attribute.persistence)
                g = g + rest * normal(seed, f"{name} of photo", photo)
            # Column by column: a matrix product's rounding would depend on the batch size.
            z += g[:, None] * self.factor[:, i]
        return z

    def annotate(
        self, seed: int, shown: NDArray[np.bool_], photo: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        """(n, k) labels 0/1 given what the picture shows.

        As many labels are wrongly 1 as wrongly 0, so that the rates stay: a shown attribute is
        missed with probability noise/(2 rate), an absent one claimed with noise/(2 (1 - rate)).
        """
        error = np.where(shown, self.noise / (2 * RATES), self.noise / (2 * (1 - RATES)))
        draw = np.stack([uniform(seed, f"{name} label", photo) for name in NAMES], axis=1)
        labelled: NDArray[np.bool_] = shown ^ (draw < error)
        return labelled.astype(np.int64)


def copula(correlations: Correlations, label_noise: bool) -> Copula:
    """The copula whose labels have the given phi coefficients, after label noise.

    Args:
        correlations: "celeba", "independent", or "Male,Smiling" -> phi; pairs not named are
            independent.
        label_noise: whether the annotator makes mistakes at all.

    Raises:
        VeilError: an unknown attribute, or coefficients that no distribution can have.
    """
    if isinstance(correlations, str):
        return _copula(correlations, (), label_noise)
    return _copula("pairs", tuple(sorted(correlations.items())), label_noise)


@lru_cache(maxsize=32)
def _copula(kind: str, given: tuple[tuple[str, float], ...], label_noise: bool) -> Copula:
    noise = np.array(
        [a.noise if label_noise else 0.0 for a in ATTRIBUTES.values()], dtype=np.float64
    )
    if kind == "independent" or (kind == "pairs" and not given):
        return Copula(np.eye(len(NAMES), dtype=np.float64), noise)
    if kind not in ("celeba", "pairs"):
        hint = nearest(kind, ("celeba", "independent"))
        raise VeilError(f"correlations '{kind}' are unknown: {hint}")
    pairs = celeba_correlations() if kind == "celeba" else _read_pairs(given)
    rows, columns = np.array([[NAMES.index(a), NAMES.index(b)] for a, b in pairs]).T
    # Mistakes that keep the rate shrink every covariance by 1 - noise / (2 rate (1 - rate)).
    kept = 1 - noise / (2 * RATES * (1 - RATES))
    phi = np.array(list(pairs.values())) / (kept[rows] * kept[columns])
    rho = latent_correlation(phi, CUTS[rows], CUTS[columns])
    latent = np.eye(len(NAMES), dtype=np.float64)
    latent[rows, columns] = latent[columns, rows] = rho
    if kind == "celeba":
        exact = np.array([(a, b) in EXACT or (b, a) in EXACT for a in NAMES for b in NAMES])
        latent = nearest_positive(latent, kept_as_is=exact.reshape(latent.shape))
    else:
        _refuse_impossible(pairs, rho, latent)
    return Copula(np.asarray(np.linalg.cholesky(latent), dtype=np.float64), noise)


def _read_pairs(given: tuple[tuple[str, float], ...]) -> dict[tuple[str, str], float]:
    pairs: dict[tuple[str, str], float] = {}
    for key, phi in given:
        names = tuple(name.strip() for name in key.split(","))
        for name in names:
            if name not in ATTRIBUTES:
                raise VeilError(f"correlations '{key}': no '{name}': {nearest(name, NAMES)}")
        if len(names) != 2 or names[0] == names[1]:
            raise VeilError(f"correlations '{key}': name two attributes, as in 'Male,Smiling'")
        if not -1 < phi < 1:
            raise VeilError(f"correlations '{key}' = {phi}: must lie between -1 and 1")
        if (names[1], names[0]) in pairs:
            raise VeilError(f"correlations '{key}': the pair is given twice")
        pairs[names[0], names[1]] = phi
    return pairs


def _refuse_impossible(pairs: Mapping[tuple[str, str], float], rho: Floats, latent: Floats) -> None:
    for (a, b), strength in zip(pairs, np.abs(rho), strict=True):
        if strength > STRONGEST - 1e-6:
            raise VeilError(
                f"correlations '{a},{b}' = {pairs[a, b]}: out of reach at their rates and label "
                "noise; weaken it or set label_noise = false"
            )
    if np.linalg.eigvalsh(latent)[0] < 1e-6:
        raise VeilError(
            "correlations: no distribution has all of these together (pairs not named are "
            "independent); weaken them or name the missing pairs"
        )


def nearest_positive(matrix: Floats, kept_as_is: NDArray[np.bool_]) -> Floats:
    """A positive definite correlation matrix near `matrix` that agrees with it where it must.

    Alternating projections (Higham, IMA J. Numer. Anal. 22, 2002) onto the positive matrices and
    onto those with unit diagonal and the given entries.
    """
    fixed = kept_as_is | np.eye(len(matrix), dtype=bool)
    current = matrix
    for _ in range(1000):
        values, vectors = np.linalg.eigh(current)
        if values[0] > 1e-4:
            return current
        current = np.where(fixed, matrix, (vectors * np.maximum(values, 1e-2)) @ vectors.T)
    raise VeilError("correlations: the entries to be kept are not those of any distribution")


def age_of(young: Floats) -> Floats:
    """(n,) age in years from the latent of Young: the older, the smaller."""
    knots = [-NormalDist().inv_cdf(share) for _, share in AGES]
    return np.interp(-young, [-knot for knot in knots], [years for years, _ in AGES])
