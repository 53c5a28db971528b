"""Task-oriented against its paper: every loss by hand, every step's direction, who sees what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

import tiny
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.game import channels_last, seats_for, update
from veil.method import Move, Problem
from veil.methods import task_oriented
from veil.methods.task_oriented import (
    GanForm,
    TaskOriented,
    TaskOrientedConfig,
    critic_losses,
    feature_distances,
    fixed,
    fooling_loss,
)
from veil.nets.upsampling import vector_decoder
from veil.recognition import FaceNet, Recogniser, TrainedRecogniser, load_recogniser
from veil.release import released
from veil.seeds import generator
from veil.train import FitConfig, fit

SMALL: dict[str, Any] = {
    "blocks": (1, 1),
    "widths": (8, 16),
    "dimension": 16,
    "decoder_width": 16,
    "critic_width": 4,
    "lr": 1e-3,
}
PICTURE = ("reconstruction",)
PROBLEM = tiny.problem(PICTURE, ("Smiling", "Male"))
BATCH = tiny.faces().batch(slice(None))
OWN, PUBLIC = BATCH.split(2)
FORMS = get_args(GanForm)
UNDEFENDED: dict[str, Any] = {"lambda1": 0.0, "lambda2": 0.0}


def method_of(problem: Problem = PROBLEM, seed: int = 0, **settings: Any) -> TaskOriented:
    torch.manual_seed(seed)
    method = TaskOriented(TaskOrientedConfig(**SMALL | settings), problem)
    channels_last(method)
    return method.train()


@cache
def warm_weights() -> dict[str, Tensor]:
    """After both warm-ups: f has begun to answer, Dec to redraw."""
    method = method_of(lr=5e-3, mu2=0.0)
    seats = seats_for(method.players)
    for play in (method.pretrain_round, method.warmup_round):
        for _ in range(20):
            for moves in play(BATCH, generator(0)):
                update(seats, moves if isinstance(moves, tuple) else (moves,))
    return method.state_dict()


def warm(**settings: Any) -> TaskOriented:
    """A game worth playing: there is something to lose on either side."""
    method = method_of(**settings)
    method.load_state_dict(warm_weights())
    return method


def moves_of(method: TaskOriented, batch: Batch = BATCH) -> dict[str, Move]:
    """Player -> its move in one adversarial round, none of them played."""
    found = {}
    for moves in method.adversarial_round(batch, generator(0)):
        for move in moves if isinstance(moves, tuple) else (moves,):
            assert isinstance(move.player, str)
            found[move.player] = move
    return found


def play(method: TaskOriented, move: Move) -> None:
    update(seats_for(method.players), [move])


def gradient_of(method: TaskOriented, move: Move) -> Tensor:
    """All gradients of the mover in one vector."""
    assert isinstance(move.player, str)
    parameters = [*method.players[move.player].module.parameters()]
    total = torch.stack([*move.terms.values()]).sum()
    found = torch.autograd.grad(total, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in found])


def bits(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
def pixel_error(method: TaskOriented, x: Tensor, training: bool = False) -> float:
    """Of Dec on releases as deployed, or as the protector makes them while training."""
    z = method.train(training).obfuscator.encode(x)
    return mse_loss(method.train().reconstruct(z), x).item()


@torch.no_grad()
def perceived_error(method: TaskOriented, x: Tensor, training: bool = False) -> float:
    z = method.train(training).obfuscator.encode(x)
    x_hat = method.train().reconstruct(z)
    return feature_distances(method.seen(x_hat), method.seen(x)).mean().item()


# Equations


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_the_perceptual_distance_equals_a_slow_loop() -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 4, 4), (2, 5, 2, 2))
    a, b = ([torch.randn(shape, generator=rng) for shape in shapes] for _ in range(2))
    for row in range(2):
        expected = 0.0
        for p, q in zip(a, b, strict=True):
            pairs = zip(p[row].flatten().tolist(), q[row].flatten().tolist(), strict=True)
            squares = [(u - v) ** 2 for u, v in pairs]
            expected += sum(squares) / len(squares)
        assert feature_distances(a, b)[row].item() == pytest.approx(expected, rel=1e-5)


def test_the_gan_terms_equal_their_closed_forms() -> None:
    real, redrawn = [2.0, -0.5], [-3.0, 1.0]
    terms = critic_losses(torch.tensor(real), torch.tensor(redrawn))
    expected = -sum(math.log(sigmoid(d)) for d in real) / 2
    assert terms["real"].item() == pytest.approx(expected, rel=1e-5)
    printed = sum(math.log(1 - sigmoid(d)) for d in redrawn) / 2
    assert terms["redrawn"].item() == pytest.approx(-printed, rel=1e-5)
    assert fooling_loss(torch.tensor(redrawn), "printed").item() == pytest.approx(printed, rel=1e-5)
    expected = -sum(math.log(sigmoid(d)) for d in redrawn) / 2
    found = fooling_loss(torch.tensor(redrawn), "non-saturating").item()
    assert found == pytest.approx(expected, rel=1e-5)


def test_both_gan_forms_pull_upwards_and_only_the_printed_one_saturates() -> None:
    for form in FORMS:
        judged = torch.tensor([-6.0], requires_grad=True)  # D is sure that this is redrawn
        (slope,) = torch.autograd.grad(fooling_loss(judged, form), judged)
        assert slope.item() < 0
        assert (abs(slope.item()) < 0.01) is (form == "printed")


def test_the_utility_is_binary_cross_entropy_averaged_over_labels() -> None:
    """Two logits of a binary label are one sigmoid of their difference."""
    method = method_of()
    z = method.obfuscator.encode(OWN.x)
    total = 0.0
    for name, logits in method.outputs(z).items():
        for (no, yes), label in zip(logits.tolist(), OWN[name].tolist(), strict=True):
            p = sigmoid(yes - no)
            total -= label * math.log(p) + (1 - label) * math.log(1 - p)
    expected = total / (2 * len(OWN))
    assert method.utility_loss(z, OWN).item() == pytest.approx(expected, rel=1e-5)


def test_the_adversarys_sum_has_its_weights() -> None:
    method = warm(mu1=0.3, mu2=0.7)
    with torch.no_grad(), fixed(method.obfuscator):
        x_hat = method.reconstruct(method.obfuscator.encode(PUBLIC.x))
    terms = moves_of(method)["adversary"].terms
    with torch.no_grad():
        squares = [(p - q) ** 2 for p, q in zip_flat(x_hat, PUBLIC.x)]
        perceived = feature_distances(method.seen(x_hat), method.seen(PUBLIC.x)).tolist()
        with fixed(method.critic):
            judged = method.critic(x_hat).flatten().tolist()
    fooled = -sum(math.log(sigmoid(d)) for d in judged) / len(judged)
    assert terms["pixels"].item() == pytest.approx(sum(squares) / len(squares), rel=1e-4)
    assert terms["perception"].item() == pytest.approx(0.7 * sum(perceived) / 12, rel=1e-4)
    assert terms["realism"].item() == pytest.approx(0.3 * fooled, rel=1e-4)


@pytest.mark.parametrize("hinge", [0.01, 1.0, 100.0])
def test_the_protectors_sum_has_its_weights_and_its_hinge(hinge: float) -> None:
    """The hinge is in units of the mean distance between neighbours in the batch."""
    method = warm(lambda1=3.0, lambda2=5.0, hinge=hinge)
    terms = moves_of(method)["protector"].terms
    assert [*terms] == ["utility", "pixels", "perception"]
    with torch.no_grad():
        x_hat = method.reconstruct(method.obfuscator.encode(OWN.x))
        squares = [(p - q) ** 2 for p, q in zip_flat(x_hat, OWN.x)]
        seen = method.seen(OWN.x)
        apart = [
            float(feature_distances([m[[i]] for m in seen], [m[[i - 1]] for m in seen]))
            for i in range(len(OWN))
        ]
        distances = feature_distances(method.seen(x_hat), seen).tolist()
    limit = hinge * sum(apart) / len(apart)
    expected = sum(min(d, limit) for d in distances) / len(distances)
    assert terms["pixels"].item() == pytest.approx(-3 * sum(squares) / len(squares), rel=1e-4)
    assert terms["perception"].item() == pytest.approx(-5 * expected, rel=1e-4)
    is_capped = expected == pytest.approx(limit)
    assert is_capped is (hinge == 0.01)


def zip_flat(a: Tensor, b: Tensor) -> Iterator[tuple[float, float]]:
    return zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)


def test_a_weight_of_zero_leaves_its_term_and_its_work_out() -> None:
    moves = moves_of(method_of(mu1=0.0, mu2=0.0, **UNDEFENDED))
    assert [*moves["adversary"].terms] == ["pixels"]
    assert [*moves["protector"].terms] == ["utility"]
    assert moves["critic"].terms == {}
    assert [*moves_of(method_of(lambda1=0.0))["protector"].terms] == ["utility", "perception"]
    assert [*moves_of(method_of(lambda2=0.0))["protector"].terms] == ["utility", "pixels"]


# Direction


def test_an_adversary_step_lowers_its_error() -> None:
    for error, settings in (
        (pixel_error, {"mu1": 0.0, "mu2": 0.0}),
        (perceived_error, {"mu1": 0.0, "mu2": 100.0}),
    ):
        method = warm(**settings)
        before = error(method, PUBLIC.x)
        play(method, moves_of(method)["adversary"])
        assert error(method, PUBLIC.x) < before


@pytest.mark.parametrize("form", FORMS)
def test_an_adversary_step_for_realism_fools_the_critic(form: GanForm) -> None:
    method = warm(mu1=1000.0, gan=form)

    @torch.no_grad()
    def judged() -> float:
        with fixed(method.obfuscator), fixed(method.critic):
            x_hat = method.reconstruct(method.obfuscator.encode(PUBLIC.x))
            return float(method.critic(x_hat).mean())

    terms = moves_of(method)["adversary"].terms
    before = judged()
    play(method, Move("adversary", {"realism": terms["realism"]}))
    assert judged() > before


def test_a_critic_step_lowers_its_loss() -> None:
    method = warm()
    move = moves_of(method)["critic"]
    play(method, move)
    after = moves_of(method)["critic"].terms
    assert sum(t.item() for t in after.values()) < sum(t.item() for t in move.terms.values())


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
@pytest.mark.parametrize(
    ("error", "settings", "term"),
    [
        (pixel_error, {"lambda1": 1000.0}, "pixels"),
        (perceived_error, {"lambda2": 1000.0, "hinge": 100.0}, "perception"),
    ],
)
def test_a_protector_step_raises_the_error_of_dec(
    error: Any, settings: dict[str, Any], term: str, sign: int
) -> None:
    """The flipped sign is the negative control: it must help Dec."""
    method = warm(**settings)
    weights = bits(method.decoder)
    before = error(method, OWN.x, True)
    terms = moves_of(method)["protector"].terms
    terms[term] = sign * terms[term]
    play(method, Move("protector", terms))
    assert (error(method, OWN.x, True) / before) ** sign > 1.005
    assert same(bits(method.decoder), weights)


def test_a_protector_step_for_utility_lowers_the_utility_loss() -> None:
    method = method_of(**UNDEFENDED)
    terms = moves_of(method)["protector"].terms
    play(method, Move("protector", terms))
    assert moves_of(method)["protector"].terms["utility"] < terms["utility"]


def test_a_protector_beyond_the_hinge_is_not_pulled() -> None:
    method = warm(hinge=1e-6)
    terms = moves_of(method)["protector"].terms
    assert not gradient_of_term(method, terms["perception"]).any()
    assert gradient_of_term(method, terms["pixels"]).any()


def gradient_of_term(method: TaskOriented, term: Tensor) -> Tensor:
    parameters = [*method.obfuscator.parameters()]
    found = torch.autograd.grad(term, parameters, retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in found])


# Who sees what


def poisoned(own: bool) -> Batch:
    """The batch with one half of its pictures made of NaN and its labels turned round."""
    x = BATCH.x.clone()
    smiling = BATCH["Smiling"].clone()
    half = slice(0, len(OWN)) if own else slice(len(OWN), None)
    x[half] = math.nan
    smiling[half] = 1 - smiling[half]
    return Batch(x, {**BATCH.labels, "Smiling": smiling})


def test_the_protector_never_sees_public_pictures() -> None:
    """Not in its terms, not in its gradients, not in its batch statistics."""
    clean, dirty = warm(), warm()
    moves, poisoned_moves = moves_of(clean), moves_of(dirty, poisoned(own=False))
    for term in moves["protector"].terms:
        assert torch.equal(moves["protector"].terms[term], poisoned_moves["protector"].terms[term])
    gradients = [
        gradient_of(m, v["protector"]) for m, v in ((clean, moves), (dirty, poisoned_moves))
    ]
    assert torch.equal(*gradients)
    assert same(bits(clean.obfuscator), bits(dirty.obfuscator))
    assert not torch.isfinite(poisoned_moves["adversary"].terms["pixels"])  # the poison was there


def test_the_adversary_and_the_critic_never_see_the_defenders_own_pictures() -> None:
    clean, dirty = warm(), warm()
    moves, poisoned_moves = moves_of(clean), moves_of(dirty, poisoned(own=True))
    for player in ("adversary", "critic"):
        for term, value in moves[player].terms.items():
            assert torch.equal(value, poisoned_moves[player].terms[term])
        gradients = [
            gradient_of(m, v[player]) for m, v in ((clean, moves), (dirty, poisoned_moves))
        ]
        assert torch.equal(*gradients)
    assert same(bits(clean.critic), bits(dirty.critic))
    assert not torch.isfinite(poisoned_moves["protector"].terms["pixels"])


def test_the_warm_ups_see_their_own_half_and_leave_the_others_alone() -> None:
    for stage, unseen, movers in ((0, False, {"protector"}), (1, True, {"adversary", "critic"})):
        clean, dirty = method_of(), method_of()
        before = {name: bits(player.module) for name, player in clean.players.items()}
        for method, batch in ((clean, BATCH), (dirty, poisoned(own=unseen))):
            for moves in method.stages()[stage].round(batch, generator(0)):
                update(seats_for(method.players), moves if isinstance(moves, tuple) else (moves,))
        assert same(bits(clean), bits(dirty))
        moved = {n for n, p in clean.players.items() if not same(bits(p.module), before[n])}
        assert moved == movers


def test_the_adversary_reads_releases_as_they_are_deployed() -> None:
    method = warm()
    z = released(method.obfuscator, PUBLIC.x, generator(0))
    method.train()
    expected = mse_loss(method.reconstruct(z), PUBLIC.x)
    assert moves_of(method)["adversary"].terms["pixels"].item() == pytest.approx(expected.item())


def test_a_round_leaves_every_module_training() -> None:
    method = method_of()
    moves_of(method)
    assert all(module.training for module in method.modules())
    assert all(parameter.requires_grad for parameter in method.parameters())
    method.eval()
    with torch.no_grad():
        moves_of(method)
    assert not any(module.training for module in method.modules())


def test_what_is_fixed_comes_back_as_it_was_even_after_an_error() -> None:
    layer = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = bits(layer)

    def fails_within() -> None:
        with fixed(layer):
            layer(torch.ones(3, 2))
            assert not any(parameter.requires_grad for parameter in layer.parameters())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails_within()
    assert same(bits(layer), before)
    assert layer.training
    assert all(parameter.requires_grad for parameter in layer.parameters())


def test_the_recogniser_is_no_part_of_the_method() -> None:
    method = method_of()
    digest = load_recogniser("synthfaces").digest
    assert not any("recogniser" in name for name in method.state_dict())
    owned = {name.partition(".")[0] for name, _ in method.named_parameters()}
    assert owned == {"obfuscator", "task", "decoder", "critic"}
    assert isinstance(method.recogniser, TrainedRecogniser)
    assert method.recogniser.digest == digest


# Networks


def test_the_release_is_a_vector_that_is_not_negative() -> None:
    for size, channels in ((16, 3), (33, 1), (50, 3)):
        method = method_of(tiny.problem(PICTURE, ("Smiling",), size, channels))
        x = tiny.faces(4, 2, size, channels).batch(slice(None)).x
        z = released(method.obfuscator, x, generator(0))
        assert z.shape == (8, 16)
        assert float(z.min()) == 0 < float(z.max())
        assert method.reconstruct(z).shape == x.shape
        assert method.reconstruct(z[:1]).shape == x[:1].shape


def test_the_decoder_is_blocks_that_double_and_halve() -> None:
    decoder = vector_decoder(8, (3, 100, 100), 64)
    kinds = [type(layer).__name__ for layer in decoder]
    block = ["Upsample", "Conv2d", "BatchNorm2d", "ReLU"]
    assert kinds == ["Linear", "Unflatten", "BatchNorm2d", "ReLU", *block * 5, "Conv2d"]
    widths = [layer.out_channels for layer in decoder if isinstance(layer, nn.Conv2d)]
    assert widths == [32, 16, 16, 16, 16, 3]
    assert not [*decoder.buffers()]  # no statistics that an encoder could move away from
    assert decoder(torch.randn(2, 8)).shape == (2, 3, 100, 100)


def test_the_networks_have_the_papers_size_and_play_a_round_there() -> None:
    """ResNet-18 without its classes (11,176,512 parameters), FC 512 -> 512, batch norm."""
    torch.manual_seed(0)
    problem = tiny.problem(PICTURE, ("Smiling", "Male", "Race"), size=128)
    method = TaskOriented(TaskOrientedConfig(), problem)
    count = sum(p.numel() for p in method.obfuscator.parameters())
    assert count == 11_176_512 + (512 * 512 + 512) + 2 * 512
    assert method.task.out_features == 7
    channels_last(method)
    seats = seats_for(method.players)
    batch = tiny.faces(4, 1, 128).batch(slice(None))
    for moves in method.adversarial_round(batch, generator(0)):
        update(seats, moves if isinstance(moves, tuple) else (moves,))
    assert method.reconstruct(torch.rand(2, 512)).shape == (2, 3, 128, 128)


def test_the_players_are_the_three_of_the_poster() -> None:
    assert [*method_of().players] == ["protector", "adversary", "critic"]


def test_numbers_and_landmarks_are_answered_in_their_own_units() -> None:
    problem = tiny.problem(PICTURE, ("Age", "landmarks", "Race"))
    method = method_of(problem)
    with torch.no_grad():
        method.task.weight.zero_()
        method.task.bias.zero_()
    answers = method.answers(torch.rand(5, 16))
    assert {name: tuple(answer.shape) for name, answer in answers.items()} == {
        "Age": (5, 1),
        "landmarks": (5, 4),
        "Race": (5, 3),
    }
    assert answers["Age"].tolist() == pytest.approx(torch.full((5, 1), 40.0).numpy())
    assert bool(torch.isfinite(moves_of(method)["protector"].terms["utility"]))


def test_another_recogniser_sees_other_things(tmp_path: Path) -> None:
    torch.manual_seed(1)
    TrainedRecogniser(FaceNet(), "untrained").save(tmp_path / "mine.safetensors")
    x = OWN.x[:2]
    own = method_of(perceptual=str(tmp_path / "mine.safetensors")).seen(x)
    assert not torch.equal(own[0], method_of().seen(x)[0])


# Refusals


@pytest.mark.parametrize(
    ("private", "utility", "size", "message"),
    [
        (("Male",), ("Smiling",), 16, "hides the picture alone: --private reconstruction"),
        (("reconstruction", "Male"), ("Smiling",), 16, "hides the picture alone"),
        ((), ("Smiling",), 16, "hides the picture alone"),
        (PICTURE, (), 16, "name a useful label"),
        (PICTURE, ("identity",), 16, "'identity' is identity"),
        (PICTURE, ("Smiling",), 12, "16 px or more, not 12"),
    ],
)
def test_what_makes_no_sense_is_refused(
    private: tuple[str, ...], utility: tuple[str, ...], size: int, message: str
) -> None:
    with pytest.raises(VeilError, match=message):
        method_of(tiny.problem(private, utility, size=size))


def test_a_recogniser_without_stages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(Recogniser):
        """As one from an ONNX file, which shows no stages."""

        def embed(self, x: Tensor) -> Tensor:
            return x.flatten(1)

        def features(self, x: Tensor) -> None:
            return None

    with pytest.raises(VeilError, match="no recogniser 'lpips'"):
        method_of(perceptual="lpips")
    monkeypatch.setattr(task_oriented, "load_recogniser", lambda _: Blind())
    with pytest.raises(VeilError, match=r"perceptual = 'arc.onnx' shows no stages"):
        method_of(perceptual="arc.onnx")


# The table


@pytest.mark.parametrize(
    ("settings", "utility", "title"),
    [
        ({}, ("Smiling", "Male"), "Task-oriented"),
        (UNDEFENDED, ("Smiling", "Male"), "Task-oriented, undefended"),
        (UNDEFENDED, ("Smiling",), "Task-oriented, undefended Smiling only"),
        ({"public_share": 0.05}, ("Smiling", "Male"), "Task-oriented public_share=0.05"),
        ({"lambda2": 4.0, "mu1": 0.0}, ("Smiling",), "Task-oriented lambda2=4 mu1=0 Smiling only"),
        ({"lambda1": 0.0}, ("Smiling", "Male"), "Task-oriented lambda1=0"),
        ({"adversary_steps": 3}, ("Smiling", "Male"), "Task-oriented adversary_steps=3"),
    ],
)
def test_titles_name_the_rows(
    settings: dict[str, Any], utility: tuple[str, ...], title: str
) -> None:
    method = method_of(tiny.problem(PICTURE, utility), **settings)
    assert method.title() == title
    assert method.reported("celeba") == {}  # MCC and cosines are not what an audit's scores are


def test_the_adversary_plays_as_often_as_it_is_told_before_the_protector() -> None:
    for steps in (1, 3):
        method = method_of(adversary_steps=steps, mu1=0.0, mu2=0.0)
        played = [*method.adversarial_round(BATCH, generator(0))]
        assert [isinstance(moves, tuple) for moves in played] == [True] * steps + [False]


def test_stages_divide_the_people_once_and_for_all() -> None:
    stages = method_of(public_share=0.3, batch_size=10).stages()
    assert [stage.name for stage in stages] == ["pretrain", "warm up", "adversarial"]
    for stage in stages:
        assert (stage.sampling, stage.public_share) == ("own and public", 0.3)
        assert stage.batch_size == 10


def test_the_whole_loop_answers_and_redraws_and_the_defence_costs_the_decoder() -> None:
    """Undefended, f answers and Dec redraws better than the mean face; defended, Dec does worse."""
    people, others = tiny.faces(24, 2), tiny.faces(6, 2, first_person=24)
    errors = {}
    x = others.batch(slice(None)).x
    settings = SMALL | {"lambda2": 0.0, "mu2": 0.0, "lr": 5e-3, "batch_size": 12}
    settings |= {"pretrain_epochs": 10, "warmup_epochs": 10, "adversarial_epochs": 10}
    for lambda1 in (0.0, 100.0):
        method = method_of(PROBLEM, 0, **settings | {"lambda1": lambda1})
        fit(method, PROBLEM, people, others, FitConfig(device="cpu", precision="fp32"))
        z = released(method.obfuscator, x, generator(0))
        errors[lambda1] = mse_loss(method.reconstruct(z), x).item()
        if lambda1 == 0:
            smiling = method.answers(z)["Smiling"].argmax(1)
            assert (smiling == others.batch(slice(None))["Smiling"]).float().mean() > 0.9
    mean = people.batch(slice(None)).x.mean(0).expand_as(x)
    assert errors[0.0] < 0.7 * mse_loss(mean, x).item() < errors[100.0]
