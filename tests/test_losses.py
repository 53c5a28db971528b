"""Shared losses against slow loops, recorded values and finite differences.

Recorded values: Hadsell et al. 2006, eq. 4, and Roy and Boddeti 2019, computed in float64.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from veil import losses

# D, y (1 = different), loss of the pair at margin 2.
PAIRS = (
    (0.0, 1, 2.0),
    (2.0, 1, 0.0),
    (0.4027797279832527, 1, 1.2755562986706264),
    (2.0548590144043857, 1, 0.0),
    (1.5812004416588006, 0, 1.250097418350993),
    (2.555178945638306, 0, 3.2644697221166425),
    (0.0, 0, 0.0),
)


def test_contrastive_equals_recorded_pairs_and_their_mean() -> None:
    distance = torch.tensor([d for d, _, _ in PAIRS], dtype=torch.float64)
    different = torch.tensor([y for _, y, _ in PAIRS])
    for i, (_, _, expected) in enumerate(PAIRS):
        one = losses.contrastive(distance[i : i + 1], different[i : i + 1], margin=2.0)
        assert one.item() == pytest.approx(expected, rel=1e-12)
    mean = sum(loss for _, _, loss in PAIRS) / len(PAIRS)
    assert losses.contrastive(distance, different, 2.0).item() == pytest.approx(mean, rel=1e-12)
    assert losses.contrastive(distance, different.bool(), 2.0).item() == pytest.approx(mean)


def test_the_other_label_convention_is_another_loss() -> None:
    distance, different = torch.tensor([0.1, 3.0]), torch.tensor([0, 1])
    assert losses.contrastive(distance, different, 2.0) < 0.01
    assert losses.contrastive(distance, 1 - different, 2.0) > 1.0


def test_contrastive_pulls_one_person_together_and_pushes_two_apart() -> None:
    distance = torch.tensor([1.0, 1.0, 3.0], requires_grad=True)
    losses.contrastive(distance, torch.tensor([0, 1, 1]), 2.0).backward()  # type: ignore[no-untyped-call]
    assert distance.grad is not None
    assert distance.grad.tolist() == pytest.approx([1 / 3, -1 / 3, 0.0])


def test_distance_equals_a_slow_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(5, 2, 3, 3, generator=rng, dtype=torch.float64) for _ in "ab")
    slow = [
        math.sqrt(
            sum(
                (p - q) ** 2
                for p, q in zip(u.flatten().tolist(), v.flatten().tolist(), strict=True)
            )
        )
        for u, v in zip(a, b, strict=True)
    ]
    assert losses.pair_distance(a, b).tolist() == pytest.approx(slow)
    a.requires_grad_()
    assert gradcheck(losses.pair_distance, (a, b))


@pytest.mark.parametrize("same_rows", [slice(0, 1), slice(0, 3)])
def test_identical_pairs_cost_nothing_and_have_a_finite_gradient(same_rows: slice) -> None:
    a = torch.randn(3, 4, generator=torch.Generator().manual_seed(1), requires_grad=True)
    b = torch.zeros(3, 4)
    b[same_rows] = a.detach()[same_rows]
    distance = losses.pair_distance(a, b)
    assert distance[same_rows].eq(0).all()
    losses.contrastive(distance, torch.zeros(3), 2.0).backward()  # type: ignore[no-untyped-call]
    assert a.grad is not None
    assert a.grad.isfinite().all()
    # The plain square root shows why: 0 * inf.
    naive = (a - b).square().sum(1).sqrt().square().sum()
    assert torch.autograd.grad(naive, a)[0].isnan().any()


def test_entropy_of_recorded_logits() -> None:
    logits = torch.tensor([[0.0, 0.0], [2.59729, 1.289827], [-0.890374, 0.44831]])
    expected = (math.log(2) + 0.5177890 + 0.5109289) / 3
    assert losses.entropy(logits).item() == pytest.approx(expected, abs=1e-5)
    assert losses.entropy(torch.zeros(4, 7)).item() == pytest.approx(math.log(7))


def test_entropy_is_exact_and_differentiable_for_saturated_logits() -> None:
    logits = torch.tensor([[60.0, 0.0], [0.0, 80.0], [50.0, 0.0]], dtype=torch.float64)
    assert losses.entropy(logits).item() == pytest.approx(3.2147582101555984e-21, rel=1e-9)
    logits.requires_grad_()
    losses.entropy(logits * 1e4).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_minimising_minus_entropy_raises_doubt() -> None:
    logits = torch.tensor([[3.0, -1.0, 0.5]], requires_grad=True)
    before = losses.entropy(logits)
    (gradient,) = torch.autograd.grad(-before, logits)
    assert losses.entropy(logits - 0.1 * gradient) > before


def test_cross_entropy_leaves_missing_labels_out() -> None:
    rng = torch.Generator().manual_seed(2)
    logits = torch.randn(6, 5, generator=rng, dtype=torch.float64)
    labels = torch.tensor([0, -1, 4, 2, -1, 1])
    slow = []
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        if label >= 0:
            slow.append(math.log(sum(map(math.exp, row))) - row[label])
    assert losses.cross_entropy(logits, labels).item() == pytest.approx(sum(slow) / len(slow))


def test_cross_entropy_without_any_label_is_zero_and_moves_nothing() -> None:
    logits = torch.randn(3, 2, generator=torch.Generator().manual_seed(3), requires_grad=True)
    loss = losses.cross_entropy(logits, torch.full((3,), -1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0.0
    assert gradient.eq(0).all()


def test_image_cross_entropy_has_the_sign_and_order_the_misprint_lacks() -> None:
    rng = torch.Generator().manual_seed(4)
    x, logits = torch.rand(2, 1, 3, 3, generator=rng), torch.randn(2, 1, 3, 3, generator=rng)
    slow = []
    for pixel, logit in zip(x.flatten().tolist(), logits.flatten().tolist(), strict=True):
        drawn = 1 / (1 + math.exp(-logit))
        slow.append(-(pixel * math.log(drawn) + (1 - pixel) * math.log(1 - drawn)))
    loss = losses.binary_cross_entropy_image(logits, x)
    assert loss.item() == pytest.approx(sum(slow) / len(slow), rel=1e-5)
    # Least at x' = x, where it is the pixels' entropy: exchanging the arguments would move that.
    perfect = torch.logit(x).requires_grad_()
    (gradient,) = torch.autograd.grad(losses.binary_cross_entropy_image(perfect, x), perfect)
    assert gradient.abs().max() < 1e-6


def test_a_scaled_gradient_is_multiplied_on_the_way_back() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    y = losses.scale_gradient(x, -0.5)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad((y**2).sum(), x)
    torch.testing.assert_close(gradient, -0.5 * 2 * x.detach())
    (gradient,) = torch.autograd.grad((losses.scale_gradient(x, 0.0) ** 2).sum(), x)
    assert torch.equal(gradient, torch.zeros(2))
