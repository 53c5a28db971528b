"""Certificates hold against the best attackers there are, and would not if they said less.

Each bound is set against exact or simulated optimal attackers, from above (it holds) and from
below (it is not vacuous); each declared confidence against 400 drawn data sets.
"""

from __future__ import annotations

from math import exp, sqrt
from statistics import NormalDist

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from veil.certify import (
    NONE,
    certificates_of,
    certified,
    codebook_bound,
    codes_of,
    linear_test,
)
from veil.errors import VeilError
from veil.mechanism import (
    ClippedGaussian,
    clip_norm,
    mechanism_from,
    noise_ratio,
    privacy_delta,
    privacy_epsilon,
    refuted,
)

Labels = NDArray[np.int64]
SETS = 400
DRAWS = 200_000
# Noise over sensitivity by 50-digit bisection (reference 14a_analytic_gaussian.npz,
# in_eps, in_delta, out_sigma_over_sensitivity).
RATIOS = [
    (0.1, 1e-5, 30.74956613197745),
    (0.1, 1e-6, 36.30469042619578),
    (1.0, 1e-5, 3.730631634815942),
    (2.0, 1e-6, 2.2304762711864172),
    (8.0, 1e-5, 0.6002290721989516),
    (8.0, 1e-6, 0.652935384358216),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- the mechanism ---------------------------------------------------------------------------


def test_clipping_is_of_an_images_whole_vector() -> None:
    """Channels and pixels together; shorter rows as they are; directions kept."""
    z = (
        torch.randn(6, 3, 4, 5, generator=generator())
        * torch.tensor([9.0, 1, 0.1, 0, 3, 1e20])[:, None, None, None]
    )
    clipped = clip_norm(z.double(), 2.0)
    norms = [float(sum(v * v for v in row.flatten().tolist())) ** 0.5 for row in clipped]
    assert norms[:2] == pytest.approx([2.0, 2.0])
    assert norms[4:] == pytest.approx([2.0, 2.0])
    assert torch.equal(clipped[2:4], z[2:4].double())
    assert torch.cosine_similarity(clipped[0].flatten(), z[0].double().flatten(), dim=0) > 1 - 1e-12


def test_noise_has_its_declared_size_and_comes_from_the_generator_alone() -> None:
    mechanism = ClippedGaussian(1.0, 0.5)
    z = torch.full((2000, 2, 5, 5), 10.0)
    noisy = mechanism.apply(z, generator(1))
    noise = noisy - clip_norm(z, 1.0)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert torch.equal(noisy, mechanism.apply(z, generator(1)))
    assert not torch.equal(noisy, mechanism.apply(z, generator(2)))


def test_a_gradient_passes_through_the_mechanism() -> None:
    """At zero, too, where a norm has no gradient of its own."""
    z = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    ClippedGaussian(1.0, 0.1).apply(z, generator())[:, 0].sum().backward()  # type: ignore[no-untyped-call]
    assert z.grad is not None
    # d/dz of z1 / |z| is (1 - cos^2, -cos sin) / |z|.
    assert z.grad.numpy() == pytest.approx(np.array([[0.128, -0.096], [1.0, 0.0]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_no_noise_hides_is_not_released(bad: float) -> None:
    with pytest.raises(VeilError, match="NaN or infinity"):
        ClippedGaussian(1.0, 1.0).apply(torch.tensor([[0.0, bad]]), generator())


@pytest.mark.parametrize(("clip", "sigma"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, np.inf)])
def test_a_mechanism_needs_a_clip_and_noise(clip: float, sigma: float) -> None:
    with pytest.raises(VeilError, match="finite, above 0"):
        ClippedGaussian(clip, sigma)


def test_a_mechanism_is_declared_in_words() -> None:
    assert mechanism_from("sigma=2 clip=0.5") == ClippedGaussian(0.5, 2.0)
    for bad in ("", "clip=1", "clip=1 sigma=x", "clip=1 sigma=2 clip=3", "clip=1, sigma=2"):
        with pytest.raises(VeilError, match=r"write it as 'clip=1\.0 sigma=2\.0'"):
            mechanism_from(bad)


# --- accuracy of any attacker on a clipped Gaussian ------------------------------------------


@pytest.mark.parametrize(
    ("clip", "sigma", "bounds"),
    [
        (1.0, 4.0, (0.5987063256829237, 0.6914624612740131, 0.8413447460685429)),
        (2.0, 5.0, (0.6554217416103242, 0.7881446014166034, 0.945200708300442)),
        (0.5, 0.4, (0.8943502263331448, 0.9937903346742238, 0.9999997133484281)),
    ],
)
def test_bounds_for_two_classes_are_the_recorded_ones(
    clip: float, sigma: float, bounds: tuple[float, ...]
) -> None:
    """Reference 14b_gaussian_accuracy_bound.npz, out_bound_N_releases for N = 1, 4, 16."""
    mechanism = ClippedGaussian(clip, sigma)
    found = [mechanism.accuracy_bound(2, releases) for releases in (1, 4, 16)]
    assert found == pytest.approx(bounds, abs=1e-12)


@pytest.mark.parametrize("releases", [1, 4])
def test_the_bound_is_what_the_best_attacker_of_the_worst_images_reaches(releases: int) -> None:
    """Two images at opposite ends of the ball; the attacker averages and takes the nearer one."""
    mechanism = ClippedGaussian(1.0, 2.0)
    ends = torch.tensor([[5.0, 5.0, 0.0], [-5.0, -5.0, 0.0]])
    s = torch.arange(2).repeat(DRAWS // 2)
    z = sum(mechanism.apply(ends[s], generator(i)) for i in range(releases))
    assert isinstance(z, torch.Tensor)
    reached = float((z[:, :2].sum(dim=1).lt(0).long() == s).double().mean())
    assert reached == pytest.approx(mechanism.accuracy_bound(2, releases), abs=3.3 * 0.5 / 447)


def test_the_bound_holds_of_mixtures() -> None:
    """Exact Bayes attackers of classes that are three points each, by integration."""
    rng = np.random.default_rng(0)
    x = np.linspace(-12, 12, 4001)
    for _ in range(50):
        points, weights = rng.uniform(-1, 1, (2, 3)), rng.dirichlet(np.ones(3), 2)
        density = np.exp(-((x[:, None, None] - points) ** 2) / 2) / sqrt(2 * np.pi) * weights
        reached = density.sum(axis=2).max(axis=1).sum() * (x[1] - x[0]) / 2
        assert reached <= ClippedGaussian(1.0, 1.0).accuracy_bound()


def simplex(classes: int, distance: float) -> float:
    """Success of the best attacker of K images at the corners of a regular simplex.

    Of orthogonal signals as far apart: P(the right one of K independent normals is the largest).
    """
    shift = distance * sqrt(classes / (classes - 1))
    density = NormalDist().pdf
    found, _ = quad(
        lambda x: density(x - shift) * float(ndtr(x)) ** (classes - 1), shift - 10, shift + 10
    )
    return float(found)


@pytest.mark.parametrize("distance", [0.01, 0.3, 1.0, 3.0])
@pytest.mark.parametrize("classes", [2, 3, 4, 5, 20])
def test_the_bound_for_many_classes(classes: int, distance: float) -> None:
    """What the regular simplex lets through, exactly for two and three classes.

    From above: one threshold on the line to each image (a half space for a cap) is a weaker bound.
    """
    bound = ClippedGaussian(distance, 1.0).accuracy_bound(classes)
    reached = simplex(classes, distance)
    if classes <= 3:
        assert bound == pytest.approx(reached, abs=1e-8)
    else:
        assert reached < bound < reached + 0.04
    assert bound <= float(ndtr(ndtri(1 / classes) + distance)) + 1e-12


@pytest.mark.parametrize("classes", [3, 4, 6])
def test_no_images_in_the_ball_beat_the_bound_for_many_classes(classes: int) -> None:
    """Simulated maximum-likelihood attackers of images drawn in the ball, and on its edge."""
    rng = np.random.default_rng(classes)
    bound = ClippedGaussian(1.2, 1.0).accuracy_bound(classes)
    for dimensions in (1, 2, classes):
        points = rng.standard_normal((classes, dimensions))
        points *= 1.2 / np.linalg.norm(points, axis=1, keepdims=True)
        points[0] *= rng.random()
        s = np.arange(60_000) % classes
        z = points[s] + rng.standard_normal((len(s), dimensions))
        nearest = ((z[:, None] - points) ** 2).sum(axis=2).argmin(axis=1)
        assert np.mean(nearest == s) <= bound + 3.3 * 0.5 / sqrt(len(s))


def test_bounds_lie_between_chance_and_certainty() -> None:
    for classes in (2, 3, 10):
        assert ClippedGaussian(1.0, 1e9).accuracy_bound(classes) == pytest.approx(1 / classes)
        assert ClippedGaussian(1e9, 1.0).accuracy_bound(classes) == 1.0
    with pytest.raises(VeilError, match="two classes"):
        ClippedGaussian(1.0, 1.0).accuracy_bound(1)
    with pytest.raises(VeilError, match="releases"):
        ClippedGaussian(1.0, 1.0).accuracy_bound(2, 0)


# --- differential privacy of a clipped Gaussian ----------------------------------------------


@pytest.mark.parametrize(("epsilon", "delta", "ratio"), RATIOS)
def test_the_least_noise_is_the_recorded_one_and_never_less(
    epsilon: float, delta: float, ratio: float
) -> None:
    found = noise_ratio(epsilon, delta)
    assert ratio <= found <= ratio * (1 + 1e-9)
    assert privacy_delta(found, epsilon) <= delta < privacy_delta(found * (1 - 1e-9), epsilon)


@pytest.mark.parametrize(
    ("ratio", "epsilon", "delta"),
    [
        (0.5, 1.0, 0.5098616600546702),
        (1.0, 2.5, 0.006305007330280075),
        (3.0, 0.7, 0.0030259983195362983),
    ],
)
def test_delta_is_the_recorded_one_and_never_less(
    ratio: float, epsilon: float, delta: float
) -> None:
    """Reference 14a_analytic_gaussian.npz, out_delta_for_sigma_eps_pairs."""
    assert delta <= privacy_delta(ratio, epsilon) <= delta * (1 + 1e-9)


@pytest.mark.parametrize(
    ("ratio", "epsilon"),
    [
        (0.5, 9.997256146434301),
        (1.0, 4.3771780956812245),
        (3.0, 1.2710877669435985),
        (5.0, 0.7255217508577958),
    ],
)
def test_epsilon_is_the_recorded_one_and_never_less(ratio: float, epsilon: float) -> None:
    """Reference 14a_analytic_gaussian.npz, out_eps_for_sigma_delta1e-5."""
    assert epsilon <= privacy_epsilon(ratio, 1e-5) <= epsilon * (1 + 1e-9)


def test_delta_is_the_advantage_of_the_best_test_of_two_images() -> None:
    """max over thresholds of P(x > t | +C) - e^eps P(x > t | -C): 2C apart, N releases averaged."""
    mechanism, epsilon, releases = ClippedGaussian(1.5, 4.0), 0.8, 4
    spread = 4.0 / sqrt(releases)
    t = np.linspace(-20, 20, 400_001)
    advantage = ndtr((1.5 - t) / spread) - exp(epsilon) * ndtr((-1.5 - t) / spread)
    assert mechanism.delta(epsilon, releases) == pytest.approx(advantage.max(), rel=1e-7)


@pytest.mark.parametrize("releases", [1, 4, 64])
def test_least_noise_of_several_releases(releases: int) -> None:
    """Grows by sqrt(N) (out_sigma_over_sensitivity_k_releases); clip 1/2 is sensitivity 1."""
    mechanism = ClippedGaussian.calibrated(0.5, 1.0, 1e-5, releases)
    assert mechanism.sigma == pytest.approx(3.730631634815942 * sqrt(releases), rel=1e-9)
    assert mechanism.epsilon(1e-5, releases) <= 1.0
    assert mechanism.epsilon(1e-5, releases + 1) > 1.0


@pytest.mark.parametrize("ratio", [1e-9, 1e-4, 1.0, 1e4, 1e9])
def test_extremes_are_finite_and_consistent(ratio: float) -> None:
    """No overflow of e^epsilon, no cancellation: epsilon is what its delta says."""
    epsilon = privacy_epsilon(ratio, 1e-6)
    assert 0 <= epsilon <= 0.5 / ratio**2 + 6 / ratio
    assert privacy_delta(ratio, epsilon) <= 1e-6
    if epsilon:
        assert privacy_delta(ratio, epsilon * 0.99) > 1e-6


def test_no_privacy_parameter_out_of_range() -> None:
    with pytest.raises(VeilError, match="probability"):
        privacy_epsilon(1.0, 0.0)
    with pytest.raises(VeilError, match="epsilon is -1"):
        privacy_delta(1.0, -1.0)
    with pytest.raises(VeilError, match="sensitivity"):
        privacy_delta(0.0, 1.0)


# --- a finite codebook -----------------------------------------------------------------------


def drawn_codes(
    rng: np.random.Generator, law: NDArray[np.float64], people: int, photos: int = 1
) -> tuple[Labels, Labels, Labels]:
    """Codes, classes and people: all photos of a person show one class and one code."""
    classes = len(law)
    share = np.arange(1, classes + 1) / (classes * (classes + 1) / 2)
    s = rng.choice(classes, people, p=share)
    code = (rng.random(people)[:, None] > law.cumsum(axis=1)[s]).sum(axis=1)
    person = np.repeat(np.arange(people), photos)
    return code[person], s[person], person


@pytest.mark.parametrize(
    ("people", "photos", "classes", "slack"),
    [(2000, 1, 2, 0.04), (2000, 1, 3, 0.05), (80, 12, 2, 0.2)],
)
def test_the_codebook_bound_covers_and_is_not_vacuous(
    people: int, photos: int, classes: int, slack: float
) -> None:
    """The best attacker knows the law of codes; well-apart codes leave the plug-in no bias."""
    rng = np.random.default_rng(people + classes)
    law = np.array([[0.5, 0.2, 0.2, 0.1], [0.1, 0.5, 0.2, 0.2], [0.1, 0.2, 0.2, 0.5]])[:classes]
    best = float(law.max(axis=0).sum() / classes)
    found = np.array([codebook_bound(*drawn_codes(rng, law, people, photos)) for _ in range(SETS)])
    assert np.mean(found >= best) >= 0.95
    assert found.mean() < best + slack


def test_codes_never_seen_are_covered() -> None:
    """A quarter of the mass lies on codes that the sample misses: the bound is loose, not false."""
    rng = np.random.default_rng(3)
    law = rng.dirichlet(np.full(400, 0.3), 2)
    best = float(law.max(axis=0).sum() / 2)
    found = [codebook_bound(*drawn_codes(rng, law, 300)) for _ in range(50)]
    assert min(found) >= best


def test_the_codebook_bound_by_hand() -> None:
    """Classes of 3 and 2 rows: V = (2/3 + 2/2) / 2; a row weighs 1/6 or 1/4, people their sum."""
    codes, s = np.array([0, 0, 1, 1, 1]), np.array([0, 0, 0, 1, 1])
    reach = np.log(1 / 0.9) / 2
    alone = 5 / 6 + sqrt(reach * (3 / 36 + 2 / 16))
    assert codebook_bound(codes, s, level=0.1) == pytest.approx(alone)
    assert codebook_bound(codes, s, np.full(5, -1), level=0.1) == pytest.approx(alone)
    several = 5 / 6 + sqrt(reach * ((2 / 6) ** 2 + (1 / 6 + 1 / 4) ** 2 + (1 / 4) ** 2))
    assert several < 1
    found = codebook_bound(codes, s, np.array([0, 0, 1, 1, 2]), level=0.1)
    assert found == pytest.approx(several)


def test_codes_are_rows_equal_bit_by_bit() -> None:
    z = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [float("nan"), 1.0], [0.0, 1.0]]).repeat(20, 1)
    codes = codes_of(z)
    assert codes is not None
    assert codes[:4].tolist() == [0, 1, 2, 0]
    assert codes_of(torch.randn(80, 2, generator=generator())) is None
    assert codes_of(z[:20]) is None  # three values in twenty rows


# --- linear guardedness ----------------------------------------------------------------------


def unlike(
    rng: np.random.Generator, people: int, photos: int
) -> tuple[torch.Tensor, Labels, Labels]:
    """Releases whose class means are equal but whose spreads are not; photos of one are alike."""
    s = rng.choice(2, people, p=[0.3, 0.7]).astype(np.int64)
    x = rng.standard_normal((people, 3)) * np.where(s == 0, 3.0, 1.0)[:, None]
    person = np.repeat(np.arange(people), photos)
    return torch.from_numpy(x[person]), s[person], person


@pytest.mark.parametrize("photos", [1, 6])
def test_a_guarded_release_passes_at_the_stated_rate(photos: int) -> None:
    """5 % of guarded releases are called leaky (0.95 +- 0.033), however alike one's photos."""
    rng = np.random.default_rng(photos)
    tests = [linear_test(*unlike(rng, 200, photos)) for _ in range(SETS)]
    leaky = np.mean([test is not None and test.p_value < 0.05 for test in tests])
    assert leaky == pytest.approx(0.05, abs=0.033)


@pytest.mark.parametrize("photos", [1, 6])
@pytest.mark.parametrize("unequal", [False, True])
def test_the_largest_correlation_is_covered(photos: int, unequal: bool) -> None:
    """One feature, so that the sample's maximum has no bias to hide behind."""
    rng = np.random.default_rng(photos)
    spread, share, shift = (3.0 if unequal else 1.0), 0.3, 0.6
    variance = share * (1 - share)
    within = share * spread**2 + (1 - share)
    truth = shift * sqrt(variance / (within + shift**2 * variance))
    covered = []
    for _ in range(SETS):
        s = rng.choice(2, 250, p=[share, 1 - share]).astype(np.int64)
        x = rng.standard_normal(250) * np.where(s == 0, spread, 1.0) + shift * s
        person = np.repeat(np.arange(250), photos)
        test = linear_test(torch.from_numpy(x[person, None]), s[person], person)
        assert test is not None
        covered.append(test.highest >= truth)
    assert np.mean(covered) >= 0.95 - 0.033


def test_the_correlation_is_the_largest_there_is() -> None:
    """Two classes: the root of the R^2 of least squares; unmoved by mixing the features."""
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, 300)
    x = rng.standard_normal((300, 4)) + np.outer(s, [0.5, 0, 0.3, 0])
    fitted = np.column_stack([x, np.ones(300)])
    residual = s - fitted @ np.linalg.lstsq(fitted, s, rcond=None)[0]
    expected = sqrt(1 - residual.var() / s.var())
    mixed = x @ rng.standard_normal((4, 4))
    doubled = np.column_stack([mixed, mixed[:, :2], np.full(300, 7.0)])
    for z in (x, mixed, doubled):
        test = linear_test(torch.from_numpy(z), s)
        assert test is not None
        assert test.correlation == pytest.approx(expected, abs=1e-6)
        assert test.p_value < 1e-3


def erased(x: NDArray[np.float64], s: Labels, on: slice) -> NDArray[np.float64]:
    """LEACE for two classes by its definition: whiten, drop the direction of the label, undo."""
    mean, covariance = x[on].mean(axis=0), np.cov(x[on], rowvar=False)
    variance, axes = np.linalg.eigh(covariance)
    whiten, unwhiten = (axes * variance**p @ axes.T for p in (-0.5, 0.5))
    direction = whiten @ (x[on].T @ (s[on] - s[on].mean()))
    direction /= np.linalg.norm(direction)
    kept: NDArray[np.float64] = x - (x - mean) @ whiten @ np.outer(direction, direction) @ unwhiten
    return kept


def test_erasure_is_certified_on_fresh_rows_and_its_absence_is_not() -> None:
    """Fitted on ten times the rows, LEACE is guarded on the others; the same rows prove nothing."""
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, 11_000)
    x = rng.standard_normal((11_000, 6)) @ rng.standard_normal((6, 6)) + np.outer(s, rng.random(6))
    z = torch.from_numpy(erased(x, s, slice(1000, None)))
    kept, after = (
        certificates_of(torch.from_numpy(a[:1000]), s[:1000], "t") for a in (x, z.numpy())
    )
    assert [c.kind for c in kept] == ["none"]
    assert [c.kind for c in after] == ["linear guardedness", "none"]
    assert after[0].bound is None
    assert after[0].attackers == "linear"
    assert "nonlinear attackers are not covered" in after[0].assumption
    fitted = linear_test(z[1000:], s[1000:])
    assert fitted is not None
    assert fitted.correlation < 1e-9  # guarded in sample by construction (reference 10_leace_K2)


def test_too_few_rows_certify_nothing() -> None:
    """Nothing can be excluded with ten features and ninety people, or with missing values."""
    x = torch.randn(1000, 10, generator=generator())
    s = np.arange(1000) % 2
    assert linear_test(x, s) is not None
    assert linear_test(x[:90], s[:90]) is None
    assert linear_test(x, s, np.arange(1000) // 12) is None
    x[3, 3] = torch.nan
    assert linear_test(x, s) is None


# --- the whole -------------------------------------------------------------------------------


def test_the_strongest_comes_first_and_nothing_proved_is_said() -> None:
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, 2000)
    answers = torch.from_numpy(np.where(rng.random(2000) < 0.8, s, 1 - s)[:, None]).float()
    (code,) = certificates_of(answers, s, "Male")
    assert (code.kind, code.target, code.attackers) == ("finite codebook", "Male", "all")
    assert code.bound is not None
    assert 0.8 < code.bound < 0.85
    assert certified([NONE, code]) == code

    mechanism = ClippedGaussian(1.0, 2.0)
    z = mechanism.apply(torch.randn(2000, 8, generator=generator()), generator(1))
    first, *others = certificates_of(z, s, "Male", mechanism=mechanism, draws=4)
    assert (first.kind, first.target, first.releases) == ("clipped gaussian", None, 4)
    assert first.bound == mechanism.accuracy_bound(2, 4)
    assert (first.epsilon, first.delta) == (mechanism.epsilon(1e-5, 4), 1e-5)
    assert [c.kind for c in others] == ["linear guardedness"]
    looser = first.model_copy(update={"bound": 0.9})
    assert certified([*others, code, looser]) == certified([looser, code, *others]) == code

    assert certificates_of(torch.randn(50, 8, generator=generator()), s[:50], "Male") == (NONE,)
    assert certified([NONE]) is None


def test_of_two_bounds_the_tighter_comes_first() -> None:
    """Values +-2 pass for noise of size 2; that they are but two says more."""
    rng = np.random.default_rng(0)
    z = torch.from_numpy(rng.choice([-2.0, 2.0], (3000, 1)))
    s = rng.integers(0, 2, 3000)
    found = certificates_of(z, s, "Male", mechanism=ClippedGaussian(1.0, 2.0))
    assert [c.kind for c in found[:2]] == ["finite codebook", "clipped gaussian"]


def test_of_many_classes_the_bound_is_of_that_label() -> None:
    mechanism = ClippedGaussian(1.0, 2.0)
    z = mechanism.apply(torch.zeros(300, 8), generator())
    found = certificates_of(z, np.arange(300) % 3, "Age", mechanism=mechanism)[0]
    assert (found.target, found.bound) == ("Age", mechanism.accuracy_bound(3))


def test_noise_too_weak_to_prove_anything_is_no_certificate() -> None:
    mechanism = ClippedGaussian(100.0, 1.0)
    z = mechanism.apply(torch.randn(300, 40, generator=generator()), generator(1))
    found = certificates_of(z, np.arange(300) % 2, "Male", mechanism=mechanism)
    assert found[0].bound == 1.0
    assert found[-1] == NONE
    assert certified(found) is None


def test_several_draws_of_a_code_are_more_than_one_code() -> None:
    """Randomised response: each draw says little, many say all."""
    s = np.arange(2000) % 2
    z = torch.from_numpy(s[:, None]).float()
    z[::4] = 1 - z[::4]
    assert certificates_of(z, s, "Male")[0].kind == "finite codebook"
    assert "finite codebook" not in [c.kind for c in certificates_of(z, s, "Male", draws=2)]


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_a_mechanism_is_believed_of_its_own_releases_only(scale: float) -> None:
    """Whatever was clipped; not where the noise is 5 % less or more than declared."""
    raw = scale * torch.randn(3000, 8, generator=generator())
    z = ClippedGaussian(1.0, 2.0).apply(raw, generator(1))
    assert refuted(ClippedGaussian(1.0, 2.0), z) is None
    assert refuted(ClippedGaussian(1.0, 2.2), z) is not None
    assert refuted(ClippedGaussian(1.0, 1.7), z) is not None
    with pytest.raises(VeilError, match="Male: the releases do not come from"):
        certificates_of(z, np.arange(3000) % 2, "Male", mechanism=ClippedGaussian(1.0, 9.0))
    z[5, 5] = torch.nan
    assert refuted(ClippedGaussian(1.0, 2.0), z) is not None
