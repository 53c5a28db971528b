"""The verdict: what may be said about an audit, and how.

A score is what one suite of attackers reached, so it bounds leakage from below: "leaks at least X
to suite S". An interval that reaches the floor is "not broken by suite S", which is a statement
about the suite. A bound from above is "certified", and never stands without its assumption.
Nothing here says more than that.
"""

from __future__ import annotations

from veil.records import Audit, Certificate, Record
from veil.report import view
from veil.report.words import READ_BACK, at_most, capitalized, figure, interval, listed, metric

MOST_CLAUSES = 3  # of one sentence that stands alone on a page
MOST_NAMED = 3  # parts, combinations or labels that one clause names
GUESSED_EER = 0.5


def verdict(audit: Audit) -> str:
    """The verdict in one sentence, with what its certificates assume and the ids of its doubts."""
    said = claim(audit)[:-1]
    if audit.verdict == "refused":
        return f"{said}."
    bounds = [s.worst for s in audit.targets.values() if s.worst.certified is not None]
    assumptions = [a for r in bounds if (a := r.assumption) and a not in said]
    for assumption in dict.fromkeys(assumptions):
        said += f"; certified if {assumption}"
    doubts = view.verdict_doubts(audit)
    ids = f"; doubts: {', '.join(doubt.id for doubt in doubts)}" if doubts else ""
    return f"{said}{ids}."


def claim(audit: Audit) -> str:
    """The verdict in one sentence, without its doubts and the assumptions of its certificates."""
    if audit.verdict == "refused":
        why = "; ".join(refusal.text.rstrip(". ") for refusal in audit.refusals)
        return f"Refused: {why or 'no reason was recorded'}."
    return f"{capitalized('; '.join(_clauses(audit)))}."


def sentences(audit: Audit) -> list[str]:
    """The same as `claim`; where that would be hard to read, a sentence for each of its clauses."""
    clauses = [] if audit.verdict == "refused" else _clauses(audit)
    if len(clauses) <= MOST_CLAUSES:
        return [claim(audit)]
    return [f"{capitalized(clause)}." for clause in clauses]


def _clauses(audit: Audit) -> list[str]:
    """What leaks, then what survives, then what leaks of several labels or undeclared ones."""
    clauses = [_attacked(audit, name) for name in view.attacked([audit])]
    clauses = clauses or ["no target was attacked"]
    clauses += [_utility(audit.targets[name].worst) for name in view.useful([audit])]
    return clauses + [said for said in (_combined(audit), _scanned(audit)) if said]


def certificates(audit: Audit) -> list[str]:
    """A sentence for each certificate, with all that must hold for it; none when refused."""
    return [] if audit.verdict == "refused" else [_certified(c) for c in audit.certificates]


def _certified(certificate: Certificate) -> str:
    if certificate.kind == "none":
        return f"Nothing is certified: {certificate.assumption}."
    of = "any binary label" if certificate.target is None else certificate.target
    if certificate.bound is None:
        return f"{capitalized(certificate.kind)} of {of}: {certificate.assumption}."
    who = "whoever attacks" if certificate.attackers == "all" else "by linear attackers"
    said = f"Certified at most {at_most(certificate.bound)} on {of}, {who}"
    said += f", if {certificate.assumption}"
    if certificate.epsilon is not None:
        delta = "" if certificate.delta is None else f", δ = {certificate.delta:g}"
        said += f"; differential privacy of one image: ε = {at_most(certificate.epsilon, 2)}{delta}"
    return f"{said}."


def _attacked(audit: Audit, target: str) -> str:
    record = audit.targets[target].worst
    if record.kind == "reconstruction":
        return _rebuilt(audit, record)
    return _leakage(audit, record) + _by_subgroup(audit, record)


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
        bounds += f", certified at most {at_most(record.certified)}"
        if record.assumption is not None and not audit.certificates:
            bounds += f" if {record.assumption}"
    if view.reaches_floor(record):
        within = _equivalence(record)
        return f"not broken on {record.target} by {suite}: worst attacker {score}{within}, {bounds}"
    return f"leaks {record.target} at least {score} to {suite}, {bounds}"


def _equivalence(record: Record) -> str:
    margin = record.scores.get("equivalent_within")
    if margin is None:
        return ""
    return f", within {at_most(margin, 2)} of the floor (equivalence test at 5 %)"


def _by_subgroup(audit: Audit, whole: Record) -> str:
    """Where a label leaks more than in general; one clause where that is nowhere."""
    parts = [audit.targets[name].worst for name in view.subgroups(audit, whole.target)]
    parts = [part for part in parts if part.score is not None]
    if not parts:
        return ""
    of = f"{len(parts)} subgroup{'s' if len(parts) > 1 else ''}"
    if view.reaches_floor(whole):
        found = [p for p in parts if p.floor is not None and not view.reaches_floor(p)]
        count = f"{len(found)} of {of}"
        return (
            f", but above the floor in {count}: {_where(whole, found)}"
            if found
            else (f", nor in any of {of}")
        )
    found = [part for part in parts if view.below(whole, part)]
    return (
        f", and more {_where(whole, found)}" if found else f", not measurably more in any of {of}"
    )


def _where(whole: Record, parts: list[Record]) -> str:
    """ "where Young=no: at least 0.85 (95 % interval 0.81–0.88, n=400)", the worst first."""
    parts = sorted(parts, key=lambda part: -(part.score or 0.0))
    said = [
        f"{part.target.removeprefix(f'{whole.target} ')}: at least {figure(part.score, 2)} "
        f"({_support(part, 2)})"
        for part in parts[:MOST_NAMED]
    ]
    more = len(parts) - MOST_NAMED
    return listed([*said, f"in {more} more subgroups"] if more > 0 else said)


def _combined(audit: Audit) -> str:
    """What leaks of several private labels at once, in one clause."""
    parts = [audit.targets[name].worst for name in view.combinations(audit)]
    parts = [part for part in parts if part.score is not None]
    if not parts:
        return ""
    leaking = [part for part in parts if not view.reaches_floor(part)]
    suite = f"suite '{view.suite(audit)}'"
    if not leaking:
        return f"not broken on {listed([part.target for part in parts])} together by {suite}"
    named = [
        f"{part.target} at least {figure(part.score, 2)} {metric(part.metric)} "
        f"({_support(part, 2)}; floor {figure(part.floor, 2)})"
        for part in leaking[:MOST_NAMED]
    ]
    more = len(leaking) - MOST_NAMED
    said = listed([*named, f"{more} more"] if more > 0 else named)
    return f"leaks to {suite}, of several labels together, {said}"


def _scanned(audit: Audit) -> str:
    """What a scan of the labels that nobody declared finds, in one clause."""
    leaking, others = view.scan(audit)
    count = len(leaking) + len(others)
    if not count:
        return ""
    of = f"{count} label{'s' if count > 1 else ''} that nobody declared"
    if not leaking:
        return f"a scan finds none of {of} above its floor"
    most = leaking[0]
    return (
        f"a scan finds {len(leaking)} of {of} above the floor, most of all {most.target} at least "
        f"{figure(most.score, 2)} (floor {figure(most.floor, 2)})"
    )


def _rebuilt(audit: Audit, record: Record) -> str:
    """How like the originals rebuilt pictures are, and what they still tell."""
    suite = f"suite '{view.suite(audit)}'"
    if record.score is None:
        return f"no figure for rebuilt pictures by {suite}"
    score = f"{metric(record.metric)} {figure(record.score, 2)}"
    floor = "" if record.floor is None else f"; mean face {figure(record.floor, 2)}"
    beside = f"({_support(record, 2)}{floor})"
    if view.reaches_floor(record):
        said = f"pictures are rebuilt no better than by the mean face by {suite}: {score} {beside}"
    else:
        said = f"pictures are rebuilt at {score} at least by {suite} {beside}"
    told = [clause for clause in (_recognised(audit, record), _read_back(audit, record)) if clause]
    return f"{said}; rebuilt faces {' and '.join(told)}" if told else said


def _recognised(audit: Audit, record: Record) -> str:
    rate = record.scores.get("eer")
    if rate is None:
        return ""
    clean = _of_yardstick(audit, view.CEILING, "eer")
    beside = "" if clean is None else f", originals {figure(clean, 2)}"
    return (
        f"are recognised at EER {figure(rate, 2)} (impostor floor {figure(GUESSED_EER, 2)}{beside})"
    )


def _read_back(audit: Audit, record: Record) -> str:
    said = []
    for key, value in record.scores.items():
        if not key.startswith(READ_BACK) or value is None:
            continue
        known = (
            ("mean face", _of_yardstick(audit, view.FLOOR, key)),
            ("originals", _of_yardstick(audit, view.CEILING, key)),
        )
        beside = ", ".join(f"{name} {figure(v, 2)}" for name, v in known if v is not None)
        beside = f" ({beside})" if beside else ""
        said.append(f"{key.removeprefix(READ_BACK)} back at {figure(value, 2)}{beside}")
    more = len(said) - MOST_NAMED
    named = [*said[:MOST_NAMED], f"{more} more labels"] if more > 0 else said
    return f"give {listed(named)}" if said else ""


def _of_yardstick(audit: Audit, family: str, key: str) -> float | None:
    """A figure of the mean face (FLOOR) or of the originals (CEILING)."""
    for target in view.attacked([audit]):
        if audit.targets[target].kind == "reconstruction":
            found = (r.scores.get(key) for r in view.yardsticks(audit, target, family))
            return next((value for value in found if value is not None), None)
    return None


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
