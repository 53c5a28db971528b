"""AIA against its paper: equations by slow loops, the direction of every step, its table."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

import tiny
from veil.data.batch import Batch
from veil.data.dataset import Dataset
from veil.errors import VeilError
from veil.game import Seat, rounds, seats_for, update
from veil.losses import matching_loss
from veil.method import Move, Problem
from veil.methods.aia import AIA, AIAConfig, PrivacyForm, privacy_term
from veil.release import released
from veil.seeds import generator
from veil.train import FitConfig, fit

SMALL: dict[str, Any] = {"decoder_channels": (8, 4), "siamese_hidden": 16, "embedding": 8}
FORMS = get_args(PrivacyForm)
BATCH = tiny.faces().batch(slice(None))
MATCHING = tiny.problem(utility=("identity",))


def aia(problem: Problem | None = None, seed: int = 0, **settings: Any) -> AIA:
    torch.manual_seed(seed)
    return AIA(AIAConfig(**SMALL | settings), problem or tiny.problem())


@cache
def pretrained_weights() -> dict[str, Tensor]:
    """After 35 rounds of stage 1: the adversary and the task have begun to understand g."""
    method = aia(lr=2e-3)
    seats = seats_for(method.players)
    for _ in range(35):
        for moves in rounds(method.stages()[0], BATCH, generator(0), "fp32"):
            update(seats, moves)
    return method.state_dict()


def pretrained(**settings: Any) -> AIA:
    """With an adversary that is worth fooling and a task that is worth helping."""
    method = aia(**settings)
    method.load_state_dict(pretrained_weights())
    return method


def pairs() -> Batch:
    """Photo i and photo i + 12 show one person."""
    people = tiny.faces()
    return people.batch(torch.arange(24).view(12, 2).t().flatten().numpy())


def joint_moves(method: AIA, batch: Batch = BATCH) -> list[tuple[Move, ...]]:
    """The moves of one joint round, none of them played."""
    return [m if isinstance(m, tuple) else (m,) for m in method.joint_round(batch, generator(0))]


def terms_of(method: AIA, player: str, batch: Batch = BATCH) -> dict[str, Tensor]:
    return next(
        move.terms
        for moves in joint_moves(method, batch)
        for move in moves
        if move.player == player
    )


def gradient_of(loss: Tensor, module: nn.Module) -> Tensor:
    """All gradients in one vector; zeros where the loss does not reach."""
    parameters = [*module.parameters()]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    reached = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in reached])


@torch.no_grad()
def adversary_loss(method: AIA, batch: Batch = BATCH) -> float:
    """What the encoder fights: the adversary on the batch's own statistics."""
    g = method.obfuscator.encode(batch.x)
    return sum(float(loss) for loss in method.adversary_losses(g, batch).values())


@torch.no_grad()
def task_loss(method: AIA, batch: Batch = BATCH) -> float:
    """On the batch's own statistics, as the task sees it while it learns."""
    g = method.obfuscator.encode(batch.x)
    return sum(float(loss) for loss in method.task_losses(g, batch).values())


def seat(method: AIA, player: str) -> dict[str, Seat]:
    return {player: seats_for(method.players)[player]}


# Equations


@torch.no_grad()
def test_eq_5_corrected_equals_a_slow_loop() -> None:
    method = aia()
    g = method.obfuscator.encode(BATCH.x[:2])
    few = Batch(BATCH.x[:2], {})
    x = method.obfuscator.grey(few.x).double()
    x_hat = method.reconstruct(g).double()
    total = 0.0
    for p, q in zip(x.flatten().tolist(), x_hat.flatten().tolist(), strict=True):
        total -= p * math.log(q) + (1 - p) * math.log(1 - q)
    assert method.reconstruction_loss(g, few).item() == pytest.approx(total / x.numel(), rel=1e-5)
    assert total > 0  # printed without the minus, it would reward being wrong


def slow_matching(embedding: Tensor, people: list[int], margin: float) -> float:
    """Eq. 7 pair by pair: every left photo with its partner and with its partner's neighbour."""
    half, total = len(people) // 2, 0.0
    for i in range(half):
        for j in (half + i, half + (i + 1) % half):
            d = math.dist(embedding[i].tolist(), embedding[j].tolist())
            y = int(people[i] != people[j])
            total += (1 - y) * d**2 / 2 + y * max(0.0, margin - d) ** 2 / 2
    return total / (2 * half)


def test_eq_7_equals_a_slow_double_loop() -> None:
    """With people who return: a neighbour is then the same person, and y must be 0."""
    rng = torch.Generator().manual_seed(0)
    for people in ([0, 1, 2, 3], [0, 0, 1, 1], [5, 5, 5, 5]):
        embedding = torch.randn(8, 3, generator=rng, dtype=torch.float64)
        loss = matching_loss(embedding, torch.tensor(people * 2), 2.0).item()
        assert loss == pytest.approx(slow_matching(embedding, people * 2, 2.0), rel=1e-12)


def test_eq_7_of_identical_pairs_of_one_person_is_nothing_and_has_a_gradient() -> None:
    """Swapped labels (y = 1 for the same person) would cost m^2/2 = 2."""
    same = torch.ones(8, 3, requires_grad=True)
    loss = matching_loss(same, torch.zeros(8, dtype=torch.int64), 2.0)
    assert loss.item() == 0
    (gradient,) = torch.autograd.grad(loss, same)
    assert bool(torch.isfinite(gradient).all())
    apart = matching_loss(same, torch.tensor([0, 1, 2, 3] * 2), 2.0)
    assert apart.item() == pytest.approx((0 + 2.0**2 / 2) / 2)
    assert bool(torch.isfinite(torch.autograd.grad(apart, same)[0]).all())


@pytest.mark.parametrize("classes", [2, 3])
def test_privacy_terms_equal_their_closed_forms(classes: int) -> None:
    """Logits of an adversary that is sure with probability p of class 0."""
    for p in (0.9, 0.5, 0.01):
        rest = (1 - p) / (classes - 1)
        logits = torch.tensor([[p] + [rest] * (classes - 1)] * 4, dtype=torch.float64).log()
        s = torch.zeros(4, dtype=torch.int64)
        loss, chance = -math.log(p), math.log(classes)
        entropy = -p * math.log(p) - (classes - 1) * rest * math.log(rest)
        assert privacy_term(logits, s, "printed").item() == pytest.approx(-loss)
        assert privacy_term(logits, s, "capped").item() == pytest.approx(-min(loss, chance))
        assert privacy_term(logits, s, "entropy").item() == pytest.approx(-entropy)


def test_only_the_printed_form_rewards_an_adversary_that_is_worse_than_chance() -> None:
    """A flipped answer is as good as a right one: past chance nothing may be gained."""
    logits = torch.tensor([[-4.0, 4.0]] * 4, requires_grad=True)
    s = torch.zeros(4, dtype=torch.int64)
    slopes = {
        form: torch.autograd.grad(privacy_term(logits, s, form), logits)[0][0, 0].item()
        for form in FORMS
    }
    assert slopes["printed"] > 0.1
    assert slopes["capped"] == 0
    assert slopes["entropy"] < 0  # back towards doubt


@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_eq_8_is_the_weighted_sum_of_its_parts(form: PrivacyForm) -> None:
    problem = tiny.problem(("Male", "Race"), ("identity", "Smiling"))
    method = aia(problem, alpha=0.3, beta=0.7, privacy=form)
    method.eval()
    batch = pairs()
    g = method.obfuscator.encode(batch.x)
    expected = method.reconstruction_loss(g, batch).item()
    embedding = method.tasks[0](g).double()
    expected += 0.3 * slow_matching(embedding, batch["identity"].tolist(), 2.0)
    expected += 0.3 * slow_cross_entropy(method.tasks[1](g), batch["Smiling"])
    for name, adversary in zip(("Male", "Race"), method.adversaries, strict=True):
        logits = adversary(g)
        if form == "entropy":
            p = logits.double().softmax(1)
            expected += 0.7 * float((p * p.log()).sum(1).mean())
        else:
            loss = slow_cross_entropy(logits, batch[name])
            cap = math.log(logits.shape[1]) if form == "capped" else math.inf
            expected -= 0.7 * min(loss, cap)
    terms = terms_of(method, "autoencoder", batch)
    assert [*terms] == [
        "reconstruction",
        "utility identity",
        "utility Smiling",
        "privacy Male",
        "privacy Race",
    ]
    assert sum(term.item() for term in terms.values()) == pytest.approx(expected, rel=1e-5)


def slow_cross_entropy(logits: Tensor, labels: Tensor) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        total += math.log(sum(map(math.exp, row))) - row[label]
    return total / len(labels)


# Direction


@pytest.mark.parametrize("adversary", ["mlp", "conv"])
def test_an_adversary_step_lowers_its_loss(adversary: str) -> None:
    method = aia(adversary=adversary)
    terms = terms_of(method, "adversary")
    update(seat(method, "adversary"), [Move("adversary", terms)])
    after = terms_of(method, "adversary")
    assert after["inference Male"] < terms["inference Male"]


def test_a_task_step_lowers_the_utility_loss() -> None:
    for method, batch in ((pretrained(), BATCH), (aia(MATCHING), pairs())):
        before = task_loss(method, batch)
        update(seat(method, "task"), [Move("task", terms_of(method, "task", batch))])
        assert task_loss(method, batch) < before


def test_an_encoder_step_for_utility_lowers_the_utility_loss() -> None:
    method = pretrained(alpha=100.0, beta=0.0)
    before = task_loss(method)
    update(seat(method, "autoencoder"), [Move("autoencoder", terms_of(method, "autoencoder"))])
    assert task_loss(method) < before


@pytest.mark.parametrize("sign", [1, -1], ids=["as it is", "flipped"])
@pytest.mark.parametrize("form", FORMS)
def test_an_encoder_step_for_privacy_raises_the_adversarys_loss(
    form: PrivacyForm, sign: int
) -> None:
    """The flipped sign is the negative control: it must lower the loss.

    The pretrained adversary is nearly certain, so the losses are small: what counts is the ratio.
    """
    method = pretrained(privacy=form, beta=1000.0, lr=5e-3, adversary_steps=0)
    before = adversary_loss(method)
    assert before < 0.7 * math.log(2)
    weights = {n: w.clone() for n, w in method.adversaries.state_dict().items()}
    terms = terms_of(method, "autoencoder")
    terms["privacy Male"] = sign * terms["privacy Male"]
    update(seat(method, "autoencoder"), [Move("autoencoder", terms)])
    assert (adversary_loss(method) / before) ** sign > 1.2
    assert all(torch.equal(w, weights[n]) for n, w in method.adversaries.state_dict().items())


@pytest.mark.parametrize(
    ("weight", "term"), [("alpha", "utility Smiling"), ("beta", "privacy Male")]
)
def test_a_weight_of_zero_leaves_no_gradient_and_of_a_half_some(weight: str, term: str) -> None:
    for value in (0.0, 0.5):
        settings: dict[str, Any] = {weight: value}
        method = pretrained(**settings)
        gradient = gradient_of(terms_of(method, "autoencoder")[term], method.obfuscator)
        assert bool(gradient.any()) is (value > 0)


def test_alpha_scales_the_encoders_utility_and_not_the_tasks_own_loss() -> None:
    half, whole = (aia(alpha=alpha) for alpha in (0.5, 1.0))
    term = "utility Smiling"
    tasks = [terms_of(method, "task")[term].item() for method in (half, whole)]
    weighted = [terms_of(method, "autoencoder")[term].item() for method in (half, whole)]
    assert tasks[0] == tasks[1] == weighted[1] == pytest.approx(2 * weighted[0])


def test_the_adversary_plays_as_often_as_it_is_told_before_the_encoder() -> None:
    for steps in (0, 1, 3):
        order = [[m.player for m in moves] for moves in joint_moves(aia(adversary_steps=steps))]
        assert order == [["adversary"]] * steps + [["task", "autoencoder"]]


def test_stage_1_trains_each_part_by_itself() -> None:
    """No part's loss may pull on the encoder except its own reconstruction."""
    method = aia()
    ((auto, adversary, task),) = [
        m for m in method.pretrain_round(BATCH, generator(0)) if isinstance(m, tuple)
    ]
    assert [*auto.terms] == ["reconstruction"]
    for move in (adversary, task):
        for term in move.terms.values():
            assert not gradient_of(term, method.obfuscator).any()
    assert gradient_of(auto.terms["reconstruction"], method.obfuscator).any()


# The release


def test_grey_is_the_luma_of_itu_r_601() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1], [0.2, 0.4, 0.6]])
    grey = aia().obfuscator.grey(colours.view(5, 3, 1, 1)).flatten()
    assert grey.tolist() == pytest.approx([0.299, 0.587, 0.114, 1.0, 0.363])
    one = torch.rand(2, 1, 4, 4)
    assert torch.equal(aia().obfuscator.grey(one), one)


def test_the_release_is_a_map_in_0_1_a_quarter_of_the_image() -> None:
    for size in (16, 18, 24):
        method = aia(tiny.problem(size=size))
        x = 50 * torch.randn(3, 3, size, size)  # far outside of [0, 1]: the sigmoid must hold
        g = released(method.obfuscator, x, generator(0))
        assert g.shape == (3, 12, size // 4, size // 4)
        assert float(g.min()) >= 0
        assert float(g.max()) <= 1
        assert method.reconstruct(g).shape == (3, 1, size, size)


def test_the_baseline_random_replaces_half_of_the_entries_by_uniform_noise() -> None:
    original, random = (aia(replaced=share).obfuscator for share in (0.0, 0.5))
    x = tiny.faces(people=40, size=32).batch(slice(None)).x
    g, z = (released(o, x, generator(3)) for o in (original, random))
    replaced = z != g
    count = replaced.numel()
    assert count > 50_000
    assert replaced.float().mean().item() == pytest.approx(0.5, abs=5 * 0.5 / count**0.5)
    # Which entries are replaced must not follow from where they lie or from what they are.
    per_place = replaced.float().mean(dim=0)
    assert per_place.std().item() == pytest.approx(0.5 / 80**0.5, rel=0.15)
    noise = z[replaced].sort().values
    uniform = (torch.arange(len(noise)) + 0.5) / len(noise)
    assert float((noise - uniform).abs().max()) < 1.63 / len(noise) ** 0.5  # Kolmogorov, 1 %
    assert g[replaced].mean().item() == pytest.approx(g.mean().item(), abs=0.01)


# Sizes, refusals, names


def test_the_papers_sizes_build_and_take_a_step() -> None:
    """100 x 100 grey, encoder 8-12, decoder 256-128, adversary tanh, T 4-8-8 -> 500 -> 128."""
    problem = tiny.problem(utility=("identity",), size=100, channels=1)
    method = AIA(AIAConfig(), problem)
    convs = [m for m in method.obfuscator.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convs] == [8, 12]
    decoder = [m.out_channels for m in method.decoder if isinstance(m, nn.Conv2d)]
    assert decoder == [256, 128, 1]
    people = tiny.faces(people=2, size=100, channels=1)
    assert method.obfuscator.encode(people.batch(slice(0, 1)).x).shape == (1, 12, 25, 25)
    seats = seats_for(method.players)
    stage = method.stages()[1]
    for moves in rounds(stage, people.batch(slice(None)), generator(0), "fp32"):
        assert all(math.isfinite(value) for value in update(seats, moves).values())


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (tiny.problem(private=("Age",)), "'Age' has no classes to hide"),
        (tiny.problem(private=("identity",)), "'identity' has no classes to hide"),
        (tiny.problem(utility=("Age",)), "not 'Age'"),
        (tiny.problem(size=12), "16 px or more, not 12"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(problem: Problem, says: str) -> None:
    with pytest.raises(VeilError, match=says) as refusal:
        aia(problem)
    assert "\n" not in str(refusal.value)


def test_a_label_cannot_be_both_private_and_useful() -> None:
    with pytest.raises(VeilError, match="'Male' is both private and useful"):
        tiny.problem(("Male",), ("Male",))


def test_matching_without_two_photos_of_a_person_is_refused_before_training() -> None:
    """In select too, where it would else be noticed after the first epoch."""
    twice, once = tiny.faces(8, 2), tiny.faces(8, 1, first_person=50)
    nobody = {name: label for name, label in once.schema.items() if name != "identity"}
    columns = {name: once.column(name) for name in nobody}
    unknown = Dataset("unknown", once.images, columns, nobody, once.hashes)
    method = aia(MATCHING, batch_size=8)
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    config = FitConfig(device="cpu")
    for fit_set, select_set in ((once, twice), (twice, once)):
        with pytest.raises(VeilError, match="two photos of a person"):
            fit(method, MATCHING, fit_set, select_set, config)
    with pytest.raises(VeilError, match="no label 'identity'"):
        fit(method, MATCHING, unknown, twice, config)
    assert all(torch.equal(before[n], tensor) for n, tensor in method.state_dict().items())


# Table 1 of the paper, CelebA: gender accuracy, matching accuracy.
TABLE_1: tuple[tuple[str, dict[str, Any], float, float], ...] = (
    ("Original", {"joint_epochs": 0}, 0.7801, 0.8887),
    ("Random", {"joint_epochs": 0, "replaced": 0.5}, 0.5212, 0.5689),
    ("AIA\\T", {"alpha": 0.0}, 0.6253, 0.6934),
    ("AIA", {}, 0.6496, 0.7864),
)


@pytest.mark.parametrize(("title", "settings", "gender", "matching"), TABLE_1)
def test_rows_of_table_1(
    title: str, settings: dict[str, Any], gender: float, matching: float
) -> None:
    method = aia(MATCHING, **settings)
    assert method.title() == title
    assert method.reported("celeba") == {"Male": gender, "identity": matching}
    assert method.reported("synthfaces") == {}
    assert aia(tiny.problem(utility=("Smiling",)), **settings).reported("celeba") == {}


@pytest.mark.parametrize(
    ("settings", "title"),
    [
        ({"alpha": 0.2}, "AIA alpha=0.2"),
        ({"alpha": 0.2, "beta": 1.0}, "AIA alpha=0.2 beta=1"),
        ({"alpha": 0.0, "beta": 1.0}, "AIA\\T beta=1"),
        ({"replaced": 0.5}, "AIA replaced=0.5"),
        ({"joint_epochs": 0, "replaced": 0.3}, "Random replaced=0.3"),
    ],
)
def test_what_the_paper_did_not_run_has_no_figures(settings: dict[str, Any], title: str) -> None:
    method = aia(MATCHING, **settings)
    assert method.title() == title
    assert method.reported("celeba") == {}


def test_no_patience_is_written_as_zero() -> None:
    assert aia(patience=0).stages()[0].patience is None
    assert aia(patience=3).stages()[0].patience == 3


def test_the_whole_loop_finds_and_keeps_planted_labels() -> None:
    method = aia(lr=2e-3, batch_size=12, pretrain_epochs=15, joint_epochs=25, beta=0.0, patience=0)
    people, others = tiny.faces(24, 2), tiny.faces(6, 2, first_person=24)
    fit(method, tiny.problem(), people, others, FitConfig(device="cpu", precision="fp32"))
    batch = people.batch(slice(None))
    assert adversary_loss(method, batch) < 0.05
    answers = method.answers(method.obfuscator.encode(batch.x))["Smiling"]
    assert bool((answers.argmax(1) == batch["Smiling"]).all())
