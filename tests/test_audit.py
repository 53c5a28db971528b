"""audit() on releases whose leakage is known, and what no attacker may be given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from small_evidence import Array, cheap, divided, made_up, tensors, write
from veil.attacks import suites
from veil.attacks.attack import Attack, Guess, Ints, Kind, Knowledge, Whole
from veil.attacks.defenders import DefendersAdversary
from veil.attacks.linear import Logistic
from veil.audit import audit, audit_with_pictures
from veil.auditing import audit_file, audit_release
from veil.data.dataset import Label
from veil.data.synthfaces import SynthFacesConfig
from veil.errors import VeilError
from veil.evidence import Evidence
from veil.mechanism import ClippedGaussian
from veil.records import Audit, Record
from veil.released_file import from_file

N = 800
RNG = np.random.default_rng(11)
S = RNG.integers(0, 2, N)
NOISE = RNG.normal(size=(N, 8))
BEGINNING = np.random.default_rng(12).bit_generator.state


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """A test draws the same numbers whichever tests ran before it."""
    RNG.bit_generator.state = BEGINNING


def use(patch: pytest.MonkeyPatch, *attacks: Attack) -> None:
    """Make these the suite "tested"; ceilings and fresh heads are one linear attacker each."""
    patch.setitem(suites.SUITES, "tested", lambda: cheap(*attacks, name="tested"))


@pytest.fixture(autouse=True)
def cheap_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)


def run(evidence: Evidence, seed: int = 0, seeds: int = 1) -> Audit:
    return audit(evidence, "tested", seeds, seed)


def named(found: Audit, attack: str, target: str = "s") -> Record:
    """The one record of this attacker."""
    (record,) = [r for r in found.records if (r.attack, r.target) == (attack, target)]
    return record


# --- known answers, with the real quick suite ---


def test_a_released_bit_reaches_the_ceiling() -> None:
    z = np.column_stack([S, NOISE])
    worst = audit(made_up(z, S), "quick", 1).targets["s"].worst
    assert worst.score is not None
    assert worst.interval is not None
    assert worst.score > 0.99
    assert worst.interval[0] > 0.95
    assert worst.bits is not None
    assert worst.bits > 0.9


def test_noise_is_not_broken_and_nothing_is_claimed() -> None:
    """The interval of the attacker chosen on select holds the floor; no information is found."""
    found = audit(made_up(NOISE, S), "quick", 1)
    worst = found.targets["s"].worst
    assert worst.interval is not None
    assert worst.interval[0] <= 0.5 <= worst.interval[1]
    assert worst.floor == 0.5
    assert worst.bits is not None
    assert worst.bits < 0.02
    assert found.verdict == "given"


def test_a_release_of_the_task_alone_leaks_what_the_task_does() -> None:
    """s agrees with y four times in five and z holds y: that is what leaks, neither more nor less.

    Attackers that go for s directly may miss some of it; the one that copies the task misses none.
    """
    y = S ^ (RNG.random(N) < 0.2)
    z = np.column_stack([3.0 * y, NOISE]) + 0.1 * RNG.normal(size=(N, 9))
    found = audit(made_up(z, S, y=y), "quick", 1)
    worst, label_only = found.targets["s"].worst, named(found, "label only")
    assert worst.score is not None
    assert label_only.score is not None
    assert worst.floor == label_only.score
    assert 0.75 < label_only.score < 0.85
    assert worst.interval is not None
    assert worst.interval[0] <= label_only.score <= worst.interval[1]
    assert named(found, "copy a learned head (logistic standardised)").score == label_only.score
    assert found.verdict == "given"
    assert found.targets["y"].kind == "utility"
    assert found.targets["y"].worst.score == 1.0


# --- the protocol ---


@dataclass(frozen=True)
class Scripted(Whole):
    """An attacker that is right where it is told to be; it was handed the true labels."""

    name: str
    truth: tuple[int, ...]
    right_on_select: float
    right_on_test: float

    family: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = False

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        truth = divided(np.array(self.truth))

        def guess(split: Any, right: float) -> Any:
            s = truth[split]
            wrong = np.arange(len(s)) >= right * len(s)
            return np.log(np.where(np.eye(2)[s ^ wrong], 0.9, 0.1)).astype(np.float32)

        return Guess(
            guess("attack", 1.0),
            guess("select", self.right_on_select),
            guess("test", self.right_on_test),
        )


def test_the_worst_is_chosen_on_select_and_not_on_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """An attacker that is good on test alone is not chosen: choosing it would be tuning on test."""
    truth = tuple(S.tolist())
    lucky = Scripted("lucky on test", truth, 0.55, 0.99)
    solid = Scripted("solid on select", truth, 0.80, 0.70)
    use(monkeypatch, lucky, solid)
    found = run(made_up(NOISE, S))
    worst = found.targets["s"].worst
    assert worst.attack == "solid on select"
    assert worst.score == pytest.approx(0.70, abs=0.02)
    assert named(found, "lucky on test").score == pytest.approx(0.99, abs=0.02)


@dataclass(frozen=True)
class Curious(Whole):
    """An attacker that keeps what it was given."""

    name: str = "curious"
    seen: ClassVar[list[tuple[Knowledge, int]]] = []

    family: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = True

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        self.seen.append((knowledge, seed))
        return Logistic().run(knowledge, seed)


def arrays_in(value: Any) -> Iterator[Ints]:
    """Every array anywhere in a value."""
    if isinstance(value, torch.Tensor):
        yield value.numpy()
    elif isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from arrays_in(part)
    elif is_dataclass(value):
        for field in fields(value):
            yield from arrays_in(getattr(value, field.name))


def test_no_attacker_is_given_the_labels_of_test(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Curious())
    Curious.seen.clear()
    y = S ^ (RNG.random(N) < 0.3)
    other = np.where(RNG.random(N) < 0.1, -1, RNG.integers(0, 3, N))
    evidence = made_up(NOISE, S, y=y, private=("s", "other"), more={"other": other})
    run(evidence, seeds=2)
    assert {knowledge.target for knowledge, _ in Curious.seen} == {"s", "other", "s+other"}
    for knowledge, _ in Curious.seen:
        assert set(knowledge.s) == {"attack", "select"}
        hidden = [evidence.labels[name]["test"] for name in ("s", "other")]
        hidden += [labels[evidence.labels["other"]["test"] != -1] for labels in hidden]
        for array in arrays_in(knowledge):
            assert not any(np.array_equal(array.ravel(), labels) for labels in hidden)


def test_attackers_seeds_differ_and_follow_the_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Curious())
    seen = []
    for seed in (0, 0, 1):
        Curious.seen.clear()
        run(made_up(NOISE, S), seed=seed, seeds=2)
        seen.append(tuple(s for _, s in Curious.seen))
    assert seen[0] == seen[1]
    assert len(set(seen[0][:2])) == 2
    assert not set(seen[0]) & set(seen[2])


def test_the_same_seed_gives_the_same_audit_but_for_the_time() -> None:
    y = S ^ (RNG.random(N) < 0.3)
    z = NOISE + 0.3 * S[:, None]

    def text(seed: int) -> str:
        found = run(made_up(z, S, y=y, identity=np.arange(N), originals=images()), seed)
        return found.model_copy(update={"provenance": found.provenance | {"seconds": None}}).dumps()

    assert text(0) == text(0)
    assert text(0) != text(1)


def images() -> Array:
    """Originals of 8 x 8 grey pixels that show s a little."""
    rng = np.random.default_rng(3)
    return (0.5 + 0.1 * rng.normal(size=(N, 1, 8, 8)) + 0.05 * S[:, None, None, None]).clip(0, 1)


# --- what a record carries ---


def test_floor_ceiling_and_gain_stand_beside_every_attackers_score() -> None:
    found = run(made_up(NOISE + 0.3 * S[:, None], S, originals=images()))
    worst, ceiling = (
        found.targets["s"].worst,
        named(found, "logistic whitened on the original images"),
    )
    assert ceiling.family == "ceiling"
    assert (worst.floor, worst.ceiling) == (0.5, ceiling.score)
    accuracy, clean = worst.scores["accuracy"], ceiling.scores["accuracy"]
    majority = np.bincount(divided(S)["test"]).max() / len(divided(S)["test"])
    assert accuracy is not None
    assert clean is not None
    assert worst.nag == pytest.approx(max(0, (accuracy - majority) / (clean - majority)))
    assert "no-ceiling" not in [doubt.id for doubt in worst.doubts]
    without = run(made_up(NOISE + 0.3 * S[:, None], S)).targets["s"].worst
    assert (without.ceiling, without.nag) == (None, None)
    assert "no-ceiling" in [doubt.id for doubt in without.doubts]


def test_absent_figures_are_null_and_never_nan() -> None:
    z = np.where(RNG.random(NOISE.shape) < 0.05, np.nan, NOISE)
    z[0, 0] = np.inf
    text = run(made_up(z, S)).dumps()
    assert "null" in text
    assert "NaN" not in text
    assert "Infinity" not in text


def test_averaging_the_draws_finds_more_than_one_draw() -> None:
    draws = S[:, None, None] + 3 * RNG.normal(size=(N, 16, 1))
    evidence = replace(made_up(draws[:, 0], S), averaged={16: tensors(draws.mean(1))}, random=True)
    found = run(evidence)
    one = named(found, "logistic standardised")
    many = named(found, "logistic standardised, mean of 16 draws")
    assert one.score is not None
    assert many.score is not None
    assert many.score > one.score + 0.1
    assert many.config["draws"] == 16
    assert found.targets["s"].worst.attack.endswith("mean of 16 draws")
    assert "one-draw" not in [doubt.id for doubt in found.targets["s"].worst.doubts]


def test_one_draw_of_a_random_release_is_attacked_once_and_doubted(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", z_draws=NOISE[:, None], s=S)
    found = run(from_file(path, 0))
    assert "one-draw" in [doubt.id for doubt in found.targets["s"].worst.doubts]
    assert len({record.attack for record in found.records}) == len(found.records)


# --- targets ---


def test_rows_without_the_label_are_left_out() -> None:
    """The missing labels would be a third class, or the wrong one, if they stayed."""
    missing = np.arange(N) % 4 == 0
    z = np.column_stack([np.where(missing, 5.0, S), NOISE])
    found = run(made_up(z, np.where(missing, -1, S)))
    worst = found.targets["s"].worst
    assert worst.n == (divided(missing)["test"] == 0).sum()
    assert worst.score == 1.0


def test_missing_useful_labels_do_not_stop_the_attack() -> None:
    y = np.where(np.arange(N) % 5 == 0, -1, S)
    found = run(made_up(np.column_stack([S, NOISE]), S, y=y))
    assert found.targets["s"].worst.score == 1.0
    assert found.targets["s"].worst.n == len(divided(S)["test"])
    assert found.targets["y"].worst.n == (divided(y)["test"] != -1).sum()


def test_every_private_label_has_its_own_verdict() -> None:
    hidden, three = RNG.integers(0, 2, N), RNG.integers(0, 3, N)
    z = np.column_stack([three == 1, three == 2, NOISE])
    found = run(made_up(z, S, private=("s", "three"), more={"hidden": hidden, "three": three}))
    assert list(found.targets) == ["s", "three", "s+three"]
    assert found.targets["three"].worst.score == 1.0
    assert found.targets["three"].worst.floor == pytest.approx(1 / 3)
    low, high = found.targets["s"].worst.interval or (1.0, 0.0)
    assert low <= 0.5 <= high


def faces_of(people: int, photos: int) -> tuple[Array, Array]:
    """Releases of people in noise, and who they are."""
    rng = np.random.default_rng(7)
    identity = np.repeat(np.arange(people), photos)
    return rng.normal(size=(people, 16))[identity] + 0.2 * rng.normal(
        size=(people * photos, 16)
    ), identity


@pytest.mark.parametrize("role", ["private", "utility"])
def test_identity_is_attacked_or_kept_by_matching(role: str) -> None:
    z, identity = faces_of(80, 5)
    labels = {"private": (), "utility": ()} | {role: ("identity",)}
    evidence = made_up(z, identity % 2, identity=identity, **labels)  # type: ignore[arg-type]
    worst = audit(evidence, "quick", 1).targets["identity"].worst
    assert worst.kind == ("identity" if role == "private" else "utility")
    assert worst.metric == "verification_accuracy"
    assert worst.score is not None
    assert worst.score > 0.95
    assert worst.floor == 0.5


def test_the_useful_label_is_scored_by_its_own_and_by_fresh_heads() -> None:
    """The public head is bad on purpose: a fresh one shows what the release still supports."""
    y = S
    answers = np.eye(2, dtype=np.float32)[np.where(RNG.random(N) < 0.4, 1 - y, y)] * 4
    evidence = replace(
        made_up(np.column_stack([y, NOISE]), RNG.integers(0, 2, N), y=y),
        answers={"y": divided(answers)},
    )
    found = run(evidence)
    own, fresh = named(found, "own head", "y"), named(found, "logistic standardised", "y")
    assert own.score == pytest.approx(0.6, abs=0.08)
    assert fresh.score == 1.0
    assert found.targets["y"].worst == fresh
    assert {own.kind, fresh.kind} == {"utility"}


# --- parts, draws, quantities, pictures, certificates, undeclared labels ---


def test_a_leak_within_a_subgroup_is_found_there() -> None:
    """One row in five leaks: over all rows the figure is small, within the subgroup it is not."""
    group = (np.arange(N) % 5 == 0).astype(np.int64)
    z = np.column_stack([np.where(group == 1, S, RNG.integers(0, 2, N)), NOISE])
    evidence = made_up(z, S)
    meaning = {**evidence.meaning, "g": Label("binary", ("0", "1"))}
    found = run(replace(evidence, subgroups=divided(group), group="g", meaning=meaning))
    assert list(found.targets) == ["s", "s where g=0", "s where g=1"]
    inside, outside = (found.targets[f"s where g={g}"].worst for g in (1, 0))
    assert (found.targets["s"].worst.score or 1) < 0.75
    assert inside.score == 1.0
    assert inside.n == (divided(group)["test"] == 1).sum()
    assert outside.interval is not None
    assert outside.interval[0] <= 0.5 <= outside.interval[1]


def test_the_worst_attacker_is_also_run_on_fewer_draws() -> None:
    draws = S[:, None, None] + 3 * RNG.normal(size=(N, 16, 1))
    means = {n: tensors(draws[:, :n].mean(1)) for n in (4, 16)}
    evidence = replace(
        made_up(draws[:, 0], S),
        averaged=means,
        deviation=tensors(draws.std(1)),
        random=True,
    )
    found = run(evidence)
    worst = found.targets["s"].worst.attack.split(",")[0]
    one, four, many = (
        named(found, name).score or 0
        for name in (worst, f"{worst}, mean of 4 draws", f"{worst}, mean of 16 draws")
    )
    assert one < four < many


def test_a_leak_in_the_size_of_the_noise_is_found_in_its_deviation() -> None:
    """The means say nothing: only how far the draws lie apart does."""
    draws = (1 + 2 * S[:, None, None]) * RNG.normal(size=(N, 16, 4))
    evidence = replace(
        made_up(draws[:, 0], S),
        averaged={16: tensors(draws.mean(1))},
        deviation=tensors(draws.std(1)),
        random=True,
    )
    worst = run(evidence).targets["s"].worst
    assert worst.attack.endswith("mean and deviation of 16 draws")
    assert (worst.score or 0) > 0.97


def test_a_quantity_is_judged_by_what_is_explained_of_it() -> None:
    age = (40 + 10 * NOISE[:, 0] + 5 * RNG.normal(size=N)).astype(np.float32)
    evidence = replace(
        made_up(NOISE, S, originals=images()),
        private=("age",),
        labels={"age": divided(age)},
        meaning={"age": Label("continuous")},
    )
    found = run(evidence)
    worst = found.targets["age"].worst
    assert (worst.kind, worst.metric, worst.floor) == ("attribute", "r2", 0.0)
    assert worst.score == pytest.approx(0.8, abs=0.05)
    assert worst.nag is None
    assert "positive-control" in [refusal.id for refusal in found.refusals]  # grey 8 x 8 noise


def test_pictures_are_rebuilt_where_that_is_asked_for() -> None:
    rng = np.random.default_rng(9)
    x = rng.random((N, 3, 12, 12))
    z = x.reshape(N, -1)[:, :60]
    evidence = replace(made_up(z, S, originals=x), private=("s", "reconstruction"))
    found, rebuilt = audit_with_pictures(evidence, cheap(), 1)
    worst = found.targets["reconstruction"].worst
    assert (worst.kind, worst.metric) == ("reconstruction", "ssim")
    assert worst.attack == "linear decoder"
    assert worst.floor is not None
    assert (worst.score or 0) > worst.floor
    assert rebuilt is not None
    assert rebuilt.test.shape[1:] == (3, 12, 12)


def test_certificates_bound_what_attackers_find() -> None:
    evidence = replace(made_up(NOISE, S), mechanism=ClippedGaussian(clip=0.2, sigma=1.0))
    found = run(evidence)
    kinds = [certificate.kind for certificate in found.certificates]
    assert kinds[0] == "clipped gaussian"
    worst = found.targets["s"].worst
    assert worst.certified == pytest.approx(0.5793, abs=1e-4)  # Phi(0.2)
    assert worst.assumption == found.certificates[0].assumption
    nothing = run(made_up(NOISE, S))
    assert nothing.certificates[-1].kind == "none"
    assert nothing.targets["s"].worst.certified is None


def test_a_mechanism_that_cannot_be_is_an_error_before_the_attack() -> None:
    evidence = replace(made_up(NOISE, S), mechanism=ClippedGaussian(clip=0.2, sigma=5.0))
    with pytest.raises(VeilError, match="the releases do not come from"):
        audit(evidence, cheap(), 1)


def test_a_release_above_its_certificate_is_doubted() -> None:
    """A code beside the noise: the mechanism was declared of something that is not all."""
    z = np.column_stack([0.3 * S, NOISE])
    z[:, 0] += 0.01 * RNG.normal(size=N)
    evidence = replace(made_up(z, S), mechanism=ClippedGaussian(clip=0.2, sigma=0.95))
    worst = run(evidence).targets["s"].worst
    assert "certificate-broken" in [doubt.id for doubt in worst.doubts]


def test_a_label_that_nobody_declared_is_found() -> None:
    hidden, absent = RNG.integers(0, 2, N), RNG.integers(0, 2, N)
    evidence = made_up(
        np.column_stack([hidden + 0.3 * NOISE[:, 0], NOISE]),
        S,
        private=("s",),
        more={"hidden": hidden, "absent": absent},
    )
    columns = {name: evidence.labels[name] for name in ("hidden", "absent")}
    evidence = replace(evidence, undeclared=columns, labels={"s": evidence.labels["s"]})
    assert run(evidence).scan == ()  # a suite that does not scan
    leaking, silent = audit(evidence, replace(cheap(), scans=True), 1).scan
    assert (leaking.target, silent.target) == ("hidden", "absent")
    assert (leaking.score or 0) > 0.9
    assert silent.interval is not None
    assert silent.interval[0] <= 0.5


def test_the_defenders_own_adversary_is_an_attacker_of_a_white_box() -> None:
    """It reads the hidden product that the linear attackers beside it cannot."""
    z = np.column_stack([RNG.choice([-1, 1], N), NOISE])
    z[:, 1] = z[:, 0] * (2 * S - 1)

    class Product(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(1.0))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            said = self.scale * x[:, 0] * x[:, 1]
            return torch.stack([-said, said], 1)

    attacks = (Logistic(), DefendersAdversary("as trained"))
    black = audit(made_up(z, S), cheap(*attacks), 1).targets["s"].worst
    white = audit(replace(made_up(z, S), networks={"s": Product()}), cheap(*attacks), 1)
    assert (black.score or 1) < 0.65
    worst = white.targets["s"].worst
    assert worst.score == 1.0
    assert white.verdict == "given"  # what it knows, it was not told by shuffled labels
    assert "same-architecture" in [doubt.id for doubt in worst.doubts]


# --- refusals ---


def test_attackers_that_are_broken_are_refused_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right on select, wrong on test: below what a coin reaches, so no figure is given."""
    use(monkeypatch, Scripted("broken", tuple(S.tolist()), 0.9, 0.2))
    found = run(made_up(NOISE, S))
    assert found.verdict == "refused"
    assert [refusal.id for refusal in found.refusals] == ["below-floor"]


def test_an_attacker_that_was_handed_the_answers_is_refused_a_verdict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is as good when its labels are shuffled: the fault is in the evaluation."""
    use(monkeypatch, Scripted("peeking", tuple(S.tolist()), 0.9, 0.95))
    found = run(made_up(NOISE, S))
    assert [refusal.id for refusal in found.refusals] == ["shuffled-control"]


def test_originals_that_show_nothing_are_refused_a_verdict() -> None:
    found = run(made_up(NOISE, S, originals=RNG.random((N, 1, 8, 8))))
    assert "positive-control" in [refusal.id for refusal in found.refusals]


def test_a_release_above_its_own_originals_is_refused() -> None:
    blurred = 0.5 + 0.4 * (images() - 0.5)
    found = run(made_up(np.column_stack([S, NOISE]), S, originals=blurred[:, :, :2, :2]))
    assert [refusal.id for refusal in found.refusals] == ["above-ceiling"]


class SignsAgree(torch.nn.Module):
    """Whether the first two pixels lie on one side of grey, which nothing linear can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        said = self.scale * (x[:, 0, 0, 0] - 0.5) * (x[:, 0, 0, 1] - 0.5)
        return torch.stack([-said, said], 1)


@pytest.mark.parametrize("pictures", [True, False])
def test_an_adversary_of_pictures_reads_the_originals_too(pictures: bool) -> None:
    """What it alone can read from both is no leak above the ceiling."""
    x = RNG.random((N, 1, 8, 8))
    side = np.where(x[:, 0, 0, 0] > 0.5, 1, -1)
    x[:, 0, 0, 1] = 0.5 + side * (S - 0.5)
    evidence = made_up(x if pictures else x[:, :, :2], S, originals=x)
    attacks = (Logistic(), DefendersAdversary("warm"))
    found = audit(replace(evidence, networks={"s": SignsAgree()}), cheap(*attacks), 1)
    assert found.targets["s"].worst.score == 1
    refusals = [refusal.id for refusal in found.refusals]
    if pictures:
        assert refusals == []
        assert found.targets["s"].worst.ceiling == 1
    else:
        assert "above-ceiling" in refusals


def test_overlap_is_an_audit_without_figures(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.npz", z=NOISE, s=S, identity=np.arange(N) // 2, split=np.arange(N) % 3
    )
    out = tmp_path / "audit.json"
    found = audit_file(path, out, "tested", 1, 0, None)
    assert found == Audit.load(out)
    assert (found.verdict, found.refusals[0].id, found.records) == ("refused", "overlap", ())


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    path = write(tmp_path / "r.npz", z=NOISE, s=S)
    with pytest.raises(VeilError, match="is a folder"):
        audit_file(path, tmp_path, "no such suite", 1, 0, None)
    with pytest.raises(VeilError, match="cannot be written"):
        audit_file(path, path / "audit.json", "no such suite", 1, 0, None)


@pytest.mark.parametrize("split", ["attack", "select", "test"])
def test_a_label_that_does_not_vary_in_a_split_is_an_error(split: str) -> None:
    columns = divided(S.copy())
    columns[split][:] = 1  # type: ignore[index]
    with pytest.raises(VeilError, match=f"'s' does not vary over the .* of '{split}'"):
        run(made_up(NOISE, np.concatenate(list(columns.values()))))


def test_a_label_without_classes_and_an_unknown_suite_are_errors() -> None:
    evidence = made_up(NOISE, S)
    with pytest.raises(VeilError, match="an audit needs classes or a quantity"):
        audit(replace(evidence, meaning={"s": Label("landmarks")}), "quick")
    with pytest.raises(VeilError, match="did you mean 'quick'"):
        audit(evidence, "quik")


def test_a_release_function_is_audited_on_any_data() -> None:
    """What a function lets through is found, and a constant release gives nothing away."""
    splits = SynthFacesConfig(people=200, size=32).splits(0)

    def shrink(x: torch.Tensor, _rng: torch.Generator) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, 4)

    def nothing(x: torch.Tensor, _rng: torch.Generator) -> torch.Tensor:
        return torch.zeros(len(x), 4)

    seen = audit_release(shrink, splits, ("Male",), suite="tested", seeds=1)
    blind = audit_release(nothing, splits, ("Male",), suite="tested", seeds=1)
    assert (seen.targets["Male"].worst.score or 0) > 0.65
    assert blind.targets["Male"].worst.score == pytest.approx(0.5)
