"""A run folder: its config, its weights, and what an audit needs from it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from veil import config as configs
from veil.attacks.attack import AttackSplit
from veil.checkpoint import load_tensors, save_tensors, written_beside
from veil.config import ProblemConfig, RunConfig
from veil.cost import client_cost
from veil.data.dataset import Dataset
from veil.data.splits import Splits
from veil.errors import VeilError
from veil.evidence import DRAWS, Evidence, of_release
from veil.method import Method, Problem, Scale
from veil.methods import method_named
from veil.progress import counting
from veil.release import IMAGES_AT_ONCE
from veil.seeds import generator, seed_for
from veil.train import CHECKPOINT, METRICS, fit

CONFIG = "config.toml"
WEIGHTS = "method.safetensors"
RUN = "run.json"
OURS = (
    CONFIG,
    WEIGHTS,
    RUN,
    CHECKPOINT,
    METRICS,
    "audit.json",
    "samples.npz",
    "report.html",
    "reclassify.json",
    "reclassify_pictures.png",
    "reclassify_correlations.png",
)


@dataclass(frozen=True)
class Run:
    """A trained run, loaded.

    Attributes:
        path: its folder.
        config: what made it.
        problem: private and useful labels, with their meaning.
        method: trained, in eval mode.
        splits: its data, rows without the problem's labels left out.
    """

    path: Path
    config: RunConfig
    problem: Problem
    method: Method
    splits: Splits


def problem_of(config: ProblemConfig, splits: Splits) -> Problem:
    """The problem, its labels looked up in the data (unknown ones: the nearest spelling)."""
    names = config.private + config.utility
    labels = {name: splits.fit.label(name) for name in names}
    numbers = [n for n, label in labels.items() if label.kind in ("continuous", "landmarks")]
    people = splits.fit.identity
    return Problem(
        private=config.private,
        utility=config.utility,
        labels=labels,
        image=splits.fit.image_shape,
        people=0 if people is None else len(np.unique(people)),
        scales={name: _scale(splits.fit.column(name)) for name in numbers},
    )


def _scale(column: NDArray[np.float32]) -> Scale:
    """The scale of (n,) or (n, k) numbers; a constant one is left as it is."""
    numbers = column.reshape(len(column), -1).astype(np.float64)
    deviation = numbers.std(axis=0)
    return Scale(
        tuple(numbers.mean(axis=0).tolist()), tuple(np.where(deviation > 0, deviation, 1).tolist())
    )


def open_splits(config: RunConfig, console: Console | None) -> Splits:
    """The run's data, decoded once with a progress bar, without rows that lack its labels."""
    with counting(console, "reading images") as counted:
        splits = config.data.splits(config.fit.seed, counted)
    names = config.problem.private + config.problem.utility
    for name in names:
        splits.fit.label(name)
    return splits.having(names)


def build(config: RunConfig, problem: Problem) -> Method:
    """The untrained method, its initial weights drawn from the run's seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(config.fit.seed, "weights", config.method_name))
        return method_named(config.method_name)(config.method, problem)


def refuse_claimed(path: Path, config: RunConfig, force: bool) -> None:
    """Make sure that `path` may become this run's folder, or already is (an interrupted run).

    Raises:
        VeilError: the folder holds a finished run, another run, or other people's files.
    """
    if path.exists() and not path.is_dir():
        raise VeilError(f"{path}: is a file; --out names a folder")
    if force and (path / CONFIG).exists():
        return
    if (path / RUN).exists():
        raise VeilError(f"{path}: holds a finished run; --force overwrites it")
    if (path / CONFIG).exists():
        found = configs.read(path / CONFIG)
        if found != config:
            raise VeilError(
                f"{path}: holds another run ({_first_difference(found, config)}); "
                "--force overwrites it, another --out keeps both"
            )
    elif path.exists() and any(path.iterdir()):
        raise VeilError(f"{path}: is not empty and holds no run; name a new folder")


def claim(path: Path, config: RunConfig, force: bool) -> None:
    """Make `path` this run's folder; with `force`, without what an earlier run left there."""
    refuse_claimed(path, config, force)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VeilError(f"{path}: cannot be made: {error.strerror}") from None
    if force:
        for name in OURS:
            (path / name).unlink(missing_ok=True)
    config.save(path / CONFIG)


def train(
    config: RunConfig, path: Path, console: Console | None = None, force: bool = False
) -> Run:
    """Train a run into `path`; an interrupted one goes on from its checkpoint.

    Raises:
        VeilError: see `refuse_claimed`; a label is unknown; the method does not fit the problem.
        Diverged: see `train.fit`.
    """
    refuse_claimed(path, config, force)
    splits = open_splits(config, console)
    problem = problem_of(config.problem, splits)
    method = build(config, problem)
    claim(path, config, force)
    started = time.monotonic()
    fit(method, problem, splits.fit, splits.select, config.fit, path, console)
    save_tensors(path / WEIGHTS, method.state_dict(), {"method": config.method_name})
    facts = {
        "method": config.method_name,
        "config": config.to_toml()["method"],
        "data": splits.fit.name,
        "splits": {name: len(split) for name, split in splits.items()},
        "notes": list(splits.notes),
        "client cost of one picture": asdict(client_cost(method.obfuscator, problem.image)),
        "measured": measured(method, splits.select, config.fit.seed),
        "versions": {
            "veil": version("veil"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "threads": torch.get_num_threads(),
        "seconds of the last session": round(time.monotonic() - started, 1),
    }
    with written_beside(path / RUN) as beside:
        beside.write_text(json.dumps(facts, indent=1), encoding="utf-8")
    (path / CHECKPOINT).unlink(missing_ok=True)
    return Run(path, config, problem, method, splits)


@torch.no_grad()
def measured(method: Method, select: Dataset, seed: int) -> dict[str, float]:
    """What the method itself tells of its release, on the first pictures of `select`."""
    device = next(method.parameters(), torch.empty(0)).device
    x = select.batch(slice(0, IMAGES_AT_ONCE), labels=()).x.to(device)
    rng = generator(seed, "measured", device=device)
    return dict(method.eval().measured(x, rng))


def load(path: Path, console: Console | None = None) -> Run:
    """A finished run.

    Raises:
        VeilError: the folder holds no run, an unfinished one, or weights that do not fit.
    """
    if not (path / CONFIG).exists():
        raise VeilError(
            f"{path}: holds no run (no {CONFIG}); 'veil train ... --out {path}' makes one"
        )
    config = configs.read(path / CONFIG)
    if not (path / WEIGHTS).exists():
        raise VeilError(f"{path}: the run is not finished; run its 'veil train' again to go on")
    splits = open_splits(config, console)
    problem = problem_of(config.problem, splits)
    method = build(config, problem)
    tensors, _ = load_tensors(path / WEIGHTS)
    try:
        method.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1].strip()
        raise VeilError(f"{path / WEIGHTS}: does not fit {CONFIG}: {reason}") from None
    return Run(path, config, problem, method.to(config.fit.torch_device()).eval(), splits)


def evidence_of(
    run: Run,
    seed: int,
    also: tuple[str, ...] = (),
    group: str | None = None,
    draws: int = DRAWS[-1],
) -> Evidence:
    """What an attacker of a run may hold: releases, the public heads' answers, the weights.

    Args:
        run: trained.
        seed: of the audit; the releases' noise is drawn from it.
        also: private targets beside the run's own.
        group: a class label by whose values the leakage is reported apart.
        draws: see `evidence.of_release`.
    """
    problem, method = run.problem, run.method
    name = f"{method.title()} on {run.splits.fit.name}"
    private = tuple(dict.fromkeys((*problem.private, *also)))
    both = set(private) & set(problem.utility)
    if both:
        raise VeilError(f"'{both.pop()}' is a useful label of this run; its own head is reported")
    evidence = of_release(
        method.obfuscator, run.splits, private, problem.utility, seed, name, group, draws
    )
    answers: dict[str, dict[AttackSplit, NDArray[np.float32]]] = {}
    for split, z in evidence.z.items():
        for label, answer in outputs(method, z, adversary=False).items():
            answers.setdefault(label, {})[split] = answer
    adversary = outputs(method, evidence.z["test"], adversary=True)
    return replace(
        evidence,
        answers=answers,
        adversary=adversary,
        networks={label: _Adversary(method, label) for label in adversary},
        reported=method.reported(run.config.data.source),
        provenance={**evidence.provenance, "run": run.config.to_toml()},
    )


class _Adversary(nn.Module):
    """A run's training adversary of one label, as one network from releases to logits."""

    def __init__(self, method: Method, label: str) -> None:
        super().__init__()
        self.method = method
        self.label = label

    def forward(self, z: Tensor) -> Tensor:
        """(n, ...) releases -> (n, K) logits."""
        return self.method.training_adversary(z)[self.label]


@torch.no_grad()
def outputs(method: Method, z: Tensor, *, adversary: bool) -> dict[str, NDArray[np.float32]]:
    """What the public task heads, or the training adversary, say of releases, by label."""
    device = next(method.parameters(), z).device
    method.eval()
    found: dict[str, list[Tensor]] = {}
    for part in torch.split(z, IMAGES_AT_ONCE):
        here = part.to(device)
        said: Mapping[str, Tensor]
        said = method.training_adversary(here) if adversary else method.answers(here)
        for name, answer in said.items():
            found.setdefault(name, []).append(answer.float().cpu())
    return {name: torch.cat(parts).numpy() for name, parts in found.items()}


def _first_difference(found: RunConfig, asked: RunConfig) -> str:
    old, new = found.to_toml(), asked.to_toml()
    for section in old:
        names: set[Any] = {*old[section], *new[section]}
        for name in sorted(names):
            before, after = old[section].get(name), new[section].get(name)
            if before != after:
                return f"{section}.{name} is {before} there, {after} here"
    return "with other settings"
