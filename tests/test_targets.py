"""What is attacked: labels, their subgroups, several at once; and by which draws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from small_evidence import cheap, divided, made_up, tensors
from veil.audit import audit
from veil.data.dataset import Label
from veil.errors import VeilError
from veil.targets import fewer_draws, targets_of

N = 1000
RNG = np.random.default_rng(8)
S, T, GROUP = (RNG.integers(0, 2, N) for _ in range(3))
Z = RNG.normal(size=(N, 3))


def grouped(group: Any, **given: Any) -> Any:
    evidence = made_up(Z, S, **given)
    label = Label("binary", ("old", "young"))
    meaning = {**evidence.meaning, "age": label}
    return replace(evidence, subgroups=divided(group), group="age", meaning=meaning)


def test_a_label_is_attacked_within_every_subgroup_that_is_large_enough() -> None:
    targets = {target.name: target for target in targets_of(grouped(GROUP))}
    assert list(targets) == ["s", "s where age=old", "s where age=young"]
    young = targets["s where age=young"]
    assert young.part_of == "s"
    for split, column in divided(GROUP).items():
        rows = column == 1
        assert np.array_equal(young.column[split], divided(S)[split][rows])
        assert torch.equal(young.evidence.z[split], tensors(Z)[split][torch.from_numpy(rows)])


def test_a_subgroup_of_few_or_of_one_class_is_left_out() -> None:
    rare = (np.arange(N) % 40 == 0).astype(np.int64)
    assert [t.name for t in targets_of(grouped(rare))] == ["s", "s where age=old"]
    assert [t.name for t in targets_of(grouped(S))] == ["s"]


def test_two_private_labels_are_attacked_at_once() -> None:
    evidence = made_up(Z, S, private=("s", "t"), more={"t": T})
    both = targets_of(evidence)[-1]
    assert both.name == "s+t"
    meaning = both.evidence.meaning["s+t"]
    assert meaning.classes == ("s=no, t=no", "s=no, t=yes", "s=yes, t=no", "s=yes, t=yes")
    assert np.array_equal(both.column["test"], divided(2 * S + T)["test"])


def test_a_pair_that_hardly_occurs_is_left_out_of_both() -> None:
    t = np.where(S == 1, T, 0)
    targets = targets_of(made_up(Z, S, private=("s", "t"), more={"t": t}))
    assert targets[-1].evidence.meaning["s+t"].classes == (
        "s=no, t=no",
        "s=yes, t=no",
        "s=yes, t=yes",
    )
    same = targets_of(made_up(Z, S, private=("s", "t"), more={"t": S}))
    assert [target.name for target in same] == ["s", "t"]


def test_missing_labels_leave_both() -> None:
    t = np.where(np.arange(N) % 3 == 0, -1, T)
    both = targets_of(made_up(Z, S, private=("s", "t"), more={"t": t}))[-1]
    assert len(both.column["test"]) == (divided(t)["test"] >= 0).sum()


def test_a_random_release_reaches_attackers_in_three_ways() -> None:
    draws = {n: tensors(Z / n) for n in (4, 16)}
    evidence = replace(made_up(Z, S), averaged=draws, deviation=tensors(np.abs(Z)), random=True)
    (target,) = targets_of(evidence)
    assert [(feed.name, feed.draws) for feed in target.feeds] == [
        ("", 1),
        ("mean of 16 draws", 16),
        ("mean and deviation of 16 draws", 16),
    ]
    assert torch.equal(target.feeds[1].z["test"], draws[16]["test"])
    networks = {"s": torch.nn.Linear(3, 2)}
    (white,) = targets_of(replace(evidence, networks=networks))
    held = [white.knowledge(feed.z).adversary is not None for feed in white.feeds]
    assert held == [True, True, False]  # its input has no room for deviations
    assert target.feeds[2].z["test"].shape == (300, 6)
    assert [(feed.name, feed.draws) for feed in fewer_draws(target)] == [("mean of 4 draws", 4)]


def test_a_quantity_is_a_target_of_its_own_kind() -> None:
    age = RNG.normal(40, 10, N).astype(np.float32)
    age[::7] = np.nan
    evidence = made_up(Z, S, private=("age",), more={"age": np.zeros(N, dtype=np.int64)})
    evidence = replace(
        evidence,
        labels={"age": divided(age)},
        meaning={"age": Label("continuous")},
    )
    (target,) = targets_of(evidence)
    assert (target.kind, target.record_kind) == ("quantity", "attribute")
    assert np.isfinite(target.column["attack"]).all()
    assert len(target.column["test"]) == np.isfinite(divided(age)["test"]).sum()


def test_people_unknown_and_landmarks_are_errors() -> None:
    with pytest.raises(VeilError, match="people are unknown"):
        targets_of(made_up(Z, S, private=("identity",)))
    with pytest.raises(VeilError, match="landmarks; an audit needs classes or a quantity"):
        targets_of(replace(made_up(Z, S), meaning={"s": Label("landmarks")}))


def with_numbers(**numbers: Any) -> Any:
    """Evidence whose useful labels are numbers, of which the first release entry is the mean."""
    evidence = made_up(Z, S, private=("s",), utility=tuple(numbers))
    kinds = {1: Label("continuous"), 2: Label("landmarks")}
    return replace(
        evidence,
        labels={**evidence.labels, **{name: divided(column) for name, column in numbers.items()}},
        meaning={**evidence.meaning, **{n: kinds[column.ndim] for n, column in numbers.items()}},
    )


AGE = (40 + 10 * Z[:, 0]).astype(np.float32)
POINTS = (np.array([10, 20, 30, 20]) + 3 * Z[:, [0, 1, 0, 1]]).astype(np.float32)


def test_useful_numbers_are_targets_read_by_fresh_heads() -> None:
    """The release holds both; landmarks have heads of their own, that read every coordinate."""
    _, age, points = targets_of(with_numbers(age=AGE, points=POINTS))
    assert (age.kind, points.kind) == ("quantity", "quantity")
    assert (age.role, points.role) == ("utility", "utility")
    of = cheap().heads
    assert age.heads(of) == of["quantity"]
    assert {head.family for head in points.heads(of)} == {"linear", "mlp", "convolution"}
    for target, columns in ((age, 1), (points, 4)):
        head = target.heads(of)[0]
        guess = head.run(target.knowledge(target.feeds[0].z), 0)
        assert guess.test.shape == (300, columns)
        assert target.on_select(guess, 0) > 0.99
        record = target.record(head.name, head.family, [guess], 0)
        assert (record.kind, record.metric) == ("utility", "r2")
        assert (record.score or 0) > 0.99


def test_own_heads_answer_numbers_in_the_labels_units() -> None:
    near = {"age": AGE[:, None] + 2.0, "points": POINTS + 0.6}
    answers = {name: divided(column.astype(np.float32)) for name, column in near.items()}
    evidence = replace(with_numbers(age=AGE, points=POINTS), answers=answers)
    _, age, points = targets_of(evidence)
    record = age.own_head(0)
    assert (record.attack, record.kind) == ("own head", "utility")
    assert record.scores["mae"] == pytest.approx(2, abs=1e-3)
    assert record.score == pytest.approx(1 - 4 / 100, abs=0.01)
    assert points.own_head(0).scores["nme"] == pytest.approx(0.6 * np.sqrt(2) / 20, abs=1e-4)


def test_a_face_of_which_one_coordinate_is_unknown_is_left_out() -> None:
    points = POINTS.copy()
    points[::5, 2] = np.nan
    _, target = targets_of(with_numbers(points=points))
    assert np.isfinite(target.column["test"]).all()
    assert target.column["test"].shape == (240, 4)


def test_landmarks_that_do_not_vary_are_an_error() -> None:
    with pytest.raises(VeilError, match="'points' does not vary over the 500 images"):
        targets_of(with_numbers(points=np.ones_like(POINTS)))


def test_an_audit_reports_useful_numbers_with_floor_ceiling_and_own_head() -> None:
    answers = {"points": divided((POINTS + 0.6).astype(np.float32))}
    evidence = replace(with_numbers(age=AGE, points=POINTS), answers=answers)
    found = audit(evidence, cheap(), seeds=1)
    assert found.targets["age"].worst.metric == found.targets["points"].worst.metric == "r2"
    rows = [record for record in found.records if record.target == "points"]
    assert rows[0].attack == "own head"
    assert all(record.kind == "utility" and record.floor == 0 for record in rows)
    fresh = [record for record in rows if record.attack == "landmark ridge standardised"]
    assert (fresh[0].score or 0) > 0.99
    assert (fresh[0].scores["nme"] or 1) < 0.01
