"""Which of its figures a record shows in a table; the others stand in audit.json."""

from __future__ import annotations

from collections.abc import Sequence

from veil.records import Record
from veil.report.words import READ_BACK

# A name that ends in "*" stands for all that begin so.
OF_CLASSES = ("accuracy", "auc", "mcc", "tpr_at_fpr_*", "train")
OF_IDENTITY = ("auc", "eer", "tar_at_far_*", "rank1")
OF_QUANTITIES = ("mae", "nme", "z_mse", "correlation", "train")
OF_PICTURES = (
    "psnr",
    "ms_ssim",
    "perceptual",
    "identity_cosine",
    "feature_similarity",
    "eer",
    "rank1",
    f"{READ_BACK}*",
)


def columns(records: Sequence[Record]) -> list[str]:
    """Names of the scores that a table of these records of one target shows, in order."""
    present = list(dict.fromkeys(key for record in records for key in record.scores))
    found = []
    for name in _chosen(records[0]) if records else ():
        prefix = name.removesuffix("*")
        found += [
            k for k in sorted(present) if k == name or (prefix != name and k.startswith(prefix))
        ]
    return found


def brief(record: Record) -> tuple[str, str]:
    """The two figures of a narrow table: names of scores, or "bits"."""
    if record.kind == "reconstruction":
        return "eer", "rank1"
    if record.metric == "verification_accuracy":
        return "auc", "eer"
    return ("mae" if record.metric == "r2" else "auc"), "bits"


def figure_of(record: Record, name: str) -> float | None:
    """A score by name, or the record's "bits"."""
    return record.bits if name == "bits" else record.scores.get(name)


def _chosen(record: Record) -> tuple[str, ...]:
    if record.kind == "reconstruction":
        return OF_PICTURES
    if record.kind == "identity" or record.metric == "verification_accuracy":
        return OF_IDENTITY
    return OF_QUANTITIES if record.metric == "r2" else OF_CLASSES
