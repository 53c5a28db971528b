"""Audits in a terminal: within 100 columns, and legible without colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from veil.records import Audit, Record
from veil.report import terminal_tables as tables
from veil.report import verdicts, view
from veil.report.comparing import comparison

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100
SELECT_OF_PICTURES = (
    "  select: 1 / (1 + perceptual distance) where a recogniser shows its features, else SSIM"
)


def print_audit(audit: Audit, console: Console) -> None:
    """Print the verdict, what is certified, the attackers of each target, and the doubts.

    After the targets come their parts, and the labels that nobody declared.
    """
    _print(console, audit.name, "bold")
    said = verdicts.sentences(audit)
    for sentence in said if len(said) == 1 else [f"- {sentence}" for sentence in said]:
        _print(console, sentence)
    for sentence in verdicts.certificates(audit):
        _print(console, sentence)
    targets = view.attacked([audit]) + view.useful([audit])
    for target in targets:
        _print_table(console, tables.attackers(audit, target))
        if audit.targets[target].kind == "reconstruction":
            _print(console, SELECT_OF_PICTURES, "dim")
        more = len(view.attackers(audit, target)) - tables.MOST_ATTACKERS
        if more > 0:
            _print(console, f"  and {more} more, weaker on select", "dim")
    shown = [r for t in targets for r in view.attackers(audit, t)[: tables.MOST_ATTACKERS]]
    if note := view.dropped_note(shown):
        _print(console, f"  {note}", "dim")
    if names := _parts(audit):
        _print_table(console, tables.parts(audit, names))
        if any(tables.leaks_more(audit, name) for name in names):
            _print(console, "  > leaks measurably more than everybody's", "dim")
    if audit.scan:
        _print_scan(audit, console)
    _print_doubts([audit], console)


def print_comparison(audits: Sequence[Audit], console: Console) -> None:
    """Print several audits side by side: leakage, then utility, then the doubts."""
    _print(console, comparison(audits))
    for target in view.attacked(audits):
        _print_table(console, tables.leakage(audits, target))
    for target in view.useful(audits):
        _print_table(console, tables.utility(audits, target))
    _print_doubts(audits, console)


def _print(console: Console, text: str, style: str = "") -> None:
    """Print `text` as it is: names may hold brackets and colons, which are not markup here."""
    from rich.text import Text

    console.print(Text(text, style), width=min(WIDTH, console.width))


def _print_table(console: Console, table: Table) -> None:
    console.print()
    console.print(table, width=min(WIDTH, console.width))


def _parts(audit: Audit) -> list[str]:
    """Names of the subgroups of every target, then of the combinations."""
    groups = [name for whole in view.attacked([audit]) for name in view.subgroups(audit, whole)]
    return groups + view.combinations(audit)


def _print_scan(audit: Audit, console: Console) -> None:
    leaking, others = view.scan(audit)
    rows = [*leaking, *others][: tables.MOST_SCANNED]
    _print_table(console, tables.scan(audit, rows))
    count = len(leaking) + len(others)
    if leaking:
        _print(console, f"  > leaks though nobody declared it: {len(leaking)} of {count}")
    hidden = count - len(rows)
    if hidden:
        leak_too = max(0, len(leaking) - len(rows))
        above = f", {leak_too} of them above the floor" if leak_too else ", none above its floor"
        _print(console, f"  and {hidden} others{above}", "dim")
    if (level := view.scan_level(audit)) is not None:
        said = f"  intervals at {level:.2%} each, so that all {count} hold together with 95 %"
        _print(console, said, "dim")


def _print_doubts(audits: Sequence[Audit], console: Console) -> None:
    """Refusals, then doubts on the verdicts, then all others; each once for each run."""
    for title, find in (
        ("Refusals", _refusals),
        ("Doubts on the verdict", _verdict_doubts),
        ("Other doubts", _other_doubts),
    ):
        lines = [
            f"  {f'{name}: ' if len(audits) > 1 else ''}{line}"
            for audit, name in tables.named(audits)
            for line in find(audit)
        ]
        if lines:
            console.print()
            _print(console, title, "bold")
        for line in dict.fromkeys(lines):
            _print(console, line)


def _refusals(audit: Audit) -> list[str]:
    return [f"{refusal.id}: {refusal.text}" for refusal in audit.refusals]


def _verdict_doubts(audit: Audit) -> list[str]:
    return _doubts(audit, [summary.worst for summary in audit.targets.values()])


def _other_doubts(audit: Audit) -> list[str]:
    verdict = _verdict_doubts(audit)
    return [line for line in _doubts(audit, audit.records) if line not in verdict]


def _doubts(audit: Audit, records: Sequence[Record]) -> list[str]:
    """Each doubt, with its target where several are attacked."""
    several = len(view.attacked([audit])) > 1
    return [
        f"{doubt.id}{f' ({record.target})' if several else ''}: {doubt.text}"
        for record in records
        for doubt in record.doubts
    ]
