"""Fixed, diverse sets of attackers: what "worst over the suite" ranges over."""

from __future__ import annotations

from collections.abc import Callable

from veil.attacks.attack import Attack
from veil.attacks.boosting import Boosting
from veil.attacks.constant import LabelOnly, Prior
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.copying import CopyHead, CopyLearned
from veil.attacks.embedding import FreshSiamese, SoftmaxEmbedding
from veil.attacks.linear import Logistic
from veil.attacks.matching import Distance, LinearDiscriminant
from veil.attacks.mlp import Mlp
from veil.attacks.neighbours import Neighbours, RandomFeatures
from veil.attacks.patterns import Patterns
from veil.errors import VeilError, nearest


def quick() -> tuple[Attack, ...]:
    """Every kind of leak is looked for once; maps by one convolutional network."""
    return (
        Prior(),
        LabelOnly(),
        CopyHead(),
        CopyLearned(Logistic()),
        Logistic(),
        Logistic("statistics"),
        Neighbours("whitened"),
        Boosting(),
        Boosting("statistics"),
        Patterns(),
        Mlp(),
        AiaAdversary(),
    )


def standard() -> tuple[Attack, ...]:
    """All families over all preparations."""
    return (
        *quick(),
        CopyLearned(Mlp()),
        Logistic("raw"),
        Logistic("whitened"),
        Logistic("normalised"),
        Neighbours("standardised"),
        RandomFeatures(),
        RandomFeatures("whitened"),
        Boosting("normalised"),
        Boosting("whitened"),
        Patterns("logistic"),
        Mlp("raw"),
        Mlp("statistics"),
        Mlp("normalised"),
        Mlp("whitened"),
        Mlp(hidden=(512, 256), learning_rates=(1e-3,)),
        ResidualAttacker(),
    )


def identity_quick() -> tuple[Attack, ...]:
    """Matching attackers that train no network."""
    return (Distance("raw"), Distance("standardised"), Distance("whitened"), LinearDiscriminant())


def identity_standard() -> tuple[Attack, ...]:
    """All matching attackers."""
    return (
        *identity_quick(),
        FreshSiamese(),
        SoftmaxEmbedding("perceptron"),
        SoftmaxEmbedding("convolution"),
    )


SUITES: dict[str, Callable[[], tuple[Attack, ...]]] = {"quick": quick, "standard": standard}
IDENTITY_SUITES: dict[str, Callable[[], tuple[Attack, ...]]] = {
    "quick": identity_quick,
    "standard": identity_standard,
}


def suite(name: str) -> tuple[Attack, ...]:
    """The attribute attackers of a suite, cheap families first, with unique names.

    Raises:
        VeilError: no suite has that name.
    """
    return _named(name, SUITES)


def identity_suite(name: str) -> tuple[Attack, ...]:
    """The identity attackers (who matches whom) of a suite.

    Raises:
        VeilError: no suite has that name.
    """
    return _named(name, IDENTITY_SUITES)


def _named(name: str, suites: dict[str, Callable[[], tuple[Attack, ...]]]) -> tuple[Attack, ...]:
    if name not in suites:
        raise VeilError(f"no suite of attackers '{name}': {nearest(name, suites)}")
    return suites[name]()
