"""What every method in METHODS owes the loop, the audit and the reader.

A new method joins by being registered: it is tested with its defaults on 32 x 32 faces, unless
`SMALL` shrinks its networks. `RANDOM` names settings under which its release is random.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.config import parse
from veil.errors import VeilError
from veil.game import channels_last, rounds, seats_for, update
from veil.method import Method, Move, Obfuscator, Problem
from veil.methods import METHODS, method_named
from veil.release import drawn, released
from veil.seeds import generator
from veil.train import batches

SIZE, PHOTOS = 32, 8
SMALL: dict[str, dict[str, Any]] = {
    "aia": {"decoder_channels": (8, 4), "siamese_hidden": 16, "embedding": 8},
    "answer-only": {"blocks": (1, 1), "widths": (4, 8)},
    "deepobfuscator": {
        # Narrower, an untrained reconstructor may have no gradient on two pictures.
        "widths": (8, 16, 8, 8, 8),
        "convolutions": (1, 1, 1, 1, 1),
        "hidden": (8,),
    },
    "disco": {
        "blocks": (1, 1, 1),
        "widths": (4, 8, 16),
        "stage": 2,
        "ratio": 0.5,
        "pruner_units": 8,
    },
    "maxent": {"blocks": (1, 1), "widths": (4, 8), "embedding": 8, "head_units": (16, 8)},
    "narl": {"blocks": (1, 1), "widths": (4, 8), "cut": 1, "sigma": 0.5},
    "pcgan": {
        "widths": (4, 8),
        "noise": 8,
        "embedding": 4,
        "h_f_blocks": (1, 1),
        "h_g_blocks": (1, 1),
        "discriminator_widths": (4, 8),
    },
    "stargan": {
        "channels": 4,
        "blocks": 1,
        "critic_channels": 4,
        "critic_layers": 3,
        "n_critic": 2,
    },
    "task-oriented": {
        "blocks": (1, 1),
        "widths": (4, 8),
        "dimension": 8,
        "decoder_width": 8,
        "critic_width": 4,
    },
}
# Untrained, these may release one codeword for every image: a change need not show.
CODEWORDS = {"answer-only"}
RANDOM: dict[str, dict[str, Any]] = {
    "aia": {"replaced": 0.5},
    "narl": {},
    "noise": {},
    "pcgan": {},
    "stargan": {},
}
PROBLEMS = {
    "one class": tiny.problem(size=SIZE),
    "matching": tiny.problem(utility=("identity",), size=SIZE),
    "several labels": tiny.problem(("Male", "Race"), ("Smiling", "identity"), size=SIZE),
    "no utility": tiny.problem(utility=(), size=SIZE),
    "numbers": tiny.problem(utility=("Age", "landmarks"), size=SIZE),
    "many classes": tiny.problem(("Race",), ("Smiling",), size=SIZE),
    "the picture": tiny.problem(("reconstruction",), ("Smiling",), size=SIZE),
    "grey images": tiny.problem(size=SIZE, channels=1),
}
SPLITS = {channels: tiny.splits(SIZE, channels) for channels in (1, 3)}


@dataclass(frozen=True)
class Case:
    """A method built for a problem."""

    name: str
    problem: Problem
    method: Method

    def images(self) -> Tensor:
        """(8, c, 32, 32) that the method never trained on."""
        return SPLITS[self.problem.image[0]].test.batch(slice(0, PHOTOS), labels=()).x

    def rounds(self) -> Iterator[tuple[Move, ...]]:
        """The moves of one round of each stage, for the caller to play before asking for more."""
        fit_set = SPLITS[self.problem.image[0]].fit
        self.method.train()
        for stage in self.method.stages():
            few = replace(stage, batch_size=PHOTOS)
            batch = fit_set.batch(batches(few, fit_set, 0)[0])
            yield from rounds(stage, batch, generator(0, stage.name), "fp32")


def build(name: str, problem: Problem, seed: int = 0, **settings: Any) -> Method:
    """The method with small networks and weights drawn from the seed."""
    cls = method_named(name)
    torch.manual_seed(seed)
    method = cls(cls.Config(**SMALL.get(name, {}) | settings), problem)
    channels_last(method)
    return method


@pytest.fixture(params=METHODS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=PROBLEMS)
def case(name: str, request: pytest.FixtureRequest) -> Case:
    """Every method with every problem; those that it refuses are skipped."""
    problem = PROBLEMS[request.param]
    try:
        return Case(name, problem, build(name, problem))
    except VeilError as refusal:
        pytest.skip(f"refused: {refusal}")


def copied(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def release(method: Method, x: Tensor, seed: int = 0) -> Tensor:
    return released(method.obfuscator, x, generator(seed, "release"))


def test_every_method_takes_at_least_one_problem(name: str) -> None:
    def takes(problem: Problem) -> bool:
        try:
            build(name, problem)
        except VeilError:
            return False
        return True

    assert any(map(takes, PROBLEMS.values()))


def test_players_are_disjoint_and_own_everything_that_trains(case: Case) -> None:
    owned = [
        id(parameter)
        for player in case.method.players.values()
        for parameter in player.module.parameters()
        if parameter.requires_grad
    ]
    assert len({*owned}) == len(owned)
    assert {*owned} == {id(p) for p in case.method.parameters() if p.requires_grad}


def test_a_move_moves_its_player_and_nobody_else(case: Case) -> None:
    """Bit for bit, buffers too; and in some stage everybody moves.

    An adversary must not move, its batch statistics included, while others compute their terms:
    fooling it would else begin with its own normalisation.
    """
    seats = seats_for(case.method.players)
    adversaries = {n: p for n, p in case.method.players.items() if n.startswith("adversary")}
    rested = {name: copied(player.module) for name, player in adversaries.items()}
    names = {id(t): name for name, t in case.method.state_dict(keep_vars=True).items()}
    owner = {names[id(p)]: player for player, seat in seats.items() for p in seat.parameters}
    moved: set[str] = set()
    for moves in case.rounds():
        before = copied(case.method)
        update(seats, moves)
        after = case.method.state_dict()
        changed = {n for n in before if not torch.equal(before[n], after[n])}
        movers = {mover for move in moves for mover in move.movers}
        assert {owner.get(name, f"buffer {name}") for name in changed} == movers
        moved |= movers
        for name, player in adversaries.items():
            now = copied(player.module)
            assert name in movers or all(torch.equal(now[n], rested[name][n]) for n in now)
            rested[name] = now
    assert moved == {*seats}


def test_an_adversary_that_moves_alone_learns_from_detached_releases(case: Case) -> None:
    """Not only is the gradient thrown away: its terms have none for anybody else.

    Whoever moves together with others shares their forward pass (nothing is computed twice); what
    moves then is its own loss's gradient for each, as the test above sees.
    """
    seats = seats_for(case.method.players)
    adversaries = [name for name in seats if name.startswith("adversary")]
    seen: set[str] = set()
    for moves in case.rounds():
        movers = [name for move in moves for name in move.movers]
        if len(movers) == 1 and movers[0] in adversaries:
            others = [
                p for name, seat in seats.items() if name not in movers for p in seat.parameters
            ]
            for term in moves[0].terms.values():
                gradients = torch.autograd.grad(term, others, retain_graph=True, allow_unused=True)
                assert all(gradient is None for gradient in gradients)
        seen |= {*movers} & {*adversaries}
        update(seats, moves)
    assert seen == {*adversaries}


def test_of_simultaneous_moves_each_is_its_own_gradient(case: Case) -> None:
    """Whoever else moves, a player goes where its own terms alone send it."""
    seats = seats_for(case.method.players)
    for moves in case.rounds():
        of_move = [[p for name in move.movers for p in seats[name].parameters] for move in moves]
        wanted = [
            torch.autograd.grad(
                torch.stack([*move.terms.values()]).sum(),
                parameters,
                retain_graph=True,
                allow_unused=True,
            )
            for move, parameters in zip(moves, of_move, strict=True)
        ]
        update(seats, moves)
        for parameters, gradients in zip(of_move, wanted, strict=True):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                assert (parameter.grad is None) == (gradient is None)
                if gradient is not None:
                    torch.testing.assert_close(parameter.grad, gradient)


def test_the_same_rng_releases_the_same_bits(case: Case) -> None:
    x = case.images()
    z = release(case.method, x)
    assert z.shape[0] == PHOTOS
    assert bool(torch.isfinite(z).all())
    assert torch.equal(release(case.method, x), z)


@pytest.mark.parametrize(("name", "settings"), RANDOM.items())
def test_another_rng_releases_other_bits(name: str, settings: dict[str, Any]) -> None:
    method = build(name, PROBLEMS["one class"], **settings)
    x = Case(name, PROBLEMS["one class"], method).images()
    z = release(method, x)
    assert torch.equal(release(method, x), z)
    assert not torch.equal(release(method, x, seed=1), z)


def test_draws_are_releases(case: Case) -> None:
    """However a method shares the work of several draws, each is what `release` gives."""
    method = build(case.name, case.problem, **RANDOM.get(case.name, {}))
    x = case.images()
    rngs = [generator(number, "release") for number in range(3)]
    for number, z in enumerate(drawn(method.obfuscator, x, rngs)):
        torch.testing.assert_close(z, release(method, x, seed=number))


def change_of_the_first_row(obfuscator: Obfuscator, x: Tensor, *, coarse: bool = False) -> float:
    """How far the release of row 0 moves when all other rows become other images."""
    others = torch.cat([x[:1], 1 - x[1:].flip(0)])
    z, z_others = (released(obfuscator, batch, generator(0, "company")) for batch in (x, others))
    assert coarse or not torch.equal(z[1:], z_others[1:])
    return float((z[0] - z_others[0]).abs().max())


def test_a_release_is_independent_of_the_rest_of_the_batch(case: Case) -> None:
    coarse = case.name in CODEWORDS
    change = change_of_the_first_row(case.method.obfuscator, case.images(), coarse=coarse)
    assert change <= 1e-6
    if case.name in RANDOM:
        random = build(case.name, case.problem, **RANDOM[case.name])
        assert change_of_the_first_row(random.obfuscator, case.images()) <= 1e-6


def test_the_check_above_finds_a_release_that_looks_at_the_batch() -> None:
    class Centred(tiny.Bare):
        def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
            return x - x.mean(dim=0)

    x = SPLITS[3].test.batch(slice(0, PHOTOS), labels=()).x
    assert change_of_the_first_row(tiny.Bare(), x) == 0
    assert change_of_the_first_row(Centred(), x) > 0.01


def test_releasing_leaves_weights_and_buffers_as_they_are(case: Case) -> None:
    before = copied(case.method)
    release(case.method, case.images())
    after = case.method.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_make_the_method(case: Case) -> None:
    """A state dict carries over everything that a release, a head or an adversary depends on."""
    x = case.images()
    other = build(case.name, case.problem, seed=1)
    learned = case.name not in CODEWORDS and any(True for _ in case.method.parameters())
    assert not learned or not torch.equal(release(other, x), release(case.method, x))
    other.load_state_dict(copied(case.method))
    z = release(case.method, x)
    assert torch.equal(release(other, x), z)
    with torch.no_grad():
        for head in ("answers", "training_adversary"):
            said, said_again = (getattr(m.eval(), head)(z) for m in (case.method, other))
            assert said.keys() == said_again.keys()
            assert all(torch.equal(said[name], said_again[name]) for name in said)


@torch.no_grad()
def test_heads_answer_for_the_labels_of_the_problem(case: Case) -> None:
    method = case.method.eval()
    z = release(method, case.images())
    answers, guesses = method.answers(z), method.training_adversary(z)
    assert {*answers} <= {*case.problem.utility}
    assert {*guesses} <= {*case.problem.private}
    for name, said in {**answers, **guesses}.items():
        classes = len(case.problem.labels[name].classes)
        assert said.shape[0] == PHOTOS
        assert said.ndim == 2
        assert classes in (0, said.shape[1])
    x_hat = method.reconstruct(z)
    if x_hat is not None:
        _, h, w = case.problem.image
        assert x_hat.shape in ((PHOTOS, 1, h, w), (PHOTOS, *case.problem.image))
        assert float(x_hat.min()) >= 0
        assert float(x_hat.max()) <= 1


def test_the_configuration_survives_toml(name: str) -> None:
    """TOML has no null, so a field that may be None must have None as its default."""
    tables = {
        "data": {"source": "synthfaces"},
        "problem": {"private": ["Male"], "utility": ["Smiling"]},
        "method": {"name": name},
    }
    config = parse(tables, "here")
    assert parse(config.to_toml(), "there") == config
    for field, info in METHODS[name].Config.model_fields.items():
        if info.annotation is not None and type(None) in getattr(info.annotation, "__args__", ()):
            assert info.default is None, field


def test_the_configuration_is_frozen_and_refuses_unknown_fields(name: str) -> None:
    config = METHODS[name].Config()
    with pytest.raises(ValueError, match="frozen"):
        setattr(config, next(iter(METHODS[name].Config.model_fields), "any"), 1)
    with pytest.raises(ValueError, match="Extra inputs"):
        METHODS[name].Config(no_such_field=1)  # type: ignore[call-arg]


def test_reported_figures_are_shares_of_labels_the_problem_names(case: Case) -> None:
    for source in ("celeba", "synthfaces", "table"):
        for label, figure in case.method.reported(source).items():
            assert label in case.problem.names
            assert 0 < figure < 1
    assert case.method.title()


def test_an_unknown_method_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(VeilError, match="no method 'aja': did you mean 'aia'"):
        method_named("aja")
