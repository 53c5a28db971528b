"""Numbers and sentences: what may be said about an audit, and how.

A score is what one suite of attackers reached, so it bounds leakage from below: "leaks at least X
to suite S". An interval that reaches the floor is "not broken by suite S", which is a statement
about the suite. Nothing here says more than that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from veil.records import Audit, Record
from veil.report import view

DASH = "–"
METRICS = {
    "auc": "AUC",
    "mcc": "MCC",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "psnr": "PSNR",
    "r2": "R²",
}


def figure(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals; an en dash where there is none."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def interval(bounds: tuple[float, float] | None, digits: int = 3) -> str:
    """A 95 % interval ("0.75–0.81"); an en dash where there is none."""
    return DASH if bounds is None else DASH.join(figure(bound, digits) for bound in bounds)


def metric(name: str) -> str:
    """A metric's name in prose ("balanced_accuracy" -> "balanced accuracy")."""
    if name.startswith("tpr_at_fpr_"):
        return f"TPR@{name.removeprefix('tpr_at_fpr_')}"
    return METRICS.get(name, name.replace("_", " "))


def capitalized(text: str) -> str:
    """`text` with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def verdict(audit: Audit) -> str:
    """The verdict in one sentence, with the ids of the doubts on it."""
    doubts = [] if audit.verdict == "refused" else view.verdict_doubts(audit)
    ids = f"; doubts: {', '.join(doubt.id for doubt in doubts)}" if doubts else ""
    return f"{claim(audit)[:-1]}{ids}."


def claim(audit: Audit) -> str:
    """The verdict in one sentence, without its doubts."""
    if audit.verdict == "refused":
        why = "; ".join(refusal.text.rstrip(". ") for refusal in audit.refusals)
        return f"Refused: {why or 'no reason was recorded'}."
    clauses = [_leakage(audit, audit.targets[name].worst) for name in view.attacked([audit])]
    clauses = clauses or ["no target was attacked"]
    clauses += [_utility(audit.targets[name].worst) for name in view.useful([audit])]
    return f"{capitalized('; '.join(clauses))}."


def _leakage(audit: Audit, record: Record) -> str:
    suite = f"suite '{view.suite(audit)}'"
    if record.score is None:
        return f"no figure for {record.target} by {suite}"
    digits = _digits(record)
    score = f"{figure(record.score, digits)} {metric(record.metric)} ({_support(record, digits)})"
    bounds = ", ".join(
        f"{name} {figure(value, digits)}" if value is not None else f"no {name} measured"
        for name, value in (("floor", record.floor), ("ceiling", record.ceiling))
    )
    if record.certified is not None:
        bounds += f", certified at most {figure(record.certified, digits)}"
        if isinstance(assumption := record.config.get("assumption"), str):
            bounds += f" under {assumption}"
    if view.reaches_floor(record):
        return f"not broken on {record.target} by {suite}: worst attacker {score}, {bounds}"
    return f"leaks {record.target} at least {score} to {suite}, {bounds}"


def _utility(record: Record) -> str:
    if record.score is None:
        return f"no figure for what it keeps of {record.target}"
    score = f"{figure(record.score, 2)} {metric(record.metric)} ({_support(record, 2)})"
    clean = "" if record.ceiling is None else f", original images {figure(record.ceiling, 2)}"
    if view.reaches_floor(record):
        floor = figure(record.floor, 2)
        return f"keeps nothing measurable of {record.target}: {score}, floor {floor}{clean}"
    return f"keeps {record.target} at {score}{clean}"


def _support(record: Record, digits: int) -> str:
    known = record.interval is not None
    bounds = f"95 % interval {interval(record.interval, digits)}" if known else "no interval"
    return f"{bounds}, n={record.n:,}"


def _digits(record: Record) -> int:
    """Two decimals, or three where two would print the interval's end equal to the floor."""
    if record.interval is None or record.floor is None:
        return 2
    return 3 if figure(record.interval[0], 2) == figure(record.floor, 2) else 2


def comparison(audits: Sequence[Audit]) -> str:
    """Several runs in one sentence, each beside the undefended run where there is one."""
    clauses = [f"{name} {said}" for name, said in comparison_clauses(audits)]
    return f"{'; '.join(clauses)}." if clauses else "Nothing to compare."


def comparison_clauses(audits: Sequence[Audit]) -> list[tuple[str, str]]:
    """(run, what it keeps and leaks) for every run but the undefended one."""
    found = view.baseline(audits)
    base = None if found is None or found.verdict == "refused" else found
    names = view.short_names([audit.name for audit in audits])
    return [
        (name, _beside(audit, base))
        for name, audit in zip(names, audits, strict=True)
        if audit is not base
    ]


def _beside(audit: Audit, base: Audit | None) -> str:
    if audit.verdict == "refused":
        return f"was refused ({'; '.join(r.id for r in audit.refusals) or 'no reason recorded'})"
    said = []
    for target in view.useful([audit]):
        said.append(_kept_beside(audit.targets[target].worst, _worst(base, target)))
    for target in view.attacked([audit]):
        said.append(_leaked_beside(audit.targets[target].worst, _worst(base, target)))
    if not said:
        return "measured nothing"
    return " and ".join([", ".join(said[:-1]), said[-1]] if len(said) > 1 else said)


def _worst(audit: Audit | None, target: str) -> Record | None:
    return None if audit is None else view.worst(audit, target)


def _kept_beside(record: Record, base: Record | None) -> str:
    if record.score is None:
        return f"has no figure for {record.target}"
    score = figure(record.score, 2)
    reference = _reference(record, base)
    if view.reaches_floor(record):
        return f"keeps nothing measurable of {record.target} ({score}; {reference})"
    only = "only " if base is not None and _below(record, base) else ""
    return f"keeps {record.target} {only}at {score} ({reference})"


def _leaked_beside(record: Record, base: Record | None) -> str:
    if record.score is None:
        return f"has no figure for {record.target}"
    score = figure(record.score, 2)
    reference = _reference(record, base)
    if view.reaches_floor(record):
        return f"is not broken on {record.target} ({score}; {reference})"
    leaks = f"leaks {record.target} at least {score}"
    if base is None or _below(record, base):
        return f"{leaks} ({reference})"
    if _below(base, record):
        return f"{leaks}, more than {view.BASELINE} ({figure(base.score, 2)})"
    return f"{leaks}, not measurably less than {view.BASELINE} ({figure(base.score, 2)})"


def _reference(record: Record, base: Record | None) -> str:
    if base is not None and base.score is not None:
        return f"{view.BASELINE} {figure(base.score, 2)}"
    return "no ceiling" if record.ceiling is None else f"ceiling {figure(record.ceiling, 2)}"


def _below(record: Record, other: Record) -> bool:
    """Whether `record` lies below `other` by more than both intervals."""
    if record.score is None or other.score is None:
        return False
    highest = record.score if record.interval is None else record.interval[1]
    lowest = other.score if other.interval is None else other.interval[0]
    return highest < lowest
