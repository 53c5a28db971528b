"""Fixed, diverse sets of attackers: what "worst over the suite" ranges over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from veil.attacks.attack import Attack, Kind
from veil.attacks.boosting import Boosting
from veil.attacks.constant import LabelOnly, Prior
from veil.attacks.convolution import AiaAdversary, ResidualAttacker
from veil.attacks.copying import CopyHead, CopyLearned
from veil.attacks.defenders import DefendersAdversary
from veil.attacks.embedding import FreshSiamese, SoftmaxEmbedding
from veil.attacks.features import Preparation
from veil.attacks.gallery import Gallery
from veil.attacks.inversion import Optimisation
from veil.attacks.linear import Logistic
from veil.attacks.matching import Distance, LinearDiscriminant
from veil.attacks.mlp import Mlp
from veil.attacks.neighbours import Neighbours, RandomFeatures
from veil.attacks.patterns import Patterns
from veil.attacks.reconstruction import (
    Inversion,
    LearnedDecoder,
    LinearDecoder,
    MeanFace,
    NearestFace,
)
from veil.attacks.regression import (
    ConvolutionRegression,
    MlpRegression,
    Ridge,
    quantity_quick,
    quantity_standard,
)
from veil.attacks.search import Plan
from veil.errors import VeilError, nearest

PREPARATIONS: tuple[Preparation, ...] = (
    "standardised",
    "raw",
    "statistics",
    "normalised",
    "whitened",
)
HALVING = Plan()
LARGE_RESNET = ResidualAttacker(blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), augmented=True)


@dataclass(frozen=True)
class Suite:
    """Everything that one audit tries, by what it is tried on.

    Attributes:
        name: by which reports call it.
        attribute, quantity, identity, reconstruction: attackers of a private target of that kind.
        parts: attackers of a subgroup of a class label, and of two class labels at once.
        heads: fresh heads of a useful label, by kind: what the release still supports.
        ceilings: attackers of the original images, by kind: what leaks if nothing is hidden.
        plan: how the search spends less than everything; None runs every attacker in full.
        scans: whether labels that nobody declared are attacked too.
    """

    name: str
    attribute: tuple[Attack, ...]
    parts: tuple[Attack, ...]
    quantity: tuple[Attack, ...]
    identity: tuple[Attack, ...]
    reconstruction: tuple[Inversion, ...]
    heads: Mapping[Kind, tuple[Attack, ...]]
    ceilings: Mapping[Kind, tuple[Attack, ...]]
    plan: Plan | None = HALVING
    scans: bool = True

    def attackers(self, kind: Kind) -> tuple[Attack, ...]:
        """The attackers of a private target of a kind."""
        every = {"attribute": self.attribute, "quantity": self.quantity, "identity": self.identity}
        return every[kind]

    def exhaustive(self) -> Suite:
        """The same attackers, each run in full with every seed: the yardstick of the search."""
        return replace(self, plan=None)


def quick() -> Suite:
    """Every kind of leak is looked for once; maps by one convolutional network."""
    identity = (Distance("raw"), Distance("standardised"), Distance("whitened"))
    attribute: tuple[Attack, ...] = (
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
        DefendersAdversary("as trained"),
        DefendersAdversary("warm"),
    )
    return Suite(
        name="quick",
        attribute=attribute,
        parts=attribute,
        quantity=quantity_quick(),
        identity=(*identity, LinearDiscriminant()),
        reconstruction=(MeanFace(), NearestFace(), LinearDecoder(), LearnedDecoder()),
        heads={
            "attribute": (Logistic(), Logistic("whitened"), Mlp()),
            "quantity": (Ridge(), MlpRegression()),
            "identity": (*identity, LinearDiscriminant()),
        },
        ceilings={
            "attribute": (Logistic("whitened"), AiaAdversary()),
            "quantity": (Ridge("whitened"), ConvolutionRegression()),
            "identity": (LinearDiscriminant(),),
        },
        scans=False,
    )


def standard() -> Suite:
    """All families over all preparations."""
    suite = quick()
    identity = (
        *suite.identity,
        FreshSiamese(),
        SoftmaxEmbedding("perceptron"),
        SoftmaxEmbedding("convolution"),
    )
    return Suite(
        name="standard",
        attribute=(
            *suite.attribute,
            CopyLearned(Mlp()),
            Logistic("raw"),
            Logistic("whitened"),
            Logistic("normalised"),
            Neighbours("standardised"),
            Gallery(),
            RandomFeatures(),
            RandomFeatures("whitened"),
            Boosting("normalised"),
            Boosting("whitened"),
            Patterns("logistic"),
            *(Mlp(preparation) for preparation in PREPARATIONS[1:]),
            Mlp(hidden=(512, 256), learning_rates=(1e-3,)),
            ResidualAttacker(),
            DefendersAdversary("fresh"),
        ),
        parts=suite.parts,
        quantity=quantity_standard(),
        identity=identity,
        reconstruction=(
            *suite.reconstruction,
            LearnedDecoder("perceptual"),
            LearnedDecoder("adversarial"),
            Optimisation(),
        ),
        heads={
            "attribute": (*suite.heads["attribute"], AiaAdversary()),
            "quantity": (*suite.heads["quantity"], ConvolutionRegression()),
            "identity": identity,
        },
        ceilings={
            "attribute": (AiaAdversary(), ResidualAttacker(), LARGE_RESNET),
            "quantity": suite.ceilings["quantity"],
            "identity": (LinearDiscriminant(), SoftmaxEmbedding()),
        },
    )


def full() -> Suite:
    """The widest search: every family on every preparation, in several sizes."""
    suite = standard()
    more: tuple[Attack, ...] = (
        *(CopyLearned(head) for head in (Boosting(), Logistic("whitened"))),
        *(Neighbours(how) for how in ("normalised", "statistics")),
        *(RandomFeatures(how) for how in ("normalised", "statistics")),
        *(Mlp(how, hidden=(128, 64)) for how in PREPARATIONS),
        *(
            Mlp(how, hidden=(512, 256), learning_rates=(1e-3,))
            for how in ("whitened", "normalised")
        ),
        AiaAdversary("raw"),
        ResidualAttacker("raw"),
        LARGE_RESNET,
    )
    known = {attack.name for attack in suite.attribute}
    attribute = (*suite.attribute, *(attack for attack in more if attack.name not in known))
    return replace(suite, name="full", attribute=attribute, parts=attribute)


SUITES: dict[str, Callable[[], Suite]] = {"quick": quick, "standard": standard, "full": full}


def suite_named(name: str) -> Suite:
    """The suite of a name.

    Raises:
        VeilError: no suite has that name.
    """
    if name not in SUITES:
        raise VeilError(f"no suite of attackers '{name}': {nearest(name, SUITES)}")
    return SUITES[name]()
