"""Evidence hands on what belongs together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from small_evidence import made_up
from veil.errors import VeilError
from veil.evidence import ATTACK_SPLITS, draw_counts

N = 120
RNG = np.random.default_rng(5)
Z = RNG.normal(size=(N, 6)).astype(np.float32)
S = RNG.integers(0, 2, N)
X = RNG.integers(0, 256, (N, 3, 8, 8)).astype(np.uint8)


def test_rows_without_a_label_leave_every_column() -> None:
    s = np.where(np.arange(N) % 5 == 0, -1, S)
    whole = made_up(Z, s, y=1 - S, identity=np.arange(N), originals=X / 255)
    known = whole.knowing("s")
    for split in ATTACK_SPLITS:
        kept = whole.labels["s"][split] != -1
        assert np.array_equal(known.labels["s"][split], whole.labels["s"][split][kept])
        assert np.array_equal(known.labels["y"][split], whole.labels["y"][split][kept])
        assert torch.equal(known.z[split], whole.z[split][torch.from_numpy(kept)])
        assert known.identity is not None
        assert len(known.identity[split]) == kept.sum()
        assert known.originals is not None
        assert whole.originals is not None
        assert torch.equal(known.originals(split), whole.originals(split)[torch.from_numpy(kept)])
    assert known.originals_key != whole.originals_key
    assert whole.knowing("y") is whole
    with pytest.raises(VeilError, match="people are unknown"):
        made_up(Z, S).knowing("identity")


def test_the_draws_an_attacker_may_ask_for_are_averaged_at_the_usual_numbers_and_all() -> None:
    assert draw_counts(50) == (1, 4, 16, 50)
    assert draw_counts(16) == (1, 4, 16)
    assert draw_counts(7) == (1, 4, 7)
    assert draw_counts(1) == (1,)
    with pytest.raises(VeilError, match="0 draws"):
        draw_counts(0)


def test_attackers_may_learn_from_a_share_of_the_people_of_attack() -> None:
    whole = made_up(Z, S, identity=np.arange(N) // 3)
    assert whole.identity is not None
    few, again = (whole.learning_from(0.25, seed=1) for _ in range(2))
    assert few.identity is not None
    people, kept = np.unique(whole.identity["attack"]), np.unique(few.identity["attack"])
    assert len(kept) == round(0.25 * len(people))
    mask = np.isin(whole.identity["attack"], kept)
    assert torch.equal(few.z["attack"], whole.z["attack"][torch.from_numpy(mask)])
    for split in ("select", "test"):
        assert torch.equal(few.z[split], whole.z[split])
    assert torch.equal(again.z["attack"], few.z["attack"])
    other = whole.learning_from(0.25, seed=2)
    assert other.identity is not None
    assert {*np.unique(other.identity["attack"])} != {*kept}
    assert few.originals_key != whole.originals_key
