"""DISCO against its paper: masks by slow loops and recorded values, the direction of every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.errors import VeilError
from veil.game import rounds, seats_for, update
from veil.losses import cross_entropy
from veil.method import Move, Problem
from veil.methods.disco import (
    DISCO,
    DISCOConfig,
    channels_pruned,
    hard_mask,
    soft_mask,
    straight_through,
    threshold_of,
)
from veil.release import released
from veil.seeds import generator

SMALL: dict[str, Any] = {
    "blocks": (1, 1, 1),
    "widths": (4, 8, 16),
    "stage": 2,
    "ratio": 0.5,
    "pruner_units": 8,
}
BATCH = tiny.faces().batch(slice(None))


def disco(problem: Problem | None = None, seed: int = 0, **settings: Any) -> DISCO:
    torch.manual_seed(seed)
    return DISCO(DISCOConfig(**SMALL | settings), problem or tiny.problem())


def round_of(method: DISCO) -> Iterator[tuple[Move, ...]]:
    (stage,) = method.stages()
    return rounds(stage, BATCH, generator(0), "fp32")


def masked(method: DISCO) -> Tensor:
    """The release as training sees it."""
    z = method.obfuscator.encoder(BATCH.x)
    found: Tensor = z * method.mask(z)
    return found


def moves_of(method: DISCO) -> dict[str, Move]:
    """The moves of one round by their first mover, none of them played."""
    return {move.movers[0]: move for moves in round_of(method) for move in moves}


@cache
def informed_weights() -> dict[str, Tensor]:
    """After 60 rounds for the task alone: the adversary has begun to understand the map."""
    method = disco(alpha=0.0, lr=3e-3)
    seats = seats_for(method.players)
    for _ in range(60):
        for moves in round_of(method):
            update(seats, moves)
    return method.state_dict()


def informed(**settings: Any) -> DISCO:
    """With an adversary that is worth hiding from and a task that is worth helping."""
    method = disco(**settings)
    method.load_state_dict(informed_weights())
    return method


def scores_of(n: int = 6, channels: int = 16) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return 0.06 * torch.randn(n, channels, generator=rng, dtype=torch.float64)


# Masks


@pytest.mark.parametrize(
    ("ratio", "channels", "pruned"),
    [(0.99, 512, 506), (0.99, 256, 253), (0.99, 128, 126), (0.99, 64, 63), (0.5, 7, 3), (0, 9, 0)],
)
def test_the_floor_of_the_ratio_of_channels_is_zeroed(
    ratio: float, channels: int, pruned: int
) -> None:
    assert channels_pruned(ratio, channels) == pruned


def test_a_ratio_is_taken_as_it_is_written() -> None:
    """In binary .29 * 100 is 28.999999999999996."""
    assert channels_pruned(0.29, 100) == 29
    for hundredths in range(101):
        assert channels_pruned(hundredths / 100, 100) == hundredths


@pytest.mark.parametrize("pruned", [0, 1, 10, 15])
def test_masks_equal_slow_loops(pruned: int) -> None:
    scores = scores_of()
    threshold, hard = threshold_of(scores, pruned), hard_mask(scores, pruned)
    soft = soft_mask(scores, threshold, 0.1)
    for i, row in enumerate(scores.tolist()):
        smallest_kept = sorted(row)[pruned]
        assert threshold[i].item() == smallest_kept
        assert hard[i].tolist() == [float(score >= smallest_kept) for score in row]
        expected = [1 / (1 + math.exp((smallest_kept - score) / 0.1)) for score in row]
        assert soft[i].tolist() == pytest.approx(expected, rel=1e-12)


def test_equal_scores_change_nothing_about_how_many_channels_are_zeroed() -> None:
    """A mask of all scores at or above the threshold would keep them all."""
    scores = torch.zeros(5, 8)
    scores[1, 3:] = 1.0
    for pruned in range(8):
        assert hard_mask(scores, pruned).sum(dim=1).tolist() == [8 - pruned] * 5
    assert hard_mask(scores, 3)[1].tolist() == [0.0] * 3 + [1.0] * 5


def test_the_mask_is_hard_forward_and_soft_backward() -> None:
    scores = scores_of().requires_grad_()
    weights = scores_of(6).flip(0)
    soft = soft_mask(scores, threshold_of(scores, 10), 1 / 30)
    hard = hard_mask(scores, 10)
    mask = straight_through(hard, soft)
    assert bool((mask[hard == 0] == 0).all())
    torch.testing.assert_close(mask.detach(), hard)
    assert not hard.requires_grad
    through, direct = (
        torch.autograd.grad((m * weights).sum(), scores, retain_graph=True)[0] for m in (mask, soft)
    )
    assert torch.equal(through, direct)
    assert bool(through.any())
    # A shift of all scores of a picture has no effect, so it must have no gradient.
    assert float(through.sum(dim=1).abs().max()) < 1e-12


# Recorded in reference/06_disco_masks.npz (aidecentralized/InferenceBenchmark, commit f4326568).
# fmt: off
SCORES = [
    0.00734275151413815, 0.12441461303635344, 0.04793867782049344, 0.02313493267695153,
    0.00850858599953583, 0.01618054801345777, -0.07231011685046794, -0.02478919462235967,
    0.1055151603320199, 0.09247564778974698, 0.03229254241756147, 0.02219831131513689,
    0.01503223605865612, -0.01139142347904756, 0.04583380279155825, 0.02349438756235182,
]  # in_scores[0]
WEIGHTS = [
    -0.2971965854317303, -1.5866531804742345, -0.36334393664850645, -0.1406245201007954,
    -0.8830907272826535, 1.1510484611721712, 0.5942836569079338, -0.7301397161827641,
    -0.28608340391891635, 1.2158550653291098, -1.15366106041385, 0.6248544963367302,
    -0.9086555155313382, 1.6105239548514425, -0.27384846390650397, -0.6937339253291589,
]  # in_c[0]
ATTACHED = [
    -1.9437774201523494, -2.6560984221200616, -2.580325613139133, -1.0350308527232763,
    -5.84689139215347, 8.147629077335868, 0.7102168271909547, -2.8362435552548586,
    -0.7727626635306852, 4.422704290221557, 5.190033126897825, 4.580588984816296,
    -6.3777664915046275, 8.082555279357178, -1.9714039720624996, -5.113427203178721,
]  # out_grad_scores_of_sum_mask_times_c_r1_t0[0]: ratio .65, t = 1/30
# fmt: on
AT_THRESHOLD_DETACHED = -8.652457953103875  # out_grad_scores_threshold_detached_r1_t0[0, 10]


def test_threshold_and_gradients_are_the_recorded_ones() -> None:
    scores = torch.tensor([SCORES], dtype=torch.float64, requires_grad=True)
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    pruned = channels_pruned(0.65, 16)
    assert pruned == 10  # out_k_r1
    threshold, hard = threshold_of(scores, pruned), hard_mask(scores, pruned)
    assert threshold.item() == 0.03229254241756147  # out_threshold_r1[0]
    for at, expected in ((threshold, ATTACHED[10]), (threshold.detach(), AT_THRESHOLD_DETACHED)):
        mask = straight_through(hard, soft_mask(scores, at, 1 / 30))
        (gradient,) = torch.autograd.grad((mask * weights).sum(), scores, retain_graph=True)
        assert gradient[0].tolist() == pytest.approx(
            [*ATTACHED[:10], expected, *ATTACHED[11:]], rel=1e-10
        )


# The round


def test_training_sees_what_is_released() -> None:
    """In eval mode, where batch norm is the same: exact zeros, and the kept channels as they are.

    A soft mask would leave every channel a little above zero.
    """
    method = disco(ratio=0.8).eval()
    with torch.no_grad():
        seen, z = masked(method), method.obfuscator.encoder(BATCH.x)
    out = released(method.obfuscator, BATCH.x, generator(0))
    assert torch.equal(seen == 0, out == 0)
    torch.testing.assert_close(seen, out)
    zeroed = (out == 0).all(dim=(2, 3))
    assert bool((zeroed.sum(dim=1) >= channels_pruned(0.8, 8)).all())
    kept = ~zeroed
    assert int(kept.sum(dim=1).max()) == 2
    assert torch.equal(out[kept], z[kept])


def test_every_picture_has_a_mask_of_its_own() -> None:
    """Zeroing the union of a batch's masks would leave nothing of so many pictures."""
    rng = torch.Generator().manual_seed(0)
    method = disco().eval()
    _, _, last_weight, _ = method.obfuscator.pruner.parameters()
    nn.init.normal_(last_weight, std=9.0, generator=rng)
    z = torch.rand(50, 8, 3, 3, generator=rng) + torch.rand(50, 8, 1, 1, generator=rng)
    with torch.no_grad():
        mask = hard_mask(method.obfuscator.scores(z), 4)
    assert len({tuple(row) for row in mask.tolist()}) > 3
    assert mask.sum(dim=1).tolist() == [4.0] * 50


def slow_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(map(math.exp, row))) - row[label]
    return total / len(labels)


@torch.no_grad()
def test_every_move_is_the_sum_of_its_losses_over_all_labels() -> None:
    problem = tiny.problem(("Male", "Race"), ("Smiling", "Age"))
    method = disco(problem, alpha=0.3).eval()
    z = masked(method)
    smiling, age = (task(z) for task in method.tasks)
    wanted = [(value - 40.0) / 11.5 for value in BATCH["Age"].tolist()]
    errors = [(a - b) ** 2 for a, b in zip(age[:, 0].tolist(), wanted, strict=True)]
    task = [slow_cross_entropy(smiling, BATCH["Smiling"]), sum(errors) / len(errors)]
    guess = [slow_cross_entropy(logits, BATCH[name]) for name, logits in method.guesses(z)]
    expected = {
        "adversary": {"inference Male": guess[0], "inference Race": guess[1]},
        "encoder": {
            "utility Smiling": task[0],
            "utility Age": task[1],
            "inference Male": guess[0],
            "inference Race": guess[1],
        },
    }
    found = {
        name: {term: value.item() for term, value in move.terms.items()}
        for name, move in moves_of(method).items()
    }
    assert {name: [*terms] for name, terms in found.items()} == {
        name: [*terms] for name, terms in expected.items()
    }
    for name, terms in expected.items():
        assert found[name] == pytest.approx(terms, rel=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 0.2, 1.0])
def test_one_backward_gives_each_player_the_gradient_of_its_own_loss(alpha: float) -> None:
    """E and T: CE(T). P: (1-a) CE(T) - a CE(A), taken apart and from one undivided map."""
    method = informed(alpha=alpha)
    (_, joint) = (moves[0] for moves in [*round_of(method)])
    total = torch.stack([*joint.terms.values()]).sum()
    z = masked(method)
    task = cross_entropy(method.tasks[0](z).float(), BATCH["Smiling"])
    ((_, guess),) = method.guesses(z)
    hidden = (1 - alpha) * task - alpha * cross_entropy(guess, BATCH["Male"])
    for name, own in {"encoder": task, "task": task, "pruner": hidden}.items():
        parameters = [*method.players[name].module.parameters()]
        found, wanted = (
            torch.autograd.grad(of, parameters, retain_graph=True) for of in (total, own)
        )
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_one_forward_serves_everybody_but_the_adversary() -> None:
    """It sees the map twice: to learn from it, and to tell the pruner what it learned."""
    method = disco()
    calls: list[str] = []
    for name, module in {
        "encoder": method.obfuscator.encoder,
        "pruner": method.obfuscator.pruner,
        "task": method.tasks[0],
        "adversary": method.adversaries[0],
    }.items():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    order = [[move.movers for move in moves] for moves in round_of(method)]
    assert calls == ["encoder", "pruner", "adversary", "task", "adversary"]
    assert order == [[("adversary",)], [("encoder", "pruner", "task")]]


def gradient_reaches(term: Tensor, module: nn.Module) -> bool:
    found = torch.autograd.grad(term, [*module.parameters()], retain_graph=True, allow_unused=True)
    return any(gradient is not None and bool(gradient.any()) for gradient in found)


def test_the_pruners_scores_teach_the_encoder_nothing() -> None:
    """They are made from sg(z): the encoder learns through the channels that are kept, only."""
    method = disco()
    scores = method.obfuscator.scores(method.obfuscator.encoder(BATCH.x))
    assert gradient_reaches(scores.square().sum(), method.obfuscator.pruner)
    assert not gradient_reaches(scores.square().sum(), method.obfuscator.encoder)


def test_the_encoder_hides_nothing_itself() -> None:
    """Of what the adversary infers nothing reaches it."""
    method = informed(alpha=1.0)
    terms = moves_of(method)["encoder"].terms
    assert gradient_reaches(terms["utility Smiling"], method.obfuscator.encoder)
    assert not gradient_reaches(terms["inference Male"], method.obfuscator.encoder)


@pytest.mark.parametrize(("alpha", "silent"), [(0.0, "inference Male"), (1.0, "utility Smiling")])
def test_alpha_decides_whom_the_pruner_hears(alpha: float, silent: str) -> None:
    method = informed(alpha=alpha)
    for name, term in moves_of(method)["encoder"].terms.items():
        assert gradient_reaches(term, method.obfuscator.pruner) is (name != silent)


# Direction


@torch.no_grad()
def adversary_loss(method: DISCO) -> float:
    """CE(A) on the batch, by its own statistics."""
    ((_, logits),) = method.guesses(masked(method))
    return cross_entropy(logits, BATCH["Male"]).item()


def test_an_adversary_step_lowers_its_loss() -> None:
    method = disco()
    adversary = moves_of(method)["adversary"]
    before = adversary_loss(method)
    update(seats_for(method.players), [adversary])
    assert adversary_loss(method) < before


def test_an_encoder_and_task_step_lowers_the_utility_loss() -> None:
    method = disco()
    before = moves_of(method)["encoder"].terms["utility Smiling"]
    update(seats_for(method.players), [Move(("encoder", "task"), {"utility": before})])
    assert moves_of(method)["encoder"].terms["utility Smiling"] < before


def test_pruning_at_alpha_one_raises_the_adversarys_loss() -> None:
    """The pruner alone moves. Flipped, it looks for what gives most away: the negative control.

    (That need not fall below the start: the adversary was trained on the masks of the start.)
    """
    before, after = adversary_loss(informed()), {}
    assert before < 0.6 * math.log(2)
    for sign in (1, -1):
        method = informed(alpha=1.0, lr=1e-2)
        adversary = {name: w.clone() for name, w in method.adversaries.state_dict().items()}
        seats = seats_for(method.players)
        for _ in range(20):
            term = moves_of(method)["encoder"].terms["inference Male"]
            update(seats, [Move("pruner", {"privacy": sign * term})])
        after[sign] = adversary_loss(method)
        now = method.adversaries.state_dict()
        assert all(torch.equal(weight, now[name]) for name, weight in adversary.items())
    assert after[1] > 1.4 * before
    assert after[1] > 1.4 * after[-1]


def test_an_adversary_remembers_no_statistics_and_the_task_does() -> None:
    method = disco()
    assert not [*method.adversaries.buffers()]
    assert [*method.tasks.buffers()]


# Sizes, refusals, names


def test_the_papers_sizes_build_and_take_a_step() -> None:
    """ResNet-18 cut after stage 3 at 224 pixels: 256 channels, of which three are kept."""
    method = DISCO(DISCOConfig(), tiny.problem(size=224))
    assert (method.config.alpha, method.config.ratio, method.config.temperature) == (
        0.5,
        0.99,
        1 / 30,
    )
    encoder = sum(p.numel() for p in method.obfuscator.encoder.parameters())
    assert encoder == 2_782_784  # reference/03a_narl_sizes.npz, after stage 3
    batch = tiny.faces(people=2, photos=2, size=224).batch(slice(None))
    seats = seats_for(method.players)
    (stage,) = method.stages()
    for moves in rounds(stage, batch, generator(0), "fp32"):
        assert all(math.isfinite(value) for value in update(seats, moves).values())
    z = released(method.obfuscator, batch.x, generator(0))
    assert z.shape == (4, 256, 14, 14)
    assert bool(((z != 0).any(dim=(2, 3)).sum(dim=1) <= 3).all())


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_network_may_be_cut_after_any_stage(stage: int) -> None:
    method = disco(stage=stage)
    channels, side = {0: (4, 16), 1: (4, 16), 2: (8, 8), 3: (16, 4)}[stage]
    z = released(method.obfuscator, BATCH.x, generator(0))
    assert z.shape == (24, channels, side, side)
    assert method.answers(z)["Smiling"].shape == (24, 2)
    assert all(len(move.terms) > 0 for move in moves_of(method).values())


@pytest.mark.parametrize(
    ("problem", "settings", "says"),
    [
        (tiny.problem(private=("Age",)), {}, "'Age' is continuous"),
        (tiny.problem(private=("reconstruction",)), {}, "'reconstruction' is picture"),
        (tiny.problem(utility=()), {}, "name a useful label"),
        (tiny.problem(), {"ratio": 1.0}, "ratio = 1 keeps none of 8 channels"),
        (tiny.problem(), {"stage": 4}, "no stage 4 to cut after"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(
    problem: Problem, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(VeilError, match=says) as refusal:
        disco(problem, **settings)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"ratio": 0.99}, "DISCO"),
        ({"ratio": 0.6}, "DISCO ratio=0.6"),
        ({"ratio": 0.99, "alpha": 0.8}, "DISCO alpha=0.8"),
    ],
)
def test_only_the_papers_setting_has_figures(settings: dict[str, Any], title: str) -> None:
    labels = {"Mouth_Slightly_Open": tiny.SCHEMA["Male"], "Smiling": tiny.SCHEMA["Smiling"]}
    mouth = Problem(("Mouth_Slightly_Open",), ("Smiling",), labels, (3, 16, 16))
    method = disco(mouth, **settings)
    assert method.title() == title
    figures = {"Mouth_Slightly_Open": 0.7830, "Smiling": 0.9070}
    assert method.reported("celeba") == (figures if title == "DISCO" else {})
    assert method.reported("fairface") == {}
    assert disco(**settings).reported("celeba") == {}
