"""What the report says about an audit, in each case, word for word."""

from __future__ import annotations

import re
from typing import Any

import pytest
from report_fakes import ONE_DRAW, RISING, RUNS, audit, realistic, record

from veil.records import Doubt
from veil.report import comparison, verdict

UTILITY: dict[str, Any] = {"kind": "utility", "metric": "verification_accuracy", "n": 600}


def test_a_leak_is_bounded_from_below_with_all_that_belongs_to_it() -> None:
    said = verdict(audit("AIA", record("Male", 0.78), record("matching", 0.81, **UTILITY)))
    assert said == (
        "Leaks Male at least 0.78 balanced accuracy (95 % interval 0.77–0.80, n=3,000) to suite "
        "'standard', floor 0.50, ceiling 0.95; keeps matching at 0.81 verification accuracy "
        "(95 % interval 0.80–0.83, n=600), original images 0.95."
    )


@pytest.mark.parametrize("score", [0.5, 0.514, 0.47])
def test_an_interval_that_reaches_the_floor_is_not_broken(score: float) -> None:
    said = verdict(audit("x", record("Male", score)))
    assert said.startswith("Not broken on Male by suite 'standard': worst attacker 0.")
    assert "eaks" not in said


def test_an_interval_just_above_the_floor_leaks_and_shows_why() -> None:
    said = verdict(audit("x", record("Male", 0.516, interval=(0.501, 0.531))))
    assert said.startswith("Leaks Male at least 0.516")
    assert "interval 0.501–0.531" in said
    assert "floor 0.500" in said


def test_without_a_floor_nothing_counts_as_not_broken() -> None:
    said = verdict(audit("x", record("Male", 0.5, floor=None, ceiling=None)))
    assert said.startswith("Leaks Male at least 0.50")
    assert said.endswith("no floor measured, no ceiling measured.")


def test_a_refusal_gives_its_reasons_and_no_figure() -> None:
    overlap = Doubt(id="overlap", text="12 images of test are also in attack.")
    control = Doubt(id="control", text="The shuffled control reached 0.61.")
    refused = audit("x", record("Male", 0.78, doubts=(ONE_DRAW,)), refusals=(overlap, control))
    assert verdict(refused) == (
        "Refused: 12 images of test are also in attack; The shuffled control reached 0.61."
    )


def test_several_targets_are_each_judged() -> None:
    said = verdict(
        audit(
            "x",
            record("Male", 0.8, metric="auc"),
            record("Young", 0.5),
            record("identity", 0.7, kind="identity", metric="rank_1", certified=0.9),
            record("Smiling", 0.508, kind="utility"),
            record("Bangs", None, interval=None),
        )
    )
    assert "Leaks Male at least 0.80 AUC" in said
    assert "not broken on Young by" in said
    assert "leaks identity at least 0.70 rank 1" in said
    assert "certified at most 0.90" in said
    assert "keeps nothing measurable of Smiling: 0.51" in said
    assert "no figure for Bangs" in said
    assert said.count("Smiling") == 1


def test_a_target_name_is_never_recased_and_doubts_follow() -> None:
    said = verdict(audit("x", record("beard", 0.7, doubts=(ONE_DRAW, RISING, ONE_DRAW))))
    assert "Leaks beard at" in said
    assert said.endswith("; doubts: one-draw, still-rising.")


def test_an_audit_of_nothing_says_so() -> None:
    assert verdict(audit("x")) == "No target was attacked."


def test_the_suite_may_be_a_name_or_resolved() -> None:
    resolved = audit("x", record("Male", 0.7), suite={"name": "quick", "attacks": []})
    unnamed = audit("x", record("Male", 0.7), suite=["a", "b"])
    assert "suite 'quick'" in verdict(resolved)
    assert "suite 'unnamed'" in verdict(unnamed)


def test_a_comparison_sets_every_run_beside_the_undefended_one() -> None:
    # AIA's 0.794-0.824 meets Original's 0.819-0.849: it keeps matching, where others do "only at".
    said = comparison([realistic(run) for run in RUNS])
    assert said == (
        "Random keeps matching only at 0.61 (Original 0.83) and leaks Male at least 0.68 "
        "(Original 0.93); AIA\\T keeps matching only at 0.69 (Original 0.83) and leaks Male at "
        "least 0.74 (Original 0.93); AIA keeps matching at 0.81 (Original 0.83) and leaks Male "
        "at least 0.78 (Original 0.93)."
    )


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.925, "leaks Male at least 0.93, not measurably less than Original (0.93)"),
        (0.99, "leaks Male at least 0.99, more than Original (0.93)"),
        (0.5, "is not broken on Male (0.50; Original 0.93)"),
        (None, "has no figure for Male"),
    ],
)
def test_a_comparison_is_honest_when_the_defence_does_not_help(
    score: float | None, expected: str
) -> None:
    base = audit("Original", record("Male", 0.93))
    other = audit("Mine", record("Male", score))
    assert comparison([base, other]) == f"Mine {expected}."


def test_a_comparison_without_an_undefended_run_uses_ceilings() -> None:
    runs = [audit("A", record("Male", 0.7)), audit("B", record("Male", 0.6, ceiling=None))]
    assert comparison(runs) == (
        "A leaks Male at least 0.70 (ceiling 0.95); B leaks Male at least 0.60 (no ceiling)."
    )


def test_a_refused_run_is_neither_compared_nor_compared_with() -> None:
    why = (Doubt(id="overlap", text="Splits overlap."),)
    said = comparison(
        [
            audit("Original", record("Male", 0.93), refusals=why),
            audit("A", record("Male", 0.7)),
        ]
    )
    assert said == "Original was refused (overlap); A leaks Male at least 0.70 (ceiling 0.95)."


def test_no_sentence_promises_what_no_audit_can_show() -> None:
    runs = [realistic(run) for run in RUNS] + [audit("none", record("Male", 0.5))]
    for said in [verdict(run) for run in runs] + [comparison(runs)]:
        assert not re.search(r"anonym|secure|private|remove|None|nan", said), said
