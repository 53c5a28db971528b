"""Made-up audits with the shape of real ones: Original, Random, AIA\\T and AIA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from veil.records import Audit, Doubt, Record, TargetSummary

RUNS = ("Original", "Random", "AIA\\T", "AIA")
CEILING = {"Male": 0.953, "matching": 0.872}
# run -> (worst attacker, task-copying floor, own head, fresh head, paper's privacy and utility)
FIGURES = {
    "Original": (0.934, 0.541, 0.829, 0.834, 0.7801, 0.8887),
    "Random": (0.681, 0.522, 0.583, 0.611, 0.5212, 0.5689),
    "AIA\\T": (0.742, 0.528, 0.661, 0.694, 0.6253, 0.6934),
    "AIA": (0.778, 0.537, 0.803, 0.809, 0.6496, 0.7864),
}
ATTACKERS = (
    ("mlp-256 standardised", "mlp", 0.0),
    ("conv spectrum", "conv", -0.012),
    ("boosting-200", "boosting", -0.021),
    ("defender's architecture", "mirror", -0.024),
    ("logistic whitened", "linear", -0.047),
    ("warm start", "mlp", -0.05),
    ("random features 2048", "kernel", -0.06),
    ("gallery by identity", "gallery", -0.07),
    ("k-NN 15", "knn", -0.082),
    ("value grid", "patterns", -0.15),
    ("exact zeros", "patterns", -0.19),
)
ONE_DRAW = Doubt(id="one-draw", text="A random release was attacked with 1 draw per image, not 16.")
RISING = Doubt(id="still-rising", text="The score rose by 0.021 when the releases were doubled.")


def record(target: str, score: float | None, **given: Any) -> Record:
    """A record of an attribute attacker; `given` overrides."""
    fields: dict[str, Any] = {
        "kind": "attribute",
        "attack": "mlp-256 standardised",
        "family": "mlp",
        "metric": "balanced_accuracy",
        "interval": None if score is None else (score - 0.015, score + 0.015),
        "floor": 0.5,
        "ceiling": 0.95,
        "n": 3000,
    }
    return Record(target=target, score=score, **(fields | given))


def audit(
    name: str, *records: Record, refusals: tuple[Doubt, ...] = (), **provenance: Any
) -> Audit:
    """An audit whose worst record of each target is the first given."""
    worst: dict[str, Record] = {}
    for row in records:
        worst.setdefault(row.target, row)
    return Audit(
        schema=1,
        name=name,
        verdict="refused" if refusals else "given",
        refusals=refusals,
        targets={k: TargetSummary(kind=r.kind, worst=r) for k, r in worst.items()},
        records=records,
        provenance={"suite": "standard"} | provenance,
    )


def realistic(run: str) -> Audit:
    """One of RUNS on a made-up CelebA: Male attacked, matching meant to survive."""
    leak, copied, own, fresh, paper_leak, paper_keep = FIGURES[run]
    leaks = [
        record(
            "Male",
            round(leak + lag, 4),
            attack=attack,
            family=family,
            select=round(leak + lag + 0.006, 4),
            floor=copied,
            ceiling=CEILING["Male"],
            seeds=3,
            spread=0.004 + abs(lag) / 20,
            nag=round((leak + lag - 0.5) / (CEILING["Male"] - 0.5), 3),
            bits=round(max(0.0, leak + lag - 0.5) ** 2 * 3, 3) if family != "patterns" else None,
            scores={
                "accuracy": round(leak + lag + 0.01, 4),
                "auc": round(min(0.995, leak + lag + 0.07), 4),
                "mcc": round(2 * (leak + lag) - 1, 4),
                "tpr_at_fpr_0.01": round(max(0.0, leak + lag - 0.5) / 2, 4),
            },
            reported=paper_leak if lag == 0.0 else None,
            doubts=(ONE_DRAW, RISING) if run == "Random" and lag == 0.0 else (),
        )
        for attack, family, lag in ATTACKERS
    ]
    yardsticks = {"majority": 0.5, "label-only": 0.512, "copy-the-task-head": copied}
    floors = [
        record("Male", score, attack=name, family="floor", interval=None, floor=None, ceiling=None)
        for name, score in yardsticks.items()
    ]
    ceiling = record(
        "Male", CEILING["Male"], attack="ResNet-18 on the original images", family="ceiling"
    )
    kept: dict[str, Any] = {
        "kind": "utility",
        "metric": "verification_accuracy",
        "ceiling": CEILING["matching"],
        "n": 6000,
        "reported": paper_keep,
    }
    heads = [
        record("matching", fresh, attack="fresh mlp", family="mlp", select=fresh + 0.004, **kept),
        record("matching", own, attack="own head", family="own head", select=own, **kept),
        record(
            "matching", fresh - 0.02, attack="fresh linear", family="linear", select=0.5, **kept
        ),
        record("matching", 0.5, attack="majority", family="floor", **kept),
    ]
    return audit(
        f"{run} on celeba",
        *leaks,
        *floors,
        ceiling,
        *heads,
        private=["Male"],
        utility=["matching"],
        splits={"fit": 89000, "attack": 73000, "select": 19800, "test": 3000},
        seeds=[11, 12, 13],
        notes=["Split 'attack' is 45 % of the people of the official train partition."],
        versions={"veil": "0.1.0", "torch": "2.13.0", "python": "3.11"},
        hashes={"images": "9f3b2c" * 10},
        seconds=412.7,
    )


def write_run(folder: Path, given: Audit, extras: bool = False) -> Path:
    """A run folder; with `extras` also run.json, samples.npz and metrics.jsonl."""
    folder.mkdir()
    folder.joinpath("audit.json").write_text(given.dumps(), "utf-8")
    if not extras:
        return folder
    about = {"name": given.name, "method": "aia", "config": {"alpha": 0.5, "beta": None}, "k": 1}
    folder.joinpath("run.json").write_text(json.dumps(about), "utf-8")
    np.savez(folder / "samples.npz", **pictures())  # type: ignore[arg-type]
    folder.joinpath("metrics.jsonl").write_text("\n".join(metrics()) + "\n", "utf-8")
    return folder


def pictures(count: int = 8, side: int = 32) -> dict[str, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Discs in front of gradients, blurred for the reconstruction."""
    rng = np.random.default_rng(0)
    v, u = np.mgrid[0:side, 0:side] / side
    original = np.zeros((count, side, side, 3), np.uint8)
    for image in original:
        disc = (u - rng.uniform(0.4, 0.6)) ** 2 + (v - rng.uniform(0.4, 0.6)) ** 2 < 0.09
        for channel in range(3):
            back = rng.uniform(40, 120) + 80 * u
            image[:, :, channel] = np.where(disc, rng.uniform(120, 250), back)
    coarse = original[:, ::4, ::4].repeat(4, axis=1).repeat(4, axis=2)
    overlay = original.copy()
    overlay[..., 0] = np.maximum(overlay[..., 0], (255 * np.exp(-8 * (u - 0.5) ** 2)).astype("u1"))
    return {"original": original, "reconstruction": coarse, "gradcam": overlay}


def metrics() -> list[str]:
    """metrics.jsonl of two stages."""
    lines = []
    terms = {
        "pretrain": ("autoencoder/reconstruction", "adversary/inference"),
        "adversarial": (
            "adversary/inference",
            "autoencoder/reconstruction",
            "autoencoder/utility",
            "autoencoder/privacy",
        ),
    }
    for stage, names in terms.items():
        for epoch in range(1, 21):
            for split, gap in (("fit", 0.0), ("select", 0.04)):
                line: dict[str, Any] = {"stage": stage, "epoch": epoch, "step": epoch * 100}
                line["split"] = split
                for number, name in enumerate(names):
                    sign = -1 if name.endswith("privacy") else 1
                    line[name] = sign * (0.3 + gap + (0.5 + 0.1 * number) * 0.85**epoch)
                lines.append(json.dumps(line))
    return lines
