"""A ceiling is measured once for the same originals, labels, people, attacker and seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_evidence import Array, cheap, made_up
from veil.attacks.constant import Prior
from veil.attacks.linear import Logistic
from veil.audit import audit
from veil.ceilings import remembered
from veil.records import Record


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path))
    return tmp_path / "ceilings"


def record(score: float = 0.9) -> Record:
    return Record(
        target="s",
        kind="attribute",
        attack="a",
        family="ceiling",
        metric="balanced_accuracy",
        score=score,
        interval=(0.8, 0.95),
        n=10,
    )


class Counter:
    """Measures a ceiling and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> Record:
        self.calls += 1
        return record(0.9 + self.calls / 100)


COLUMN = {"attack": np.array([0, 1]), "select": np.array([1]), "test": np.array([0])}
KEY = ("originals", "s", COLUMN, None, 0, 1, Logistic())
OTHERS: list[Callable[[], tuple[Any, ...]]] = [
    lambda: ("other", *KEY[1:]),
    lambda: (KEY[0], "y", *KEY[2:]),
    lambda: (*KEY[:2], COLUMN | {"test": np.array([1])}, *KEY[3:]),
    lambda: (*KEY[:3], COLUMN, *KEY[4:]),
    lambda: (*KEY[:4], 1, *KEY[5:]),
    lambda: (*KEY[:6], Logistic("whitened")),
    lambda: (*KEY[:6], Logistic(iterations=3)),
]


def test_the_second_call_measures_nothing() -> None:
    count = Counter()
    first = remembered(KEY, count)
    same = (*KEY[:2], {k: v.copy() for k, v in COLUMN.items()}, *KEY[3:6], Logistic())
    assert remembered(same, count) == first
    assert count.calls == 1


@pytest.mark.parametrize("other", OTHERS)
def test_another_key_is_measured(other: Callable[[], tuple[Any, ...]]) -> None:
    count = Counter()
    first = remembered(KEY, count)
    assert remembered(other(), count) != first
    assert count.calls == 2


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'{"target": "s"}', b"[]"])
def test_a_damaged_file_is_measured_again(folder: Path, damage: bytes) -> None:
    count = Counter()
    remembered(KEY, count)
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    again = remembered(KEY, count)
    assert count.calls == 2
    assert remembered(KEY, count) == again
    assert count.calls == 2
    assert list(folder.iterdir()) == [path]


def test_nothing_is_remembered_of_a_measurement_that_failed(folder: Path) -> None:
    def fails() -> Record:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        remembered(KEY, fails)
    assert not folder.exists() or not list(folder.iterdir())


def test_audits_of_the_same_originals_share_their_ceiling(folder: Path) -> None:
    """Other releases do; another seed, other people or other originals do not."""
    rng = np.random.default_rng(0)
    s, noise = rng.integers(0, 2, 200), rng.normal(size=(200, 2))
    x = (0.5 + 0.1 * rng.normal(size=(200, 1, 4, 4)) + 0.3 * s[:, None, None, None]).clip(0, 1)

    def files(z: Array, x: Array, seed: int = 0, identity: Array | None = None) -> int:
        audit(made_up(z, s, originals=x, identity=identity), cheap(Prior()), 1, seed)
        return len(list(folder.iterdir()))

    assert files(noise, x) == 1
    assert files(noise + 1, x) == 1
    assert files(noise, x, seed=1) == 2
    assert files(noise, x, identity=np.arange(200) // 2) == 3
    assert files(noise, x / 2) == 4
