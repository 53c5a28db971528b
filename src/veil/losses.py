"""Loss functions that two or more papers share: pure, each with its formula and shapes.

Every loss is the mean over the batch and is minimised by whoever uses it as it stands.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from veil.data.dataset import MISSING


def pair_distance(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distance of each pair, D = |a - b|, with gradient 0 (not NaN) where a = b.

    Args:
        a: (n, ...); b: the same shape.

    Returns:
        (n,) distances.
    """
    squared = (a - b).flatten(1).square().sum(dim=1)
    apart = squared > 0
    # sqrt has an infinite slope at 0, and 0 * inf is NaN: sqrt must never see the zeros.
    return torch.where(apart, torch.where(apart, squared, 1.0).sqrt(), 0.0)


def contrastive(distance: Tensor, different: Tensor, margin: float) -> Tensor:
    """Mean of (1-y) D^2/2 + y max(0, m-D)^2/2, y = 1 for *different* people, 0 for the same.

    Hadsell, Chopra and LeCun 2006, eq. 4; AIA (arXiv 2009.14376), eq. 7. An identical pair of one
    person costs 0; two people further apart than the margin cost 0.

    Args:
        distance: (n,) D, as from `pair_distance`.
        different: (n,) y, bool or 0/1.
        margin: m > 0, in the units of D.
    """
    y = different.to(distance.dtype)
    pull, push = distance.square(), (margin - distance).clamp_min(0).square()
    return ((1 - y) * pull + y * push).mean() / 2


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy in nats, -sum_k p_k log p_k with p = softmax(logits); in [0, log K].

    The MaxEnt encoder minimises `-entropy(...)`, so that the adversary's doubt rises (Roy and
    Boddeti, CVPR 2019). Exact for saturated logits: nothing is added inside the logarithm.

    Args:
        logits: (n, K).
    """
    log_p = F.log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log softmax(logits)[label] over the rows whose label is known; 0 if none is.

    Args:
        logits: (n, K).
        labels: (n,) int64 classes 0..K-1, -1 where missing.
    """
    known = (labels != MISSING).sum().clamp_min(1)
    return F.cross_entropy(logits, labels, ignore_index=MISSING, reduction="sum") / known


def binary_cross_entropy_image(logits: Tensor, x: Tensor) -> Tensor:
    """-mean[x log x' + (1-x) log(1-x')] over all pixels, x' = sigmoid(logits).

    AIA (arXiv 2009.14376), eq. 5 as it was meant: printed without the minus and with x and x'
    exchanged. Its minimum, at x' = x, is the pixels' own entropy, not 0.

    Args:
        logits: (n, c, h, w) before the sigmoid; x: the same shape, in [0, 1].
    """
    return F.binary_cross_entropy_with_logits(logits, x)


def matching_loss(embedding: Tensor, identity: Tensor, margin: float) -> Tensor:
    """`contrastive` over a batch of pairs: (i, i + n/2) of one person, (i, i + 1 + n/2) of two.

    Args:
        embedding: (n, d), n even, of a batch sampled as "pairs".
        identity: (n,) people; they decide what "same" is.
        margin: m, in units of embedding distance.
    """
    half = len(embedding) // 2
    left = torch.cat([embedding[:half], embedding[:half]])
    right = torch.cat([embedding[half:], embedding[half:].roll(-1, 0)])
    left_person = torch.cat([identity[:half], identity[:half]])
    right_person = torch.cat([identity[half:], identity[half:].roll(-1, 0)])
    different = (left_person != right_person).to(embedding.dtype)
    return contrastive(pair_distance(left, right), different, margin)


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """x itself, whose gradient is multiplied by a factor on the way back.

    A head that minimises its loss behind it lets those before it minimise `factor` times that
    loss, in one backward pass: below 0 they maximise it (gradient reversal, Ganin & Lempitsky
    2015), at 0 they are left alone.
    """
    scaled: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]
    return scaled


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * gradients[0], None
