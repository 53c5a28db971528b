"""Audits of run folders, released files, picture folders, ONNX models and Python functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from veil.attacks.attack import TrainingSplit
from veil.attacks.pairs import recurring_people
from veil.attacks.reconstruction import Reconstruction
from veil.attacks.suites import Suite
from veil.audit import audit_with_pictures, refused
from veil.checkpoint import written_beside
from veil.data.cache import cache_folder
from veil.data.dataset import RECONSTRUCTION
from veil.data.splits import Splits
from veil.errors import Refused, VeilError
from veil.evidence import DRAWS, Evidence, of_release
from veil.gate import Requirement, check_names
from veil.mechanism import ClippedGaussian
from veil.onnx_release import OnnxRelease
from veil.pictures import write_samples
from veil.recogniser_training import FEWEST_PEOPLE, train_recogniser
from veil.recognition import Recogniser, load_recogniser
from veil.records import Audit
from veil.release import FunctionRelease
from veil.released_file import from_file
from veil.released_folder import evidence_of_folder
from veil.runs import evidence_of, load
from veil.targets import targets_of


def audit_run(
    run: Path,
    out: Path,
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
    *,
    also: tuple[str, ...] = (),
    group: str | None = None,
    recogniser: str | None = None,
    gate: Sequence[Requirement] = (),
    draws: int = DRAWS[-1],
    attack_share: float = 1.0,
) -> Audit:
    """Audit a trained run; sample pictures for the report go into the run's folder.

    Args:
        run: its folder.
        out: the audit.json to write.
        suite, seeds, seed, console: see `audit.audit`.
        also: private targets beside the run's own: labels of its data, "identity",
            "reconstruction".
        group: a class label by whose values the leakage is reported apart.
        recogniser: see `recognition.load_recogniser`; by default one is trained on the people of
            "attack" and "select".
        gate: requirements whose names are checked before the attack; `gate.outcomes` judges them.
        draws: see `evidence.of_release`.
        attack_share: share of the people of "attack" from whom attackers learn.
    """
    loaded = load(run, console)
    make_room(out)
    evidence = evidence_of(loaded, seed, also, group, draws)
    if attack_share < 1:
        evidence = evidence.learning_from(attack_share, seed)
    found, rebuilt = _audited(evidence, suite, seeds, seed, console, recogniser, gate)
    write_samples(loaded, evidence, run / "samples.npz", seed, rebuilt)
    save(found, out)
    return found


def audit_file(
    file: Path,
    out: Path,
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
    *,
    private: tuple[str, ...] = (),
    mechanism: ClippedGaussian | None = None,
    recogniser: str | None = None,
    memory: int | None = None,
    gate: Sequence[Requirement] = (),
) -> Audit:
    """Audit anyone's released data set.

    Args:
        file, private, mechanism, memory: see `released_file.from_file`.
        out, suite, seeds, seed, console, recogniser, gate: see `audit_run`.
    """
    make_room(out)
    try:
        evidence = from_file(file, seed, private, mechanism, memory)
    except Refused as why:
        found = refused(file.name, why)
    else:
        found, _ = _audited(evidence, suite, seeds, seed, console, recogniser, gate)
    save(found, out)
    return found


def audit_folder(
    folder: Path,
    splits: Splits,
    out: Path,
    private: tuple[str, ...],
    utility: tuple[str, ...] = (),
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
    *,
    group: str | None = None,
    recogniser: str | None = None,
    gate: Sequence[Requirement] = (),
) -> Audit:
    """Audit a folder of released pictures that have the names of their originals.

    Args:
        folder: the released pictures.
        splits: the originals.
        private, utility: names of labels of the data; "identity" is the person, and the private
            "reconstruction" the picture itself.
        out, suite, seeds, seed, console, group, recogniser, gate: see `audit_run`.
    """
    make_room(out)
    try:
        evidence = evidence_of_folder(
            folder, splits.having(private + utility), private, utility, seed, folder.name, group
        )
    except Refused as why:
        found = refused(folder.name, why)
    else:
        found, _ = _audited(evidence, suite, seeds, seed, console, recogniser, gate)
    save(found, out)
    return found


def audit_onnx(
    model: Path,
    splits: Splits,
    out: Path,
    private: tuple[str, ...],
    utility: tuple[str, ...] = (),
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    console: Console | None = None,
    *,
    group: str | None = None,
    mechanism: ClippedGaussian | None = None,
    recogniser: str | None = None,
    gate: Sequence[Requirement] = (),
) -> Audit:
    """Audit anyone's encoder in an ONNX file, on any data.

    Args:
        model: pictures (n, c, h, w) in [0, 1] -> releases.
        mechanism: what the model provably ends with.
        splits, out, private, utility, suite, seeds, seed, console, group, recogniser,
            gate: see `audit_folder`.
    """
    make_room(out)
    known = splits.having(private + utility)
    release = OnnxRelease(model, known.attack.image_shape)
    release.mechanism = mechanism
    evidence = of_release(release, known, private, utility, seed, model.name, group)
    notes = [*evidence.provenance["notes"], *release.notes]
    evidence = replace(evidence, provenance={"onnx": model.name, "notes": notes})
    found, _ = _audited(evidence, suite, seeds, seed, console, recogniser, gate)
    save(found, out)
    return found


def audit_release(
    release: Callable[[Tensor, torch.Generator], Tensor],
    splits: Splits,
    private: tuple[str, ...],
    utility: tuple[str, ...] = (),
    suite: str | Suite = "standard",
    seeds: int = 2,
    seed: int = 0,
    name: str = "a release function",
    console: Console | None = None,
    *,
    group: str | None = None,
    mechanism: ClippedGaussian | None = None,
    recogniser: str | None = None,
    gate: Sequence[Requirement] = (),
) -> Audit:
    """Audit any release that is a Python function, on any data.

    Args:
        release: (n, c, h, w) in [0, 1] and a generator, its one source of randomness -> (n, ...).
        name: what messages and reports call it.
        mechanism: what the function provably ends with.
        splits, private, utility, suite, seeds, seed, console, group, recogniser,
            gate: see `audit_folder`.
    """
    wrapped = FunctionRelease(release, mechanism)
    known = splits.having(private + utility)
    evidence = of_release(wrapped, known, private, utility, seed, name, group)
    return _audited(evidence, suite, seeds, seed, console, recogniser, gate)[0]


def make_room(out: Path) -> None:
    """Make the folder of audit.json; a place that cannot take it is found before the attack."""
    if out.is_dir():
        raise VeilError(f"{out}: is a folder; give the name of the audit.json to write")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VeilError(f"{out}: cannot be written: {error.strerror}") from None


def save(found: Audit, out: Path) -> None:
    """Write audit.json, all or nothing."""
    with written_beside(out) as beside:
        beside.write_text(found.dumps(), encoding="utf-8")


def _audited(
    evidence: Evidence,
    suite: str | Suite,
    seeds: int,
    seed: int,
    console: Console | None,
    recogniser: str | None,
    gate: Sequence[Requirement],
) -> tuple[Audit, Reconstruction | None]:
    targets = targets_of(evidence)
    check_names(
        gate,
        [
            *(target.name for target in targets if target.role == "private"),
            *(name for name in evidence.private if name == RECONSTRUCTION),
        ],
        [target.name for target in targets if target.role == "utility"],
    )
    known: Recogniser | None = None
    if recogniser is not None:
        known = load_recogniser(recogniser)
    elif RECONSTRUCTION in evidence.private:
        known = _recogniser_of(evidence, seed, console)
    return audit_with_pictures(evidence, suite, seeds, seed, console, known)


def _recogniser_of(evidence: Evidence, seed: int, console: Console | None) -> Recogniser | None:
    """A recogniser trained on the originals of "attack" and "select", remembered on disk.

    None where too few people are known; nobody of "test" is ever shown to it.
    """
    if evidence.identity is None or evidence.originals is None:
        return None
    path = cache_folder() / "recognisers" / f"{evidence.originals_key}-{seed}.safetensors"
    if path.exists():
        return load_recogniser(path)
    learned: tuple[TrainingSplit, ...] = ("attack", "select")
    identity = np.concatenate([evidence.identity[split] for split in learned])
    if recurring_people(identity)[2] < FEWEST_PEOPLE:
        return None
    x = torch.cat([evidence.originals(split) for split in learned])
    trained = train_recogniser(x, identity, seed, console=console)
    path.parent.mkdir(parents=True, exist_ok=True)
    trained.save(path)
    return trained
