"""StarGAN against its paper: equations by slow loops, directions of moves, tables 4 and 5."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.game import channels_last, rounds, seats_for, update
from veil.method import Move, Problem
from veil.methods.stargan import (
    Generator,
    InstanceNorm,
    StarGAN,
    StarGANConfig,
    critic_loss,
    gradient_penalty,
    reconstruction_loss,
)
from veil.release import released
from veil.seeds import generator

SIZE = 16
SMALL: dict[str, Any] = {
    "channels": 4,
    "blocks": 1,
    "critic_channels": 4,
    "critic_layers": 3,
    "n_critic": 2,
}
BATCH = tiny.faces(size=SIZE).batch(slice(None))
SEVERAL = tiny.problem(("Male", "Race"), size=SIZE)


def stargan(problem: Problem | None = None, seed: int = 0, **settings: Any) -> StarGAN:
    torch.manual_seed(seed)
    return StarGAN(StarGANConfig(**SMALL | settings), problem or tiny.problem(size=SIZE))


def play(method: StarGAN, turns: int = 1, batch: Batch = BATCH) -> list[dict[str, float]]:
    """Rounds of training; the terms of every move."""
    seats = seats_for(method.players)
    method.train()
    return [
        update(seats, moves)
        for turn in range(turns)
        for moves in rounds(method.stages()[0], batch, generator(0, turn), "fp32")
    ]


# Equations


def test_eq_8_rewards_a_critic_that_scores_pictures_higher() -> None:
    real, fake = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), torch.zeros(3, 1, 1, 1) - 1
    assert critic_loss(real, fake).item() == pytest.approx(-1 - 2)


class Planes(nn.Module):
    """D_src of known slope: two patches that score w x and 3 w x of the first pixel's channels."""

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([slope, 0.0, 0.0]))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        score = (x[:, :, 0, 0] * self.w).sum(dim=1)
        return torch.stack([score, 3 * score], dim=1).view(len(x), 1, 1, 2), None


@pytest.mark.parametrize("learning", [True, False])
def test_the_penalty_of_a_plane_is_its_slopes_distance_from_one(learning: bool) -> None:
    """Mean over two patches: the slope is 2 w, so the penalty (2 w - 1)^2 and its gradient known.

    Without gradients, as on `select`, it is the same number.
    """
    x, fake, mix = torch.rand(4, 3, 2, 2), torch.rand(4, 3, 2, 2), torch.rand(4, 1, 1, 1)
    for slope in (0.5, 0.8, 2.0):
        critic = Planes(slope)
        with torch.set_grad_enabled(learning):
            penalty = gradient_penalty(critic, x, fake, mix)
        assert penalty.item() == pytest.approx((2 * slope - 1) ** 2, abs=1e-6)
        assert penalty.requires_grad is learning
        if learning:
            (found,) = torch.autograd.grad(penalty, critic.w)
            assert found[0].item() == pytest.approx(4 * (2 * slope - 1), abs=1e-5)


def test_the_penalty_looks_between_pictures_and_generated_ones() -> None:
    """With D(x) = |x|^2 / 2 the slope is the mixed picture itself, found here one by one."""

    class Bowl(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, None]:
            return x.square().sum(dim=(1, 2, 3), keepdim=True) / 2, None

    rng = torch.Generator().manual_seed(0)
    x, fake = torch.rand(2, 3, 1, 2, 2, generator=rng).unbind()
    mix = torch.rand(3, 1, 1, 1, generator=rng)
    expected = 0.0
    for one, other, share in zip(x, fake, mix.flatten().tolist(), strict=True):
        mixed = [
            share * a + (1 - share) * b
            for a, b in zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)
        ]
        expected += (math.sqrt(sum(v * v for v in mixed)) - 1) ** 2 / 3
    assert gradient_penalty(Bowl(), x, fake, mix).item() == pytest.approx(expected, rel=1e-5)


def test_the_penalty_of_a_flat_critic_has_a_finite_gradient() -> None:
    critic = Planes(0.0)
    x = torch.rand(2, 3, 2, 2)
    penalty = gradient_penalty(critic, x, x, torch.rand(2, 1, 1, 1))
    assert penalty.item() == 1
    (found,) = torch.autograd.grad(penalty, critic.w)
    assert bool(torch.isfinite(found).all())


@torch.no_grad()
def test_eq_5_and_6_are_the_weighted_sums_of_their_parts() -> None:
    """Against a loop over pictures, in eval mode, where nothing is mirrored."""
    method = stargan(SEVERAL, lam_cls=0.7, lam_rec=3.0, lam_gp=0.0, n_critic=1).eval()
    (critic,), (gen,) = (
        m if isinstance(m, tuple) else (m,) for m in method.round(BATCH, generator(0))
    )
    x = 2 * BATCH.x - 1
    s_new = method.obfuscator.draw(x, generator(0))
    obfuscator, discriminator = method.obfuscator, method.discriminator
    expected: dict[str, float] = dict.fromkeys([*critic.terms, *gen.terms], 0.0)
    n = len(x)
    for i in range(n):
        one, drawn = x[i : i + 1], {name: s[i : i + 1] for name, s in s_new.items()}
        own = {name: BATCH[name][i : i + 1] for name in ("Male", "Race")}
        fake = obfuscator.generator(one, obfuscator.target(drawn))
        back = obfuscator.generator(fake, obfuscator.target(own))
        real_score, real_logits = discriminator(one)
        fake_score, fake_logits = discriminator(fake)
        expected["critic"] += (fake_score.mean().item() - real_score.mean().item()) / n
        expected["realism"] -= fake_score.mean().item() / n
        expected["reconstruction"] += 3 * (back - one).abs().mean().item() / n
        for name, seen, made in zip(("Male", "Race"), real_logits, fake_logits, strict=True):
            for key, logits, label in (
                (f"classification {name}", seen, own[name]),
                (f"replacement {name}", made, drawn[name]),
            ):
                p = [math.exp(v) for v in logits[0].tolist()]
                expected[key] -= 0.7 * math.log(p[int(label)] / sum(p)) / n
    found = {name: term.item() for name, term in (critic.terms | gen.terms).items()}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_eq_4_is_the_mean_absolute_difference_in_the_papers_units() -> None:
    assert reconstruction_loss(torch.full((1, 1, 2, 2), -1.0), torch.ones(1, 1, 2, 2)).item() == 2


# Directions


def test_a_discriminator_step_lowers_its_loss() -> None:
    settings: dict[str, dict[str, Any]] = {
        "classification Male": {"lam_cls": 1000.0, "lam_gp": 0.0},
        "penalty": {"lam_cls": 0.0, "lam_gp": 1000.0},
    }
    for term, weights in settings.items():
        method = stargan(n_critic=1, **weights).eval()
        seat = {"discriminator": seats_for(method.players)["discriminator"]}
        before = next(iter(method.round(BATCH, generator(0))))
        assert isinstance(before, Move)
        update(seat, [before])
        after = next(iter(method.round(BATCH, generator(0))))
        assert isinstance(after, Move)
        assert after.terms[term] < before.terms[term]


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
def test_a_generator_step_makes_pictures_show_what_was_drawn(sign: int) -> None:
    """By the discriminator's own classification; the flipped sign is the negative control."""
    method = stargan(lam_rec=0.0, lam_cls=1000.0, lr=2e-3).eval()
    seat = {"generator": seats_for(method.players)["generator"]}

    def terms() -> dict[str, Tensor]:
        *_, last = method.round(BATCH, generator(0))
        assert isinstance(last, Move)
        return last.terms

    before = terms()
    update(seat, [Move("generator", {"replacement": sign * before["replacement Male"]})])
    assert sign * (terms()["replacement Male"] - before["replacement Male"]) < 0


def test_a_generator_step_for_reconstruction_lowers_it() -> None:
    method = stargan(lam_rec=1000.0, lam_cls=0.0)
    key = "generator/reconstruction"
    losses = [terms[key] for terms in play(method, 8) if key in terms]
    assert losses[-1] < losses[0]


def test_the_generator_moves_once_after_n_critic_moves_on_parts_of_the_batch() -> None:
    method = stargan(n_critic=5, batch_size=4)
    assert method.stages()[0].batch_size == 20
    order = [move.player for move in method.round(BATCH, generator(0)) if isinstance(move, Move)]
    assert order == ["discriminator"] * 5 + ["generator"]
    few = tiny.faces(people=1, size=SIZE).batch(slice(None))  # two photos for five parts
    order = [move.player for move in method.round(few, generator(0)) if isinstance(move, Move)]
    assert order == ["discriminator"] * 2 + ["generator"]


def test_the_generators_terms_do_not_reach_the_labels_of_useful_attributes() -> None:
    """Other useful labels, the same moves: they take no part in training."""
    shuffled = Batch(BATCH.x, {**BATCH.labels, "Smiling": 1 - BATCH["Smiling"]})
    assert play(stargan(), 2) == play(stargan(), 2, shuffled)


def test_mirroring_is_for_training_only() -> None:
    method = stargan(n_critic=1, batch_size=len(BATCH))
    seen: list[Tensor] = []
    method.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = 2 * BATCH.x - 1
    for training in (False, True):
        next(iter(method.train(training).round(BATCH, generator(0))))
    as_it_is, mirrored = (read[: len(x)] for read in (seen[0], seen[len(seen) // 2]))
    assert torch.equal(as_it_is, x)
    turned = (mirrored == x.flip(3)).all(dim=(1, 2, 3))
    assert bool((turned ^ (mirrored == x).all(dim=(1, 2, 3))).all())
    assert 0 < int(turned.sum()) < len(x)


# The release


def test_what_is_drawn_is_uniform_and_independent_of_the_picture() -> None:
    method = stargan(SEVERAL)
    x = torch.zeros(6000, 3, 1, 1)
    drawn = method.obfuscator.draw(x, generator(1))
    for name, k in (("Male", 2), ("Race", 3)):
        share = torch.bincount(drawn[name], minlength=k) / len(x)
        assert share.tolist() == pytest.approx([1 / k] * k, abs=5 / math.sqrt(4 * len(x)))
    together = torch.bincount(3 * drawn["Male"] + drawn["Race"], minlength=6) / len(x)
    assert together.tolist() == pytest.approx([1 / 6] * 6, abs=0.03)
    again = method.obfuscator.draw(1 - x[:7], generator(1))
    assert all(torch.equal(again[name], drawn[name][:7]) for name in drawn)


def test_the_target_is_0_1_for_binary_and_one_hot_for_several_classes() -> None:
    obfuscator = stargan(SEVERAL).obfuscator
    s = {"Male": torch.tensor([0, 1]), "Race": torch.tensor([2, 0])}
    assert obfuscator.target(s).tolist() == [[0, 0, 0, 1], [1, 1, 0, 0]]


@pytest.mark.parametrize(("size", "channels"), [(16, 3), (18, 1), (19, 3)])
def test_releases_are_pictures_of_the_same_size_whatever_the_side(size: int, channels: int) -> None:
    method = stargan(tiny.problem(size=size, channels=channels))
    x = 20 * torch.randn(3, channels, size, size)  # far outside of [0, 1]: tanh must hold
    z = released(method.obfuscator, x, generator(0))
    assert z.shape == x.shape
    assert 0 <= float(z.min()) <= float(z.max()) <= 1
    assert method.obfuscator.pictures


def test_what_was_drawn_decides_what_is_made() -> None:
    obfuscator = stargan().obfuscator.eval()
    x = BATCH.x[:1].expand(16, -1, -1, -1)
    z, s_new = obfuscator.replace(x, generator(0))
    first, second = (z[s_new["Male"] == k] for k in (0, 1))
    assert torch.allclose(first, first[:1].expand_as(first), atol=1e-6)
    assert not torch.allclose(first[0], second[0], atol=1e-4)


# Networks


@pytest.mark.parametrize("needs_gradient", [True, False])
def test_instance_norm_is_the_papers_on_channels_last(needs_gradient: bool) -> None:
    """Forward and backward against a loop, also where the input needs no gradient."""
    norm = InstanceNorm(3, affine=True)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
    x = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    x.requires_grad_(needs_gradient)
    y = norm(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    for i in range(2):
        for c, scale in enumerate((1.0, 2.0, -1.0)):
            one = x[i, c].detach()
            wanted = scale * (one - one.mean()) / (one.var(unbiased=False) + 1e-5).sqrt()
            torch.testing.assert_close(y[i, c].detach(), wanted)
    y.square().sum().backward()
    assert norm.weight.grad is not None
    assert (x.grad is not None) is needs_gradient


def test_the_papers_sizes_build_and_take_a_step_at_its_resolution() -> None:
    """Tables 4 and 5 at 128 px, counted layer by layer for one binary label."""
    problem = tiny.problem(size=128)
    method = StarGAN(StarGANConfig(n_critic=1), problem)
    channels_last(method)

    def counted(*shapes: tuple[int, int, int]) -> int:
        return sum(before * after * kernel**2 for before, after, kernel in shapes)

    down = counted((4, 64, 7), (64, 128, 4), (128, 256, 4)) + 2 * (64 + 128 + 256)
    middle = 6 * (2 * counted((256, 256, 3)) + 4 * 256)
    up = counted((256, 128, 4), (128, 64, 4), (64, 3, 7)) + 2 * (128 + 64)
    assert sum(p.numel() for p in method.obfuscator.parameters()) == down + middle + up
    widths = (3, 64, 128, 256, 512, 1024, 2048)
    trunk = sum(a * b * 16 + b for a, b in pairwise(widths))
    heads = counted((2048, 1, 3), (2048, 2, 2))
    assert sum(p.numel() for p in method.discriminator.parameters()) == trunk + heads
    scores, (logits,) = method.discriminator(torch.zeros(1, 3, 128, 128))
    assert scores.shape == (1, 1, 2, 2)
    assert logits.shape == (1, 2)
    seats = {"generator": seats_for(method.players)["generator"]}
    batch = tiny.faces(people=1, size=128).batch(slice(None))
    *_, last = method.round(batch, generator(0))
    assert isinstance(last, Move)
    assert all(math.isfinite(value) for value in update(seats, [last]).values())


def test_the_discriminator_stops_halving_at_one_pixel() -> None:
    method = stargan(tiny.problem(size=32), critic_layers=6)
    scores, _ = method.discriminator(torch.zeros(1, 3, 32, 32))
    assert scores.shape == (1, 1, 1, 1)


def test_the_generator_sees_the_target_as_maps() -> None:
    """Its first convolution has the picture's channels and one more for a binary label."""
    first = next(m for m in stargan().obfuscator.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 4
    assert Generator(1, 3, StarGANConfig(**SMALL)).layers[0].in_channels == 4


# Refusals, names


@pytest.mark.parametrize(
    ("says", "problem", "settings"),
    [
        ("'Age' is continuous", tiny.problem(("Age",)), {}),
        ("'reconstruction' is picture", tiny.problem(("reconstruction",)), {}),
        ("'identity' is identity", tiny.problem(("identity",)), {}),
        ("name at least one", tiny.problem(()), {}),
        ("lower method.downsamplings", tiny.problem(), {"downsamplings": 4}),
    ],
)
def test_what_makes_no_sense_is_refused(
    says: str, problem: Problem, settings: dict[str, Any]
) -> None:
    with pytest.raises(VeilError, match=says):
        stargan(problem, **settings)


def test_the_papers_figure_stands_beside_its_rows_only() -> None:
    problem = tiny.problem(("Smiling",), ("Male",), size=SIZE)
    assert stargan(problem).reported("celeba") == {"Smiling": 0.9}
    assert stargan(problem, lam_rec=0.0).reported("celeba") == {"Smiling": 0.9}
    assert stargan(problem, lam_rec=1.0).reported("celeba") == {}
    assert stargan(problem).reported("synthfaces") == {}
    assert stargan(SEVERAL).reported("celeba") == {}
    assert stargan(problem).title() == "StarGAN"
    assert stargan(problem, lam_rec=50.0).title() == "StarGAN lam_rec=50"
