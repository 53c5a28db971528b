"""What a report looks up in an audit: targets, worst attackers, floors, ceilings and heads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from veil.records import Audit, Doubt, Record

FLOOR = "floor"
CEILING = "ceiling"
OWN_HEAD = "own head"
BASELINE = "Original"
DROPPED = "~"  # before the name of an attacker that did not run in full
OF_DRAWS = re.compile(r", mean( and deviation)? of \d+ draws$")


def attacked(audits: Sequence[Audit]) -> list[str]:
    """Names of the targets whose score is leakage, in order of first appearance.

    Parts of other targets (see `wholes`) are left out.
    """
    part = {name for audit in audits for name in audit.targets if wholes(audit, name)}
    return [name for name in _targets(audits, utility=False) if name not in part]


def wholes(audit: Audit, target: str) -> tuple[str, ...]:
    """The private targets of which this is a part; none where it stands for itself.

    One for a subgroup ("Male where Young=no"), two for a combination ("Male+Young").
    """
    names = [name for name in _targets([audit], utility=False) if name != target]
    if target in useful([audit]):
        return ()
    for name in names:
        if target.startswith(f"{name} where "):
            return (name,)
    pairs = ((a, b) for a, b in permutations(names, 2) if target == f"{a}+{b}")
    return next(pairs, ())


def subgroups(audit: Audit, target: str) -> list[str]:
    """Names of the parts of `target` by subgroup, in the order of the audit."""
    return [name for name in audit.targets if wholes(audit, name) == (target,)]


def combinations(audit: Audit) -> list[str]:
    """Names of the targets that are two others at once, in the order of the audit."""
    return [name for name in audit.targets if len(wholes(audit, name)) == 2]


def useful(audits: Sequence[Audit]) -> list[str]:
    """Names of the targets that were meant to survive, in order of first appearance."""
    return _targets(audits, utility=True)


def _targets(audits: Sequence[Audit], utility: bool) -> list[str]:
    names = (
        name
        for audit in audits
        for name, summary in audit.targets.items()
        if (summary.kind == "utility") == utility
    )
    return list(dict.fromkeys(names))


def worst(audit: Audit, target: str) -> Record | None:
    """The record the verdict rests on (of a useful target: its best head), or None."""
    summary = audit.targets.get(target)
    return None if summary is None else summary.worst


def is_worst(audit: Audit, record: Record) -> bool:
    """Whether `record` is the one the verdict on its target rests on."""
    chosen = worst(audit, record.target)
    return chosen is not None and (chosen.attack, chosen.family) == (record.attack, record.family)


def attackers(audit: Audit, target: str) -> list[Record]:
    """Attackers (or heads) of `target`, the worst first, then by their score on select.

    Those that the search dropped come last. A summary whose record is not listed apart still
    comes first.
    """
    rows = [r for r in _rows(audit, target) if r.family not in (FLOOR, CEILING)]
    chosen = worst(audit, target)
    if chosen is not None and not any(is_worst(audit, row) for row in rows):
        rows.append(chosen)
    return sorted(
        rows, key=lambda r: (is_worst(audit, r), dropped(r) is None, _rank(r)), reverse=True
    )


def yardsticks(audit: Audit, target: str, family: str) -> list[Record]:
    """The floors (`family` FLOOR) or ceilings (CEILING) of `target`, lowest first.

    One without a score counts where other figures are known ("the originals" of a reconstruction).
    Their names are without draws, on which neither depends.
    """
    rows = [
        record.model_copy(update={"attack": OF_DRAWS.sub("", record.attack)})
        for record in _rows(audit, target)
        if record.family == family and (record.score is not None or record.scores)
    ]
    return sorted(rows, key=lambda r: r.score or 0.0)


def _rows(audit: Audit, target: str) -> list[Record]:
    summary = audit.targets.get(target)
    utility = summary is not None and summary.kind == "utility"
    return [r for r in audit.records if r.target == target and (r.kind == "utility") == utility]


def dropped(record: Record) -> str | None:
    """When the search dropped this attacker; None where it ran in full."""
    when = record.config.get("dropped")
    return when if isinstance(when, str) else None


def dropped_note(records: Sequence[Record]) -> str | None:
    """What the mark of dropped attackers means; None where none of these was."""
    when = {found for record in records if (found := dropped(record)) is not None}
    if not when:
        return None
    how = when.pop() if len(when) == 1 else "on select, after a part of its releases and time"
    return f"{DROPPED} dropped {how}: its figures are of that part"


def by_draws(audit: Audit, target: str) -> list[tuple[int, Record]]:
    """(draws averaged, record) of the worst attacker, fewest first; empty unless there are two."""
    chosen = worst(audit, target)
    if chosen is None:
        return []
    attack = OF_DRAWS.sub("", chosen.attack)
    found: dict[int, Record] = {}
    for record in attackers(audit, target):
        draws = record.config.get("draws")
        if isinstance(draws, int) and record.attack in (attack, f"{attack}, mean of {draws} draws"):
            found.setdefault(draws, record)
    return sorted(found.items()) if len(found) > 1 else []


def scan(audit: Audit) -> tuple[list[Record], list[Record]]:
    """The labels nobody declared: those whose interval lies above the floor, and all others."""
    leaking = [r for r in audit.scan if r.floor is not None and not reaches_floor(r)]
    return leaking, [r for r in audit.scan if r not in leaking]


def scan_level(audit: Audit) -> float | None:
    """The level of each interval of the scan, so that all of them hold at once; None if unknown."""
    level = audit.scan[0].config.get("level") if audit.scan else None
    return level if isinstance(level, float) else None


def _rank(record: Record) -> float:
    return -1.0 if record.select is None else record.select


def own_head(audit: Audit, target: str) -> Record | None:
    """The head that was trained with the defence."""
    heads = [r for r in attackers(audit, target) if OWN_HEAD in (r.family, r.attack)]
    return heads[0] if heads else None


def fresh_head(audit: Audit, target: str) -> Record | None:
    """The best (on select) head that was trained anew on the releases, and in full."""
    heads = [r for r in attackers(audit, target) if OWN_HEAD not in (r.family, r.attack)]
    return max(heads, key=lambda r: (dropped(r) is None, _rank(r))) if heads else None


def reported(audit: Audit, target: str) -> float | None:
    """The paper's own figure for `target`: the worst record's, else any other record's."""
    chosen = worst(audit, target)
    rows = ([] if chosen is None else [chosen]) + _rows(audit, target)
    return next((r.reported for r in rows if r.reported is not None), None)


def reaches_floor(record: Record) -> bool:
    """Whether the score cannot be told from the floor: its interval begins at or below it."""
    if record.floor is None or record.score is None:
        return False
    lowest = record.score if record.interval is None else record.interval[0]
    return lowest <= record.floor


def below(record: Record, other: Record) -> bool:
    """Whether `record` lies below `other` by more than both intervals."""
    if record.score is None or other.score is None:
        return False
    highest = record.score if record.interval is None else record.interval[1]
    lowest = other.score if other.interval is None else other.interval[0]
    return highest < lowest


def baseline(audits: Sequence[Audit]) -> Audit | None:
    """The undefended run among several: the one whose name begins with "Original"."""
    return next((a for a in audits if a.name.casefold().startswith(BASELINE.casefold())), None)


def verdict_doubts(audit: Audit) -> list[Doubt]:
    """The doubts on the records that the verdict rests on, each id once."""
    found = {d.id: d for summary in audit.targets.values() for d in summary.worst.doubts}
    return list(found.values())


def suite(audit: Audit) -> str:
    """The name of the suite that attacked, as provenance gives it."""
    given = audit.provenance.get("suite")
    name = given.get("name") if isinstance(given, dict) else given
    return name if isinstance(name, str) else "unnamed"


def short_names(names: Sequence[str]) -> list[str]:
    """Run names without the last words that all share ("AIA on celeba" -> "AIA").

    Equal names are numbered.
    """
    words = [name.split() or ["unnamed"] for name in names]
    if len(words) > 1:
        while all(len(w) > 1 for w in words) and len({w[-1] for w in words}) == 1:
            words = [w[:-1] for w in words]
    short = [" ".join(w) for w in words]
    return [
        name if short.count(name) == 1 else f"{name} ({short[: i + 1].count(name)})"
        for i, name in enumerate(short)
    ]


@dataclass(frozen=True)
class Scale:
    """The ends of the small interval bars of one target, the same for every run."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where `value` lies between the ends, from 0 to 1."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


def scale(audits: Sequence[Audit], target: str) -> Scale:
    """A scale that holds every score, interval, floor and ceiling of `target`."""
    return scale_of([r for audit in audits for r in audit.records if r.target == target])


def scale_of(records: Sequence[Record]) -> Scale:
    """A scale that holds every score, interval, floor and ceiling of these records."""
    values: list[float | None] = []
    for record in records:
        values += [record.score, record.floor, record.ceiling, *(record.interval or ())]
    known = [value for value in values if value is not None] or [0.0, 1.0]
    margin = max(0.04 * (max(known) - min(known)), 0.005)
    return Scale(min(known) - margin, max(known) + margin)
