"""DeepObfuscator against its paper: sizes, losses by hand, the direction of every phase."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.game import rounds, seats_for, update
from veil.image_quality import ms_ssim
from veil.method import Move, Problem
from veil.methods.deepobfuscator import (
    Classifier,
    DeepObfuscator,
    DeepObfuscatorConfig,
    adversarial_weight,
    dissimilarity,
)
from veil.release import released
from veil.seeds import generator
from veil.train import FitConfig, fit

SIZE = 32
SMALL: dict[str, Any] = {
    "widths": (8, 16, 16, 16, 16),
    "convolutions": (1, 1, 1, 1, 1),
    "hidden": (16,),
}
FACES = tiny.faces(size=SIZE).batch(slice(None))
PHASES = 5


def method(problem: Problem | None = None, seed: int = 0, **settings: Any) -> DeepObfuscator:
    torch.manual_seed(seed)
    config = DeepObfuscatorConfig(**SMALL | settings)
    return DeepObfuscator(config, problem or tiny.problem(size=SIZE))


def five_times(batch: Batch) -> Batch:
    """A batch whose five parts are all the same."""
    columns = {name: torch.cat([label] * PHASES) for name, label in batch.labels.items()}
    return Batch(torch.cat([batch.x] * PHASES), columns)


@cache
def pretrained_weights() -> dict[str, Tensor]:
    """After 60 rounds of stage 1 and 90 of stage 2: everybody has begun to understand z."""
    defender = method(lr=5e-3)
    seats = seats_for(defender.players)
    for stage, times in zip(defender.stages(), (60, 90), strict=False):
        for _ in range(times):
            for moves in rounds(stage, FACES, generator(0), "fp32"):
                update(seats, moves)
    return defender.state_dict()


def pretrained(**settings: Any) -> DeepObfuscator:
    defender = method(**settings)
    defender.load_state_dict(pretrained_weights())
    return defender


def phases(defender: DeepObfuscator, weight: float = 10.0) -> Iterator[tuple[Move, ...]]:
    """The moves of a cycle whose five phases all see the same faces; the caller may play them."""
    for moves in defender.adversarial_round(weight, five_times(FACES), generator(0)):
        yield moves if isinstance(moves, tuple) else (moves,)


def phase(defender: DeepObfuscator, number: int, weight: float = 10.0) -> tuple[Move, ...]:
    """The moves of one phase, those before not played."""
    return [*zip(range(number + 1), phases(defender, weight), strict=False)][-1][1]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(t, before[name]) for name, t in module.state_dict().items())


def slow_binary_cross_entropy(logit: Tensor, labels: Tensor) -> float:
    """-mean[s log p + (1-s) log(1-p)], p the sigmoid of one logit."""
    total = 0.0
    for row, s in zip(logit.double().tolist(), labels.tolist(), strict=True):
        p = 1 / (1 + math.exp(-row))
        total -= s * math.log(p) + (1 - s) * math.log(1 - p)
    return total / len(labels)


# Sizes


def test_sizes_are_those_of_the_published_networks() -> None:
    """reference/05a_deepobfuscator_sizes.npz, out_*_used, at 218 x 178: pictures not square."""
    problem = replace(tiny.problem(), image=(3, 218, 178))
    with torch.device("meta"):
        defender = DeepObfuscator(DeepObfuscatorConfig(), problem).eval()
        z = defender.obfuscator.encode(torch.empty(1, 3, 218, 178))
        assert z.shape == (1, 128, 54, 44)
        assert count(defender.obfuscator) == 260_928
        for classifier in (defender.task, defender.adversary):
            assert count(classifier) == 94_166_273
            assert classifier.net(z).shape == (1, 1)
        assert count(defender.task.net[0]) == 14_462_208
        assert count(defender.reconstructor) == 260_803
        assert defender.reconstructor(z).shape == (1, 3, 218, 178)


def test_the_papers_obfuscator_and_reconstructor_take_a_step_at_its_resolution() -> None:
    """The first phase, with one picture; full-width classifiers alone would take a minute."""
    problem = replace(tiny.problem(), image=(3, 218, 178))
    config = DeepObfuscatorConfig(widths=(64, 128, 8, 8, 8), hidden=(8,))
    defender = DeepObfuscator(config, problem)
    batch = Batch(torch.rand(5, 3, 218, 178), {n: torch.arange(5) % 2 for n in problem.names})
    before = copied(defender.obfuscator)
    moves = next(rounds(defender.stages()[2], batch, generator(0), "fp32"))
    assert all(math.isfinite(v) for v in update(seats_for(defender.players), moves).values())
    assert not same(defender.obfuscator, before)


def test_the_reconstructor_mirrors_the_obfuscator_and_ends_without_a_squash() -> None:
    reconstructor = method().reconstructor
    step = ["ReLU", "BatchNorm2d", "ConvTranspose2d"]
    names = [type(layer).__name__ for layer in reconstructor]
    assert names == ["Upsample", *step, *step, "Upsample", *step, *step]
    far = reconstructor(100 * torch.randn(4, 16, 8, 8)).detach()
    assert float(far.min()) < 0
    assert float(far.max()) > 1
    assert not [*reconstructor.buffers()]
    assert {up.mode for up in reconstructor if isinstance(up, nn.Upsample)} == {"bilinear"}


@pytest.mark.parametrize(("height", "across"), [(32, 32), (33, 47), (64, 50)])
def test_any_size_from_32_is_released_and_rebuilt(height: int, across: int) -> None:
    defender = method(replace(tiny.problem(channels=1), image=(1, height, across)))
    x = torch.rand(3, 1, height, across)
    z = released(defender.obfuscator, x, generator(0))
    assert z.shape == (3, 16, height // 4, across // 4)
    assert float(z.min()) >= 0
    x_hat = defender.reconstruct(z).detach()
    assert x_hat.shape == x.shape
    assert 0 <= float(x_hat.min()) <= float(x_hat.max()) <= 1


# Equations


@pytest.mark.parametrize(("side", "exponent"), [(176, 0.1333), (32, 0.2856 / 0.3304 * 1.0001)])
def test_the_dissimilarity_of_flat_pictures_has_a_closed_form(side: int, exponent: float) -> None:
    """Structure agrees, so MS-SSIM is the last scale's brightness term to its power."""
    for a, b in ((0.2, 0.8), (0.5, 0.6)):
        brightness = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
        x_hat, x = (torch.full((2, 3, side, side), v, dtype=torch.float32) for v in (a, b))
        assert dissimilarity(x_hat, x).item() == pytest.approx(1 - brightness**exponent, rel=5e-3)


def test_negative_structure_is_as_dissimilar_as_can_be_and_not_nan() -> None:
    """An inverted picture: a power of the negative term would be NaN."""
    inverted = (1 - FACES.x).requires_grad_()
    loss = dissimilarity(inverted, FACES.x)
    assert loss.item() == 1
    assert bool(torch.isfinite(torch.autograd.grad(loss, inverted)[0]).all())
    assert dissimilarity(FACES.x, FACES.x).item() == pytest.approx(0, abs=1e-5)


def test_mixed_precision_does_not_reach_the_dissimilarity() -> None:
    """Variances are differences of squares: in bf16 little would be left of them."""
    x_hat = (FACES.x + 0.02 * torch.randn(FACES.x.shape, generator=generator(0))).clamp(0, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = dissimilarity(x_hat, FACES.x)
    assert mixed.item() == dissimilarity(x_hat, FACES.x).item()


def test_the_weight_is_10_up_to_epoch_10_and_20_minus_epoch_from_11_on() -> None:
    weights = [adversarial_weight(epoch, 20, 10.0) for epoch in range(20)]
    assert weights == [10.0] * 11 + [20.0 - epoch for epoch in range(11, 20)]
    assert [adversarial_weight(e, 4, 2.0) for e in range(4)] == [2, 2, 2, 1]
    assert [adversarial_weight(0, 1, 3.0)] == [3]


def test_stages_hold_the_schedule() -> None:
    stages = method(pretrain_epochs=3, batch_size=6).stages()
    assert [stage.name for stage in stages[:2]] == ["pretrain", "pretrain attackers"]
    assert [(stage.epochs, stage.batch_size) for stage in stages[:2]] == [(3, 6), (3, 6)]
    cycles = stages[2:]
    assert [stage.epochs for stage in cycles] == [11] + [1] * 9
    assert [stage.name for stage in cycles] == [f"adversarial w={w}" for w in range(10, 0, -1)]
    assert {stage.batch_size for stage in cycles} == {30}
    last = next(iter(cycles[-1].round(FACES, generator(0))))
    first = next(iter(cycles[0].round(FACES, generator(0))))
    assert isinstance(last, Move)
    assert isinstance(first, Move)
    assert first.terms["noise"].item() == pytest.approx(10 * last.terms["noise"].item(), rel=0.05)


def test_every_phase_has_the_terms_and_signs_of_the_algorithm_box() -> None:
    """In eval mode, where nothing depends on who was seen before."""
    defender = pretrained().eval()
    z = defender.obfuscator.encode(FACES.x)
    x_hat = defender.reconstructor(z)
    noise = torch.rand(FACES.x.shape, generator=generator(0))
    utility = slow_binary_cross_entropy(defender.task.net(z)[:, 0], FACES["Smiling"])
    inference = slow_binary_cross_entropy(defender.adversary.net(z)[:, 0], FACES["Male"])
    rebuilt = 1 - ms_ssim(x_hat, FACES.x).mean().item()
    noisy = 1 - ms_ssim(x_hat, noise).mean().item()
    expected: list[dict[str, dict[str, float]]] = [
        {"obfuscator": {"utility Smiling": utility, "noise": 7 * noisy}},
        {"obfuscator": {"utility Smiling": utility, "distortion": -7 * rebuilt}},
        {"obfuscator": {"utility Smiling": utility, "privacy Male": -7 * inference}},
        {"reconstructor": {"reconstruction": rebuilt}, "adversary": {"inference Male": inference}},
        {"task": {"utility Smiling": utility}},
    ]
    for moves, wanted in zip(phases(defender, weight=7.0), expected, strict=True):
        found = {m.player: {n: t.item() for n, t in m.terms.items()} for m in moves}
        assert found.keys() == wanted.keys()
        for player, terms in wanted.items():
            assert found[player] == pytest.approx(terms, rel=1e-4)


def test_several_labels_of_all_kinds_have_their_outputs_side_by_side() -> None:
    problem = tiny.problem(("Male", "Race"), ("Smiling", "identity", "Age", "landmarks"), SIZE)
    defender = method(problem)
    z = released(defender.obfuscator, FACES.x, generator(0))
    answers, guesses = defender.answers(z), defender.training_adversary(z)
    assert {n: a.shape[1] for n, a in answers.items()} == {
        "Smiling": 2,
        "identity": 128,
        "Age": 1,
        "landmarks": 4,
    }
    assert {n: g.shape[1] for n, g in guesses.items()} == {"Male": 2, "Race": 3}
    assert not guesses["Male"][:, 0].any()
    assert defender.adversary.net[-1].out_features == 1 + 3
    raw = defender.task(z)
    age = problem.scales["Age"]
    assert torch.allclose(answers["Age"], raw["Age"] * age.deviation[0] + age.mean[0])
    assert answers["Age"].mean().item() == pytest.approx(40, abs=15)


def test_parts_hold_every_photo_once_and_whole_pairs_where_pairs_are_sampled() -> None:
    rows = torch.arange(24).view(12, 2).t().flatten()
    pairs = Batch(FACES.x[rows], {name: label[rows] for name, label in FACES.labels.items()})
    for problem in (tiny.problem(size=SIZE), tiny.problem(utility=("identity",), size=SIZE)):
        parts = method(problem).parts(pairs)
        assert len(parts) == PHASES
        seen = torch.cat([part["landmarks"][:, 0] for part in parts])
        assert torch.equal(seen.sort().values, pairs["landmarks"][:, 0].sort().values)
        if "identity" in problem.utility:
            for part in parts:
                half = len(part) // 2
                assert half > 0
                assert torch.equal(part["identity"][:half], part["identity"][half:])
    few = Batch(FACES.x[:4], {name: label[:4] for name, label in FACES.labels.items()})
    assert [len(part) for part in method().parts(few)] == [4] * PHASES


# Direction


def similarity(defender: DeepObfuscator, target: Tensor) -> float:
    """MS-SSIM of what R rebuilds from z, on the batch's own statistics, as E fights it."""
    with torch.no_grad():
        x_hat = defender.reconstructor(defender.obfuscator.encode(FACES.x))
        return float(ms_ssim(x_hat, target).mean())


def adversary_loss(defender: DeepObfuscator) -> float:
    with torch.no_grad():
        logit = defender.adversary.net(defender.obfuscator.encode(FACES.x))[:, 0]
    return slow_binary_cross_entropy(logit, FACES["Male"])


def play(defender: DeepObfuscator, number: int, sign: int = 1, weight: float = 1000.0) -> None:
    """Take the obfuscator's step of a phase; `sign` turns its adversarial term round."""
    (move,) = phase(defender, number, weight)
    name = next(name for name in move.terms if not name.startswith("utility"))
    update(
        seats_for(defender.players),
        [Move("obfuscator", move.terms | {name: sign * move.terms[name]})],
    )


SIGNS = pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])


@SIGNS
def test_phase_0_makes_what_is_rebuilt_more_like_the_noise(sign: int) -> None:
    """The flipped sign is the negative control, here and below."""
    defender = pretrained(lr=5e-4)
    noise = torch.rand(FACES.x.shape, generator=generator(0))
    before = similarity(defender, noise)
    play(defender, 0, sign)
    assert (similarity(defender, noise) / before) ** sign > 1.005


@SIGNS
def test_phase_1_makes_what_is_rebuilt_less_like_the_picture(sign: int) -> None:
    defender = pretrained(lr=5e-4)
    before = similarity(defender, FACES.x)
    assert before > 0.2
    play(defender, 1, sign)
    assert (before - similarity(defender, FACES.x)) * sign > 0.0005


@SIGNS
def test_phase_2_raises_the_adversarys_loss(sign: int) -> None:
    defender = pretrained(lr=5e-4)
    before = adversary_loss(defender)
    assert before < 0.5 * math.log(2)
    play(defender, 2, sign)
    assert (adversary_loss(defender) - before) * sign > 0


def test_a_weight_of_nothing_leaves_only_the_task_and_lowers_its_loss() -> None:
    for number in range(3):
        defender = pretrained(lr=2e-3)
        (move,) = phase(defender, number, weight=0.0)
        before = move.terms["utility Smiling"].item()
        update(seats_for(defender.players), [move])
        assert phase(defender, number, weight=0.0)[0].terms["utility Smiling"].item() < before


def test_the_steps_of_phases_3_and_4_lower_their_own_losses() -> None:
    for number, defender in ((3, pretrained(lr=1e-4)), (4, method(lr=1e-3))):
        before = phase(defender, number)
        update(seats_for(defender.players), before)
        for old, new in zip(before, phase(defender, number), strict=True):
            for name in old.terms:
                assert new.terms[name] < old.terms[name]


def test_pretraining_teaches_everybody() -> None:
    untrained, trained = method(), pretrained()
    for stage in range(2):
        old, new = (
            {
                name: term.item()
                for moves in rounds(d.stages()[stage], FACES, generator(0), "fp32")
                for move in moves
                for name, term in move.terms.items()
            }
            for d in (untrained, trained)
        )
        assert all(new[name] < 0.85 * old[name] for name in old)
    with torch.no_grad():
        figures = [
            [*d.eval().measured(FACES.x, generator(0)).values()] for d in (untrained, trained)
        ]
    assert figures[0][0] < 0.1
    assert 0.2 < figures[1][0] <= 1


# Who moves, and what batch norm remembers


def test_no_batch_norm_remembers_for_a_player_at_rest() -> None:
    """E remembers in phases 0 to 2, C in phase 4; P and R remember nothing at all."""
    defender = pretrained()
    assert not [*defender.adversary.buffers()]
    assert not [*defender.reconstructor.buffers()]
    remembered = {name: copied(defender.players[name].module) for name in ("obfuscator", "task")}
    seen = []
    for moves in phases(defender):
        seen.append(
            (
                {m.player for m in moves},
                {n for n, w in remembered.items() if not same(defender.players[n].module, w)},
            )
        )
        assert defender.task.training
        assert defender.obfuscator.training
        remembered = {n: copied(defender.players[n].module) for n in remembered}
    e, c = {"obfuscator"}, {"task"}
    assert seen == [(e, e), (e, e), (e, e), ({"reconstructor", "adversary"}, set()), (c, c)]


def test_attackers_and_the_task_learn_from_the_deployed_release() -> None:
    """Phases 3 and 4 see E as `release` has it, not as it normalises a training batch."""
    defender = pretrained()
    z = defender.released(FACES)
    assert defender.obfuscator.training
    assert not z.requires_grad
    assert torch.equal(z, released(defender.obfuscator, FACES.x, generator(0)))
    assert not torch.allclose(z, defender.obfuscator.train().encode(FACES.x))


def test_the_noise_image_is_the_generators() -> None:
    defender = pretrained().eval()
    first, again, other = (
        next(iter(defender.adversarial_round(10.0, FACES, generator(seed)))) for seed in (0, 0, 1)
    )
    assert isinstance(first, Move)
    assert isinstance(again, Move)
    assert isinstance(other, Move)
    assert first.terms["noise"] == again.terms["noise"] != other.terms["noise"]


def test_it_trains_from_end_to_end() -> None:
    problem = tiny.problem(size=SIZE)
    people = tiny.faces(size=SIZE)
    defender = method(problem, batch_size=4, epochs=3, pretrain_epochs=1)
    before = copied(defender)
    fit(defender, problem, people, people, FitConfig(device="cpu", precision="fp32"))
    assert not same(defender, before)
    assert all(bool(torch.isfinite(p).all()) for p in defender.parameters())


# Refusals, names


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (tiny.problem(("Age",), size=SIZE), "DeepObfuscator hides .*; 'Age' is continuous"),
        (
            tiny.problem(("reconstruction",), size=SIZE),
            "DeepObfuscator hides .*; 'reconstruction' is",
        ),
        (tiny.problem(size=31), "32 px or more, not 31"),
        (replace(tiny.problem(), image=(3, 64, 31)), "32 px or more, not 31"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(problem: Problem, says: str) -> None:
    with pytest.raises(VeilError, match=says) as refusal:
        method(problem)
    assert "\n" not in str(refusal.value)


def test_five_blocks_are_asked_for() -> None:
    for field in ("widths", "convolutions"):
        with pytest.raises(ValueError, match="at least 5 items"):
            DeepObfuscatorConfig(**{field: (8, 8)})


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "DeepObfuscator"),
        ({"weight": 2.5}, "DeepObfuscator w=2.5"),
        ({"epochs": 0}, "DeepObfuscator, pretrained only"),
    ],
)
def test_titles_name_the_row(settings: dict[str, Any], title: str) -> None:
    assert method(**settings).title() == title


def test_figures_of_others_stand_beside_that_row_only() -> None:
    """Jeong et al., NARL, UAI 2023, supplement, table 3: DeepObfs. 94.06 / 91.99."""
    binary = tiny.SCHEMA["Smiling"]
    labels = {"Mouth_Slightly_Open": binary, "Smiling": binary}
    problem = Problem(("Mouth_Slightly_Open",), ("Smiling",), labels, (3, SIZE, SIZE))
    row = {"Mouth_Slightly_Open": 0.9406, "Smiling": 0.9199}
    assert method(problem).reported("celeba") == row
    assert method(problem).reported("synthfaces") == {}
    assert method(problem, weight=1.0).reported("celeba") == {}
    assert method().reported("celeba") == {}


def test_without_labels_of_a_side_its_classifier_is_empty() -> None:
    empty = Classifier(tiny.problem(size=SIZE), (), DeepObfuscatorConfig(), running_statistics=True)
    assert count(empty) == 0
    assert empty(torch.rand(2, 128, 8, 8)) == {}
