"""`veil toy`: synthetic replacement on two Gaussians, where everything can be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from veil.cli_options import (
    ForceOption,
    QuietOption,
    progress_console,
    refuse_overwriting,
    say,
)

SHOWN = 200  # points of each panel of clouds


def toy(
    out: Annotated[Path, typer.Option(help="Folder for toy.json and its figure.")] = Path(
        "runs/toy"
    ),
    points: Annotated[
        int, typer.Option(min=2, help="Points to learn from; the paper has 400000.")
    ] = 40_000,
    runs: Annotated[int, typer.Option(min=1, help="Repetitions with points of their own.")] = 5,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Filters and generators against fresh adversaries in the plane, by distortion budget."""
    from veil.checkpoint import written_beside
    from veil.progress import bar
    from veil.report.toy_plot import draw_toy
    from veil.toy import run_toy, steps_of
    from veil.toy_game import ToyConfig
    from veil.train import FitConfig

    found = out / "toy.json"
    refuse_overwriting(found, force)
    config = ToyConfig(points=points, runs=runs)
    with bar(progress_console(quiet), "learning in the plane", steps_of(config)) as advance:
        result = run_toy(config, seed, FitConfig().torch_device(), SHOWN, advance)
    with written_beside(found) as beside:
        beside.write_text(result.model_dump_json(), encoding="utf-8")
    draw_toy(result, out / "toy.svg", out / "toy.png")
    say(f"{result.seconds / 60:.1f} minutes; wrote toy.json, toy.svg and toy.png into {out}")
