"""Writes what the code already says into the pages: `python docs/generate.py`.

docs/doubts.md is written from `veil.doubts.EXPLANATIONS`, the tables of attackers in docs/audit.md
from the suites and the attackers' own docstrings, docs/audit.schema.json from the records, and the
measured tables of docs/method_results.md and docs/toy.md from what experiments/ keeps.
tests/test_docs.py fails where a page and the code differ.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from veil.attacks.attack import Attack
from veil.attacks.reconstruction import Inversion
from veil.attacks.suites import Suite, full, quick, standard
from veil.doubts import EXPLANATIONS
from veil.records import Audit
from veil.toy_records import Cell, ToyResult, mean_of_runs

DOCS = Path(__file__).parent
EXPERIMENTS = DOCS.parent / "experiments"
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
    tables = (
        "Of a class label (of subgroups and intersections, those of `quick`):",
        _attackers(lambda suite: suite.attribute),
        "Of a quantity:",
        _attackers(lambda suite: suite.quantity),
        "Of identity (1-to-1 matching):",
        _attackers(lambda suite: suite.identity),
        "Of the picture itself (reconstruction):",
        _attackers(lambda suite: suite.reconstruction),
    )
    return inserted(page, "attackers", "\n\n".join(tables))


def results_page(page: str) -> str:
    """docs/method_results.md with every table that was measured."""
    sys.path.insert(0, str(EXPERIMENTS))
    from method_tables import markdown

    for kept in sorted(EXPERIMENTS.glob("tables/*.json")):
        page = inserted(page, f"table {kept.stem}", markdown(kept.with_suffix(".toml")))
    return page


def toy_page(page: str) -> str:
    """docs/toy.md with its figures: means and half of the 95 % intervals over the runs."""
    result = ToyResult.model_validate_json((EXPERIMENTS / "toy.json").read_bytes())
    leak = _toy_table(result, lambda cell: cell.leak)
    utility = _toy_table(result, lambda cell: cell.utility)
    return inserted(inserted(page, "leak", leak), "utility", utility)


def _toy_table(result: ToyResult, figures: Callable[[Cell], tuple[float, ...]]) -> str:
    budgets = [cell.epsilon for cell in result.cells if cell.row == result.rows[0]]
    lines = [
        f"| row | ε = {' | '.join(f'{epsilon:g}' for epsilon in budgets)} |",
        "|---" * (1 + len(budgets)) + "|",
    ]
    for row in result.rows:
        of_row = [mean_of_runs(figures(cell)) for cell in result.cells if cell.row == row]
        cells = (f"{mean:.3f} ± {high - mean:.3f}" for mean, _, high in of_row)
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines)


def inserted(page: str, name: str, text: str) -> str:
    """The page with the text between its marks "<!-- name -->" and "<!-- end of name -->"."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, _, rest = page.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"a page has no '{start.strip()}' ... '{end.strip()}'")
    return f"{before}{start}\n{text}\n\n{end}{after}"


def schema() -> dict[str, Any]:
    """What docs/audit.schema.json holds."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Audit.model_json_schema(by_alias=True),
    }


def _attackers(of: Callable[[Suite], Sequence[Attack | Inversion]]) -> str:
    """A table with one row for each class of attackers, and the names it has in the suites."""
    in_quick, in_standard = ({attack.name for attack in of(suite())} for suite in (quick, standard))
    rows: dict[type, list[str]] = {}
    for attack in of(full()):
        mark = "**" if attack.name in in_quick else "" if attack.name in in_standard else "*"
        rows.setdefault(type(attack), []).append(f"{mark}{attack.name}{mark}")
    lines = ["| attackers | what they do |", "|---|---|"]
    # A comma is part of some names, so names are parted by semicolons.
    lines += [f"| {'; '.join(names)} | {_summary(kind)} |" for kind, names in rows.items()]
    return "\n".join(lines)


def _summary(kind: type) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split()).replace("|", "\\|")


PAGES = {"audit.md": audit_page, "method_results.md": results_page, "toy.md": toy_page}


if __name__ == "__main__":
    (DOCS / "doubts.md").write_text(doubts_page(), encoding="utf-8")
    for name, written in PAGES.items():
        page = DOCS / name
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")
    text = json.dumps(schema(), indent=1, ensure_ascii=False)
    (DOCS / "audit.schema.json").write_text(f"{text}\n", encoding="utf-8")
