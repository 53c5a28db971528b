"""The tables that a terminal shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from veil.records import Audit, Record
from veil.report import view, words
from veil.report.columns import brief, figure_of

if TYPE_CHECKING:
    from rich.table import Table

BAR = 17
MOST_ATTACKERS = 12
MOST_SCANNED = 10
NAMED = ("attacker", "head", "run", "target", "label")
SHORT = {"bits": "bits ≥", "mae": "error", "rank1": "rank-1"}

Column = tuple[str, Literal["left", "right"]]


def attackers(audit: Audit, target: str) -> Table:
    """The attackers (or heads) of one target, the worst first, its floors and its ceilings."""
    summary = audit.targets[target]
    utility = summary.kind == "utility"
    rebuilt = summary.kind == "reconstruction"
    beside = brief(summary.worst)
    how = "kept" if utility else "rebuilt" if rebuilt else "leaked"
    table = _table(
        f"{'pictures' if rebuilt else target} {how}: {words.metric(summary.worst.metric)}",
        [
            ("", "left"),
            ("head" if utility else "attacker", "left"),
            ("select", "right"),
            ("test", "right"),
            ("95 %", "right"),
            ("floor to ceiling", "left"),
            *((SHORT.get(name, words.metric(name)), "right") for name in beside),
            ("seeds", "right"),
            ("!", "right"),
        ],
    )
    scale = view.scale([audit], target)
    for record in view.attackers(audit, target)[:MOST_ATTACKERS]:
        worst = view.is_worst(audit, record)
        mark = ">" if worst else view.DROPPED if view.dropped(record) else ""
        _add(table, [mark, *_cells(record, scale, beside)], "bold" if worst else "")
    for family in (view.FLOOR, view.CEILING):
        for record in view.yardsticks(audit, target, family):
            yardstick = record.model_copy(update={"attack": f"{family}: {record.attack}"})
            _add(table, ["", *_cells(yardstick, scale, beside)], "dim")
    return table


def _cells(record: Record, scale: view.Scale, beside: tuple[str, str]) -> list[str]:
    spread = "" if record.spread is None else f" ±{words.figure(record.spread)}"
    return [
        record.attack,
        words.figure(record.select),
        words.figure(record.score),
        words.interval(record.interval),
        _bar(record, scale),
        *(words.score(figure_of(record, name), name) for name in beside),
        f"{record.seeds}{spread}",
        str(len(record.doubts) or ""),
    ]


def parts(audit: Audit, names: Sequence[str]) -> Table:
    """The targets that are parts of others; those that leak more than their whole are marked."""
    table = _table(
        "Subgroups and combinations",
        [
            ("", "left"),
            ("target", "left"),
            ("test", "right"),
            ("95 %", "right"),
            ("floor to ceiling", "left"),
            ("floor", "right"),
            ("n", "right"),
        ],
    )
    records = [audit.targets[name].worst for name in names]
    scale = view.scale_of(records)
    for name, record in zip(names, records, strict=True):
        more = leaks_more(audit, name)
        cells = [name, words.figure(record.score), words.interval(record.interval)]
        cells += [_bar(record, scale), words.figure(record.floor), f"{record.n:,}"]
        _add(table, [">" if more else "", *cells], "bold" if more else "")
    return table


def leaks_more(audit: Audit, name: str) -> bool:
    """Whether a subgroup leaks more than everybody, by more than both intervals."""
    whole = view.wholes(audit, name)
    if len(whole) != 1:
        return False
    return view.below(audit.targets[whole[0]].worst, audit.targets[name].worst)


def scan(audit: Audit, rows: Sequence[Record]) -> Table:
    """Labels that nobody declared; those above their floor are marked."""
    table = _table(
        f"Labels nobody declared: {words.metric(audit.scan[0].metric)}",
        [
            ("", "left"),
            ("label", "left"),
            ("test", "right"),
            ("interval", "right"),
            ("floor to ceiling", "left"),
            ("floor", "right"),
            ("ceiling", "right"),
        ],
    )
    leaking, _ = view.scan(audit)
    scale = view.scale_of(audit.scan)
    for record in rows:
        leaks = record in leaking
        cells = [record.target, words.figure(record.score), words.interval(record.interval)]
        cells += [_bar(record, scale), words.figure(record.floor), words.figure(record.ceiling)]
        _add(table, [">" if leaks else "", *cells], "bold" if leaks else "")
    return table


def leakage(audits: Sequence[Audit], target: str) -> Table:
    """What each run leaks of one target."""
    metrics = {r.metric for audit in audits if (r := view.worst(audit, target)) is not None}
    unit = "".join(f": {words.metric(name)}" for name in metrics & {"r2", "ssim"})
    table = _table(
        f"{target} leaked{unit}",
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
    for audit, name in named(audits):
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


def utility(audits: Sequence[Audit], target: str) -> Table:
    """What each run keeps of one useful target."""
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
    for audit, name in named(audits):
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


def named(audits: Sequence[Audit]) -> list[tuple[Audit, str]]:
    """Each audit with the name it goes by beside the others."""
    names = view.short_names([audit.name for audit in audits])
    return [
        (audit, f"{name} (refused)" if audit.verdict == "refused" else name)
        for audit, name in zip(audits, names, strict=True)
    ]


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
        flexible = name in NAMED
        table.add_column(
            name,
            justify=justify,
            overflow="fold",
            no_wrap=not flexible,
            ratio=1 if flexible else None,
        )
    return table


def _add(table: Table, cells: Sequence[str], style: str = "") -> None:
    from rich.text import Text

    table.add_row(*(Text(cell) for cell in cells), style=style)


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
