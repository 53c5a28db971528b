"""What a head is asked to say about a label, whatever its kind: outputs, loss, answer, sampling.

Classes get one logit each and cross-entropy; identity an embedding and the contrastive loss of
face matching (AIA, eq. 7); continuous labels and landmarks estimates in units of their deviation
on `fit` and the squared error (NARL, UAI 2023, section 4.3).
"""

from __future__ import annotations

import torch
from torch import Tensor

from veil.data.batch import Batch
from veil.data.dataset import LabelKind
from veil.errors import VeilError
from veil.losses import cross_entropy, matching_loss
from veil.method import Problem, Sampling

EMBEDDING = 128
MARGIN = 2.0


def outputs_for(problem: Problem, name: str) -> int:
    """How many numbers a head gives for a label: K, `EMBEDDING`, 1, or 2k of k landmarks."""
    label = problem.labels[name]
    if label.is_class:
        return len(label.classes)
    return EMBEDDING if label.kind == "identity" else len(problem.scales[name].mean)


def label_loss(problem: Problem, name: str, output: Tensor, batch: Batch) -> Tensor:
    """The loss of a head's outputs (n, `outputs_for`) for a label: a scalar, float32 or better.

    Cross-entropy in nats; matching at margin 2 on unnormalised embeddings; the mean squared error
    in units of the label's deviation, averaged over landmarks' coordinates.
    """
    kind = problem.labels[name].kind
    output = output if output.dtype == torch.float64 else output.float()
    if kind == "identity":
        return matching_loss(output, batch[name], MARGIN)
    if kind in ("continuous", "landmarks"):
        mean, deviation = scale_of(problem, name, output)
        wanted = batch[name].reshape(len(output), -1)
        return (output - (wanted - mean) / deviation).square().mean()
    return cross_entropy(output, batch[name])


def answer_of(problem: Problem, name: str, output: Tensor) -> Tensor:
    """A head's outputs as `Method.answers` gives them: numbers in the label's own units."""
    if name not in problem.scales:
        return output
    mean, deviation = scale_of(problem, name, output)
    return output * deviation + mean


def scale_of(problem: Problem, name: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a label of numbers, (k,) each, where and as `like` is."""
    scale = problem.scales[name]
    return (
        torch.tensor(scale.mean, dtype=like.dtype, device=like.device),
        torch.tensor(scale.deviation, dtype=like.dtype, device=like.device),
    )


def sampling_for(problem: Problem) -> Sampling:
    """Pairs of photos of one person where faces are to be matched, else single images."""
    return "pairs" if "identity" in problem.utility else "images"


def refuse_kinds(
    who: str,
    problem: Problem,
    private: tuple[LabelKind, ...] = ("binary", "multiclass"),
    utility: tuple[LabelKind, ...] = (
        "binary",
        "multiclass",
        "continuous",
        "landmarks",
        "identity",
    ),
) -> None:
    """Refuse a problem with labels of kinds that the method cannot hide or keep, in one line.

    Raises:
        VeilError: names the method, the label, its kind and the kinds that would do.
    """
    for doing, names, kinds in (
        ("hides", problem.private, private),
        ("keeps", problem.utility, utility),
    ):
        for name in names:
            kind = problem.labels[name].kind
            if kind not in kinds:
                raise VeilError(f"{who} {doing} {_either(kinds)} labels; '{name}' is {kind}")


def _either(kinds: tuple[LabelKind, ...]) -> str:
    *others, last = kinds
    return f"{', '.join(others)} or {last}" if others else last
