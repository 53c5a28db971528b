"""`veil audit`: what is audited, how hard, and by which requirements it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from veil.cli_options import (
    DataOption,
    ForceOption,
    QuietOption,
    RootOption,
    SetOption,
    SizeOption,
    Source,
    named_data,
    output_console,
    progress_console,
    refuse_overwriting,
    say,
)
from veil.errors import VeilError

if TYPE_CHECKING:
    from rich.console import Console

    from veil.data.splits import Splits


def audit(
    run: Annotated[Path | None, typer.Argument(help="Folder of a trained run.")] = None,
    released: Annotated[
        Path | None, typer.Option(help="Anyone's release: .npz or .safetensors.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of released pictures, named as their originals.")
    ] = None,
    onnx: Annotated[Path | None, typer.Option(help="Anyone's encoder, run on --data.")] = None,
    data: DataOption = None,
    root: RootOption = None,
    size: SizeOption = None,
    settings: SetOption = None,
    private: Annotated[
        list[str] | None,
        typer.Option(help="Label to attack, 'identity' or 'reconstruction' (repeatable)."),
    ] = None,
    utility: Annotated[
        list[str] | None, typer.Option(help="Label that should survive (--images, --onnx).")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Class label by whose values leakage is reported apart.")
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(help="Gate: 'Male <= 0.60', 'utility:Smiling >= 0.85' (repeatable)."),
    ] = None,
    suite: Annotated[
        str, typer.Option(help="Set of attackers: quick, standard or full.")
    ] = "standard",
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Run every attacker in full with every seed.")
    ] = False,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of every attacker that is random.")] = 2,
    seed: Annotated[int, typer.Option(help="Seed of the audit.")] = 0,
    draws: Annotated[
        int | None,
        typer.Option(min=1, help="Most releases of one image, where they are random; 50 (RUN)."),
    ] = None,
    attack_share: Annotated[
        float | None,
        typer.Option(min=0.01, max=1.0, help="Share of 'attack' that attackers learn from (RUN)."),
    ] = None,
    mechanism: Annotated[
        str | None,
        typer.Option(help="What releases provably end with: 'clip=1.0 sigma=2.0'."),
    ] = None,
    recogniser: Annotated[
        str | None,
        typer.Option(help="Face recognition for reconstructions: synthfaces, or a file."),
    ] = None,
    memory: Annotated[
        float | None, typer.Option(min=0.001, help="GiB that a released file may take in memory.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The audit.json to write; beside what is audited.")
    ] = None,
    force: ForceOption = False,
    quiet: QuietOption = False,
) -> None:
    """Attack a release with fresh attackers and say how much it leaks at least.

    Exit status: 0 verdict given and every --require met, 1 a requirement not met, 2 bad input,
    3 verdict refused.
    """
    from veil import auditing
    from veil.attacks.suites import suite_named
    from veil.evidence import DRAWS
    from veil.gate import exit_status, outcomes, parse, print_outcomes
    from veil.mechanism import mechanism_from
    from veil.report import print_audit

    things = {"RUN": run, "--released": released, "--images": images, "--onnx": onnx}
    named = [name for name, path in things.items() if path is not None]
    if len(named) != 1:
        raise VeilError(
            "name one thing to audit: a run folder, --released FILE, --images FOLDER or --onnx FILE"
        )
    _refuse_idle(
        named[0],
        {
            "--data": (data, ("--images", "--onnx")),
            "--root": (root, ("--images", "--onnx")),
            "--size": (size, ("--images", "--onnx")),
            "--set": (settings, ("--images", "--onnx")),
            "--utility": (utility, ("--images", "--onnx")),
            "--draws": (draws, ("RUN",)),
            "--attack-share": (attack_share, ("RUN",)),
            "--group": (group, ("RUN", "--images", "--onnx")),
            "--mechanism": (mechanism, ("--released", "--onnx")),
            "--memory": (memory, ("--released",)),
        },
    )
    gate = tuple(parse(text) for text in require or ())
    proved = mechanism_from(mechanism) if mechanism else None
    audited = things[named[0]]
    assert audited is not None
    out = out or (
        run / "audit.json"
        if run
        else (audited if audited.name else audited.resolve()).with_suffix(".audit.json")
    )
    refuse_overwriting(out, force)
    chosen = suite_named(suite).exhaustive() if exhaustive else suite_named(suite)
    effort = (chosen, seeds, seed, progress_console(quiet))
    attacked, kept = tuple(private or ()), tuple(utility or ())
    if run is not None:
        found = auditing.audit_run(
            run,
            out,
            *effort,
            also=attacked,
            group=group,
            recogniser=recogniser,
            gate=gate,
            draws=DRAWS[-1] if draws is None else draws,
            attack_share=1.0 if attack_share is None else attack_share,
        )
    elif released is not None:
        found = auditing.audit_file(
            released,
            out,
            *effort,
            private=attacked,
            mechanism=proved,
            recogniser=recogniser,
            memory=None if memory is None else round(memory * 2**30),
            gate=gate,
        )
    else:
        if not attacked:
            raise VeilError("name at least one label to attack: --private Male")
        splits = _open_data(data, root, size, settings, seed, progress_console(quiet))
        if images is not None:
            found = auditing.audit_folder(
                images,
                splits,
                out,
                attacked,
                kept,
                *effort,
                group=group,
                recogniser=recogniser,
                gate=gate,
            )
        else:
            found = auditing.audit_onnx(
                audited,
                splits,
                out,
                attacked,
                kept,
                *effort,
                group=group,
                mechanism=proved,
                recogniser=recogniser,
                gate=gate,
            )
    print_audit(found, output_console())
    say(f"wrote {out}")
    judged = outcomes(found, gate)
    print_outcomes(judged, output_console())
    if status := exit_status(found, judged):
        raise typer.Exit(status)


def _refuse_idle(audited: str, options: Mapping[str, tuple[object, tuple[str, ...]]]) -> None:
    """Refuse options that would do nothing for what is audited."""
    for name, (value, useful_for) in options.items():
        if value is not None and audited not in useful_for:
            what = "a run folder" if audited == "RUN" else audited
            fits = ", ".join("a run folder" if u == "RUN" else u for u in useful_for)
            raise VeilError(f"{name} does nothing with {what}; it is for {fits}")


def _open_data(
    data: Source | None,
    root: Path | None,
    size: int | None,
    settings: list[str] | None,
    seed: int,
    console: Console | None,
) -> Splits:
    """The splits of a data source named by flags."""
    from veil.progress import counting

    with counting(console, "reading images") as counted:
        return named_data(data, root, size, settings).splits(seed, counted)
