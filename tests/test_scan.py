"""The scan finds what nobody declared, and says nothing of what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil import ceilings
from veil.attacks import multilabel
from veil.attacks.attack import AttackSplit
from veil.attacks.multilabel import STAGES, UNSEEN, Labels
from veil.data.dataset import BINARY, Label
from veil.evidence import ATTACK_SPLITS, Evidence
from veil.floors import floors
from veil.records import Record
from veil.scan import scan

SIZES = (700, 300, 900)
Array = NDArray[Any]


def divided(rows: Array) -> dict[AttackSplit, Array]:
    return dict(zip(ATTACK_SPLITS, np.split(rows, np.cumsum(SIZES)[:-1]), strict=True))


def evidence_of(
    z: Array,
    undeclared: dict[str, Array],
    y: Array | None = None,
    originals: Array | None = None,
) -> Evidence:
    """Evidence of two photos a person, whose labels are undeclared but for the useful y."""
    images: dict[AttackSplit, Tensor] | None = None
    if originals is not None:
        images = {s: torch.from_numpy(v).float() for s, v in divided(originals).items()}
    meaning = {
        name: BINARY
        if column.max() == 1
        else Label("multiclass", tuple(map(str, range(int(column.max()) + 1))))
        for name, column in undeclared.items()
    }
    return Evidence(
        name="made up",
        z={split: torch.from_numpy(v).float() for split, v in divided(z).items()},
        labels={} if y is None else {"y": divided(y)},
        meaning={**meaning, "y": BINARY},
        private=(),
        utility=() if y is None else ("y",),
        identity=divided(np.arange(len(z)) // 2),
        undeclared={name: divided(column) for name, column in undeclared.items()},
        originals=None if images is None else images.__getitem__,
        originals_key="made up",
    )


def scanned(evidence: Evidence, seed: int = 0) -> dict[str, Record]:
    """Records by label, in the order of the scan."""
    found = scan(evidence.z, evidence, seed, lambda _steps, _text: None)
    return {record.target: record for record in found}


def is_finding(record: Record) -> bool:
    assert record.interval is not None
    assert record.floor is not None
    return record.interval[0] > record.floor


def noise(seed: int, labels: int) -> tuple[np.random.Generator, Array, dict[str, Array]]:
    """Releases (n, 16) and independent labels of all frequencies."""
    rng = np.random.default_rng(seed)
    shares = rng.uniform(0.05, 0.5, size=labels)
    columns = {
        f"label {i}": (rng.random(sum(SIZES)) < share).astype(np.int64)
        for i, share in enumerate(shares)
    }
    return rng, rng.normal(size=(sum(SIZES), 16)), columns


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multilabel, "STEPS", 100)


@pytest.mark.parametrize("seed", range(3))
def test_one_leak_among_twenty_is_the_only_finding(seed: int) -> None:
    _, z, columns = noise(seed, 20)
    z[:, 3] += 0.9 * columns["label 7"]
    found = scanned(evidence_of(z, columns))
    assert next(iter(found)) == "label 7"
    assert [name for name, record in found.items() if is_finding(record)] == ["label 7"]
    levels = {record.config["level"] for record in found.values()}
    assert levels == {1 - 0.05 / 20}
    assert found["label 7"].bits is not None
    assert found["label 7"].bits > 0.01


def test_each_kind_of_leak_is_found_at_once() -> None:
    """A shift, an interaction, a missing value, a scale; classes of two, three and five."""
    rng, z, columns = noise(11, 4)
    a, b, c, d = columns.values()
    a[:] = rng.integers(2, size=len(z))
    b[:] = rng.integers(3, size=len(z))
    c[:] = rng.integers(2, size=len(z))
    d[:] = rng.integers(5, size=len(z))
    sign = np.sign(z[:, 0]) * (2 * a - 1)
    z[:, 1] = np.abs(z[:, 1]) * sign
    z[:, 2] += 1.5 * b
    z[rng.random(len(z)) < 0.1 + 0.6 * c, 5] = np.nan
    z[:, 8:] *= (1 + d)[:, None]
    found = scanned(evidence_of(z, {**columns, "other": rng.integers(2, size=len(z))}))
    scores = {name: record.score or 0 for name, record in found.items()}
    assert scores["label 0"] > 0.7
    assert scores["label 1"] > 0.6
    assert scores["label 2"] > 0.75
    assert scores["label 3"] > 0.35
    assert found["label 3"].floor == pytest.approx(0.2)
    assert [name for name, record in found.items() if not is_finding(record)] == ["other"]


def test_missing_labels_are_neither_learned_nor_scored() -> None:
    rng, z, columns = noise(5, 3)
    leak = columns["label 1"]
    leak[:] = rng.integers(2, size=len(z))
    z[:, 3] += 2 * leak
    truth = leak.copy()
    hidden = rng.random(len(z)) < 0.6
    leak[hidden] = -1
    columns["label 2"][:] = 1  # does not vary
    columns["label 0"][sum(SIZES[:2]) :] = -1  # unknown on test
    found = scanned(evidence_of(z, columns))
    assert list(found) == ["label 1"]
    assert found["label 1"].n == int((~hidden[-SIZES[2] :]).sum())
    assert found["label 1"].score == pytest.approx(0.84, abs=0.05)
    # What stands in hidden rows of the release cannot matter to the score.
    assert (truth[~hidden] == leak[~hidden]).all()


def test_what_the_useful_label_tells_is_no_finding() -> None:
    rng, z, columns = noise(6, 2)
    y = rng.integers(2, size=len(z))
    z[:, 0] += 8 * y
    columns["label 0"] = np.where(rng.random(len(z)) < 0.8, y, 1 - y)
    s, parts = divided(columns["label 0"]), divided(y)
    record = scanned(evidence_of(z, columns, y=y))["label 0"]
    expected = floors(
        np.concatenate([parts["attack"], parts["select"]]),
        np.concatenate([s["attack"], s["select"]]),
        parts["test"],
        s["test"],
    ).highest
    assert record.floor == pytest.approx(expected)
    assert not is_finding(record)
    assert is_finding(scanned(evidence_of(z, columns))["label 0"])


def test_ceilings_come_from_the_originals_and_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ceilings, "cache_folder", lambda: tmp_path)
    rng, z, columns = noise(7, 2)
    columns["label 0"][:] = rng.integers(2, size=len(z))
    z[:, 0] += 1.0 * columns["label 0"]
    images = rng.random((len(z), 1, 40, 40)).astype(np.float32)
    images[:, 0, :20] += 0.2 * columns["label 0"][:, None, None]
    first = scanned(evidence_of(z, columns, originals=images.clip(0, 1)))
    record = first["label 0"]
    assert record.score == pytest.approx(0.69, abs=0.05)
    assert record.ceiling is not None
    assert record.ceiling > 0.98
    assert record.nag == pytest.approx(0.4, abs=0.1)
    assert first["label 1"].ceiling == pytest.approx(0.5, abs=0.08)
    assert scanned(evidence_of(z, columns, originals=images * np.nan)) == first


def test_progress_is_told_of_every_attacker_and_seeds_repeat() -> None:
    _, z, columns = noise(8, 3)
    evidence = evidence_of(z, columns)
    told: list[str] = []
    first = scan(evidence.z, evidence, 3, lambda steps, text: told.extend([text] * steps))
    assert len(told) == len(set(told)) == STAGES
    assert first == scan(evidence.z, evidence, 3, lambda _steps, _text: None)
    assert scan(evidence.z, evidence_of(z, {}), 3, lambda _steps, _text: None) == []


def test_losses_are_those_of_each_label_alone() -> None:
    """Against a loop over labels, classes and temperatures."""
    rng = np.random.default_rng(0)
    columns: list[dict[Any, Array]] = [
        {"attack": rng.integers(k, size=50), "select": rng.integers(-1, k, size=40)} for k in (2, 4)
    ]
    columns[0]["attack"][:10] = -1
    labels = Labels.of(columns, (2, 4))
    logits = torch.randn(40, 2, 4).masked_fill(labels.unseen, UNSEEN)
    found, sharpness = labels.losses(logits)
    for i, column in enumerate(columns):
        log_p = (logits[:, i] * sharpness[i]).log_softmax(1).numpy()
        s = column["select"]
        slow = [-log_p[s == k, k].mean() for k in np.unique(s[s >= 0])]
        assert found[i].item() == pytest.approx(np.mean(slow), rel=1e-5)
    assert labels.unseen.tolist() == [[False, False, True, True], [False] * 4]
