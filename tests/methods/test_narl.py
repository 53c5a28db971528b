"""NARL against its paper: the game's gradients, the noise and its bound, sizes, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.data.batch import Batch
from veil.data.dataset import BINARY, Label
from veil.errors import VeilError
from veil.game import channels_last, rounds, seats_for, update
from veil.mechanism import ClippedGaussian, refuted
from veil.method import Move, Problem
from veil.methods.narl import NARL, LogOdds, NARLConfig, noisy, signal_to_noise
from veil.objectives import label_loss
from veil.release import drawn, released
from veil.seeds import generator

SMALL: dict[str, Any] = {"blocks": (1, 1, 1), "widths": (4, 8, 8), "cut": 2, "sigma": 0.1}
BATCH = tiny.faces().batch(slice(None))
# Reference 03b_narl_step_bce: out_logits_*, in_y and in_s, out_L_*, out_L_total_w0p5.
LOGITS_TASK = (
    -0.09548569924796632,
    0.5434586092220239,
    -0.7311562273567069,
    -0.2547397776992354,
    0.7435335310477382,
    0.2112024065532435,
)
LABELS_TASK = (1, 0, 0, 1, 0, 1)
LOSS_TASK = 0.7817559242248535
LOGITS_ADVERSARY = (
    0.5444359669145548,
    0.33309166562831355,
    0.31399608854623073,
    0.4036055487735777,
    0.3482524779258801,
    0.2282538676922395,
)
LABELS_ADVERSARY = (0, 0, 0, 0, 0, 0)
LOSS_ADVERSARY = 0.891531765460968
TOTAL_AT_HALF = 0.3359900414943695
SEVERAL = tiny.problem(("Male", "Race"), ("Smiling", "Age", "landmarks"))


def narl(problem: Problem | None = None, seed: int = 0, **settings: Any) -> NARL:
    torch.manual_seed(seed)
    method = NARL(NARLConfig(**SMALL | settings), problem or tiny.problem())
    channels_last(method)
    return method


def unfilled(problem: Problem, **settings: Any) -> NARL:
    """At the paper's size, with shapes but no numbers."""
    with torch.device("meta"):
        return NARL(NARLConfig(**settings), problem)


def step(method: NARL, batch: Batch = BATCH, seed: int = 0) -> dict[str, float]:
    """One round, played."""
    (moves,) = rounds(method.stages()[0], batch, generator(seed), "fp32")
    return update(seats_for(method.players), moves)


@cache
def trained_weights() -> dict[str, Tensor]:
    """After 40 rounds without a fight: A understands z, and so does T."""
    method = narl(w=0.0, lr=3e-3)
    seats = seats_for(method.players)
    for _ in range(40):
        for moves in rounds(method.stages()[0], BATCH, generator(0), "fp32"):
            update(seats, moves)
    return method.state_dict()


def trained(**settings: Any) -> NARL:
    """With an A that is worth fooling."""
    method = narl(**settings)
    method.load_state_dict(trained_weights())
    return method


def clean_move(method: NARL) -> Move:
    """The joint move on releases of the batch as it is."""
    return method.joint_move(method.obfuscator.release(BATCH.x, generator(0)), BATCH)


@torch.no_grad()
def losses(method: NARL) -> dict[str, float]:
    return {name: term.item() for name, term in clean_move(method).terms.items()}


# Equations


def test_z_is_the_features_plus_noise_of_the_wanted_deviation() -> None:
    method = narl(sigma=60.0)
    x = tiny.faces(people=60, size=32).batch(slice(None)).x
    z = released(method.obfuscator, x, generator(1))
    with torch.no_grad():
        features = method.obfuscator.features(x)
    drawn_noise = torch.randn(features.shape, generator=generator(1))
    torch.testing.assert_close(z, features + 60.0 * drawn_noise)
    noise = ((z - features) / 60.0).double()
    count = noise.numel()
    assert count > 50_000
    assert noise.mean().item() == pytest.approx(0, abs=5 / count**0.5)
    assert noise.square().mean().item() == pytest.approx(1, abs=5 * (2 / count) ** 0.5)
    normal = torch.special.ndtr(noise.flatten().sort().values)
    uniform = (torch.arange(count) + 0.5) / count
    assert float((normal - uniform).abs().max()) < 1.63 / count**0.5  # Kolmogorov, 1 %


def test_one_logit_costs_the_binary_cross_entropy() -> None:
    """Also where a sigmoid would saturate."""
    logits = [-200.0, -3.0, -0.5, 0.0, 1.5, 200.0]
    for label in (0, 1):
        total = sum(max(0.0, -a) + math.log1p(math.exp(-abs(a))) for a in signed(logits, label))
        pair = LogOdds()(torch.tensor(logits, dtype=torch.float64).view(-1, 1))
        assert pair.shape == (6, 2)
        batch = Batch(torch.zeros(6, 1, 1, 1), {"Male": torch.full((6,), label)})
        loss = label_loss(tiny.problem(), "Male", pair, batch)
        assert loss.item() == pytest.approx(total / 6, rel=1e-6)


def signed(logits: Sequence[float], label: int) -> list[float]:
    return [a if label else -a for a in logits]


def test_losses_of_recorded_logits_are_the_recorded_losses() -> None:
    recorded = {
        "Smiling": (LOGITS_TASK, LABELS_TASK, LOSS_TASK),
        "Male": (LOGITS_ADVERSARY, LABELS_ADVERSARY, LOSS_ADVERSARY),
    }
    found = {}
    for name, (logits, labels, loss) in recorded.items():
        batch = Batch(torch.zeros(6, 1, 1, 1), {name: torch.tensor(labels)})
        pair = LogOdds()(torch.tensor(logits, dtype=torch.float64).view(-1, 1))
        found[name] = label_loss(tiny.problem(), name, pair, batch).item()
        assert found[name] == pytest.approx(loss, rel=1e-6)
    assert found["Smiling"] - 0.5 * found["Male"] == pytest.approx(TOTAL_AT_HALF, rel=1e-5)


def slow_loss(problem: Problem, name: str, output: Tensor) -> Tensor:
    """Cross-entropy row by row; the squared error of z-scores number by number."""
    labels, total = BATCH[name], torch.zeros(())
    if problem.labels[name].is_class:
        for row, label in zip(output, labels.tolist(), strict=True):
            total = total - (row[label] - row.exp().sum().log())
        return total / len(output)
    mean, deviation = problem.scales[name].mean, problem.scales[name].deviation
    for row, label in zip(output, labels.view(len(output), -1).tolist(), strict=True):
        for o, value, m, d in zip(row, label, mean, deviation, strict=True):
            total = total + (o - (value - m) / d) ** 2
    return total / output.numel()


@pytest.mark.parametrize("w", [0.0, 0.01, 0.5])
def test_one_backward_gives_every_player_the_gradient_of_its_own_objective(w: float) -> None:
    """E, T: L_task - w L_adv; A: L_adv, undivided; with three tasks and two adversaries."""
    method = narl(SEVERAL, w=w)
    z = method.obfuscator.release(BATCH.x, generator(0))
    task = sum(
        (slow_loss(SEVERAL, n, t(z)) for n, t in zip(SEVERAL.utility, method.tasks, strict=True)),
        torch.zeros(()),
    )
    adversary = sum(
        (
            slow_loss(SEVERAL, n, a(z))
            for n, a in zip(SEVERAL.private, method.adversaries, strict=True)
        ),
        torch.zeros(()),
    )
    expected = {
        "obfuscator": gradients(task - w * adversary, method.obfuscator),
        "task": gradients(task, method.tasks),
        "adversary": gradients(adversary, method.adversaries),
    }
    move = method.joint_move(z, BATCH)
    assert move.player == ("obfuscator", "task", "adversary")
    assert [*move.terms] == [
        "utility Smiling",
        "utility Age",
        "utility landmarks",
        "inference Male",
        "inference Race",
    ]
    total = sum(move.terms.values(), torch.zeros(()))
    assert total.item() == pytest.approx((task + adversary).item(), rel=1e-5)
    for name, player in method.players.items():
        for found, wanted in zip(gradients(total, player.module), expected[name], strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)


def gradients(loss: Tensor, module: nn.Module) -> list[Tensor]:
    return [*torch.autograd.grad(loss, [*module.parameters()], retain_graph=True)]


def test_everybody_takes_adams_first_step_at_once() -> None:
    """It is lr g / (|g| + 1e-8) for every number, each of its own player's gradient."""
    method = narl(w=0.5)
    move = clean_move(method)
    parameters = [p for player in method.players.values() for p in player.module.parameters()]
    found = torch.autograd.grad(
        sum(move.terms.values(), torch.zeros(())), parameters, retain_graph=True
    )
    before = [p.detach().clone() for p in parameters]
    update(seats_for(method.players), [move])
    for p, old, g in zip(parameters, before, found, strict=True):
        torch.testing.assert_close(p.detach(), old - 1e-3 * g / (g.abs() + 1e-8))


def test_at_w_0_the_obfuscator_follows_the_task_alone_and_the_adversary_still_learns() -> None:
    with_adversary, without = (
        narl(tiny.problem(private=private), w=0.0) for private in (("Male",), ())
    )
    without.load_state_dict(with_adversary.state_dict(), strict=False)
    before = with_adversary.adversaries.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    for method in (with_adversary, without):
        assert all(map(math.isfinite, step(method).values()))
    first, second = (method.obfuscator.state_dict() for method in (with_adversary, without))
    assert all(torch.equal(first[name], second[name]) for name in first)
    after = with_adversary.adversaries.state_dict()
    assert not all(torch.equal(before[name], after[name]) for name in before)


# Direction


def test_an_adversary_step_lowers_its_loss() -> None:
    method = trained()
    before = losses(method)["inference Male"]
    update(seats_for(method.players), [Move("adversary", clean_move(method).terms)])
    assert losses(method)["inference Male"] < before


def test_a_step_of_task_and_obfuscator_lowers_the_tasks_loss() -> None:
    for player in ("task", "obfuscator"):
        method = trained(w=0.0)
        before = losses(method)["utility Smiling"]
        update(seats_for(method.players), [Move(player, clean_move(method).terms)])
        assert losses(method)["utility Smiling"] < before


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
def test_an_obfuscator_step_at_large_w_raises_the_adversarys_loss(sign: int) -> None:
    """The flipped sign is the negative control: it must lower the loss."""
    method = trained(lr=1e-2)
    method.config = method.config.model_copy(update={"w": sign * 1000.0})
    before = losses(method)["inference Male"]
    assert before < 0.7 * math.log(2)
    update(seats_for(method.players), [Move("obfuscator", clean_move(method).terms)])
    assert (losses(method)["inference Male"] / before) ** sign > 1.1


def test_more_noise_leaves_the_adversary_less() -> None:
    """More noise, a larger loss of A on the same features."""
    found = [losses(trained(sigma=sigma))["inference Male"] for sigma in (0.0, 1.0, 10.0)]
    assert found[0] < found[1] < found[2]


# The release and its bound


def test_draws_run_the_encoder_once() -> None:
    method = narl()
    runs: list[Tensor] = []
    method.obfuscator.encoder.register_forward_hook(lambda _, __, z: runs.append(z))
    draws = list(drawn(method.obfuscator, BATCH.x, [generator(i) for i in range(5)]))
    assert len(runs) == 1
    assert len({z.sum().item() for z in draws}) == 5


def test_a_bound_ends_every_release_with_the_mechanism_that_it_declares() -> None:
    """The negative control: the same features, unclipped, are refuted by their own releases."""
    bound = narl(bound=0.5, sigma=0.1).obfuscator
    assert bound.mechanism == ClippedGaussian(0.5, 0.1)
    z = released(bound, BATCH.x, generator(2))
    with torch.no_grad():
        features = bound.features(BATCH.x)
    norms = features.flatten(1).norm(dim=1)
    assert float(norms.min()) > 0.5
    clipped = features * (0.5 / norms).view(-1, 1, 1, 1)
    noise = torch.randn(features.shape, generator=generator(2))
    torch.testing.assert_close(z, clipped + 0.1 * noise)
    assert refuted(bound.mechanism, z) is None
    free = narl(sigma=0.1).obfuscator
    assert free.mechanism is None
    assert refuted(bound.mechanism, released(free, BATCH.x, generator(2))) is not None


def test_training_sees_the_bounded_release() -> None:
    """T's and A's losses come from clipped maps: with a tiny bound they see noise alone."""
    found = {bound: losses(trained(bound=bound, sigma=1.0)) for bound in (1e-6, 1e6)}
    assert found[1e-6]["inference Male"] > 1.2 * found[1e6]["inference Male"]


def test_a_bound_without_noise_is_refused() -> None:
    with pytest.raises(VeilError, match=r"sigma is 0\.0; it must be finite, above 0"):
        narl(bound=1.0, sigma=0.0)


def test_the_noise_is_added_in_full_precision_under_bf16() -> None:
    """960 with eight bits is known to 4 only; features of about 1 would be lost."""
    method = narl(sigma=960.0)
    seen: list[Tensor] = []
    for head in (*method.tasks, *method.adversaries):
        head.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    (moves,) = rounds(method.stages()[0], BATCH, generator(0), "bf16")
    assert all(map(math.isfinite, update(seats_for(method.players), moves).values()))
    assert len(seen) == 2
    for z in seen:
        assert z.dtype == torch.float32
        assert float((z - z.bfloat16().float()).detach().abs().max()) > 1


# Networks


@pytest.mark.parametrize(
    ("cut", "obfuscator", "one_logit", "seven"),
    [
        (0, 9_536, 11_167_489, 11_170_567),
        (1, 157_504, 11_019_521, 11_022_599),
        (2, 683_072, 10_493_953, 10_497_031),
        (3, 2_782_784, 8_394_241, 8_397_319),
        (4, 11_176_512, 513, 3_591),
    ],
)
def test_sizes_are_those_recorded(cut: int, obfuscator: int, one_logit: int, seven: int) -> None:
    """Reference 03a_narl_sizes, out_obfuscator_params_b0_to_b4, out_head_params_b_by_nc."""
    races = Label("multiclass", tuple("abcdefg"))
    problem = Problem(("race",), ("Male",), {"race": races, "Male": BINARY}, (3, 178, 178))
    method = unfilled(problem, cut=cut)
    assert [count(part) for part in (method.obfuscator, method.tasks, method.adversaries)] == [
        obfuscator,
        one_logit,
        seven,
    ]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(("cut", "release"), [(3, (256, 12, 12)), (4, (512, 6, 6))])
def test_the_papers_sizes_build_and_take_a_step(cut: int, release: tuple[int, int, int]) -> None:
    """178 x 178; RN18_3 with sigma = 960, RN18_4 before the average pool with sigma = 15."""
    method = NARL(NARLConfig(cut=cut, sigma=960.0 if cut == 3 else 15.0), tiny.problem(size=178))
    batch = tiny.faces(people=1, size=178).batch(slice(None))
    assert released(method.obfuscator, batch.x, generator(0)).shape == (2, *release)
    assert all(map(math.isfinite, step(method.train(), batch).values()))


def test_the_adversary_normalises_by_the_batch_and_the_task_by_what_it_remembers() -> None:
    """So that A says the same in evaluation as in training, and T answers one image alone."""
    method = narl().eval()
    step(method.train())
    z = released(method.obfuscator, BATCH.x, generator(0))
    with torch.no_grad():
        in_training = method.train().training_adversary(z)["Male"]
        method.eval()
        assert torch.equal(method.training_adversary(z)["Male"], in_training)
        together, alone = (method.answers(part)["Smiling"][:1] for part in (z, z[:1]))
    torch.testing.assert_close(together, alone)


def test_numbers_are_answered_in_their_own_units() -> None:
    """A head that says 0 means the label's mean; 1 a deviation above."""
    method = narl(tiny.problem(utility=("Age", "landmarks")), sigma=0.0).eval()
    z = released(method.obfuscator, BATCH.x, generator(0))
    for said, age, place in ((0.0, 40.0, 8.0), (1.0, 51.5, 10.0)):
        for task in method.tasks:
            linear = [m for m in task.modules() if isinstance(m, nn.Linear)][-1]
            nn.init.zeros_(linear.weight)
            nn.init.constant_(linear.bias, said)
        answers = method.answers(z)
        assert answers["Age"].shape == (24, 1)
        assert answers["landmarks"].shape == (24, 4)
        torch.testing.assert_close(answers["Age"], torch.full((24, 1), age))
        torch.testing.assert_close(answers["landmarks"], torch.full((24, 4), place))


@pytest.mark.parametrize(
    ("settings", "size", "side"),
    [({}, 32, 16), ({}, 33, 5), ({"stem": "imagenet"}, 32, 4), ({"stem": "cifar"}, 40, 20)],
)
def test_small_pictures_go_through_the_stem_that_keeps_their_size(
    settings: dict[str, Any], size: int, side: int
) -> None:
    method = narl(tiny.problem(size=size), **settings)
    z = released(method.obfuscator, torch.rand(1, 3, size, size), generator(0))
    assert z.shape == (1, 8, side, side)


# Training pictures


def test_pictures_are_varied_in_training_only() -> None:
    """Without noise the rounds of two generators differ in their pictures alone."""
    method = narl(sigma=0.0)
    for training in (True, False):
        method.train(training)
        first, second = (next(iter(method.round(BATCH, generator(seed)))) for seed in (0, 1))
        assert isinstance(first, Move)
        assert isinstance(second, Move)
        same = all(torch.equal(first.terms[n], second.terms[n]) for n in first.terms)
        assert same is not training


def test_faces_with_landmarks_are_not_turned() -> None:
    x = BATCH.x
    for utility, turned in ((("Smiling",), True), (("landmarks",), False)):
        method = narl(tiny.problem(utility=utility), jitter=0.0)
        assert torch.equal(method.augmented(x, generator(0)), x) is not turned
    method = narl(flip=False, jitter=0.0)
    assert torch.equal(method.augmented(x, generator(0)), x)
    lit = narl(tiny.problem(utility=("landmarks",))).augmented(x, generator(0))
    assert 0 < float((lit - x).abs().max()) < 0.4


# What is told of it


def test_signal_to_noise_in_closed_form() -> None:
    """All share 3 or -3 in a channel, and differ by +-1: powers 10 and 1 over sigma^2 = 100."""
    shared, own = torch.tensor([3.0, -3.0]).view(1, 2, 1, 1), torch.tensor([1.0, -1.0])
    signal = (shared + own.view(2, 1, 1, 1)).expand(2, 2, 3, 3)
    told = signal_to_noise(signal, 10.0)
    assert told == pytest.approx(
        {
            "signal-to-noise ratio, dB": -10.0,
            "signal-to-noise ratio between images, dB": -20.0,
        },
        abs=1e-5,
    )
    assert all(map(math.isfinite, signal_to_noise(torch.zeros(2, 3), 1.0).values()))


@torch.no_grad()
def test_what_is_measured_is_the_signal_within_the_release() -> None:
    """Recovered from the mean of many draws; with a bound, of the clipped map."""
    for bound in (None, 0.5):
        method = narl(sigma=0.2, bound=bound).eval()
        told = method.measured(BATCH.x, generator(0))
        draws = drawn(method.obfuscator, BATCH.x, (generator(i) for i in range(200)))
        mean = torch.stack([*draws]).mean(dim=0)
        power = mean.square().mean().item() - 0.04 / 200
        assert told["signal-to-noise ratio, dB"] == pytest.approx(
            10 * math.log10(power / 0.04), abs=0.2
        )
    assert narl(sigma=0.0).eval().measured(BATCH.x, generator(0)) == {}


def test_noise_of_no_deviation_is_none() -> None:
    x = torch.rand(2, 3)
    assert torch.equal(noisy(x, 0.0, generator(0)), x)


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (tiny.problem(private=("Age",)), "NARL hides binary or multiclass labels; 'Age' is"),
        (tiny.problem(private=("identity",)), "'identity' is identity"),
        (tiny.problem(private=("reconstruction",)), "'reconstruction' is picture"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(problem: Problem, says: str) -> None:
    with pytest.raises(VeilError, match=says) as refusal:
        narl(problem)
    assert "\n" not in str(refusal.value)


def test_a_cut_after_a_stage_that_is_not_there_is_refused() -> None:
    with pytest.raises(VeilError, match="no stage 4 to cut after: stages are 0 to 3"):
        narl(cut=4)


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({}, "NARL RN18_3"),
        ({"cut": 4, "sigma": 15.0}, "NARL RN18_4 sigma=15"),
        ({"w": 0.0, "bound": 2.5}, "NARL RN18_3 w=0 bound=2.5"),
        ({"blocks": (1, 1, 1, 1), "cut": 2}, "NARL RN10_2"),
    ],
)
def test_titles(settings: dict[str, Any], title: str) -> None:
    assert unfilled(tiny.problem(utility=()), **settings).title() == title


ROWS: tuple[tuple[str, str, str, int, float, dict[str, float]], ...] = (
    ("fairface", "race", "age_group", 3, 960, {"race": 0.2068, "age_group": 0.5264}),
    ("fairface", "race", "age_group", 4, 15, {"race": 0.2070, "age_group": 0.5277}),
    ("fairface", "age_group", "race", 3, 960, {"age_group": 0.3189, "race": 0.6245}),
    ("fairface", "age_group", "race", 4, 15, {"age_group": 0.2975, "race": 0.6298}),
    (
        "celeba",
        "Mouth_Slightly_Open",
        "Smiling",
        3,
        15360,
        {"Mouth_Slightly_Open": 0.7699, "Smiling": 0.9156},
    ),
    (
        "celeba",
        "Mouth_Slightly_Open",
        "Smiling",
        4,
        15360,
        {"Mouth_Slightly_Open": 0.5744, "Smiling": 0.9161},
    ),
)


@pytest.mark.parametrize(("data", "private", "useful", "cut", "sigma", "figures"), ROWS)
def test_rows_of_the_supplement(
    data: str, private: str, useful: str, cut: int, sigma: float, figures: dict[str, float]
) -> None:
    labels = {private: Label("multiclass", tuple("abcdefg")), useful: BINARY}
    problem = Problem((private,), (useful,), labels, (3, 64, 64))
    method = unfilled(problem, cut=cut, sigma=sigma)
    assert method.reported(data) == figures
    assert method.reported("table") == {}
    for other in ({"sigma": sigma / 2}, {"w": 0.0}, {"bound": 1.0}):
        method.config = NARLConfig(**{"cut": cut, "sigma": sigma} | other)
        assert method.reported(data) == {}
    method.config = NARLConfig(cut=cut, sigma=sigma, widths=(4, 4, 4, 4))
    assert method.reported(data) == {}


def test_no_row_hides_two_labels() -> None:
    """Race and age both private is neither of the two rows of FairFace."""
    labels = {name: Label("multiclass", tuple("abcdefg")) for name in ("race", "age_group")}
    problem = Problem(("race", "age_group"), (), labels, (3, 64, 64))
    assert unfilled(problem).reported("fairface") == {}


def test_of_landmarks_only_the_privacy_is_an_accuracy() -> None:
    method = unfilled(tiny.problem(utility=("landmarks",)), sigma=1920.0)
    assert method.reported("celeba") == {"Male": 0.5853}
