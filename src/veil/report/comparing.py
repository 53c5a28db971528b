"""Several audits in one sentence, each beside the undefended run where there is one."""

from __future__ import annotations

from collections.abc import Sequence

from veil.records import Audit, Record
from veil.report import view
from veil.report.words import figure, listed, metric


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
    return listed(said) if said else "measured nothing"


def _worst(audit: Audit | None, target: str) -> Record | None:
    return None if audit is None else view.worst(audit, target)


def _kept_beside(record: Record, base: Record | None) -> str:
    if record.score is None:
        return f"has no figure for {record.target}"
    score = figure(record.score, 2)
    reference = _reference(record, base)
    if view.reaches_floor(record):
        return f"keeps nothing measurable of {record.target} ({score}; {reference})"
    only = "only " if base is not None and view.below(record, base) else ""
    return f"keeps {record.target} {only}at {score} ({reference})"


def _leaked_beside(record: Record, base: Record | None) -> str:
    if record.score is None:
        return f"has no figure for {record.target}"
    unit = f" {metric(record.metric)}" if record.metric in ("r2", "ssim") else ""
    score = f"{figure(record.score, 2)}{unit}"
    reference = _reference(record, base)
    if view.reaches_floor(record):
        return f"is not broken on {record.target} ({score}; {reference})"
    if record.kind == "reconstruction":
        leaks = f"lets pictures be rebuilt at {score} at least"
    else:
        leaks = f"leaks {record.target} at least {score}"
    if base is None or view.below(record, base):
        return f"{leaks} ({reference})"
    if view.below(base, record):
        return f"{leaks}, more than {view.BASELINE} ({figure(base.score, 2)})"
    return f"{leaks}, not measurably less than {view.BASELINE} ({figure(base.score, 2)})"


def _reference(record: Record, base: Record | None) -> str:
    if base is not None and base.score is not None:
        return f"{view.BASELINE} {figure(base.score, 2)}"
    if record.kind == "reconstruction":
        return f"mean face {figure(record.floor, 2)}"
    return "no ceiling" if record.ceiling is None else f"ceiling {figure(record.ceiling, 2)}"
