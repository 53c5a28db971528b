"""Audits as tables in a terminal: within 100 columns, and legible without colour."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from veil.records import Audit, Doubt, Record
from veil.report import view, words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 100
BAR = 17
MOST_ATTACKERS = 12


def print_audit(audit: Audit, console: Console) -> None:
    """Print the verdict, the attackers of each target (worst first) and the doubts."""
    _print(console, audit.name, "bold")
    _print(console, words.claim(audit))
    for target in view.attacked([audit]) + view.useful([audit]):
        console.print()
        console.print(_attackers(audit, target), width=min(WIDTH, console.width))
        more = len(view.attackers(audit, target)) - MOST_ATTACKERS
        if more > 0:
            _print(console, f"  and {more} more, weaker on select", "dim")
    _print_doubts([audit], console)


def print_comparison(audits: Sequence[Audit], console: Console) -> None:
    """Print several audits side by side: leakage, then utility, then the doubts."""
    _print(console, words.comparison(audits))
    for target in view.attacked(audits):
        console.print()
        console.print(_leakage(audits, target), width=min(WIDTH, console.width))
    for target in view.useful(audits):
        console.print()
        console.print(_utility(audits, target), width=min(WIDTH, console.width))
    _print_doubts(audits, console)


def _print(console: Console, text: str, style: str = "") -> None:
    """Print `text` as it is: names may hold brackets and colons, which are not markup here."""
    from rich.text import Text

    console.print(Text(text, style), width=min(WIDTH, console.width))


Column = tuple[str, Literal["left", "right"]]


def _table(title: str, columns: Iterable[Column]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        show_edge=False,
    )
    for name, justify in columns:
        named = name in ("attacker", "head", "run")
        table.add_column(
            name, justify=justify, overflow="fold", no_wrap=not named, ratio=1 if named else None
        )
    return table


def _add(table: Table, cells: Sequence[str], style: str = "") -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)


def _attackers(audit: Audit, target: str) -> Table:
    summary = audit.targets[target]
    utility = summary.kind == "utility"
    table = _table(
        f"{target} {'kept' if utility else 'leaked'}: {words.metric(summary.worst.metric)}",
        [
            ("", "left"),
            ("head" if utility else "attacker", "left"),
            ("select", "right"),
            ("test", "right"),
            ("95 %", "right"),
            ("floor to ceiling", "left"),
            ("AUC", "right"),
            ("bits ≥", "right"),
            ("seeds", "right"),
            ("!", "right"),
        ],
    )
    scale = view.scale([audit], target)
    for record in view.attackers(audit, target)[:MOST_ATTACKERS]:
        worst = view.is_worst(audit, record)
        _add(table, [">" if worst else "", *_cells(record, scale)], "bold" if worst else "")
    for family in (view.FLOOR, view.CEILING):
        for record in view.yardsticks(audit, target, family):
            named = record.model_copy(update={"attack": f"{family}: {record.attack}"})
            _add(table, ["", *_cells(named, scale)], "dim")
    return table


def _cells(record: Record, scale: view.Scale) -> list[str]:
    spread = "" if record.spread is None else f" ±{words.figure(record.spread)}"
    return [
        record.attack,
        words.figure(record.select),
        words.figure(record.score),
        words.interval(record.interval),
        _bar(record, scale),
        words.figure(record.scores.get("auc")),
        words.figure(record.bits),
        f"{record.seeds}{spread}",
        str(len(record.doubts) or ""),
    ]


def _bar(record: Record, scale: view.Scale) -> str:
    """The interval between floor and ceiling, drawn in characters."""

    def cell(value: float) -> int:
        return round(scale.at(value) * (BAR - 1))

    cells = ["·"] * BAR
    for end in (record.floor, record.ceiling):
        if end is not None:
            cells[cell(end)] = "│"
    if record.interval is not None:
        for index in range(cell(record.interval[0]), cell(record.interval[1]) + 1):
            cells[index] = "━"
    if record.score is not None:
        cells[cell(record.score)] = "●"
    return "".join(cells)


def _leakage(audits: Sequence[Audit], target: str) -> Table:
    table = _table(
        f"{target} leaked",
        [
            ("run", "left"),
            ("worst", "right"),
            ("95 %", "right"),
            ("floor to ceiling", "left"),
            ("floor", "right"),
            ("ceiling", "right"),
            ("NAG", "right"),
            ("bits ≥", "right"),
            ("paper", "right"),
        ],
    )
    scale = view.scale(audits, target)
    for audit, name in _named(audits):
        record = view.worst(audit, target)
        if record is None:
            _add(table, [name, *[words.DASH] * 2, "", *[words.DASH] * 5])
            continue
        _add(
            table,
            [
                name,
                words.figure(record.score),
                words.interval(record.interval),
                _bar(record, scale),
                words.figure(record.floor),
                words.figure(record.ceiling),
                words.figure(record.nag),
                words.figure(record.bits),
                words.figure(view.reported(audit, target)),
            ],
        )
    return table


def _utility(audits: Sequence[Audit], target: str) -> Table:
    table = _table(
        f"{target} kept",
        [
            ("run", "left"),
            ("own head", "right"),
            ("fresh head", "right"),
            ("95 %", "right"),
            ("floor to ceiling", "left"),
            ("paper", "right"),
        ],
    )
    scale = view.scale(audits, target)
    for audit, name in _named(audits):
        own, fresh = view.own_head(audit, target), view.fresh_head(audit, target)
        _add(
            table,
            [
                name,
                words.figure(own.score if own else None),
                words.figure(fresh.score if fresh else None),
                words.interval(fresh.interval if fresh else None),
                _bar(fresh, scale) if fresh else "",
                words.figure(view.reported(audit, target)),
            ],
        )
    return table


def _named(audits: Sequence[Audit]) -> list[tuple[Audit, str]]:
    """Each audit with the name it goes by beside the others."""
    names = view.short_names([audit.name for audit in audits])
    return [
        (audit, f"{name} (refused)" if audit.verdict == "refused" else name)
        for audit, name in zip(audits, names, strict=True)
    ]


def _print_doubts(audits: Sequence[Audit], console: Console) -> None:
    """Refusals, then doubts on the verdicts, then all others; each once for each run."""
    for title, find in (
        ("Refusals", _refusals),
        ("Doubts on the verdict", view.verdict_doubts),
        ("Other doubts", _other_doubts),
    ):
        lines = [
            f"  {f'{name}: ' if len(audits) > 1 else ''}{doubt.id}: {doubt.text}"
            for audit, name in _named(audits)
            for doubt in find(audit)
        ]
        if lines:
            console.print()
            _print(console, title, "bold")
        for line in dict.fromkeys(lines):
            _print(console, line)


def _refusals(audit: Audit) -> list[Doubt]:
    return list(audit.refusals)


def _other_doubts(audit: Audit) -> list[Doubt]:
    verdict = view.verdict_doubts(audit)
    return [d for record in audit.records for d in record.doubts if d not in verdict]
