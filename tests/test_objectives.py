"""What a head is asked to say about labels of every kind."""

from __future__ import annotations

import math

import pytest
import torch

import tiny
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.objectives import (
    EMBEDDING,
    answer_of,
    label_loss,
    outputs_for,
    refuse_kinds,
    sampling_for,
)

PROBLEM = tiny.problem(("Male",), ("Race", "Age", "landmarks", "identity"))


def test_every_kind_gets_its_outputs() -> None:
    sizes = {name: outputs_for(PROBLEM, name) for name in PROBLEM.names}
    assert sizes == {"Male": 2, "Race": 3, "Age": 1, "landmarks": 4, "identity": EMBEDDING}


def test_numbers_are_estimated_in_units_of_their_deviation() -> None:
    """An estimate one deviation off costs 1, and answers come back in the label's own units."""
    mean, deviation = PROBLEM.scales["Age"].mean[0], PROBLEM.scales["Age"].deviation[0]
    age = torch.tensor([mean, mean + deviation, mean - 2 * deviation])
    batch = Batch(torch.zeros(3, 3, 4, 4), {"Age": age})
    exact = torch.tensor([[0.0], [1.0], [-2.0]])
    assert label_loss(PROBLEM, "Age", exact, batch).item() == pytest.approx(0, abs=1e-10)
    assert label_loss(PROBLEM, "Age", exact + 1, batch).item() == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(answer_of(PROBLEM, "Age", exact)[:, 0], age)


def test_landmarks_are_averaged_over_coordinates() -> None:
    mean = torch.tensor(PROBLEM.scales["landmarks"].mean)
    batch = Batch(torch.zeros(2, 3, 4, 4), {"landmarks": mean.expand(2, 4)})
    output = torch.tensor([[2.0, 0, 0, 0], [0, 0, 0, 0]])
    assert label_loss(PROBLEM, "landmarks", output, batch).item() == pytest.approx(4 / 8)


def test_classes_cost_cross_entropy_and_are_answered_as_they_are() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    batch = Batch(torch.zeros(2, 3, 4, 4), {"Race": torch.tensor([2, -1])})
    assert label_loss(PROBLEM, "Race", logits, batch).item() == pytest.approx(math.log(3))
    assert answer_of(PROBLEM, "Race", logits) is logits


def test_matching_needs_pairs() -> None:
    assert sampling_for(PROBLEM) == "pairs"
    assert sampling_for(tiny.problem()) == "images"
    people = torch.tensor([0, 1, 0, 1])
    batch = Batch(torch.zeros(4, 3, 4, 4), {"identity": people})
    apart = torch.nn.functional.one_hot(people, EMBEDDING) * 10.0
    assert label_loss(PROBLEM, "identity", apart, batch).item() == 0
    together = label_loss(PROBLEM, "identity", torch.zeros(4, EMBEDDING), batch)
    assert together.item() == pytest.approx(1)  # half of the pairs are of two people: 2^2 / 2


def test_kinds_that_make_no_sense_are_refused_by_name() -> None:
    refuse_kinds("NARL", PROBLEM)
    with pytest.raises(VeilError, match="X keeps binary or multiclass labels; 'Age' is continuous"):
        refuse_kinds("X", tiny.problem(utility=("Age",)), utility=("binary", "multiclass"))
    with pytest.raises(VeilError, match="X hides binary labels; 'reconstruction' is picture"):
        refuse_kinds("X", tiny.problem(("reconstruction",)), private=("binary",))
