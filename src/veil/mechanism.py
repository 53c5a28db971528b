"""The Gaussian mechanism: a last step of a release that leaves a provable bound behind.

References: Balle & Wang, ICML 2018 (the analytic mechanism); Shannon, BSTJ 1959 (K classes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, isfinite, nextafter, sqrt

import numpy as np
import torch
from torch import Tensor

from veil.errors import VeilError

# A declared mechanism is called false when its own releases would look so once in 1.3 billion.
LOG_IMPROBABLE = 21.0
CERTAIN = 40.0


@dataclass(frozen=True)
class ClippedGaussian:
    """The last step of a release: clip the image's whole vector, then add Gaussian noise.

    r = z min(1, C / |z|) + N(0, sigma^2 I), where |z| is over all channels and pixels. Two images,
    however unlike, are then at most 2C apart before the noise. The proofs are of real numbers;
    those of a computer round (Mironov, CCS 2012), which no figure here accounts for.

    Attributes:
        clip: C > 0, the largest L2 norm, in the release's units.
        sigma: standard deviation of the noise of every element, > 0, in the same units.
    """

    clip: float
    sigma: float

    def __post_init__(self) -> None:
        for name, value in {"clip": self.clip, "sigma": self.sigma}.items():
            if not (isfinite(value) and value > 0):
                raise VeilError(f"ClippedGaussian: {name} is {value}; it must be finite, above 0")

    @classmethod
    def calibrated(
        cls, clip: float, epsilon: float, delta: float, releases: int = 1
    ) -> ClippedGaussian:
        """The least noise with which `releases` of one image are (epsilon, delta)-DP."""
        _positive(releases, "releases")
        ratio = noise_ratio(epsilon, delta)
        return cls(clip, nextafter(2 * clip * sqrt(releases) * ratio, inf))

    def apply(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """Clip and add noise; differentiable in z.

        Args:
            z: (n, ...) float, finite; each row is one image's release.
            rng: source of the noise, on z's device.

        Raises:
            VeilError: z holds NaN or infinity, which no noise hides.
        """
        noise = torch.randn(z.shape, generator=rng, device=z.device, dtype=z.dtype)
        return clip_norm(z, self.clip) + self.sigma * noise

    def accuracy_bound(self, classes: int = 2, releases: int = 1) -> float:
        """Balanced accuracy that no attacker exceeds who holds N releases of one image.

        Two classes: Phi(d) with d = sqrt(N) C / sigma. K classes: P(T > t), where T is noncentral t
        with K - 2 degrees of freedom and noncentrality d, and t the upper 1/K point of the central
        one. Equality for K = 2 and 3; as d -> 0 the bound is 1/K.

        Proof. The mean of N releases is sufficient: a Gaussian of sd sigma / sqrt(N) around a point
        of the ball of radius C; let that sd be 1 and the radius d. (1) If the attacker answers k on
        A_k, his balanced accuracy is linear in each class's law of points, hence largest where each
        class is one point mu_k. (2) A coordinate more for each point, of the length that it lacks,
        puts all on the sphere; this adds information only. Noise across the points' affine hull
        tells nothing; the hull, at most K - 1 dimensions, meets the sphere in a sphere of
        radius <= d. So let there be K points of norm d' <= d in R^(K-1). (3) For points of
        equal norm the best guess, argmax <x, mu_k>, needs the direction u of x only. Let Q be the
        uniform law of u. The density of u around mu_k relative to Q rises with the cosine between
        them, so by Neyman-Pearson P_k(A) <= b(Q(A)), b(a) the P_k-mass of the cap around mu_k with
        Q-mass a. b is concave and the Q(A_k) add to 1, so the mean of P_k(A_k) is at most
        b(1/K) (Jensen). (4) A cap is a threshold on x_1 / |x_2..x_(K-1)|, that is on a t statistic;
        its power rises with d'. For K = 2 a cap is a half line.

        Raises:
            VeilError: fewer than two classes, or no release.
        """
        from scipy.special import ndtr
        from scipy.stats import nct, t

        _positive(releases, "releases")
        if classes < 2:
            raise VeilError(f"an accuracy bound needs two classes or more, not {classes}")
        distance = sqrt(releases) * self.clip / self.sigma
        if distance > CERTAIN:
            return 1.0
        if classes == 2:
            return float(ndtr(distance))
        freedom = classes - 2
        return min(1.0, float(nct.sf(t.isf(1 / classes, freedom), freedom, distance)))

    def epsilon(self, delta: float, releases: int = 1) -> float:
        """The smallest epsilon: all N releases of one image together are (epsilon, delta)-DP.

        Neighbours are any two images (sensitivity 2C); N Gaussian releases are one of
        sigma / sqrt(N).
        """
        return privacy_epsilon(self._ratio(releases), delta)

    def delta(self, epsilon: float, releases: int = 1) -> float:
        """The smallest delta beside a given epsilon; see `epsilon`."""
        return privacy_delta(self._ratio(releases), epsilon)

    def _ratio(self, releases: int) -> float:
        _positive(releases, "releases")
        return nextafter(self.sigma / (2 * self.clip * sqrt(releases)), 0.0)


def mechanism_from(text: str) -> ClippedGaussian:
    """Read a declaration such as "clip=1.0 sigma=2.0".

    Raises:
        VeilError: anything but these two numbers, each above 0.
    """
    named = dict(part.partition("=")[::2] for part in text.split())
    try:
        if named.keys() != {"clip", "sigma"} or len(text.split()) != 2:
            raise ValueError
        return ClippedGaussian(float(named["clip"]), float(named["sigma"]))
    except ValueError:
        raise VeilError(f"mechanism '{text}': write it as 'clip=1.0 sigma=2.0'") from None


def clip_norm(z: Tensor, clip: float) -> Tensor:
    """(n, ...) z, every row scaled down to L2 norm `clip` over all its elements where longer.

    Raises:
        VeilError: z holds NaN or infinity.
    """
    if not bool(torch.isfinite(z).all()):
        raise VeilError("NaN or infinity in a release before its noise: mend the encoder")
    norm = torch.linalg.vector_norm(z.flatten(1), dim=1).clamp_min(clip)
    clipped: Tensor = z * (clip / norm).reshape(-1, *[1] * (z.ndim - 1))
    return clipped


def privacy_delta(ratio: float, epsilon: float) -> float:
    """The smallest delta of the Gaussian mechanism (Balle & Wang 2018, theorem 8).

    delta = Phi(a) - e^epsilon Phi(b), a, b = +-1 / (2 ratio) - epsilon ratio, written without
    e^epsilon: e^epsilon phi(b) = phi(a), so the last term is phi(a) times a Mills ratio.
    Rounded up, never down.

    Args:
        ratio: noise over sensitivity, sigma / Delta > 0.
        epsilon: >= 0.
    """
    from scipy.special import erfcx, ndtr

    _positive(ratio, "the noise over the sensitivity")
    if not epsilon >= 0:
        raise VeilError(f"epsilon is {epsilon}; it must be 0 or more")
    a, b = 0.5 / ratio - epsilon * ratio, -0.5 / ratio - epsilon * ratio
    larger = float(ndtr(a))
    exact = larger - float(np.exp(-a * a / 2) * erfcx(-b / sqrt(2))) / 2
    # a and b carry relative errors of 2^-52 of b, which Phi(a) magnifies by |a| at most.
    rounding = 16 * np.finfo(np.float64).eps * (1 + abs(a) * abs(b)) * larger
    return min(1.0, max(0.0, exact) + float(rounding))


def privacy_epsilon(ratio: float, delta: float) -> float:
    """The smallest epsilon >= 0 whose `privacy_delta` is at most `delta`, rounded up."""
    refuse_no_share(delta)
    return _smallest(lambda epsilon: privacy_delta(ratio, epsilon) <= delta, start=0.0)


def noise_ratio(epsilon: float, delta: float) -> float:
    """The smallest sigma / Delta that is (epsilon, delta)-DP, rounded up; see `privacy_delta`."""
    refuse_no_share(delta)
    return _smallest(lambda ratio: privacy_delta(ratio, epsilon) <= delta, start=2.0**-40)


def refuted(mechanism: ClippedGaussian, z: Tensor) -> str | None:
    """Why releases cannot come from a mechanism, or None where they can.

    The sum of squares of all elements, over sigma^2, is noncentral chi-square with as many degrees
    of freedom as elements and noncentrality at most n C^2 / sigma^2. Its tails (Birge 2001, lemma
    8.1) are crossed once in 1.3 billion. Only missing or excessive noise is found so; what passes
    is not proved.

    Args:
        z: (n, ...) single releases, one an image.
    """
    norms = torch.linalg.vector_norm(z.flatten(1), dim=1, dtype=torch.float64)
    total = float((norms / mechanism.sigma).square().sum())
    free, x = float(z.numel()), LOG_IMPROBABLE
    shift = len(z) * (mechanism.clip / mechanism.sigma) ** 2
    low = free - 2 * sqrt(free * x)
    high = free + shift + 2 * sqrt((free + 2 * shift) * x) + 2 * x
    if low <= total <= high:
        return None
    found, least, most = (
        mechanism.sigma * sqrt(max(0.0, value) / free) for value in (total, low, high)
    )
    return (
        f"the releases do not come from {mechanism}: their root mean square is {found:.4g}, "
        f"outside [{least:.4g}, {most:.4g}]; declare the step that every release ends with"
    )


def _smallest(holds: Callable[[float], bool], start: float) -> float:
    """The smallest number from `start` up for which `holds`, to the last bit; inf for none."""
    if holds(start):
        return start
    low, high = start, max(2 * start, 2.0**-10)
    while high < inf and not holds(high):
        low, high = high, 2 * high
    while low < (middle := (low + high) / 2) < high:
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _positive(value: float, name: str) -> None:
    if not (isfinite(value) and value > 0):
        raise VeilError(f"{name} is {value}; it must be finite and above 0")


def refuse_no_share(value: float) -> None:
    """Refuse what is no probability strictly between 0 and 1."""
    if not 0 < value < 1:
        raise VeilError(f"{value} is no probability strictly between 0 and 1")
