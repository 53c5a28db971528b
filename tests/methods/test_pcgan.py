"""PCGAN against its paper: losses by recorded values and slow loops, every step's direction."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.data.batch import Batch
from veil.data.dataset import BINARY
from veil.errors import VeilError
from veil.game import rounds, seats_for, update
from veil.method import Move, Problem, Replacement
from veil.methods.pcgan import (
    PCGAN,
    Generator,
    PCGANConfig,
    discriminator_loss,
    distortion,
    distortion_penalty,
    entropy_loss,
    generator_loss,
    likelihood_loss,
)
from veil.release import released
from veil.seeds import generator

SMALL: dict[str, Any] = {
    "widths": (6, 12),
    "noise": 8,
    "embedding": 4,
    "h_f_blocks": (1, 1),
    "h_g_blocks": (1, 1),
    "discriminator_widths": (6, 12),
    "lr": 3e-3,
}
BATCH = tiny.faces().batch(slice(None))
SEVERAL = tiny.problem(("Male", "Race"), ())


def pcgan(problem: Problem | None = None, seed: int = 0, **settings: Any) -> PCGAN:
    torch.manual_seed(seed)
    return PCGAN(PCGANConfig(**SMALL | settings), problem or tiny.problem())


def moves_of(method: PCGAN, batch: Batch = BATCH, seed: int = 0) -> dict[str, Move]:
    """The moves of one round, by player, in their order; none of them played."""
    played = rounds(method.stages()[0], batch, generator(seed), "fp32")
    return {move.movers[0]: move for moves in played for move in moves}


def step(method: PCGAN, move: Move) -> None:
    seats = seats_for(method.players)
    update({name: seats[name] for name in move.movers}, [move])


def taught(player: str, **settings: Any) -> PCGAN:
    """With discriminators that have begun to understand what they read."""
    method = pcgan(**settings)
    seats = seats_for(method.players)
    for seed in range(25):
        update(seats, [moves_of(method, seed=seed)[player]])
    return method


def value(method: PCGAN, player: str, term: str, seed: int = 0) -> float:
    with torch.no_grad():
        return float(moves_of(method, seed=seed)[player].terms[term])


# Losses, against 04b_pcgan_losses.npz. Its pictures enter by their distortion only.

RECORDED_DISTORTION = 0.011410452021236092  # out_mse
RECORDED_PENALTY = {0.001: 10.8377511, 0.005: 4.10938951, 0.05: 0.0}  # out_penalty_per_eps
H_F = torch.tensor(  # in_D_logits, in_s
    [
        [0.26666884, -0.97986097],
        [2.1639089, 0.33054674],
        [3.5625645, -0.83786009],
        [-1.2972118, 0.022314],
        [-0.09248558, -1.39884467],
    ],
    dtype=torch.float64,
)
S = torch.tensor([1, 0, 1, 0, 0])


@pytest.mark.parametrize(("epsilon", "penalty"), RECORDED_PENALTY.items())
@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (7, 2)])
def test_the_penalty_is_the_recorded_one_on_pictures_and_on_points(
    epsilon: float, penalty: float, shape: tuple[int, ...]
) -> None:
    x = torch.rand(shape, dtype=torch.float64)
    z = (x + math.sqrt(RECORDED_DISTORTION)).requires_grad_()
    found = distortion_penalty(z, x, epsilon, 1e5)
    assert distortion(z, x).item() == pytest.approx(RECORDED_DISTORTION, rel=1e-12)
    assert found.item() == pytest.approx(penalty, rel=1e-8)
    (gradient,) = torch.autograd.grad(found, z)
    beyond = max(0.0, RECORDED_DISTORTION - epsilon)
    slope = 2e5 * beyond * 2 * math.sqrt(RECORDED_DISTORTION) / x.numel()
    torch.testing.assert_close(gradient, torch.full_like(gradient, slope))


def test_losses_of_the_filter_are_the_recorded_ones() -> None:
    assert entropy_loss(H_F, "sum").item() == pytest.approx(-2.03079367959283, abs=2e-8)
    assert entropy_loss(H_F, "mean").item() == pytest.approx(-0.406158735918566, abs=2e-8)
    assert likelihood_loss(H_F, S).item() == pytest.approx(0.8058885222584664, abs=2e-8)
    logits = H_F.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(likelihood_loss(logits, S), logits)
    recorded = [-0.04466028, 0.17243235, -0.00242467, 0.04217944, 0.15738065]
    assert gradient[:, 0].tolist() == pytest.approx(recorded, abs=2e-8)
    (gradient,) = torch.autograd.grad(entropy_loss(logits, "sum"), logits)
    recorded = [0.21619551, 0.21787466, 0.05270113, -0.21959492, 0.21905881]
    assert gradient[:, 0].tolist() == pytest.approx(recorded, abs=2e-8)


def slow_cross_entropy(logits: Tensor, labels: list[int]) -> float:
    rows = zip(logits.tolist(), labels, strict=True)
    total: float = sum(math.log(sum(map(math.exp, row))) - row[k] for row, k in rows)
    return total / len(labels)


def test_losses_of_the_generator_and_h_g_equal_slow_loops() -> None:
    fake, real = torch.randn(2, 5, 4, dtype=torch.float64)
    s = [0, 2, 1, 1, 0]
    expected = slow_cross_entropy(fake, [3] * 5) + slow_cross_entropy(real, s)
    assert discriminator_loss(fake, real, torch.tensor(s)).item() == pytest.approx(expected)
    found = generator_loss(fake, torch.tensor(s)).item()
    assert found == pytest.approx(slow_cross_entropy(fake, s))


def test_unlabelled_pictures_teach_nothing_but_that_their_replacements_are_fake() -> None:
    """1 - s of a missing label (-1) must not become a class."""
    s = torch.tensor([1, -1, 1, -1, 0])
    known = s >= 0
    assert torch.equal(likelihood_loss(H_F, s), likelihood_loss(H_F[known], s[known]))
    fake, real = torch.randn(2, 5, 3, dtype=torch.float64)
    expected = slow_cross_entropy(fake, [2] * 5) + slow_cross_entropy(real[known], [1, 1, 0])
    assert discriminator_loss(fake, real, s).item() == pytest.approx(expected)


# The round


@pytest.mark.parametrize(
    ("parts", "order"),
    [
        ("both", [["filter", "adversary h_f"], ["generator", "adversary h_g"]]),
        ("filter", [["filter", "adversary h_f"]]),
        ("generator", [["generator", "adversary h_g"]]),
    ],
)
def test_a_network_and_its_discriminator_move_at_once_from_one_reading(
    parts: str, order: list[list[str]]
) -> None:
    method = pcgan(parts=parts)
    readings: list[str] = []
    for name, discriminators in (("h_f", method.h_f), ("h_g", method.h_g)):
        for one in discriminators:
            one.register_forward_hook(lambda *_, name=name: readings.append(name))
    played = rounds(method.stages()[0], BATCH, generator(0), "fp32")
    assert [[move.movers[0] for move in moves] for moves in played] == order
    assert {*method.players} == {name for moves in order for name in moves}
    assert readings == [
        *(["h_f"] if parts != "generator" else []),
        *(["h_g", "h_g"] if parts != "filter" else []),  # of the originals, too
    ]


def test_the_generators_loss_reaches_nobody_else_and_z1_is_redrawn() -> None:
    method = pcgan()
    drawn: list[Tensor] = []

    def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        drawn.append(inputs[1])

    assert method.filter is not None
    method.filter.f.register_forward_pre_hook(note)
    terms = moves_of(method)["generator"].terms
    for term in terms.values():
        gradients = torch.autograd.grad(
            term, [*method.filter.parameters()], retain_graph=True, allow_unused=True
        )
        assert all(gradient is None for gradient in gradients)
    first, second = drawn
    assert first.shape == (24, 8)
    assert not torch.isclose(first, second).any()


@torch.no_grad()
def test_terms_of_several_attributes_are_the_papers_losses() -> None:
    """In eval mode, each term from the released pictures and a slow loop."""
    method = pcgan(SEVERAL, epsilon=0.001, lam=10.0).eval()
    moves = moves_of(method)
    assert [*moves["filter"].terms] == ["privacy Male", "privacy Race", "distortion"]
    assert [*moves["generator"].terms] == ["replacement Male", "replacement Race", "distortion"]
    rng, x = generator(0), BATCH.x
    assert method.filter is not None
    assert method.generator is not None
    censored = method.filter.release(x, rng)
    replaced, s_new = method.generator.replace(x, rng)
    for z, player in ((censored, "filter"), (replaced, "generator")):
        error = sum(
            (a - b) ** 2 for a, b in zip(z.flatten().tolist(), x.flatten().tolist(), strict=True)
        )
        expected = 10.0 * max(0.0, error / x.numel() - 0.001) ** 2
        assert moves[player].terms["distortion"].item() == pytest.approx(expected, rel=1e-4)
    for name, k, h_f, h_g in zip(("Male", "Race"), (2, 3), method.h_f, method.h_g, strict=True):
        p = h_f(censored).double().softmax(1)
        assert p.shape[1] == k
        entropy = float(-(p * p.log()).sum(1).mean())
        s = BATCH[name].tolist()
        found = {
            player: next(t for n, t in m.terms.items() if name in n) for player, m in moves.items()
        }
        fake, real = h_g(replaced), h_g(x)
        assert fake.shape[1] == k + 1
        assert found["filter"].item() == pytest.approx(-entropy, rel=1e-5)
        assert found["generator"].item() == pytest.approx(
            slow_cross_entropy(fake, s_new[name].tolist()), rel=1e-5
        )
        assert found["adversary h_f"].item() == pytest.approx(
            slow_cross_entropy(h_f(censored), s), rel=1e-5
        )
        assert found["adversary h_g"].item() == pytest.approx(
            slow_cross_entropy(fake, [k] * 24) + slow_cross_entropy(real, s), rel=1e-5
        )


def test_discriminators_keep_no_statistics_that_others_could_push() -> None:
    method = pcgan()
    assert not [*method.h_f.buffers(), *method.h_g.buffers()]
    x = BATCH.x
    logits = method.h_f.train()[0](x)
    assert torch.equal(method.h_f.eval()[0](x), logits)
    torch.testing.assert_close(method.h_f[0](3 * x), logits, rtol=1e-3, atol=1e-3)


# Direction


@pytest.mark.parametrize(
    ("player", "term"),
    [("adversary h_f", "inference Male"), ("adversary h_g", "discrimination Male")],
)
def test_a_step_of_an_adversary_lowers_its_loss(player: str, term: str) -> None:
    method = pcgan()
    before = value(method, player, term)
    step(method, moves_of(method)[player])
    assert value(method, player, term) < before


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
@pytest.mark.parametrize("loss", ["entropy", "likelihood"])
def test_a_step_of_the_filter_raises_the_loss_of_h_f(loss: str, sign: int) -> None:
    """The flipped sign is the negative control. Distortion weighs nothing here."""
    method = taught("adversary h_f", loss=loss, lam=0.0)
    before = value(method, "adversary h_f", "inference Male")
    doubt = value(method, "filter", "privacy Male")
    assert before < 0.6 * math.log(2)
    move = moves_of(method)["filter"]
    step(method, Move("filter", {name: sign * term for name, term in move.terms.items()}))
    after = value(method, "adversary h_f", "inference Male")
    assert sign * (after - before) > 0.05 * before
    assert sign * (value(method, "filter", "privacy Male") - doubt) < 0


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
def test_a_step_of_the_generator_makes_h_g_see_the_drawn_class(sign: int) -> None:
    method = taught("adversary h_g", lam=0.0)
    before = value(method, "generator", "replacement Male")
    move = moves_of(method)["generator"]
    step(method, Move("generator", {name: sign * term for name, term in move.terms.items()}))
    after = value(method, "generator", "replacement Male")
    assert sign * (before - after) > 0.02 * before


@pytest.mark.parametrize("player", ["filter", "generator"])
def test_a_step_at_a_large_weight_lowers_the_distortion(player: str) -> None:
    method = pcgan(epsilon=0.001)
    before = value(method, player, "distortion")
    step(method, moves_of(method)[player])
    assert value(method, player, "distortion") < 0.95 * before


def test_summed_entropy_weighs_as_much_as_the_batch_is_large() -> None:
    mean, summed = (pcgan(entropy_over=over).eval() for over in ("mean", "sum"))
    ratio = value(summed, "filter", "privacy Male") / value(mean, "filter", "privacy Male")
    assert ratio == pytest.approx(24)


def test_the_filter_learns_to_keep_its_budget_and_to_spend_it() -> None:
    method = pcgan(parts="filter", epsilon=0.02)
    seats = seats_for(method.players)
    for seed in range(40):
        for moves in rounds(method.stages()[0], BATCH, generator(seed), "fp32"):
            update(seats, moves)
    with torch.no_grad():
        censored = method.obfuscator.release(BATCH.x, generator(0))
    assert distortion(censored, BATCH.x).item() == pytest.approx(0.02, rel=0.1)


# The release


def test_the_release_is_a_picture_that_was_made_to_show_the_classes_it_names() -> None:
    method = pcgan(SEVERAL)
    release = method.obfuscator.eval()
    assert isinstance(release, Replacement)
    shown: list[list[Tensor]] = []

    def note(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        shown.append(inputs[2])

    assert isinstance(release, Generator)
    release.g.register_forward_pre_hook(note)
    x = BATCH.x
    with torch.no_grad():
        z, s_new = release.replace(x, generator(3))
    assert [*s_new] == ["Male", "Race"]
    assert all(torch.equal(a, b) for a, b in zip(shown[0], s_new.values(), strict=True))
    assert torch.equal(released(release, x, generator(3)), z)
    assert z.shape == x.shape
    assert float(z.min()) >= 0
    assert float(z.max()) <= 1


def test_new_classes_are_uniform_and_know_nothing_of_the_picture() -> None:
    release = pcgan(SEVERAL).obfuscator.eval()
    assert isinstance(release, Replacement)
    with torch.no_grad():
        s_new = release.replace(BATCH.x.repeat(50, 1, 1, 1), generator(0))[1]
    s = {name: BATCH[name].repeat(50) for name in s_new}
    for name, k in (("Male", 2), ("Race", 3)):
        for of in (s_new[name], *(s_new[name][s[name] == c] for c in range(k))):
            shares = of.bincount(minlength=k) / len(of)
            deviation = math.sqrt(1 / k * (1 - 1 / k) / len(of))
            assert shares.tolist() == pytest.approx([1 / k] * k, abs=4 * deviation)


@pytest.mark.parametrize("parts", ["filter", "generator", "both"])
def test_only_the_filter_alone_shows_its_adversary_and_everybody_tells_its_distortion(
    parts: str,
) -> None:
    method = pcgan(parts=parts).eval()
    assert method.obfuscator.pictures
    assert isinstance(method.obfuscator, Replacement) is (parts != "filter")
    x = BATCH.x
    z = released(method.obfuscator, x, generator(0))
    with torch.no_grad():
        assert [*method.training_adversary(z)] == (["Male"] if parts == "filter" else [])
        figures = method.measured(x, generator(0))
    assert method.answers(z) == {}
    errors = ((z - x) ** 2).mean(dim=(1, 2, 3)).tolist()
    assert figures["distortion"] == pytest.approx(sum(errors) / 24, rel=1e-5)
    expected = sum(-10 * math.log10(error) for error in errors) / 24
    assert figures["PSNR"] == pytest.approx(expected, rel=1e-5)


def test_the_paper_at_its_size_takes_a_step() -> None:
    problem = Problem(("Smiling",), (), {"Smiling": BINARY}, (3, 64, 64))
    method = PCGAN(PCGANConfig(), problem)
    sizes = {
        name: sum(p.numel() for p in player.module.parameters())
        for name, player in method.players.items()
    }
    assert sizes == {  # 04a_pcgan_sizes.npz; the filter without its unused branch
        "filter": 17_429_059,
        "adversary h_f": 11_177_538,
        "generator": 17_433_683,
        "adversary h_g": 4_907_331,
    }
    seats = seats_for(method.players)
    batch = Batch(torch.rand(2, 3, 64, 64), {"Smiling": torch.tensor([0, 1])})
    before = {
        name: next(player.module.parameters()).clone() for name, player in method.players.items()
    }
    for moves in rounds(method.stages()[0], batch, generator(0), "fp32"):
        update(seats, moves)
    for name, player in method.players.items():
        assert not torch.equal(next(player.module.parameters()), before[name])


# Refusals and rows


@pytest.mark.parametrize(
    ("problem", "settings", "message"),
    [
        (SEVERAL, {"loss": "likelihood"}, "flips two classes, 'Race' has 3: take entropy"),
        (tiny.problem(("Age",)), {}, "'Age' is continuous"),
        (tiny.problem(("reconstruction",)), {}, "'reconstruction' is picture"),
        (tiny.problem(()), {}, "name one"),
        (tiny.problem(), {"h_f_blocks": (1,)}, "one width per stage"),
        (tiny.problem(), {"widths": (2,) * 6}, "give fewer widths"),
    ],
)
def test_what_makes_no_sense_is_refused(
    problem: Problem, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(VeilError, match=message):
        pcgan(problem, **settings)


def test_without_a_filter_nobody_flips_classes() -> None:
    assert pcgan(SEVERAL, parts="generator", loss="likelihood").filter is None


# Table 2: accuracy of the adversary of Smiling.
ROWS: tuple[tuple[dict[str, Any], str, float | None], ...] = (
    ({"parts": "filter", "epsilon": 0.001}, "Filter epsilon=0.001", 0.893),
    ({"parts": "generator", "epsilon": 0.005}, "Generator epsilon=0.005", 0.912),
    ({}, "PCGAN epsilon=0.01", 0.832),
    ({"epsilon": 0.05}, "PCGAN epsilon=0.05", 0.541),
    ({"epsilon": 0.02}, "PCGAN epsilon=0.02", None),
    ({"parts": "filter", "loss": "likelihood"}, "GAP epsilon=0.01", None),
    ({"loss": "likelihood"}, "PCGAN likelihood epsilon=0.01", None),
    ({"entropy_over": "sum", "lam": 10.0}, "PCGAN epsilon=0.01 lam=10 summed", None),
)


@pytest.mark.parametrize(("settings", "title", "figure"), ROWS)
def test_rows_of_table_2(settings: dict[str, Any], title: str, figure: float | None) -> None:
    smiling = pcgan(tiny.problem(("Smiling",), ("Male",)), **settings)
    assert smiling.title() == title
    assert smiling.reported("celeba") == ({} if figure is None else {"Smiling": figure})
    assert smiling.reported("synthfaces") == {}
    assert pcgan(**settings).reported("celeba") == {}
