"""A made-up audit with all that one can hold: parts, pictures rebuilt, certificates, a scan."""

from __future__ import annotations

from report_fakes import RISING, audit, record

from veil.records import Audit, Certificate, Record

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
