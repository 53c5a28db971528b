"""Requirements: read from the right, judged by the worse end of the interval, refused early."""

from __future__ import annotations

import io
import string
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from veil.errors import VeilError
from veil.gate import (
    PREFIXES,
    Outcome,
    Requirement,
    check_names,
    exit_status,
    outcomes,
    parse,
    print_outcomes,
)
from veil.records import Audit, Doubt, Record, TargetSummary


def record(
    target: str = "Male",
    kind: Literal["attribute", "utility"] = "attribute",
    interval: tuple[float, float] | None = (0.50, 0.58),
    floor: float | None = 0.5,
    certified: float | None = None,
    assumption: str | None = None,
    doubts: tuple[Doubt, ...] = (),
) -> Record:
    return Record(
        target=target,
        kind=kind,
        attack="fresh: mlp 64" if kind == "utility" else "mlp 64",
        family="mlp",
        metric="balanced_accuracy",
        score=None if interval is None else sum(interval) / 2,
        interval=interval,
        floor=floor,
        certified=certified,
        assumption=assumption,
        doubts=doubts,
        n=1000,
    )


def audit(*worst: Record, verdict: Literal["given", "refused"] = "given") -> Audit:
    return Audit(
        schema=1,
        name="a release",
        verdict=verdict,
        refusals=(Doubt(id="overlap", text="splits share people"),) if verdict == "refused" else (),
        targets={r.target: TargetSummary(kind=r.kind, worst=r) for r in worst},
        records=worst,
        provenance={"suite": "standard"},
    )


def judge(text: str, *worst: Record) -> Outcome:
    (outcome,) = outcomes(audit(*worst), [parse(text)])
    return outcome


# Reading ------------------------------------------------------------------------------------

NAMES = (
    st.text(string.ascii_letters + string.digits + " =&+<>_:%.é-", min_size=1, max_size=30)
    .map(str.strip)
    .filter(lambda name: name and name[-1] not in "<>=" and not name.startswith(tuple(PREFIXES)))
)


@given(
    NAMES,
    st.sampled_from(["", *PREFIXES]),
    st.floats(0, 1),
    st.sampled_from(["", " ", "  "]),
    st.sampled_from(["", " "]),
)
def test_what_is_written_is_read_back(
    name: str, prefix: str, limit: float, before: str, after: str
) -> None:
    """Whatever the name holds; reading the name up to the first "=" fails this."""
    relation = ">=" if prefix == "utility:" else "<="
    wanted = parse(f"{prefix}{name}{before}{relation}{after}{limit}")
    assert wanted == Requirement(name, PREFIXES.get(prefix, "leakage"), limit, wanted.text)
    assert wanted.relation == relation
    assert parse(wanted.text) == wanted


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("s where g=1 <= 0.6", "s where g=1"),
        ("s where age >= 40 <= 0.6", "s where age >= 40"),
        ("Male+Young<=.6", "Male+Young"),
        ("R&B=yes <= 6e-1", "R&B=yes"),
        ("  Male   <=   0.60  ", "Male"),
    ],
)
def test_names_with_signs_of_comparison(text: str, target: str) -> None:
    wanted = parse(text)
    assert (wanted.target, wanted.limit, wanted.quantity) == (target, 0.6, "leakage")
    assert wanted.text == text.strip()


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "is no requirement"),
        ("Male", "is no requirement"),
        ("Male 0.60", "is no requirement"),
        ("Male < 0.60", "'<' is not a relation; write <= or >="),
        ("Male = 0.60", "'=' is not a relation"),
        ("Male == 0.60", "'==' is not a relation"),
        ("Male =< 0.60", "'=<' is not a relation"),
        ("Male ≤ 0.60", "'≤' is not a relation"),
        ("Male <=", "gives no limit"),
        ("<= 0.60", "names no target"),
        ("utility: >= 0.60", "names no target"),
        ("Male <= 60%", "write 0.60"),
        ("Male <= 62.5 %", "write 0.625"),
        ("Male <= 60", "outside 0 to 1"),
        ("Male <= -0.1", "outside 0 to 1"),
        ("Male <= 1.0001", "outside 0 to 1"),
        ("Male <= nan", "'nan' is not a number"),
        ("Male <= inf", "'inf' is not a number"),
        ("Male <= 0_1", "'0_1' is not a number"),
        ("Male <= 0,60", "'0,60' is not a number; write it as 0.60"),
        ("Male <= low", "'low' is not a number"),
        ("Smiling >= 0.85", "or 'utility:Smiling >= 0.85' for what should survive"),
        ("certified:Male >= 0.6", "leakage has no lower limit; write 'certified:Male <= 0.6'"),
        ("utility:Smiling <= 0.85", "write 'utility:Smiling >= 0.85'"),
    ],
)
def test_ill_formed_requirements_are_one_clear_line(text: str, hint: str) -> None:
    with pytest.raises(VeilError) as caught:
        parse(text)
    assert hint in str(caught.value)
    assert "\n" not in str(caught.value)


# Names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Mael <= 0.6", "no private target 'Mael' is audited: did you mean 'Male'?"),
        ("certified:Mael <= 0.6", "did you mean 'Male'?"),
        ("utility:Smilling >= 0.8", "no useful label 'Smilling' is audited: did you mean"),
        ("Smiling <= 0.6", "is useful in this audit: write such as 'utility:Smiling >= 0.85'"),
        ("utility:Male >= 0.6", "is private in this audit: write such as 'Male <= 0.60'"),
    ],
)
def test_an_unknown_target_is_refused_before_any_attack(text: str, hint: str) -> None:
    with pytest.raises(VeilError) as caught:
        check_names([parse("Male <= 0.6"), parse(text)], ["Male", "s where g=1"], ["Smiling"])
    assert hint in str(caught.value)


def test_names_that_are_audited_pass() -> None:
    texts = ("Male <= 0.6", "certified:Male <= 0.6", "s where g=1 <= 0.6", "utility:Smiling >= 0.8")
    check_names([parse(text) for text in texts], ["Male", "s where g=1"], ["Smiling"])


# Judging ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "met"), [("0.57", False), ("0.58", True), ("0.5799999", False), ("0.60", True)]
)
def test_leakage_is_judged_by_the_upper_end(limit: str, met: bool) -> None:
    """The lower end (0.50) and the score (0.54) would let 0.57 pass: this fails then."""
    assert judge(f"Male <= {limit}", record(interval=(0.50, 0.58))).met is met


@pytest.mark.parametrize(
    ("limit", "met"), [("0.81", False), ("0.80", True), ("0.8000001", False), ("0.75", True)]
)
def test_utility_is_judged_by_the_lower_end(limit: str, met: bool) -> None:
    """The upper end (0.90) and the score (0.85) would let 0.81 pass: this fails then."""
    kept = record("Smiling", "utility", (0.80, 0.90))
    assert judge(f"utility:Smiling >= {limit}", kept).met is met


def test_a_limit_below_the_floor_cannot_be_met() -> None:
    """Even where the attacker's interval ends lower: the floor leaks all the same."""
    outcome = judge("Male <= 0.60", record(interval=(0.50, 0.58), floor=0.63))
    assert not outcome.met
    assert "cannot be met: the floor is 0.630" in outcome.sentence
    assert judge("Male <= 0.60", record(interval=(0.50, 0.58), floor=None)).met


def test_without_an_interval_nothing_is_met() -> None:
    assert not judge("Male <= 1", record(interval=None)).met
    assert not judge("utility:Smiling >= 0", record("Smiling", "utility", None)).met


@pytest.mark.parametrize(
    ("certified", "met"), [(None, False), (0.59, True), (0.60, True), (0.61, False)]
)
def test_a_certified_bound(certified: float | None, met: bool) -> None:
    """The measured interval, which ends at 0.58, plays no part."""
    worst = record(certified=certified, assumption="one release per image")
    outcome = judge("certified:Male <= 0.60", worst)
    assert outcome.met is met
    assert ("if one release per image" in outcome.sentence) == (certified is not None)


def test_a_target_that_was_not_audited_is_not_met() -> None:
    useful = record("Male", "utility", (0.9, 0.95))
    assert not judge("Male <= 1", useful).met
    assert not judge("utility:Male >= 0", record("Male")).met
    assert "was not audited" in judge("Race <= 1", record("Male")).sentence


@pytest.mark.parametrize(
    ("end", "limit"), [(0.60004, "0.60"), (0.6 + 1e-12, "0.6"), (0.6004, ".6")]
)
def test_the_figure_shown_lies_on_its_side_of_the_limit(end: float, limit: str) -> None:
    """ "0.600, not met by 0.60" would explain nothing."""
    outcome = judge(f"Male <= {limit}", record(interval=(0.5, end)))
    assert not outcome.met
    shown = outcome.sentence.partition("ends at ")[2].split()[0]
    assert float(shown) > 0.6


def test_doubts_stand_beside_what_is_met() -> None:
    doubts = (Doubt(id="underfit", text="a"), Doubt(id="one-draw", text="b"))
    outcome = judge("Male <= 0.60", record(doubts=doubts))
    assert outcome.met
    assert outcome.sentence.endswith("doubts: underfit, one-draw")


def test_exit_statuses() -> None:
    requirements = [parse("Male <= 0.60"), parse("utility:Smiling >= 0.85")]
    smiling = record("Smiling", "utility", (0.86, 0.9))
    good, bad = record("Male"), record("Male", interval=(0.55, 0.7))
    for found, status in [
        (audit(good, smiling), 0),
        (audit(bad, smiling), 1),
        (audit(good, smiling, verdict="refused"), 3),
        (audit(bad, verdict="refused"), 3),
    ]:
        judged = outcomes(found, requirements)
        assert [o.requirement for o in judged] == requirements
        assert exit_status(found, judged) == status
    assert exit_status(audit(bad), ()) == 0


def test_a_refused_audit_meets_nothing() -> None:
    found = outcomes(audit(record(), verdict="refused"), [parse("Male <= 0.60")])
    assert not found[0].met
    assert "no verdict was given" in found[0].sentence


def test_outcomes_are_legible_without_colour() -> None:
    text = io.StringIO()
    found = outcomes(
        audit(record(), record("a [b]", interval=(0.6, 0.7))),
        [parse("Male <= 0.60"), parse("a [b] <= 0.60")],
    )
    print_outcomes(found, Console(file=text, width=100, color_system=None))
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("met      Male <= 0.60: the interval of mlp 64 (suite 'standard'")
    assert next(line for line in lines if line.startswith("NOT MET  a [b] <= 0.60"))
    assert max(map(len, lines)) <= 100
