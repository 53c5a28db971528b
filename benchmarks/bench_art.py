"""The audit beside another attack: attribute inference of adversarial-robustness-toolbox (ART).

    pip install --no-deps adversarial-robustness-toolbox==1.20.1 six tqdm
    OMP_NUM_THREADS=2 python benchmarks/bench_art.py [--kind linear --kind maps] [--model nn]
        [--suite quick --suite full] [--rows 8000] [--map-rows 4000] [--seeds 2] [--threads 2]

ART's `AttributeInferenceBaseline` learns one column of a table from the others; here the private
label from the release, with each model that it offers and its own settings. It is given every
advantage: it learns from "attack" and "select" both, where the audit learns from "attack" and
chooses on "select"; its best model is chosen on "test". ART takes tables, so it sees maps as rows
of numbers. All are scored by balanced accuracy on the same rows of "test".

The releases are those of bench_suite.py: noise of unit deviation with one leak, or with none.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.metrics import balanced_accuracy_score

from bench_suite import WRONG, Kind, made_up, shape_of
from veil.attacks.training import initialised_from
from veil.audit import audit
from veil.evidence import Evidence

ART = "art.attacks.inference.attribute_inference"
INSTALL = "pip install --no-deps adversarial-robustness-toolbox==1.20.1 six tqdm"


class Model(StrEnum):
    """What ART can learn with."""

    NETWORK = "nn"
    FOREST = "rf"
    BOOSTING = "gb"
    LOGISTIC = "lr"
    TREE = "dt"
    NEIGHBOURS = "knn"
    VECTORS = "svm"


def art_baseline() -> Any:
    """ART's class, which veil does not depend on."""
    try:
        return import_module(ART).AttributeInferenceBaseline
    except ImportError as error:
        raise SystemExit(f"bench_art: ART cannot be imported ({error}); {INSTALL}") from None


def inferred(baseline: Any, model: Model, evidence: Evidence) -> tuple[float, float]:
    """Balanced accuracy on "test" of one of ART's models, and seconds to learn and answer."""
    z = {split: x.flatten(1).numpy() for split, x in evidence.z.items()}
    s = evidence.labels["s"]
    learned: NDArray[np.float32] = np.concatenate(
        [np.column_stack([z[split], s[split]]) for split in ("attack", "select")]
    ).astype(np.float32)
    started = time.perf_counter()
    # ART draws from torch's global stream, and its scikit-learn models from numpy's.
    with initialised_from(0), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ART's own making, and none of them about the data
        attack = baseline(attack_model_type=model.value, attack_feature=learned.shape[1] - 1)
        if model is not Model.NETWORK and "random_state" in attack.attack_model.get_params():
            attack.attack_model.set_params(random_state=0)
        attack.fit(learned)
        said = attack.infer(z["test"])
    seconds = time.perf_counter() - started
    return float(balanced_accuracy_score(s["test"], said.astype(np.int64))), seconds


def compare(
    kinds: Sequence[Kind],
    rows: dict[Kind, int],
    models: Sequence[Model],
    suites: Sequence[str],
    seeds: int,
) -> None:
    """Print what each finds in every kind of release, and whether the audit is ever the weaker."""
    baseline = art_baseline()
    console = Console(width=110)
    table = Table(title="balanced accuracy on test", box=box.SIMPLE_HEAD)
    for column in ("release", "attack", "score", "95 %", "s", "of an audit: found by"):
        number = column in ("score", "95 %", "s")
        table.add_column(column, justify="right" if number else "left", no_wrap=number)
    weaker: dict[str, list[str]] = {suite: [] for suite in suites}
    slower: dict[str, list[str]] = {suite: [] for suite in suites}
    for kind in kinds:
        art = {}
        for model in models:
            evidence = made_up(kind, rows[kind])
            art[model] = score, seconds = inferred(baseline, model, evidence)
            name = f"{kind} {shape_of(evidence)}" if model == models[0] else ""
            table.add_row(name, f"ART {model}", f"{score:.3f}", "", f"{seconds:.1f}", "")
        if kind in WRONG:
            table.add_row("", "nobody beats", f"{1 - WRONG[kind]:.3f}", "", "", "")
        for suite in suites:
            started = time.perf_counter()
            found = audit(made_up(kind, rows[kind]), suite, seeds=seeds)
            seconds = time.perf_counter() - started
            worst = found.targets["s"].worst
            assert worst.score is not None
            assert worst.interval is not None
            low, high = worst.interval
            refused = "" if found.verdict == "given" else " (refused)"
            table.add_row(
                "",
                f"veil {suite}{refused}",
                f"{worst.score:.3f}",
                f"{low:.3f}-{high:.3f}",
                f"{seconds:.1f}",
                worst.attack,
                end_section=suite == suites[-1],
            )
            if max(score for score, _ in art.values()) > high:
                weaker[suite].append(kind)
            if Model.NETWORK in art and seconds >= art[Model.NETWORK][1]:
                slower[suite].append(kind)
    console.print(table)
    for suite in suites:
        print(
            f"veil {suite}: never weaker than ART by more than the interval: {_yes(weaker[suite])}"
        )
        if Model.NETWORK in models:
            print(f"veil {suite}: in less time than ART's neural one: {_yes(slower[suite])}")


def _yes(exceptions: Sequence[str]) -> str:
    return f"NO ({', '.join(exceptions)})" if exceptions else "yes"


def main(
    kind: Annotated[list[Kind] | None, typer.Option(help="of release; all by default")] = None,
    model: Annotated[list[Model] | None, typer.Option(help="of ART; all by default")] = None,
    suite: Annotated[list[str] | None, typer.Option(help="of veil; quick, full by default")] = None,
    rows: Annotated[int, typer.Option(help="releases of 128 features, in all splits")] = 8000,
    map_rows: Annotated[int, typer.Option(help="released maps, in all splits")] = 4000,
    seeds: Annotated[int, typer.Option(help="of the audit")] = 2,
    threads: Annotated[int, typer.Option(help="of torch, for both")] = 2,
) -> None:
    """Score and time the audit beside ART's attribute inference."""
    torch.set_num_threads(threads)
    art_baseline()
    audit(made_up(Kind.LINEAR, 400), "quick", seeds=1)  # imports are not what is timed
    sizes = {name: map_rows if name is Kind.MAPS else rows for name in Kind}
    compare(kind or list(Kind), sizes, model or list(Model), suite or ("quick", "full"), seeds)


if __name__ == "__main__":
    typer.run(main)
