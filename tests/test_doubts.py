"""Every doubt and every refusal is raised on a case built for it, and not on one built not to."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import veil
from veil.doubts import EXPLANATIONS, Circumstances, about_worst, doubt, refusals_of
from veil.records import Record

CEILING = {"ceiling": 0.9, "floor": 0.55}


def record(**given: Any) -> Record:
    """A record with which nothing is wrong; `given` overrides."""
    fields: dict[str, Any] = {
        "target": "s",
        "kind": "attribute",
        "attack": "mlp",
        "family": "mlp",
        "metric": "balanced_accuracy",
        "score": 0.7,
        "interval": (0.68, 0.72),
        "select": 0.7,
        "scores": {"train": 0.95},
        "n": 1000,
    }
    return Record(**(fields | CEILING | given))


def doubts(worst: Record, *others: Record, **given: Any) -> list[str]:
    """Ids of the doubts on `worst` where nothing else is wrong; `given` overrides."""
    facts = Circumstances(**given)
    return [d.id for d in about_worst(worst, (worst, *others), facts)]


def linear(select: float) -> Record:
    return record(attack="logistic", family="linear", select=select)


# (the id or None, the worst record, other records, facts)
DOUBTS: list[tuple[str | None, Record, tuple[Record, ...], dict[str, Any]]] = [
    (None, record(), (), {}),
    ("underfit", record(scores={"train": 0.8}), (), {}),
    (None, record(scores={"train": 0.8}), (record(scores={"train": 0.91}),), {}),
    (None, record(scores={"train": 0.8}, ceiling=0.79), (), {}),
    (None, record(scores={}), (), {}),  # matchers have no score on their own people
    ("more-data-helps", record(), (), {"more_data": 0.02}),
    (None, record(), (), {"more_data": 0.005}),
    (None, record(), (), {"more_data": None}),
    ("more-training-helps", record(), (), {"more_training": 0.02}),
    (None, record(), (), {"more_training": 0.005}),
    ("same-architecture", record(), (), {"same_architecture": True}),
    ("rows-left-out", record(), (), {"rows_left_out": True}),
    ("certificate-broken", record(certified=0.66), (), {}),
    (None, record(certified=0.69), (), {}),
    ("weaker-beats-stronger", record(), (linear(0.73),), {}),
    (None, record(), (linear(0.715),), {}),
    (None, linear(0.73), (), {}),
    ("under-floor", record(floor=0.71), (), {}),
    (None, record(floor=0.69), (), {}),
    ("one-draw", record(), (), {"random": True}),
    (None, record(), (), {"random": True, "draws": 4}),
    ("seed-spread", record(spread=0.03), (), {}),
    (None, record(spread=0.015), (), {}),
    ("ceiling-near-floor", record(ceiling=0.64), (), {}),
    (None, record(ceiling=0.66), (), {}),
    ("no-ceiling", record(ceiling=None), (), {}),
    ("batch-dependent", record(), (), {"batch_dependence": 0.1}),
    (None, record(), (), {"batch_dependence": 1e-5}),
    ("adversary-disagrees", record(), (), {"adversary": 0.5}),
    ("adversary-disagrees", record(), (), {"adversary": 0.8}),
    (None, record(), (), {"adversary": 0.66}),
]


@pytest.mark.parametrize(("expected", "worst", "others", "facts"), DOUBTS)
def test_doubts(
    expected: str | None, worst: Record, others: tuple[Record, ...], facts: dict[str, Any]
) -> None:
    assert doubts(worst, *others, **facts) == ([] if expected is None else [expected])


def refusals(worst: Record, **given: Any) -> list[str]:
    """Ids of the refusals where nothing else is wrong; `given` overrides."""
    facts: dict[str, Any] = {
        "ceiling": record(score=0.9, interval=(0.88, 0.92)),
        "chance": 0.5,
        "copy": None,
        "shuffled": (0.48, 0.52),
        "planted": 1.0,
        "peeks": 0.3,
    }
    return [r.id for r in refusals_of(worst, **(facts | given))]


def at(low: float, high: float) -> Record:
    return record(score=(low + high) / 2, interval=(low, high))


# (the id or None, the worst record, facts)
REFUSALS: list[tuple[str | None, Record, dict[str, Any]]] = [
    (None, record(), {}),
    (None, record(), {"ceiling": None}),
    ("below-floor", at(0.40, 0.48), {}),
    (None, at(0.40, 0.49), {}),  # below chance at 95 %, not at 99 %
    ("below-floor", at(0.55, 0.65), {"copy": 0.682}),
    (None, at(0.55, 0.69), {"copy": 0.682}),
    ("below-floor", at(0.20, 0.30), {"chance": 1 / 3, "shuffled": (0.3, 0.34)}),
    ("below-floor", at(0.40, 0.48), {"copy": 0.682}),
    ("above-ceiling", at(0.93, 0.96), {}),
    (None, at(0.91, 0.96), {}),
    ("shuffled-control", record(), {"shuffled": (0.51, 0.55)}),
    (None, record(), {"shuffled": (0.5, 0.5)}),
    (None, record(), {"shuffled": (0.40, 0.45)}),
    ("shuffled-control", record(), {"peeks": 0.53}),
    (None, record(), {"peeks": 0.51}),
    (None, record(), {"peeks": None}),
    ("planted-control", record(), {"planted": 0.89}),
    (None, record(), {"planted": 0.9}),
    ("positive-control", at(0.48, 0.52), {"ceiling": at(0.49, 0.53)}),
    (None, at(0.48, 0.52), {"ceiling": at(0.51, 0.55)}),
]


@pytest.mark.parametrize(("expected", "worst", "facts"), REFUSALS)
def test_refusals(expected: str | None, worst: Record, facts: dict[str, Any]) -> None:
    assert refusals(worst, **facts) == ([] if expected is None else [expected])


def test_a_refusal_names_its_target_and_its_numbers() -> None:
    said = refusals_of(
        at(0.55, 0.65), None, chance=0.5, copy=0.682, shuffled=(0.4, 0.6), planted=1.0, peeks=None
    )
    assert said[0].text.startswith("s: at most 0.666, copy floor 0.682: ")


def test_every_id_in_the_code_is_explained_and_every_explanation_is_used() -> None:
    used = {"overlap"}  # the default of errors.Refused, raised where evidence is read
    for path in Path(veil.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "doubt":
                named = node.args[0]
                assert isinstance(named, ast.Constant), f"{path}:{node.lineno}"
                used.add(str(named.value))
    assert used == EXPLANATIONS.keys()
    tried = {case[0] for case in DOUBTS} | {case[0] for case in REFUSALS} | {"overlap"}
    assert tried - {None} == EXPLANATIONS.keys()


def test_explanations_are_three_phrases_and_stand_in_the_text() -> None:
    for name, phrases in EXPLANATIONS.items():
        assert all(phrases), name
        assert len(phrases) == 3
        assert not any(phrase.endswith(".") or "\n" in phrase for phrase in phrases)
        assert doubt(name, "0.1").text == f"0.1: {phrases[1]}"
