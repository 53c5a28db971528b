"""Answer-only: one codeword per class leaves, and it leaks what the answer gives away."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from veil.errors import VeilError
from veil.method import Problem
from veil.methods.answer_only import AnswerOnly, AnswerOnlyConfig
from veil.release import release_split
from veil.train import FitConfig, fit

SMALL = AnswerOnlyConfig(
    blocks=(1, 1), widths=(8, 16), epochs=30, batch_size=8, lr=3e-3, patience=0
)
SPLITS = tiny.splits(16, 3)
CPU = FitConfig(device="cpu", precision="fp32")


def method(problem: Problem, config: AnswerOnlyConfig = SMALL) -> AnswerOnly:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AnswerOnly(config, problem)


@pytest.mark.parametrize("utility", [("Smiling",), ("Smiling", "Race")])
def test_nothing_but_one_codeword_per_task_is_released(utility: tuple[str, ...]) -> None:
    problem = tiny.problem(("Male",), utility, size=16)
    z = release_split(method(problem).obfuscator, SPLITS.test, 0, "test")
    classes = [len(problem.labels[name].classes) for name in utility]
    assert z.shape[1] == sum(classes)
    assert set(z.flatten().tolist()) <= {0.0, 1.0}
    for part in torch.split(z, classes, dim=1):
        assert torch.equal(part.sum(dim=1), torch.ones(len(z)))
    answers = method(problem).answers(z)
    for name, part in zip(utility, torch.split(z, classes, dim=1), strict=True):
        assert torch.equal(answers[name].argmax(dim=1), part.argmax(dim=1))


def test_training_makes_the_answer_right() -> None:
    problem = tiny.problem(("Male",), ("Smiling",), size=16)
    learned = method(problem)
    before = right(learned)
    fit(learned, problem, SPLITS.fit, SPLITS.select, CPU)
    assert right(learned) > max(before, 0.8)


def right(learned: AnswerOnly) -> float:
    z = release_split(learned.obfuscator, SPLITS.test, 0, "test")
    return float(np.mean(z.argmax(dim=1).numpy() == SPLITS.test.column("Smiling")))


@pytest.mark.parametrize(
    ("utility", "config", "why"),
    [
        (("identity",), SMALL, "'identity' has none known in advance"),
        ((), SMALL, "name a useful label"),
        (("Smiling",), AnswerOnlyConfig(blocks=(1,), widths=(4, 8)), "1 blocks but 2 widths"),
    ],
)
def test_what_makes_no_sense_is_refused(
    utility: tuple[str, ...], config: AnswerOnlyConfig, why: str
) -> None:
    with pytest.raises(VeilError, match=why):
        method(tiny.problem(("Male",), utility, size=16), config)
