"""What the tables of the HTML page show of one audit, as data for its templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from veil.records import Audit, Record
from veil.report import view, words
from veil.report.columns import columns

MOST_ATTACKERS = 12
WIDEST = 12  # columns of targets side by side: six of what leaks, three of what is kept


def summary(audits: Sequence[Audit]) -> dict[str, Any]:
    """The first table: every run's figures, targets side by side or, if many, one below another."""
    leaked, kept = view.attacked(audits), view.useful(audits)
    worst = [view.worst(audit, target) for audit in audits for target in leaked]
    known = [record for record in worst if record is not None]
    return {
        "leaked": leaked,
        "kept": kept,
        "wide": 6 * len(leaked) + 3 * len(kept) <= WIDEST,
        "certified": any(record.certified is not None for record in known),
        "metrics": {
            target: next((r.metric for r in known if r.target == target), "") for target in leaked
        },
        "rebuilt": any(record.kind == "reconstruction" for record in known),
    }


def attackers(audit: Audit, target: str, scale: view.Scale) -> dict[str, Any]:
    """Every attacker (or head) of one target, with its yardsticks below."""
    rows = view.attackers(audit, target)
    worst = audit.targets[target].worst
    shown = columns(rows)
    return {
        "target": target,
        "kind": worst.kind,
        "title": title(worst),
        "columns": shown,
        "bits": worst.kind not in ("utility", "identity", "reconstruction"),
        "doubted": any(row.doubts for row in rows),
        "rows": rows[:MOST_ATTACKERS],
        "more": rows[MOST_ATTACKERS:],
        "yardsticks": [
            record
            for family in (view.FLOOR, view.CEILING)
            for record in view.yardsticks(audit, target, family)
        ],
        "dropped": view.dropped_note(rows),
        "draws": view.by_draws(audit, target),
        "others": _others(worst, shown),
        "scale": scale,
    }


def title(record: Record) -> str:
    """The heading of a target's table."""
    if record.kind == "reconstruction":
        return f"Pictures rebuilt: {words.metric(record.metric)}"
    how = "kept" if record.kind == "utility" else "leaked"
    return f"{record.target}, {how}: {words.metric(record.metric)}"


def parts(audit: Audit) -> list[dict[str, Any]]:
    """Targets by subgroup, each below its whole, and those that are two others at once."""
    found = []
    for whole in view.attacked([audit]):
        names = view.subgroups(audit, whole)
        if names:
            found.append(_parts(audit, f"{whole} by subgroup", names, whole))
    names = view.combinations(audit)
    if names:
        found.append(_parts(audit, "Several at once", names, None))
    return found


def _parts(audit: Audit, heading: str, names: list[str], whole: str | None) -> dict[str, Any]:
    records = [audit.targets[name].worst for name in names]
    beside = None if whole is None else audit.targets[whole].worst
    return {
        "title": heading,
        "whole": beside,
        "rows": [(record, beside is not None and view.below(beside, record)) for record in records],
        "scale": view.scale_of([*records, *([beside] if beside else [])]),
        "tables": [attackers(audit, name, view.scale([audit], name)) for name in names],
    }


def scan(audit: Audit) -> dict[str, Any] | None:
    """The labels that nobody declared; None where none was scanned."""
    leaking, others = view.scan(audit)
    if not leaking and not others:
        return None
    return {
        "leaking": leaking,
        "others": others,
        "count": len(leaking) + len(others),
        "scale": view.scale_of(audit.scan),
        "level": view.scan_level(audit),
    }


def _others(record: Record, shown: Sequence[str]) -> list[tuple[str, str]]:
    """(name, text) of the figures that have no column; the ends of an interval are put together."""
    rows = []
    for name, value in record.scores.items():
        stem, _, end = name.rpartition("_")
        if name in shown or (end == "high" and f"{stem}_low" in record.scores):
            continue
        high = record.scores.get(f"{stem}_high")
        if end == "low" and value is not None and high is not None:
            rows.append((f"{words.metric(stem)}, 95 % interval", words.interval((value, high))))
        elif name == "p_above_floor" and value is not None and value < 0.001:
            rows.append((words.metric(name), "below 0.001"))
        elif name == "equivalent_within" and value is not None:
            rows.append((words.metric(name), words.at_most(value)))
        else:
            rows.append((words.metric(name), words.score(value, name)))
    return rows
