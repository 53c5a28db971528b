"""How numbers, metrics and targets are written, in prose and in tables."""

from __future__ import annotations

import math

DASH = "–"
READ_BACK = "read_back:"
WITHIN = "within_"
METRICS = {
    "auc": "AUC",
    "mcc": "MCC",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "psnr": "PSNR",
    "r2": "R²",
    "mae": "mean error",
    "nme": "NME",
    "z_mse": "mean squared z-score error",
    "eer": "EER",
    "rank1": "rank-1",
    "r2_unclipped": "R², not cut at 0",
    "ssim_strangers": "SSIM with somebody else's picture",
    "identity_cosine_floor": "identity cosine of two people",
    "rank1_floor": "rank-1 of a guess",
    "bits_low": "bits, one-sided 95 % lower bound",
    "p_above_floor": "p of a score that is not above the floor",
    "equivalent_within": "margin of equivalence to the floor, at 5 %",
}
DIGITS = {"psnr": 1, "mae": 2}  # in dB, and in units of the quantity
RATES = {"tpr_at_fpr_": "TPR", "tar_at_far_": "TAR"}


def figure(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals; an en dash where there is none."""
    return DASH if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def at_most(value: float, digits: int = 3) -> str:
    """A bound from above with fixed decimals, rounded up: it must not be understated."""
    scale: int = 10**digits
    return figure(math.ceil(round(scale * value, 6)) / scale, digits)


def score(value: float | None, name: str) -> str:
    """A figure of the metric `name`, with as many decimals as its unit deserves."""
    return figure(value, DIGITS.get(name, 3))


def interval(bounds: tuple[float, float] | None, digits: int = 3) -> str:
    """An interval ("0.75–0.81"); an en dash where there is none."""
    return DASH if bounds is None else DASH.join(figure(bound, digits) for bound in bounds)


def metric(name: str) -> str:
    """A metric's name in prose ("balanced_accuracy" -> "balanced accuracy")."""
    for prefix, rate in RATES.items():
        if name.startswith(prefix):
            return f"{rate}@{name.removeprefix(prefix)}"
    if name.startswith(READ_BACK):
        return f"{name.removeprefix(READ_BACK)} read back"
    if name.startswith(WITHIN):
        return f"share within {name.removeprefix(WITHIN)} units"
    return METRICS.get(name, name.replace("_", " "))


def capitalized(text: str) -> str:
    """`text` with a capital first letter, the rest as it is."""
    return text[:1].upper() + text[1:]


def listed(parts: list[str]) -> str:
    """Some things in a row ("a, b and c")."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
