"""What can be proved about a release, whoever attacks it.

Four kinds of certificate, each with the assumption it stands on (docs/certificates.md):

- "clipped gaussian": the release ends with clipping and noise (`mechanism.ClippedGaussian`).
- "finite codebook": the release takes so few values that all attackers can be counted.
- "linear guardedness": no linear function of the release correlates with the label.
- "none": nothing is proved, said plainly.

References: Balle & Wang, ICML 2018 (the Gaussian mechanism); Shannon, BSTJ 1959 (K classes);
McDiarmid 1989 (the codebook); Belrose et al., NeurIPS 2023 (linear guardedness, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from math import atanh, isfinite, log, sqrt, tanh
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from veil.errors import VeilError
from veil.mechanism import ClippedGaussian, refuse_no_share, refuted
from veil.metrics import Labels
from veil.records import Certificate
from veil.statistics import people_of

LEVEL = 0.95
DELTA = 1e-5
ROWS_PER_CODE = 10
ROWS_PER_FEATURE = 10
# A direction with less than this share of the largest variance is rounding, not a feature.
ROUNDING = 1e-12
MOST_PRODUCTS = 2**24
NONE = Certificate(
    kind="none",
    bound=None,
    assumption="nothing is proved about this release; the figures say what these attackers found",
)


def codes_of(z: Tensor) -> Labels | None:
    """(n,) numbers of the values that a release takes, bit by bit; None where they are many.

    Many: more than one value in ten rows. Then counting would prove nothing.

    Args:
        z: (n, ...) releases.
    """
    numbers: dict[bytes, int] = {}
    codes = np.empty(len(z), np.int64)
    for i, row in enumerate(z.cpu().flatten(1).contiguous().numpy()):
        code = blake2b(row.tobytes(), digest_size=16).digest()
        codes[i] = numbers.setdefault(code, len(numbers))
        if len(numbers) * ROWS_PER_CODE > len(z):
            return None
    return codes


def codebook_bound(
    codes: Labels, s: Labels, people: Labels | None = None, level: float = LEVEL
) -> float:
    """Balanced accuracy that, with confidence `level`, no attacker exceeds who sees the code.

    V + sqrt(ln(1 / (1 - level)) / 2 * sum_i c_i^2), where V = 1/K sum_j max_k n_jk / n_k is the
    balanced accuracy of the best map from codes to classes *on these very rows*, and
    c_i = 1/K sum_k m_ik / n_k the weight of person i, who has m_ik rows of class k.

    Proof. Let g be the best attacker of the population, L(g) his balanced accuracy and l(g) that
    on these rows. g does not depend on the rows, so L(g) is the mean of l(g). One person moves l(g)
    by c_i at most and people are independent, so l(g) falls short of L(g) by more than the
    square root with probability 1 - level at most (McDiarmid). And l(g) <= V, whatever g answers
    to codes never seen here. So any number of codes is allowed; many make V near 1.

    Args:
        codes: (n,) from `codes_of`.
        s: (n,) classes; K are those that occur. No row was used to learn the release.
        people: (n,) person of each row, -1 unknown (then each row is a person); None: all unknown.
        level: of confidence, one-sided.

    Returns:
        The bound, at most 1. It is on people as these, each with as many rows.
    """
    refuse_no_share(level)
    share, owner = _class_shares(s), people_of(people, len(s))
    _, code = np.unique(codes, return_inverse=True)
    best = np.zeros(int(code.max()) + 1)
    for k in np.unique(s):
        mine = s == k
        best = np.maximum(best, np.bincount(code[mine], share[mine], minlength=len(best)))
    weight = np.bincount(owner, share)
    return min(1.0, float(best.sum() + sqrt(-log(1 - level) / 2 * (weight**2).sum())))


@dataclass(frozen=True)
class LinearTest:
    """How far a release is from linear guardedness, on rows that did not fit it.

    Attributes:
        p_value: of "no linear function of the release correlates with any class" (Hotelling).
        correlation: the largest correlation of a linear function with a contrast of classes, here.
        highest: its upper confidence limit in the population, in [0, 1].
    """

    p_value: float
    correlation: float
    highest: float


def linear_test(
    z: Tensor, s: Labels, people: Labels | None = None, level: float = LEVEL
) -> LinearTest | None:
    """Test linear guardedness: the covariance of release and one-hot label is zero.

    That is equivalent to: no linear predictor beats a constant, in any convex loss (Belrose et al.
    2023, section 3). The test is Hotelling's T^2 over people, each of whom contributes the sum of
    his rows' products. `highest` is Fisher's limit of the largest *in-sample* correlation: the
    population's best function is fixed, so its correlation here is at most that, and Fisher's
    limit covers it, asymptotically. Its standard error is the larger of that of Kish's effective
    number of people and that of the people's influence.

    Args:
        z: (n, ...) releases.
        s: (n,) classes. No row was used to fit the release.
        people: as in `codebook_bound`.
        level: one-sided confidence of `highest`.

    Returns:
        None where values are not finite, where (effective) people are fewer than ten for each
        feature and class contrast, so that no leak could be excluded, and for huge releases.
    """
    from scipy.stats import f

    refuse_no_share(level)
    owner = people_of(people, len(s))
    effective = len(s) ** 2 / float((np.bincount(owner) ** 2.0).sum())
    classes = np.unique(s)[1:]
    size = z[0].numel() * len(classes)
    if not size or effective < ROWS_PER_FEATURE * size or len(s) * size > MOST_PRODUCTS:
        return None
    x = z.cpu().flatten(1).double().numpy()
    if not np.isfinite(x).all():
        return None
    x, y = _whitened(x), _whitened((s[:, None] == classes).astype(np.float64))
    if not x.shape[1]:
        return LinearTest(1.0, 0.0, 0.0)
    order = np.argsort(owner, kind="stable")
    first = np.flatnonzero(np.diff(owner[order], prepend=-1))

    def by_person(rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.add.reduceat(rows[order], first, axis=0)

    left, singular, right = np.linalg.svd(x.T @ y / len(s), full_matrices=False)
    correlation = min(float(singular[0]), 1 - 1e-12)
    a, b = x @ left[:, 0], y @ right[0]
    # How far one person moves the correlation (its influence function), on Fisher's scale.
    influence = by_person(a * b - correlation * (a * a + b * b) / 2) / (1 - correlation**2)
    error = max(float(np.linalg.norm(influence)) / len(s), 1 / sqrt(effective - 3))
    highest = tanh(atanh(correlation) + NormalDist().inv_cdf(level) * error)

    each = by_person((x[:, :, None] * y[:, None, :]).reshape(len(s), -1))
    (count, size), mean = each.shape, each.mean(axis=0)
    covariance = np.cov(each, rowvar=False).reshape(size, size)
    t_squared = count * float(mean @ np.linalg.lstsq(covariance, mean, rcond=None)[0])
    p_value = f.sf(t_squared * (count - size) / (size * (count - 1)), size, count - size)
    return LinearTest(float(p_value), correlation, highest)


def certificates_of(
    z: Tensor,
    s: Labels,
    target: str,
    people: Labels | None = None,
    mechanism: ClippedGaussian | None = None,
    draws: int = 1,
) -> tuple[Certificate, ...]:
    """What is proved about how well a class label can be read from a release.

    Args:
        z: (n, ...) one release of each image of the population's sample: all rows of the audit, as
            none was used to learn the release.
        s: (n,) classes, none missing.
        target: the label's name.
        people: (n,) person of each row, -1 unknown; None where all are.
        mechanism: what the release is declared to end with.
        draws: how many releases of one image the attackers were given.

    Returns:
        The strongest first; one of kind "none" last where no bound on all attackers was proved.

    Raises:
        VeilError: z cannot come from the mechanism declared (see `refuted`).
    """
    found: list[Certificate] = []
    if mechanism is not None:
        if reason := refuted(mechanism, z):
            raise VeilError(f"{target}: {reason}")
        found.append(_gaussian_certificate(mechanism, len(np.unique(s)), target, draws))
    found += _codebook_certificate(z, s, target, people, draws)
    found.sort(key=lambda certificate: certificate.bound or 1.0)
    found += _linear_certificate(z, s, target, people)
    return tuple(found if certified(found) else [*found, NONE])


def certified(certificates: Sequence[Certificate]) -> Certificate | None:
    """The certificate with the lowest bound on all attackers; None where none says anything."""
    bounds = [c for c in certificates if c.attackers == "all" and c.bound is not None]
    best = min(bounds, key=lambda c: c.bound or 0.0, default=None)
    return best if best is not None and best.bound is not None and best.bound < 1 else None


def _gaussian_certificate(
    mechanism: ClippedGaussian, classes: int, target: str, draws: int
) -> Certificate:
    """Target None for two classes: then the bound is on any binary label."""
    epsilon = mechanism.epsilon(DELTA, draws)
    return Certificate(
        kind="clipped gaussian",
        target=None if classes == 2 else target,
        bound=mechanism.accuracy_bound(classes, draws),
        assumption=(
            f"every release ends with clipping the image's whole vector to L2 norm "
            f"{mechanism.clip:g} and adding Gaussian noise of standard deviation "
            f"{mechanism.sigma:g} to each element, and an attacker holds {draws} "
            f"release{'s' if draws > 1 else ''} of one image of a person at most"
        ),
        epsilon=epsilon if isfinite(epsilon) else None,
        delta=DELTA,
        releases=draws,
    )


def _codebook_certificate(
    z: Tensor, s: Labels, target: str, people: Labels | None, draws: int
) -> list[Certificate]:
    """Nothing where attackers held several draws: together these are more values than counted."""
    codes = codes_of(z) if draws == 1 else None
    bound = 1.0 if codes is None else codebook_bound(codes, s, people)
    if codes is None or bound >= 1:
        return []
    return [
        Certificate(
            kind="finite codebook",
            target=target,
            bound=bound,
            assumption=(
                f"the {len(s):,} releases audited, which take {len(np.unique(codes)):,} values, "
                f"show independent people like those attacked, none of whom helped to learn the "
                f"release, and an attacker holds one release of a person; "
                f"{LEVEL:.0%} confidence"
            ),
        )
    ]


def _linear_certificate(
    z: Tensor, s: Labels, target: str, people: Labels | None
) -> list[Certificate]:
    """Nothing where a linear function does correlate, or where too few rows could tell."""
    test = linear_test(z, s, people)
    if test is None or test.p_value < 1 - LEVEL:
        return []
    return [
        Certificate(
            kind="linear guardedness",
            target=target,
            bound=None,
            attackers="linear",
            assumption=(
                f"no accuracy is bounded, and nonlinear attackers are not covered: on {len(s):,} "
                f"rows that did not fit the release the largest correlation of a linear function "
                f"of it with the label is {test.correlation:.3f} (p = {test.p_value:.2f} of none "
                f"at all), at most {test.highest:.3f} among people like these with "
                f"{LEVEL:.0%} confidence"
            ),
        )
    ]


def _class_shares(s: Labels) -> NDArray[np.float64]:
    """(n,) the weight of each row in a balanced accuracy: 1 / (K n_k)."""
    present, column, counts = np.unique(s, return_inverse=True, return_counts=True)
    return 1 / (len(present) * counts[column])


def _whitened(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, d) -> (n, r) combinations of columns with mean 0 and covariance 1, r the rank."""
    x = x - x.mean(axis=0)
    scale = x.std(axis=0)
    x = x[:, scale > 0] / scale[scale > 0]
    variance, axes = np.linalg.eigh(x.T @ x / len(x))
    kept = variance > ROUNDING * variance.max(initial=0.0)
    whitened: NDArray[np.float64] = x @ (axes[:, kept] / np.sqrt(variance[kept]))
    return whitened
