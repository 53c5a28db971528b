"""Writes what the code already says into the pages: `python docs/generate.py`.

docs/doubts.md is written from `veil.doubts.EXPLANATIONS`, and the tables of attackers in
docs/audit.md from the suites and the attackers' own docstrings. tests/test_docs.py fails where a
page and the code differ.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path

from veil.attacks.attack import Attack
from veil.attacks.suites import identity_suite, suite
from veil.doubts import EXPLANATIONS

DOCS = Path(__file__).parent
START, END = "<!-- attackers -->\n", "<!-- end of attackers -->\n"
REFUSALS = (
    "overlap",
    "below-floor",
    "above-ceiling",
    "shuffled-control",
    "planted-control",
    "positive-control",
)

DOUBTS_HEAD = """\
# Doubts and refusals

A figure can be wrong without looking wrong. The audit checks for the ways that we know of, and
says what it found beside the figure. A **refusal** replaces the verdict: `veil audit` prints the
reason and exits with status 3; whatever was measured stays in `audit.json`. A **doubt** stands
beside the verdict: the figure holds, with this reservation.

This page is written from `veil.doubts.EXPLANATIONS` by `python docs/generate.py`; each heading is
the `id` in `audit.json`.
"""


def doubts_page() -> str:
    """The text of docs/doubts.md."""
    parts = [DOUBTS_HEAD, "\n## Refusals\n"]
    parts += [_entry(id_) for id_ in EXPLANATIONS if id_ in REFUSALS]
    parts += ["\n## Doubts\n"]
    parts += [_entry(id_) for id_ in EXPLANATIONS if id_ not in REFUSALS]
    return "".join(parts)


def _entry(id_: str) -> str:
    raised, means, do = EXPLANATIONS[id_]
    return f"\n### {id_}\n\n- **Raised if** {raised}.\n- **Means** {means}.\n- **Do** {do}.\n"


def audit_page(page: str) -> str:
    """docs/audit.md with its tables of attackers written anew."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    tables = (
        "Of a class label:\n\n"
        + _attackers(suite("quick"), suite("standard"))
        + "\nOf identity (1-to-1 matching):\n\n"
        + _attackers(identity_suite("quick"), identity_suite("standard"))
    )
    return f"{before}{START}\n{tables}\n{END}{after}"


def _attackers(quick: Sequence[Attack], standard: Sequence[Attack]) -> str:
    """A table with one row for each class of attackers, and the names it has in the suites."""
    in_quick = {attack.name for attack in quick}
    rows: dict[type, list[str]] = {}
    for attack in standard:
        shown = f"**{attack.name}**" if attack.name in in_quick else attack.name
        rows.setdefault(type(attack), []).append(shown)
    lines = ["| attackers (bold: also in `quick`) | what they do |", "|---|---|"]
    lines += [f"| {', '.join(names)} | {_summary(kind)} |" for kind, names in rows.items()]
    return "\n".join(lines) + "\n"


def _summary(kind: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).replace("|", "\\|")


if __name__ == "__main__":
    (DOCS / "doubts.md").write_text(doubts_page(), encoding="utf-8")
    page = DOCS / "audit.md"
    page.write_text(audit_page(page.read_text(encoding="utf-8")), encoding="utf-8")
