"""Requirements on an audit, for a pipeline that must stop: `--require "Male <= 0.60"`.

A requirement is judged by the end of the interval that is worse for the release. What an attacker
may still reach must stay below the limit; what is meant to survive must reach it for certain. A
figure that is absent, or that was refused, meets nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from veil.errors import VeilError, nearest
from veil.records import Audit, Record
from veil.report import view, words

if TYPE_CHECKING:
    from rich.console import Console

Quantity = Literal["leakage", "utility", "certified"]
PREFIXES: Final[dict[str, Quantity]] = {"utility:": "utility", "certified:": "certified"}
ALL_MET, NOT_MET, REFUSED = 0, 1, 3
# The name is lazy and the limit holds no sign of comparison: read from the right, the last run of
# such signs is the relation, and a name may hold others ("s where g=1").
FORM = re.compile(r"(?P<name>.*?)\s*(?P<relation>[<>=≤≥]+)\s*(?P<limit>[^<>=≤≥]*)", re.DOTALL)
EXAMPLES = "'Male <= 0.60' or 'utility:Smiling >= 0.85'"


@dataclass(frozen=True)
class Requirement:
    """One condition that an audit must meet.

    Attributes:
        target: name of a label, or of what else was audited ("s where g=1", "Male+Young").
        quantity: "leakage" and "certified" must not exceed the limit; "utility" must reach it.
        limit: in [0, 1], in the metric of the target's worst record.
        text: as it was written.
    """

    target: str
    quantity: Quantity
    limit: float
    text: str

    @property
    def relation(self) -> Literal["<=", ">="]:
        """How the figure must stand to the limit."""
        return ">=" if self.quantity == "utility" else "<="


@dataclass(frozen=True)
class Outcome:
    """Whether an audit meets a requirement, and a sentence that says why."""

    requirement: Requirement
    met: bool
    sentence: str


def parse(text: str) -> Requirement:
    """Read "NAME <= LIMIT", "utility:NAME >= LIMIT" or "certified:NAME <= LIMIT".

    Raises:
        VeilError: it is none of these; the message says how to mend it.
    """
    text = text.strip()
    form = FORM.fullmatch(text)
    if form is None:
        raise VeilError(f"'{text}' is no requirement: write {EXAMPLES}")
    name, relation = form["name"].strip(), form["relation"]
    if relation not in ("<=", ">="):
        raise VeilError(f"'{text}': '{relation}' is not a relation; write <= or >=, as {EXAMPLES}")
    limit = _limit(form["limit"], text)
    prefix = next((prefix for prefix in PREFIXES if name.startswith(prefix)), "")
    quantity = PREFIXES.get(prefix, "leakage")
    target = name.removeprefix(prefix).strip()
    if not target:
        raise VeilError(f"'{text}' names no target: write {EXAMPLES}")
    wanted = Requirement(target, quantity, limit, text)
    if relation == wanted.relation:
        return wanted
    if quantity == "utility":
        raise VeilError(
            f"'{text}': what should survive has no upper limit; write 'utility:{target} >= "
            f"{limit:g}', or '{target} <= {limit:g}' for what should not leak"
        )
    raise VeilError(
        f"'{text}': leakage has no lower limit; write '{prefix}{target} <= {limit:g}', "
        f"or 'utility:{target} >= {limit:g}' for what should survive"
    )


def _limit(written: str, text: str) -> float:
    if not written:
        raise VeilError(f"'{text}' gives no limit: write {EXAMPLES}")
    share = re.fullmatch(r"(\d+(?:\.\d*)?)\s*%", written)
    if share is not None:
        fraction = f"{float(share[1]) / 100:g}"
        as_number = fraction if len(fraction) > 3 else f"{float(fraction):.2f}"
        raise VeilError(f"'{text}': limits are fractions, not percentages: write {as_number}")
    # Not float() alone: it also reads "nan", "1_0" and the digits of other scripts.
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", written, re.IGNORECASE):
        raise VeilError(f"'{text}': '{written}' is not a number; write it as 0.60")
    limit = float(written)
    if not 0 <= limit <= 1:
        raise VeilError(f"'{text}': the limit {written} is outside 0 to 1; write it as 0.60")
    return limit


def check_names(
    requirements: Sequence[Requirement], private: Collection[str], utility: Collection[str]
) -> None:
    """Refuse a requirement on what will not be audited, before any attack is made.

    Args:
        requirements: what is required.
        private: names of the targets that will be attacked.
        utility: names of the labels whose survival will be measured.

    Raises:
        VeilError: a target is not among them; the message has the nearest spelling, or says that
            a useful name lacks "utility:" (or that a private one has it).
    """
    for wanted in requirements:
        useful = wanted.quantity == "utility"
        measured, others = (utility, private) if useful else (private, utility)
        if wanted.target in measured:
            continue
        if wanted.target in others:
            right, written = (
                ("private", f"{wanted.target} <= 0.60")
                if useful
                else ("useful", f"utility:{wanted.target} >= 0.85")
            )
            raise VeilError(
                f"'{wanted.text}': '{wanted.target}' is {right} in this audit: "
                f"write such as '{written}'"
            )
        what = "no useful label" if useful else "no private target"
        raise VeilError(
            f"'{wanted.text}': {what} '{wanted.target}' is audited: "
            f"{nearest(wanted.target, measured)}"
        )


def outcomes(audit: Audit, requirements: Sequence[Requirement]) -> tuple[Outcome, ...]:
    """Judge the requirements, in order, by the records in `audit.targets`.

    Leakage: met when the upper end of the worst attacker's interval does not exceed the limit,
    nor the floor, which leaks whatever the release does. Utility: met when the lower end of the
    best head's interval (own or fresh, chosen on `select`) reaches the limit. Certified: met when
    a bound was proved and does not exceed the limit. A refused audit meets nothing.
    """
    return tuple(_outcome(audit, wanted) for wanted in requirements)


def exit_status(audit: Audit, found: Sequence[Outcome]) -> int:
    """3 when the audit was refused, else 1 when a requirement is not met, else 0."""
    if audit.verdict == "refused":
        return REFUSED
    return ALL_MET if all(outcome.met for outcome in found) else NOT_MET


def print_outcomes(found: Sequence[Outcome], console: Console) -> None:
    """Print one line for each requirement; "NOT MET" is legible without colour."""
    from rich.text import Text

    from veil.report.terminal import WIDTH

    for outcome in found:
        mark, style = ("met", "green") if outcome.met else ("NOT MET", "bold red")
        line = Text.assemble((f"{mark:<7}", style), f"  {outcome.sentence}")
        console.print(line, width=min(WIDTH, console.width))


def _outcome(audit: Audit, wanted: Requirement) -> Outcome:
    summary = audit.targets.get(wanted.target)
    if audit.verdict == "refused":
        met, why = False, "no verdict was given"
    elif summary is None or (summary.kind == "utility") != (wanted.quantity == "utility"):
        met, why = False, "it was not audited"
    elif wanted.quantity == "certified":
        met, why = _certified(summary.worst, wanted.limit)
    elif wanted.quantity == "utility":
        met, why = _utility(summary.worst, wanted.limit)
    else:
        met, why = _leakage(audit, summary.worst, wanted.limit)
    return Outcome(wanted, met, f"{wanted.text}: {why}")


def _leakage(audit: Audit, worst: Record, limit: float) -> tuple[bool, str]:
    if worst.interval is None:
        return False, "the worst attacker's score has no interval"
    high = worst.interval[1]
    if worst.floor is not None and worst.floor > limit:
        return False, f"cannot be met: the floor is {_apart(worst.floor, limit)}"
    whose = f"{worst.attack} (suite '{view.suite(audit)}', n={worst.n:,})"
    end = f"{_apart(high, limit)} {words.metric(worst.metric)}"
    return high <= limit, f"the interval of {whose} ends at {end}{_doubts(worst)}"


def _utility(best: Record, limit: float) -> tuple[bool, str]:
    if best.interval is None:
        return False, "the best head's score has no interval"
    low = best.interval[0]
    start = f"{_apart(low, limit)} {words.metric(best.metric)}"
    whose = f"{best.attack} (n={best.n:,})"
    return low >= limit, f"the interval of {whose} begins at {start}{_doubts(best)}"


def _certified(worst: Record, limit: float) -> tuple[bool, str]:
    if worst.certified is None:
        return False, "nothing is certified"
    condition = "" if worst.assumption is None else f" if {worst.assumption}"
    return (
        worst.certified <= limit,
        f"certified at most {_apart(worst.certified, limit)}{condition}",
    )


def _doubts(record: Record) -> str:
    ids = dict.fromkeys(doubt.id for doubt in record.doubts)
    return f"; doubts: {', '.join(ids)}" if ids else ""


def _apart(value: float, limit: float) -> str:
    """Three decimals, or as many as show on which side of the limit a value lies."""
    shown = (words.figure(value, digits) for digits in range(3, 17))
    return next((text for text in shown if value == limit or float(text) != limit), repr(value))
