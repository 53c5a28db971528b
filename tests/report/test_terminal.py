"""Terminal tables: within 100 columns, without colour, and nothing read as markup."""

from __future__ import annotations

from io import StringIO

import pytest
from report_fakes import RUNS, audit, realistic, record
from rich.console import Console

from veil.records import Doubt
from veil.report import print_audit, print_comparison, verdict


def console(width: int = 100) -> Console:
    return Console(file=StringIO(), width=width, force_terminal=False, color_system=None)


def printed(screen: Console) -> str:
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue()


def line_of(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if name in line)


@pytest.mark.parametrize("width", [100, 200])
def test_tables_fit_in_100_columns(width: int) -> None:
    screen = console(width)
    print_audit(realistic("Random"), screen)
    print_comparison([realistic(run) for run in RUNS], screen)
    lines = printed(screen).splitlines()
    assert 60 < max(map(len, lines)) <= 100
    assert not any("\x1b" in line for line in lines)


def test_an_audit_shows_its_figures_with_the_worst_marked() -> None:
    screen = console()
    print_audit(realistic("Random"), screen)
    text = printed(screen)
    worst = line_of(text, "mlp-256")
    assert worst.startswith(">")
    assert "0.681" in worst
    assert "0.666–0.696" in worst
    assert "●" in worst
    assert not line_of(text, "conv spectrum").startswith(">")
    assert "0.953" in line_of(text, "ceiling: ResNet-18")
    assert "0.512" in line_of(text, "floor: label-only")
    assert "one-draw: A random release was attacked with 1 draw" in text
    assert text.count("still-rising") == 1


def test_a_comparison_names_the_run_a_doubt_is_about() -> None:
    screen = console()
    print_comparison([realistic(run) for run in RUNS], screen)
    assert "Random: one-draw:" in printed(screen)
    assert line_of(printed(screen), "AIA  ").split()[:3] == ["AIA", "0.778", "0.763–0.793"]


def test_bars_put_floor_interval_score_and_ceiling_in_order() -> None:
    screen = console()
    print_audit(audit("x", record("Male", 0.7, interval=(0.62, 0.78))), screen)
    bar = line_of(printed(screen), "mlp-256").split()[-4]
    assert bar[0] == "·"
    assert bar.index("│") < bar.index("━") < bar.index("●") < bar.rindex("━") < bar.rindex("│")


def test_absent_figures_are_dashes_and_names_are_not_markup() -> None:
    screen = console()
    rows = (
        record("[red]x[/red]", None, attack="[bold] :smile:", floor=None, ceiling=None),
        record("y", 0.7, kind="utility", interval=None, ceiling=None),
    )
    print_audit(audit("[blue]run", *rows), screen)
    print_comparison([audit("[blue]run", *rows), audit("other")], screen)
    text = printed(screen)
    assert "[red]x[/red] leaked" in text
    assert "[bold] :smile:" in text
    assert "[blue]run" in text
    assert "None" not in text
    assert "nan" not in text
    assert line_of(text, "other  ").split().count("–") > 1


def test_a_refusal_is_printed_with_its_reason() -> None:
    given = audit("x", record("Male", 0.7), refusals=(Doubt(id="overlap", text="12 overlap."),))
    screen = console()
    print_audit(given, screen)
    assert verdict(given) in printed(screen)
    assert "overlap: 12 overlap." in printed(screen)
