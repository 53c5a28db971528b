"""What is wrong with a verdict: doubts stand beside a figure, refusals replace it.

Every id here has an entry in docs/doubts.md, which is written from `EXPLANATIONS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from veil.records import Doubt, Record

CEILING_GAP: Final = 0.10
ADVERSARY_GAP: Final = 0.05
MORE_GAIN: Final = 0.01
FITTED: Final = 0.90
PLANTED_FOUND: Final = 0.90
PEEKED: Final = 0.02
FROM_95_TO_99_PERCENT: Final = 2.576 / 1.960
SIMPLE_FAMILIES: Final = ("linear", "neighbours")
STRONG_FAMILIES: Final = ("mlp", "convolution")

# id -> (raised if, means, do)
EXPLANATIONS: Final[dict[str, tuple[str, str, str]]] = {
    "overlap": (
        "the attack, select and test splits share a person or a picture",
        "the attacker could recognise people instead of reading the attribute",
        "divide by person and audit again",
    ),
    "below-floor": (
        "the worst attacker's whole 99 % interval lies below the majority or the copy floor",
        "the attacker is broken: doing nothing, or copying the public task, would beat it",
        "look for a wrong label coding or splits of different kinds",
    ),
    "above-ceiling": (
        "the worst attacker's whole interval lies above the ceiling's",
        "the attackers of the original images were too weak to say what could leak at all",
        "use more images for the attack, or a stronger suite",
    ),
    "shuffled-control": (
        "attackers trained on shuffled labels beat chance on test: 40 linear ones on average, or "
        f"the worst attacker itself, by more than {PEEKED}, in each of sixteen shuffles",
        "the evaluation itself leaks: rows or labels of test reach the attacker",
        "check how the released file was put together",
    ),
    "planted-control": (
        "a leak planted into this release by us is not found",
        "the suite cannot see even an obvious leak here, so silence means nothing",
        "use more images for the attack",
    ),
    "positive-control": (
        "the attribute cannot be told from the original images either",
        "there is nothing this release could have hidden: the labels are wrong or too few",
        "check the labels, or give more images",
    ),
    "underfit": (
        f"no attacker gets {FITTED:.0%} of its own training releases right, nor reaches the "
        "ceiling",
        "a longer or larger attack may find more",
        "use a larger suite",
    ),
    "more-data-helps": (
        f"the worst attacker gains more than {MORE_GAIN} on select from the second half of "
        "its images",
        "an attacker with more images would do better than the figure says",
        "read the figure as a lower bound, or give the attack more images",
    ),
    "more-training-helps": (
        f"the worst attacker gains more than {MORE_GAIN} on select from the second half of its "
        "training",
        "an attacker trained for longer would do better than the figure says",
        "read the figure as a lower bound, or use a larger suite",
    ),
    "weaker-beats-stronger": (
        "a linear or nearest-neighbour attacker beats the best network by more than the interval",
        "the networks are badly trained here and may miss what they should find",
        "use a larger suite or more seeds",
    ),
    "under-floor": (
        "the worst attacker, chosen on select, scores below the floor",
        "at least the floor leaks: knowing the task's answer, or guessing, does better",
        "read the floor as the leakage, or give select more images",
    ),
    "one-draw": (
        "the release is random and was attacked with a single draw per image",
        "noise averages out over repeated queries: several draws may leak more",
        "give several draws per image (z_draws) or audit the run itself",
    ),
    "seed-spread": (
        "the score differs between seeds by more than half its interval",
        "another seed may give another verdict",
        "use more seeds",
    ),
    "ceiling-near-floor": (
        f"the ceiling is less than {CEILING_GAP} above the floor",
        "the attribute can hardly be learnt from the originals, so little leakage proves little",
        "use more or better labelled images",
    ),
    "batch-dependent": (
        "an image's release changes with the other images of its batch",
        "the audited release is not what one client would send alone",
        "put batch statistics into eval mode",
    ),
    "adversary-disagrees": (
        f"the training adversary and the worst fresh attacker differ by more than "
        f"{ADVERSARY_GAP:.0%}",
        "the release was fitted to one adversary; figures from it say nothing",
        "quote the fresh attacker",
    ),
    "same-architecture": (
        "the worst attacker has the architecture of the adversary that the release was trained "
        "against",
        "it may be blind where that adversary is, and nothing else did better",
        "use a larger suite",
    ),
    "rows-left-out": (
        "the file does not fit into memory, and a part of its rows was attacked",
        "an attacker with all rows may do better",
        "give more memory, or read the figure as a lower bound",
    ),
    "certificate-broken": (
        "an attacker's whole interval lies above what is certified",
        "the certificate's assumption does not hold for this release",
        "withdraw the certificate; look for what is released beside the certified mechanism",
    ),
    "no-ceiling": (
        "the original images are not at hand",
        "the figure cannot be set against what the originals would leak",
        "put the originals into the file as x",
    ),
}


def doubt(id_: str, numbers: str) -> Doubt:
    """The doubt `id_` with the numbers that raised it."""
    means = EXPLANATIONS[id_][1]
    return Doubt(id=id_, text=f"{numbers}: {means}")


@dataclass(frozen=True)
class Circumstances:
    """What is known about an attack beside its figures.

    Attributes:
        random: whether the release draws noise.
        draws: the most draws per image that an attacker held.
        batch_dependence: see `release.depends_on_batch`.
        rows_left_out: whether rows were left out for want of memory.
        adversary: the training adversary's score on test, where there is one.
        same_architecture: whether the worst attacker has the training adversary's architecture.
        more_data: gain of the worst attacker on select from the second half of its images.
        more_training: gain of the worst attacker on select from the second half of its training.
    """

    random: bool = False
    draws: int = 1
    batch_dependence: float = 0.0
    rows_left_out: bool = False
    adversary: float | None = None
    same_architecture: bool = False
    more_data: float | None = None
    more_training: float | None = None


def about_worst(
    worst: Record, records: Sequence[Record], known: Circumstances
) -> tuple[Doubt, ...]:
    """The doubts about the worst attacker of one private target.

    Args:
        worst: the record chosen on select.
        records: all attackers' records of the target.
        known: about the attack.
    """
    return (*_about_figures(worst, records), *_about_circumstances(worst, known))


def _about_figures(worst: Record, records: Sequence[Record]) -> list[Doubt]:
    """What the figures themselves leave in doubt."""
    raised = []
    assert worst.score is not None
    assert worst.interval is not None
    low, high = worst.interval
    trained = [r.scores["train"] for r in records if r.scores.get("train") is not None]
    best_fit = max((t for t in trained if t is not None), default=0.0)
    needed = FITTED if worst.ceiling is None else min(FITTED, worst.ceiling)
    if trained and best_fit < needed:
        raised.append(doubt("underfit", f"best score on its own training releases {best_fit:.3f}"))
    if worst.floor is not None and worst.score < worst.floor:
        raised.append(doubt("under-floor", f"score {worst.score:.3f}, floor {worst.floor:.3f}"))
    simple = _best(records, SIMPLE_FAMILIES)
    strong = _best(records, STRONG_FAMILIES)
    if simple and strong and simple > strong + (high - low) / 2:
        raised.append(
            doubt("weaker-beats-stronger", f"select {simple:.3f} against {strong:.3f} of networks")
        )
    if worst.spread is not None and worst.spread > (high - low) / 2:
        raised.append(doubt("seed-spread", f"standard deviation {worst.spread:.3f} over seeds"))
    if worst.ceiling is None:
        raised.append(doubt("no-ceiling", "no originals"))
    elif worst.floor is not None and worst.ceiling - worst.floor < CEILING_GAP:
        raised.append(
            doubt("ceiling-near-floor", f"ceiling {worst.ceiling:.3f}, floor {worst.floor:.3f}")
        )
    if worst.certified is not None and low > worst.certified:
        raised.append(
            doubt(
                "certificate-broken",
                f"at least {low:.3f}, certified at most {worst.certified:.3f}",
            )
        )
    return raised


def _about_circumstances(worst: Record, known: Circumstances) -> list[Doubt]:
    """What the way in which the release was attacked leaves in doubt."""
    raised = []
    if known.more_data is not None and known.more_data > MORE_GAIN:
        raised.append(doubt("more-data-helps", f"+{known.more_data:.3f} from half to all images"))
    if known.more_training is not None and known.more_training > MORE_GAIN:
        gained = f"+{known.more_training:.3f} from half to all of its training"
        raised.append(doubt("more-training-helps", gained))
    if known.random and known.draws == 1:
        raised.append(doubt("one-draw", "one draw per image"))
    if known.batch_dependence > 1e-3:
        moved = f"by {known.batch_dependence:.2g} standard deviations"
        raised.append(doubt("batch-dependent", moved))
    if known.rows_left_out:
        raised.append(doubt("rows-left-out", "the file is larger than the memory given"))
    if known.same_architecture:
        raised.append(doubt("same-architecture", f"the worst attacker is '{worst.attack}'"))
    if known.adversary is not None and abs(known.adversary - (worst.score or 0.0)) > ADVERSARY_GAP:
        raised.append(
            doubt(
                "adversary-disagrees",
                f"training adversary {known.adversary:.3f}, fresh attacker {worst.score:.3f}",
            )
        )
    return raised


def refusals_of(
    worst: Record,
    ceiling: Record | None,
    *,
    chance: float,
    copy: float | None,
    shuffled: tuple[float, float],
    planted: float,
    peeks: float | None,
) -> tuple[Doubt, ...]:
    """Why no verdict on this target may be given; empty when one may.

    Args:
        worst: the record chosen on select.
        ceiling: the same target attacked on the originals, where they are at hand.
        chance: the score of knowing nothing.
        copy: the copy floor, where there is a useful label.
        shuffled: interval of an attacker trained on shuffled labels.
        planted: the score with which a planted leak was found.
        peeks: the least that the worst attacker itself reached with shuffled labels.
    """
    raised = []
    assert worst.interval is not None
    assert worst.score is not None
    low, high = worst.interval
    # Of releases that hold nothing one in forty has its 95 % interval below chance; of 99 %
    # intervals one in two hundred.
    high = worst.score + FROM_95_TO_99_PERCENT * (high - worst.score)
    target = worst.target
    if high < chance:
        raised.append(doubt("below-floor", f"{target}: at most {high:.3f}, chance {chance:.3f}"))
    elif copy is not None and high < copy:
        raised.append(doubt("below-floor", f"{target}: at most {high:.3f}, copy floor {copy:.3f}"))
    if peeks is not None and peeks > chance + PEEKED:
        raised.append(
            doubt(
                "shuffled-control",
                f"{target}: '{worst.attack}' reaches {peeks:.3f} or more from shuffled labels",
            )
        )
    elif shuffled[0] > chance:
        raised.append(
            doubt("shuffled-control", f"{target}: shuffled labels reach {shuffled[0]:.3f} or more")
        )
    if planted < PLANTED_FOUND:
        raised.append(doubt("planted-control", f"{target}: planted leak found at {planted:.3f}"))
    if ceiling is not None and ceiling.interval is not None:
        if low > ceiling.interval[1]:
            raised.append(
                doubt(
                    "above-ceiling",
                    f"{target}: at least {low:.3f}, ceiling at most {ceiling.interval[1]:.3f}",
                )
            )
        if ceiling.interval[0] <= chance:
            raised.append(doubt("positive-control", f"{target}: ceiling {ceiling.score:.3f}"))
    return tuple(raised)


def _best(records: Sequence[Record], families: tuple[str, ...]) -> float | None:
    return max((r.select for r in records if r.family in families and r.select), default=None)
