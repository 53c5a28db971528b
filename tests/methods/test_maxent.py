"""MaxEnt-ARL and ML-ARL against their paper: equations, the direction of every step, recorded."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.data.dataset import Label
from veil.errors import VeilError
from veil.game import rounds, seats_for, update
from veil.losses import cross_entropy
from veil.method import Method, Move, Problem
from veil.methods.maxent import MaxEnt, MaxEntConfig, PrivacyForm, encoder_terms, privacy_term
from veil.release import released
from veil.seeds import generator

SMALL: dict[str, Any] = {
    "blocks": (1, 1),
    "widths": (4, 8),
    "embedding": 8,
    "head_units": (16, 8),
    "head_lr": 3e-3,
}
FORMS = get_args(PrivacyForm)
BATCH = tiny.faces().batch(slice(None))


def maxent(problem: Problem | None = None, seed: int = 0, **settings: Any) -> MaxEnt:
    torch.manual_seed(seed)
    return MaxEnt(MaxEntConfig(**SMALL | settings), problem or tiny.problem())


def moves_of(method: Method) -> list[Move]:
    """The moves of one round, none of them played."""
    torch.manual_seed(0)
    (stage,) = method.stages()
    return [move for (move,) in rounds(stage, BATCH, generator(0), "fp32")]


@cache
def informed_weights() -> dict[str, Tensor]:
    """After 60 rounds for the task alone: the adversary has begun to understand z."""
    method = maxent(alpha=0.0, encoder_lr=3e-3, head_lr=1e-2)
    seats = seats_for(method.players)
    (stage,) = method.stages()
    torch.manual_seed(0)
    for _ in range(60):
        for moves in rounds(stage, BATCH, generator(0), "fp32"):
            update(seats, moves)
    return method.state_dict()


def informed(**settings: Any) -> MaxEnt:
    """With an adversary that is worth fooling and a task that is worth helping."""
    method = maxent(**settings)
    method.load_state_dict(informed_weights())
    return method


@torch.no_grad()
def guesses_of(method: MaxEnt) -> Tensor:
    """What the adversary says of z, nothing dropped, all by the batch's own statistics."""
    method.adversaries.eval()
    ((_, logits),) = method.guesses(method.obfuscator.encoder(BATCH.x))
    method.adversaries.train()
    return logits


def slow_entropy(logits: Tensor) -> float:
    """In nats, row by row."""
    total = 0.0
    for row in logits.tolist():
        weights = [math.exp(value) for value in row]
        shares = [weight / sum(weights) for weight in weights]
        total -= sum(p * math.log(p) for p in shares)
    return total / len(logits)


def slow_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(map(math.exp, row))) - row[label]
    return total / len(labels)


# Equations


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_both_forms_equal_slow_loops(classes: int) -> None:
    rng = torch.Generator().manual_seed(classes)
    logits = 3 * torch.randn(9, classes, generator=rng, dtype=torch.float64)
    s = torch.randint(classes, (9,), generator=rng)
    doubt, surprise = slow_entropy(logits), slow_cross_entropy(logits, s)
    assert privacy_term(logits, s, "entropy").item() == pytest.approx(-doubt, rel=1e-12)
    assert privacy_term(logits, s, "likelihood").item() == pytest.approx(-surprise, rel=1e-12)


def test_the_entropy_form_is_the_papers_divergence_from_uniform() -> None:
    """KL(p | uniform) = log K - H(p): R but for a constant."""
    logits = torch.tensor([[0.0, 1.0, -2.0], [4.0, 4.0, 4.0]], dtype=torch.float64)
    divergence = sum(p * math.log(3 * p) for row in logits.softmax(1).tolist() for p in row) / 2
    s = torch.zeros(2, dtype=torch.int64)
    assert privacy_term(logits, s, "entropy").item() + math.log(3) == pytest.approx(divergence)
    assert privacy_term(logits[1:], s[1:], "entropy").item() == pytest.approx(-math.log(3))


def test_only_the_likelihood_form_rewards_an_adversary_that_is_worse_than_chance() -> None:
    """A flipped answer is as good as a right one."""
    s = torch.zeros(4, dtype=torch.int64)
    slopes = {}
    for form in FORMS:
        logits = torch.tensor([[-4.0, 4.0]] * 4, requires_grad=True)
        slopes[form] = torch.autograd.grad(privacy_term(logits, s, form), logits)[0][0, 0].item()
    assert slopes["likelihood"] > 0.1
    assert slopes["entropy"] < 0  # back towards doubt


def test_unknown_private_labels_are_left_out_of_the_likelihood() -> None:
    logits = torch.tensor([[1.0, 3.0], [2.0, 0.0]])
    half = privacy_term(logits, torch.tensor([0, -1]), "likelihood")
    assert half.item() == pytest.approx(-math.log(1 + math.exp(2)))
    assert privacy_term(logits, torch.tensor([-1, -1]), "likelihood").item() == 0


# Recorded in reference/01_02_maxent_ml.npz (human-analysis/MaxEnt-ARL, commit eea8eda).
LOGITS_ADVERSARY = [
    (-17.677795278157557, -10.32699082682508),
    (0.0, 0.0),
    (23.41575233829226, 1.0509510450839603),
    (2.5972895827559666, 1.2898266237098928),
    (3.8422240944803336, -3.8425791805937113),
    (2.0754892177835873, -0.32913045447087785),
    (0.6918343594483964, 1.1682243957808136),
    (-2.918784752691394, -0.6251859829061526),
    (-0.8903736277423009, 0.44831020749049455),
]  # in_logits_adv_K2
SECRET = [1, 1, 0, 1, 0, 0, 1, 0, 0]  # in_s_K2
TASK_LOSS = 1.1852328180185143  # out_task_ce_K2
ALPHAS = (0.1, 0.4, 0.9, 1.0)  # in_alphas
TOTALS: dict[PrivacyForm, tuple[float, ...]] = {
    # out_total_loss_per_alpha_K2, out_ml_total_loss_per_alpha_K2
    "entropy": (1.0335013837563514, 0.5783070809698623, -0.18035009034095295, -0.3320815246031159),
    "likelihood": (
        0.9914662323064548,
        0.41016647517027593,
        -0.558666453390022,
        -0.7524330391020816,
    ),
}
# Rows 4 and 8 of out_grad_logits_K2 and of out_ml_grad_of_minus_ce_K2, first column.
SLOPES: dict[PrivacyForm, tuple[float, float]] = {
    "entropy": (2.4345004420576813e-02, -2.1216795408183681e-02),
    "likelihood": (-8.7454256383567644e-02, 1.0092727805406054e-01),
}


@pytest.mark.parametrize("form", FORMS)
def test_losses_totals_and_gradients_are_the_recorded_ones(form: PrivacyForm) -> None:
    logits = torch.tensor(LOGITS_ADVERSARY, dtype=torch.float64, requires_grad=True)
    loss = privacy_term(logits, torch.tensor(SECRET), form)
    task = torch.tensor(TASK_LOSS, dtype=torch.float64)
    for alpha, total in zip(ALPHAS, TOTALS[form], strict=True):
        terms = encoder_terms({"y": task}, {"s": loss}, alpha)
        assert sum(term.item() for term in terms.values()) == pytest.approx(total, rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient[[3, 7], 0].tolist() == pytest.approx(SLOPES[form], rel=1e-9)


def test_saturated_logits_are_exact() -> None:
    """in_sat_logits: a guard of 1e-16 within the logarithm would give 24.56 and -3.7e-15."""
    logits = torch.tensor([[60.0, 0.0], [0.0, 80.0], [50.0, 0.0]], dtype=torch.float64)
    s = torch.tensor([1, 0, 0])
    assert privacy_term(logits, s, "likelihood").item() == pytest.approx(-140 / 3, rel=1e-12)
    recorded = -3.2147582101555984e-21  # out_sat_entropy_loss
    assert privacy_term(logits, s, "entropy").item() == pytest.approx(recorded, rel=1e-9, abs=0)


@pytest.mark.parametrize("form", FORMS)
def test_the_encoders_move_is_the_weighted_sum_over_all_labels(form: PrivacyForm) -> None:
    problem = tiny.problem(("Male", "Race"), ("Smiling", "Age"))
    method = maxent(problem, form=form, alpha=0.3, dropout=0.0)
    with torch.no_grad():
        z = method.obfuscator.encoder(BATCH.x)
        smiling, age = (task(z) for task in method.tasks)
        guesses = dict(method.guesses(z))
    expected = 0.7 * slow_cross_entropy(smiling, BATCH["Smiling"])
    wanted = [(value - 40.0) / 11.5 for value in BATCH["Age"].tolist()]
    errors = [(a - b) ** 2 for a, b in zip(age[:, 0].tolist(), wanted, strict=True)]
    expected += 0.7 * sum(errors) / len(errors)
    for name, logits in guesses.items():
        doubt = slow_entropy(logits)
        expected -= 0.3 * (doubt if form == "entropy" else slow_cross_entropy(logits, BATCH[name]))
    adversary, encoder = moves_of(method)
    assert [*adversary.terms] == ["inference Male", "inference Race"]
    assert [*encoder.terms] == ["utility Smiling", "utility Age", "privacy Male", "privacy Race"]
    assert sum(t.item() for t in encoder.terms.values()) == pytest.approx(expected, rel=1e-5)


# Direction


def test_an_adversary_step_lowers_its_loss() -> None:
    method = maxent(dropout=0.0)
    (adversary, _), seats = moves_of(method), seats_for(method.players)
    before = cross_entropy(guesses_of(method), BATCH["Male"])
    update(seats, [adversary])
    assert cross_entropy(guesses_of(method), BATCH["Male"]) < before


def test_an_encoder_and_task_step_lowers_the_utility_loss() -> None:
    method = informed(alpha=0.0, dropout=0.0, encoder_lr=1e-3)
    _, encoder = moves_of(method)
    assert encoder.movers == ("encoder", "task")
    update(seats_for(method.players), [encoder])
    assert moves_of(method)[1].terms["utility Smiling"] < encoder.terms["utility Smiling"]


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
def test_an_encoder_step_at_alpha_one_raises_the_adversarys_entropy(sign: int) -> None:
    """Two public re-implementations have this sign wrong: flipped, it must fall."""
    method = informed(alpha=1.0, encoder_lr=5e-3)
    before = slow_entropy(guesses_of(method))
    assert before < 0.6 * math.log(2)
    play_privacy(method, sign)
    assert (slow_entropy(guesses_of(method)) / before) ** sign > 1.02


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
def test_an_encoder_step_of_the_likelihood_form_raises_the_adversarys_loss(sign: int) -> None:
    method = informed(form="likelihood", alpha=1.0, encoder_lr=5e-3)
    before = slow_cross_entropy(guesses_of(method), BATCH["Male"])
    assert before < 0.6 * math.log(2)
    play_privacy(method, sign)
    after = slow_cross_entropy(guesses_of(method), BATCH["Male"])
    assert (after / before) ** sign > 1.02


def play_privacy(method: MaxEnt, sign: int) -> None:
    """One step of the encoder alone, which must leave the adversary as it is."""
    weights = {name: tensor.clone() for name, tensor in method.adversaries.state_dict().items()}
    _, encoder = moves_of(method)
    update(
        seats_for(method.players), [Move("encoder", {"R": sign * encoder.terms["privacy Male"]})]
    )
    now = method.adversaries.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in weights.items())


def test_alpha_shares_one_between_the_task_and_privacy() -> None:
    """At 0 privacy has no gradient, at 1 the task has none."""
    for alpha, silent in ((0.0, "privacy Male"), (1.0, "utility Smiling")):
        method = informed(alpha=alpha)
        _, encoder = moves_of(method)
        for name, term in encoder.terms.items():
            found = torch.autograd.grad(term, [*method.obfuscator.parameters()], retain_graph=True)
            assert any(bool(gradient.any()) for gradient in found) is (name != silent)


def test_the_encoder_is_judged_by_the_adversary_after_its_step() -> None:
    """One forward of E, but the adversary's second opinion comes after it has learned."""
    method = informed(dropout=0.0, head_lr=0.1)
    seats = seats_for(method.players)
    (stage,) = method.stages()
    played = rounds(stage, BATCH, generator(0), "fp32")
    update(seats, next(played))
    (encoder,) = next(played)
    doubt = slow_entropy(guesses_of(method))
    assert encoder.terms["privacy Male"].item() == pytest.approx(-0.5 * doubt, rel=1e-4)
    stale = slow_entropy(guesses_of(informed(dropout=0.0)))
    assert encoder.terms["privacy Male"].item() != pytest.approx(-0.5 * stale, rel=1e-2)


# The release, sizes, refusals, names


def test_an_adversary_remembers_no_statistics_and_the_task_does() -> None:
    method = maxent()
    assert not [*method.adversaries.buffers()]
    assert [*method.tasks.buffers()]


def test_the_training_adversary_answers_for_a_single_release() -> None:
    method = maxent().eval()
    z = released(method.obfuscator, BATCH.x, generator(0))
    assert method.training_adversary(z)["Male"].shape == (24, 2)
    alone = method.training_adversary(z[:1])["Male"]
    assert alone.shape == (1, 2)
    assert bool(torch.isfinite(alone).all())


def test_the_papers_sizes_build_and_take_a_step() -> None:
    """ResNet-18 to 128, heads 256-BN-PReLU-Drop.5-128-BN-PReLU-K, recipes, 224 pixels."""
    method = MaxEnt(MaxEntConfig(), tiny.problem(size=224))
    convolutions = [m for m in method.obfuscator.modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 20  # 17 and 3 shortcuts
    for head in (*method.tasks, *method.adversaries):
        assert isinstance(head, nn.Sequential)
        assert [type(layer) for layer in head] == [
            nn.Linear,
            nn.BatchNorm1d,
            nn.PReLU,
            nn.Dropout,
            nn.Linear,
            nn.BatchNorm1d,
            nn.PReLU,
            nn.Linear,
        ]
        linear = [layer for layer in head if isinstance(layer, nn.Linear)]
        assert [(m.in_features, m.out_features) for m in linear] == [
            (128, 256),
            (256, 128),
            (128, 2),
        ]
        assert [layer.p for layer in head if isinstance(layer, nn.Dropout)] == [0.5]
    recipes = {name: player.optimiser for name, player in method.players.items()}
    assert all(recipe.cosine for recipe in recipes.values())
    assert (recipes["encoder"].lr, recipes["encoder"].weight_decay) == (1e-4, 1e-2)
    assert recipes["task"] == recipes["adversary"]
    assert (recipes["task"].lr, recipes["task"].weight_decay) == (1e-2, 1e-3)
    (stage,) = method.stages()
    assert (stage.batch_size, stage.epochs) == (128, 150)
    seats = seats_for(method.players)
    batch = tiny.faces(people=2, photos=2, size=224).batch(slice(None))
    for moves in rounds(stage, batch, generator(0), "fp32"):
        assert all(math.isfinite(value) for value in update(seats, moves).values())
    assert released(method.obfuscator, batch.x, generator(0)).shape == (4, 128)


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (tiny.problem(private=("Age",)), "'Age' is continuous"),
        (tiny.problem(private=("identity",)), "'identity' is identity"),
        (tiny.problem(private=("reconstruction",)), "'reconstruction' is picture"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(problem: Problem, says: str) -> None:
    with pytest.raises(VeilError, match=says) as refusal:
        maxent(problem)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "MaxEnt-ARL"),
        ({"alpha": 0.1}, "MaxEnt-ARL alpha=0.1"),
        ({"form": "likelihood"}, "ML-ARL"),
        ({"form": "likelihood", "alpha": 0.6}, "ML-ARL alpha=0.6"),
    ],
)
def test_a_row_is_called_by_its_form_and_alpha(settings: dict[str, Any], title: str) -> None:
    assert maxent(**settings).title() == title


def test_figures_are_those_of_the_paper_that_measured_it() -> None:
    mouth = Problem(
        ("Mouth_Slightly_Open",),
        ("Smiling",),
        {"Mouth_Slightly_Open": tiny.SCHEMA["Male"], "Smiling": tiny.SCHEMA["Smiling"]},
        (3, 16, 16),
    )
    figures = {"Mouth_Slightly_Open": 0.8082, "Smiling": 0.9329}
    assert maxent(mouth).reported("celeba") == figures
    assert maxent(mouth, alpha=0.2).reported("celeba") == figures  # they do not say which
    landmarks = tiny.problem(("Male",), ("landmarks",))
    assert maxent(landmarks).reported("celeba") == {"Male": 0.5743}
    assert maxent(mouth).reported("utkface") == {}
    ages = Label("multiclass", tuple("abcdefghi"))
    races = Problem(
        ("race",), ("age_group",), {"race": tiny.SCHEMA["Race"], "age_group": ages}, (3, 16, 16)
    )
    assert maxent(races).reported("fairface") == {"race": 0.2340, "age_group": 0.5382}
    assert maxent(mouth, form="likelihood").reported("celeba") == {}
    assert maxent().reported("celeba") == {}
