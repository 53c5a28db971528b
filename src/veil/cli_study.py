"""`veil study`: what people, not classifiers, read from released or rebuilt pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veil.cli_options import (
    ForceOption,
    QuietOption,
    output_console,
    progress_console,
    refuse_overwriting,
    say,
)
from veil.cli_tables import DASH, print_line, print_table
from veil.errors import VeilError

if TYPE_CHECKING:
    from rich.console import Console

    from veil.study_scores import Share, StudyResult

MOST_PICTURES = 30

study_app = typer.Typer(
    help="Show pictures to people, and score what they read from them.", no_args_is_help=True
)


@study_app.command()
def make(
    run: Annotated[Path, typer.Argument(help="Folder of a trained run.")],
    private: Annotated[str, typer.Option(help="Class label that people are asked for.")],
    out: Annotated[Path, typer.Option(help="Folder for study.html and key.json.")],
    pictures: Annotated[
        int, typer.Option(min=1, help="Pictures, a multiple of the number of classes.")
    ] = 30,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the originals for the reference classifier; 8."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Write a questionnaire about a run's releases: one HTML file, and apart from it the key."""
    from veil.fixed_classifiers import Training
    from veil.study import KEY, PAGE, make_study

    if out.exists() and not out.is_dir():
        raise VeilError(f"{out}: is a file; --out names a folder")
    for name in (PAGE, KEY):
        refuse_overwriting(out / name, force)
    training = Training() if epochs is None else Training(epochs=epochs)
    key = make_study(run, out, private, pictures, seed, training, console=progress_console(quiet))
    say(f"{len(key.pictures)} {key.shows}")
    say(f"wrote {out / PAGE}, for participants, and {out / KEY}, which they must not see")


@study_app.command("score")
def score_answers(
    folder: Annotated[Path, typer.Argument(help="Folder of a study, with its key.json.")],
    answers: Annotated[list[Path], typer.Argument(help="Files that participants saved.")],
    seed: Annotated[int, typer.Option(help="Seed of the test that shuffles the answers.")] = 0,
    force: ForceOption = False,
) -> None:
    """Score participants' answers: Correct, Wrong, Cannot judge, and what guessing would give."""
    from veil.checkpoint import written_beside
    from veil.study import KEY, RESULT
    from veil.study_scores import read_answers, read_key, score

    refuse_overwriting(folder / RESULT, force)
    key = read_key(folder / KEY)
    found = score(key, read_answers(answers, key), seed)
    with written_beside(folder / RESULT) as beside:
        beside.write_text(found.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
    print_study(found, output_console())
    say(f"wrote {folder / RESULT}")


def print_study(found: StudyResult, console: Console) -> None:
    """Print the shares beside the paper's ideal, how far they are from guessing, and pictures."""
    people = "1 person" if found.people == 1 else f"{found.people} people"
    print_line(console, f"{found.method} on {found.data}: {found.label}?", "bold")
    print_line(console, f"{people}, {len(found.pictures)} {found.shows}")
    chance = f"{found.chance:.3f}"
    missed = f"{1 - found.chance:.3f}"
    rows = [
        ["Correct", *_share(found.correct), f"{chance} or 0"],
        ["Wrong", *_share(found.wrong), f"{missed} or 0"],
        ["Cannot judge", *_share(found.undecided), "0 or 1"],
        ["Correct among those who judged", *_share(found.judged), chance],
        ["Correct, the undecided guessing", f"{found.ideal:.3f}", "", "", chance],
    ]
    print_table(console, "Answers", ["", "share", "95 %", "answers", "ideal"], rows)
    console.print()
    if found.p_binomial is not None and found.p_shuffled is not None:
        print_line(
            console,
            f"As far from chance by guessing alone: p = {_p(found.p_binomial)} were all answers "
            f"independent (binomial), {_p(found.p_shuffled)} if people guess alike at a picture "
            "(true classes shuffled).",
        )
    if found.agreement is not None:
        kappa = DASH if found.kappa is None else f"{found.kappa:.2f}"
        print_line(console, f"Two people agree on {found.agreement:.3f} (Fleiss' kappa {kappa}).")
    ranked = sorted(found.pictures, key=lambda of: (-of.correct, of.wrong, of.picture))
    cells = [
        [
            str(of.picture),
            of.truth,
            *(str(count) for count in (of.correct, of.wrong, of.undecided)),
            DASH if of.agreement is None else f"{of.agreement:.2f}",
        ]
        for of in ranked[:MOST_PICTURES]
    ]
    header = ["picture", "truth", "correct", "wrong", "cannot judge", "agreement"]
    print_table(console, "Pictures, those told most often first", header, cells)
    if len(ranked) > MOST_PICTURES:
        print_line(console, f"\nand {len(ranked) - MOST_PICTURES} more in study.json")


def _share(share: Share | None) -> tuple[str, str, str]:
    """The figure, its interval, and of how many answers."""
    if share is None:
        return DASH, "", "0"
    low, high = share.interval
    return f"{share.value:.3f}", f"{low:.3f}-{high:.3f}", f"{share.n:,}"


def _p(p: float) -> str:
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
