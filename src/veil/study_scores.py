"""What people saw: the key of a study, their answers, and the scores of these. Plain data.

The user study of NARL (Jeong, Cho, Benz, Kim; UAI 2023, supplement C): an answer is "Correct",
"Wrong" or "Cannot judge". Best is as many correct as guessing gives, or nobody who can judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import Field, NonNegativeFloat, ValidationError

from veil.errors import VeilError
from veil.metrics import Flags, Labels
from veil.records import Finite, Frozen
from veil.seeds import seed_for
from veil.statistics import Interval, Weights, clopper_pearson, effective_interval

UNDECIDED = -1
SHUFFLES = 9_999

Schema = Annotated[Literal[1], Field(alias="schema")]
Read = TypeVar("Read", bound=Frozen)


class Shown(Frozen):
    """One picture of the questionnaire.

    Attributes:
        picture: its number there, from 1.
        answer: the true class, by its name.
        row: its position in `test`.
    """

    picture: int
    answer: str
    row: int


class Key(Frozen):
    """key.json: what the questionnaire does not say.

    Attributes:
        study: tells this questionnaire from others; it and all answers to it carry the same.
        method, data: whose releases, of which pictures.
        label: the private label that is asked for; classes: its K classes, in order.
        shows: what the pictures are.
        seed: of the study.
        read_right: share of `test` that the reference classifier reads rightly, in [0, 1].
        pictures: all, by number.
    """

    schema_version: Schema = 1
    study: str
    method: str
    data: str
    label: str
    classes: tuple[str, ...]
    shows: str
    seed: int
    read_right: Finite
    pictures: tuple[Shown, ...]


class Answer(Frozen):
    """What one person said of one picture.

    Attributes:
        picture: its number.
        answer: a class, by its name; None is "Cannot judge".
        seconds: from seeing the picture to the answer.
    """

    picture: int
    answer: str | None
    seconds: NonNegativeFloat | None = None


class Answers(Frozen):
    """One person's whole questionnaire, pictures in the order they were shown in.

    Attributes:
        study: as in the key.
        participant: a random word that the questionnaire drew.
        answers: one for each picture.
    """

    schema_version: Schema = 1
    study: str
    participant: Annotated[str, Field(min_length=1)]
    answers: tuple[Answer, ...]


class Share(Frozen):
    """A share of n answers, in [0, 1], with its 95 % interval (see `crossed_interval`)."""

    value: Finite
    interval: tuple[Finite, Finite]
    n: int


class Tally(Frozen):
    """How often something was answered correctly, wrongly, or not at all."""

    correct: int
    wrong: int
    undecided: int


class OfPicture(Tally):
    """How one picture was answered.

    Attributes:
        picture: its number; truth: its class.
        agreement: share of pairs of people who said the same of it; None with one person.
    """

    picture: int
    truth: str
    agreement: Finite | None


class OfPerson(Tally):
    """How one person answered."""

    participant: str


class StudyResult(Frozen):
    """study.json: what people read from the pictures.

    Attributes:
        study, method, data, label, classes, shows: as in the key.
        people: how many answered.
        correct, wrong, undecided: shares of all answers; they sum to one.
        judged: correct among the answers that judge; None where nobody judged.
        chance: 1 / K, what guessing gives, since pictures are balanced over the classes.
        ideal: correct, if whoever could not judge had guessed: `chance` is the paper's ideal.
        p_binomial: of a share as far from chance as `judged`, were all answers guesses,
            independent of each other (exact binomial, two-sided).
        p_shuffled: the same with the true classes shuffled over the pictures, all answers kept:
            holds too if a picture makes everybody guess alike.
        agreement: mean of the pictures'; kappa: the same beyond chance (Fleiss 1971), None where
            all answers are the same.
        pictures, participants: one entry each.
    """

    schema_version: Schema = 1
    study: str
    method: str
    data: str
    label: str
    classes: tuple[str, ...]
    shows: str
    people: int
    correct: Share
    wrong: Share
    undecided: Share
    judged: Share | None
    chance: Finite
    ideal: Finite
    p_binomial: Finite | None
    p_shuffled: Finite | None
    agreement: Finite | None
    kappa: Finite | None
    pictures: tuple[OfPicture, ...]
    participants: tuple[OfPerson, ...]


def read_key(path: Path) -> Key:
    """The key.json of a study.

    Raises:
        VeilError: the file is missing, or is no key.
    """
    return _read(Key, path, "the key of a study")


def read_answers(paths: Sequence[Path], key: Key) -> list[Answers]:
    """Questionnaires that were filled in, each checked against the key.

    Raises:
        VeilError: no file, a file that holds no whole questionnaire of this study, or two files
            of the same participant.
    """
    if not paths:
        raise VeilError("a study is scored by answers: name the files that participants saved")
    numbers = [shown.picture for shown in key.pictures]
    found: dict[str, tuple[Path, Answers]] = {}
    for path in paths:
        answers = _read(Answers, path, "answers to a study")
        if answers.study != key.study:
            raise VeilError(f"{path}: answers study {answers.study}, but the key is of {key.study}")
        said = [answer.picture for answer in answers.answers]
        if sorted(said) != sorted(numbers):
            wrong = {*said} ^ {*numbers} or {n for n in said if said.count(n) > 1}
            raise VeilError(
                f"{path}: needs one answer to each of the {len(numbers)} pictures; "
                f"look at picture {min(wrong)}"
            )
        for answer in answers.answers:
            if answer.answer is not None and answer.answer not in key.classes:
                raise VeilError(
                    f"{path}: picture {answer.picture}: '{answer.answer}' is no class of "
                    f"{key.label} ({', '.join(key.classes)}; null is 'Cannot judge')"
                )
        if answers.participant in found:
            raise VeilError(
                f"{path}: is of participant {answers.participant}, whose answers are in "
                f"{found[answers.participant][0]} already; leave one of them out"
            )
        found[answers.participant] = path, answers
    return [answers for _, answers in found.values()]


def score(key: Key, answers: Sequence[Answers], seed: int = 0) -> StudyResult:
    """Score questionnaires that `read_answers` let through.

    Args:
        key: of the study.
        answers: one of each participant, at least one.
        seed: of the shuffles of `p_shuffled`.
    """
    classes = {name: number for number, name in enumerate(key.classes)}
    truth = np.array([classes[shown.answer] for shown in key.pictures])
    column = {shown.picture: i for i, shown in enumerate(key.pictures)}
    said = np.full((len(answers), len(truth)), UNDECIDED)
    for row, of_person in enumerate(answers):
        for answer in of_person.answers:
            if answer.answer is not None:
                said[row, column[answer.picture]] = classes[answer.answer]
    judged, right = said != UNDECIDED, said == truth
    counts = np.stack([(said == k).sum(axis=0) for k in (UNDECIDED, *classes.values())], axis=1)
    agreement, kappa = fleiss(counts)
    every = np.ones_like(judged)
    chance = 1 / len(classes)
    return StudyResult(
        **key.model_dump(include={"study", "method", "data", "label", "classes", "shows"}),
        people=len(answers),
        correct=_share(right, every),
        wrong=_share(judged & ~right, every),
        undecided=_share(~judged, every),
        judged=_share(right, judged) if judged.any() else None,
        chance=chance,
        ideal=float(np.where(judged, right, chance).mean()),
        p_binomial=_binomial(int(right.sum()), int(judged.sum()), chance),
        p_shuffled=shuffled_p(counts[:, 1:], truth, seed) if judged.any() else None,
        agreement=None if agreement is None else float(agreement.mean()),
        kappa=kappa,
        pictures=tuple(
            OfPicture(
                picture=shown.picture,
                truth=shown.answer,
                agreement=None if agreement is None else float(agreement[i]),
                **_tally(right[:, i], judged[:, i]).model_dump(),
            )
            for i, shown in enumerate(key.pictures)
        ),
        participants=tuple(
            OfPerson(participant=of.participant, **_tally(right[i], judged[i]).model_dump())
            for i, of in enumerate(answers)
        ),
    )


def crossed_interval(hits: Flags, counted: Flags, level: float = 0.95) -> Interval:
    """Interval of a share of answers, for other people and other pictures than these.

    Answers of one person resemble each other, and so do answers to one picture. The variance of
    the share is clustered by both (Cameron, Gelbach and Miller 2011), never below that of either
    alone or of independent answers; `effective_interval` gives the ends. Of one person or one
    picture nothing is known of others: then Clopper-Pearson's, which speaks of that one only.

    Args:
        hits: (people, pictures) what the share counts.
        counted: (people, pictures) of which answers, at least one.
        level: of the interval.
    """
    n = int(counted.sum())
    share = float(hits[counted].mean())
    fewest = int(min(counted.any(axis=1).sum(), counted.any(axis=0).sum()))
    if fewest < 2:
        return clopper_pearson(int(hits[counted].sum()), n, level)
    influence = np.where(counted, hits - share, 0.0) / n

    def variance(axis: int | tuple[()]) -> float:
        units = int(counted.any(axis=axis).sum())
        return float(np.square(influence.sum(axis=axis)).sum()) * units / (units - 1)

    by_person, by_picture, by_answer = variance(1), variance(0), variance(())
    by_both = by_person + by_picture - by_answer
    most = max(by_both, by_person, by_picture, by_answer)
    return effective_interval(share, share * (1 - share), most, fewest, fewest - 1, level)


def shuffled_p(counts: Labels, truth: Labels, seed: int) -> float:
    """The p-value of "the answers know nothing of the true classes", two-sided.

    Under it every arrangement of the true classes over the pictures is as likely as the true one,
    however people's answers depend on each other.

    Args:
        counts: (pictures, K) how many people said which class.
        truth: (pictures,) true classes.
        seed: of the shuffles.
    """
    rng = np.random.default_rng(seed_for(seed, "study", "shuffles"))
    rows = np.arange(len(truth))
    arrangements = rng.permuted(np.tile(truth, (SHUFFLES, 1)), axis=1)
    centre = float(np.bincount(truth, minlength=counts.shape[1]) @ counts.sum(axis=0)) / len(truth)
    apart = np.abs(counts[rows, arrangements].sum(axis=1) - centre)
    found = abs(float(counts[rows, truth].sum()) - centre)
    return float((1 + np.count_nonzero(apart >= found - 1e-9)) / (SHUFFLES + 1))


def fleiss(counts: Labels) -> tuple[Weights | None, float | None]:
    """Agreement of each picture, and Fleiss' kappa of all.

    Args:
        counts: (pictures, answers) how many people said what; as many people for each picture.

    Returns:
        (pictures,) share of pairs of people who said the same (None with one person), and kappa
        (None too where all people said the same of all pictures).
    """
    people = int(counts[0].sum())
    if people < 2:
        return None, None
    agreement = (np.square(counts).sum(axis=1) - people) / (people * (people - 1))
    by_chance = float(np.square(counts.sum(axis=0) / counts.sum()).sum())
    kappa = (float(agreement.mean()) - by_chance) / (1 - by_chance) if by_chance < 1 else None
    return agreement, kappa


def _share(hits: Flags, counted: Flags) -> Share:
    interval = crossed_interval(hits, counted)
    return Share(value=float(hits[counted].mean()), interval=interval, n=int(counted.sum()))


def _binomial(right: int, judged: int, chance: float) -> float | None:
    from scipy.stats import binomtest

    return float(binomtest(right, judged, chance).pvalue) if judged else None


def _tally(right: Flags, judged: Flags) -> Tally:
    correct, decided = int(right.sum()), int(judged.sum())
    return Tally(correct=correct, wrong=decided - correct, undecided=len(judged) - decided)


def _read(model: type[Read], path: Path, what: str) -> Read:
    try:
        return model.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise VeilError(f"{path}: no such file") from None
    except OSError as error:
        raise VeilError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise VeilError(f"{path}: not {what}: {where}: {first['msg']}") from None
