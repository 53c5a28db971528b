"""Made-up audits with the shape of real ones: Original, Random, AIA\\T and AIA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from veil.records import Audit, Certificate, Doubt, Record, TargetSummary

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


CLIPPED = (
    "every release ends with clipping the image's whole vector to L2 norm 1 and adding Gaussian "
    "noise of standard deviation 2 to each element, and an attacker holds 50 releases of one image "
    "of a person at most"
)
DROPPED = {"dropped": "on select, after 25% of its releases and time"}


def everything() -> Audit:
    """A rebuilt audit with all that one can hold, of a random release of drawn faces."""
    given = audit(
        "AIA alpha=0.5 beta=0.5 on celeba",
        *_male(),
        *_subgroups(),
        record("Young", 0.517, select=0.521, scores={"equivalent_within": 0.0312, "auc": 0.53}),
        record("age", 0.41, metric="r2", floor=0.08, bits=0.31, scores=QUANTITY),
        record("age", 0.08, metric="r2", attack="label only", family="floor", floor=None),
        record("identity", 0.71, kind="identity", metric="verification_accuracy", scores=IDENTITY),
        record("Male+Young", 0.46, floor=0.25, ceiling=None, interval=(0.43, 0.49)),
        *_rebuilt(),
        record("Smiling", 0.83, kind="utility", attack="fresh mlp", select=0.84),
        record("Smiling", 0.81, kind="utility", attack="own head", family="own head", select=0.8),
        draws=50,
        splits={"attack": 73000, "select": 19800, "test": 3000},
    )
    certificates = (
        Certificate(
            kind="clipped gaussian",
            bound=0.73051,
            assumption=CLIPPED,
            epsilon=4.3771,
            delta=1e-5,
            releases=50,
        ),
        Certificate(
            kind="linear guardedness",
            target="Male",
            bound=None,
            attackers="linear",
            assumption="no accuracy is bounded, and nonlinear attackers are not covered",
        ),
    )
    return given.model_copy(update={"certificates": certificates, "scan": scanned(5, 27)})


QUANTITY: dict[str, float | None] = {
    "r2_unclipped": 0.41,
    "mae": 7.8312,
    "within_5": 0.38,
    "correlation": 0.64,
    "rank_correlation": 0.61,
    "train": 0.47,
}
IDENTITY: dict[str, float | None] = {
    "auc": 0.78,
    "auc_low": 0.76,
    "auc_high": 0.8,
    "eer": 0.29,
    "tar_at_far_0.01": 0.06,
    "rank1": 0.11,
}


def _male() -> list[Record]:
    """The worst attacker on the mean of 50 draws, with and without that, and dropped ones."""
    attack = "mlp 512x256 standardised"
    scores = {
        "accuracy": 0.74,
        "accuracy_low": 0.72,
        "accuracy_high": 0.76,
        "auc": 0.81,
        "auc_low": 0.79,
        "auc_high": 0.83,
        "mcc": 0.47,
        "tpr_at_fpr_0.01": 0.08,
        "bits_low": 0.14,
        "train": 0.79,
        "p_above_floor": 1e-9,
        "equivalent_within": 0.24,
    }
    worst = record(
        "Male",
        0.72,
        attack=f"{attack}, mean of 50 draws",
        select=0.73,
        scores=scores,
        bits=0.17,
        nag=0.49,
        seeds=3,
        spread=0.004,
        certified=0.73051,
        assumption=CLIPPED,
        config={"draws": 50},
        doubts=(RISING,),
    )
    fewer = [
        record(
            "Male",
            score,
            attack=attack if draws == 1 else f"{attack}, mean of {draws} draws",
            select=score + 0.005,
            config={"draws": draws} | (DROPPED if draws == 1 else {}),
        )
        for draws, score in ((1, 0.55), (4, 0.6), (16, 0.67))
    ]
    deviation = record(
        "Male",
        0.7,
        attack=f"{attack}, mean and deviation of 50 draws",
        select=0.71,
        config={"draws": 50},
    )
    hopeless = [
        record("Male", 0.6, attack=name, family="linear", select=0.95 - i / 50, config=DROPPED)
        for i, name in enumerate(("logistic raw", "logistic whitened", "random features raw"))
    ]
    floor = record("Male", 0.5, attack="majority", family="floor", interval=None, floor=None)
    ceiling = record("Male", 0.95, attack="resnet-10 on the original images", family="ceiling")
    return [worst, *fewer, deviation, *hopeless, floor, ceiling]


def _subgroups() -> list[Record]:
    return [
        record("Male where Young=no", 0.81, interval=(0.77, 0.85), n=700, ceiling=None),
        record("Male where Young=no", 0.74, attack="logistic raw", family="linear", ceiling=None),
        record("Male where Young=yes", 0.71, interval=(0.69, 0.73), n=2300, ceiling=None),
    ]


def _rebuilt() -> list[Record]:
    """Three attackers who rebuild pictures, the mean face, and the originals."""
    told = ("psnr", "ms_ssim", "perceptual", "identity_cosine", "eer", "rank1", "read_back:Male")
    figures = {
        "decoder-gan": (0.62, 18.34, 0.71, 0.31, 0.44, 0.12, 0.38, 0.91),
        "decoder-mse": (0.6, 18.9, 0.7, 0.36, 0.37, 0.17, 0.27, 0.87),
        "nearest face": (0.44, 14.2, 0.52, 0.4, 0.21, 0.31, 0.12, 0.8),
        "mean face": (0.31, 13.1, 0.35, 0.58, 0.02, 0.5, 0.01, 0.5),
    }
    beside = {"ssim_strangers": 0.29, "rank1_floor": 0.008, "tar_at_far_0.01": 0.3}
    rows = [
        record(
            "reconstruction",
            score,
            kind="reconstruction",
            metric="ssim",
            attack=f"{name}, mean of 50 draws",
            family="floor" if name == "mean face" else "reconstruction",
            floor=0.31,
            ceiling=None,
            select=1 / (1 + scores[2]),
            scores=dict(zip(told, scores, strict=True)) | beside,
            n=512,
            config={"draws": 50},
        )
        for name, (score, *scores) in figures.items()
    ]
    originals = record(
        "reconstruction",
        None,
        kind="reconstruction",
        metric="ssim",
        attack="the originals",
        family="ceiling",
        ceiling=None,
        floor=None,
        scores={"eer": 0.04, "rank1": 0.9, "read_back:Male": 0.96},
        n=512,
    )
    return [*rows, originals]


def scanned(leaking: int, others: int) -> tuple[Record, ...]:
    """A scan of made-up labels, of which the first `leaking` lie above their floor."""
    level = 1 - 0.05 / (leaking + others)
    return tuple(
        record(
            f"Undeclared_{i:02}",
            score,
            interval=(score - 0.03, score + 0.03),
            family="scan",
            config={"level": level},
        )
        for i, score in enumerate(
            [0.81 - 0.05 * i for i in range(leaking)] + [0.52 - 0.002 * i for i in range(others)]
        )
    )
