"""Who resembles whom tells an attribute that no single release shows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from planted_leaks import SPLITS, balanced_accuracy, checked

from veil.attacks.attack import AttackSplit, Ints, Knowledge
from veil.attacks.gallery import Gallery, _everybody
from veil.attacks.linear import Logistic
from veil.attacks.neighbours import Neighbours

PEOPLE = {"attack": 120, "select": 60, "test": 100}
RELEASES = 6


def families(
    nuisance: float, seed: int = 0, blurred: int = 30, leak: float = 1.0
) -> tuple[Knowledge, Ints]:
    """People of one of eight families, and an attribute for each family; and test's labels.

    The parity of the family is the attribute. What differs between releases of one person, in
    `blurred` directions, is `nuisance` times as large as what differs between families.
    """
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(8, 4, generator=rng)
    turn, _ = torch.linalg.qr(torch.randn(4 + blurred, 4 + blurred, generator=rng))
    z: dict[AttackSplit, torch.Tensor] = {}
    s: dict[AttackSplit, Ints] = {}
    people: dict[AttackSplit, Ints] = {}
    for split in SPLITS:
        family = torch.randint(8, (PEOPLE[split],), generator=rng)
        person = torch.arange(PEOPLE[split]).repeat_interleave(RELEASES)
        told = leak * (centres[family] + 0.15 * torch.randn(len(family), 4, generator=rng))
        noise = torch.randn(len(person), 4 + blurred, generator=rng)
        noise[:, :4] *= 0.4
        noise[:, 4:] *= nuisance
        noise[:, :4] += told[person]
        z[split] = noise @ turn
        s[split] = (family % 2)[person].numpy()
        people[split] = person.numpy() + 1000 * len(people)
    known = Knowledge(
        "s",
        2,
        z,
        {"attack": s["attack"], "select": s["select"]},
        people={"attack": people["attack"], "select": people["select"]},
    )
    return known, s["test"]


def test_likeness_is_seen_through_what_one_person_s_releases_differ_by() -> None:
    known, s = families(nuisance=1.5, blurred=60)
    assert balanced_accuracy(Neighbours("whitened").run(known, 0).test, s) < 0.82
    assert balanced_accuracy(Logistic().run(known, 0).test, s) < 0.82
    for attack in (Gallery(), Gallery("raw")):
        assert balanced_accuracy(checked(attack.run(known, 0), known).test, s) > 0.95


def test_where_people_do_not_resemble_each_other_nothing_is_found() -> None:
    known, s = families(nuisance=1.0, leak=0.0)
    assert balanced_accuracy(Gallery().run(known, 0).test, s) < 0.6


def test_releases_of_attack_are_not_compared_with_their_own_person() -> None:
    """Else every person of "attack" would be recognised, and the attacker seem to overfit."""
    known, _ = families(nuisance=0.1, leak=1.0)
    rng = np.random.default_rng(0)
    drawn = rng.integers(2, size=PEOPLE["attack"]).repeat(RELEASES)
    unrelated = replace(known, s={**known.s, "attack": drawn})
    assert balanced_accuracy(Gallery().run(unrelated, 0).attack, drawn) < 0.65


def test_one_wrong_label_of_a_person_is_outvoted() -> None:
    known, _ = families(nuisance=0.5)
    wrong = known.s["attack"].copy()
    wrong[::RELEASES] = 1 - wrong[::RELEASES]
    mistaken = replace(known, s={**known.s, "attack": wrong})
    right, told = (Gallery().run(k, 0).test for k in (known, mistaken))
    np.testing.assert_array_equal(right, told)


def test_people_who_are_unknown_stand_for_themselves() -> None:
    people = np.array([7, -1, 3, 7, -1, 3])
    assert _everybody(people).tolist() == [1, 2, 0, 1, 3, 0]
    known, s = families(nuisance=0.5)
    assert known.people is not None
    half = known.people["attack"].copy()
    half[: len(half) // 2] = -1
    some = replace(known, people={**known.people, "attack": half})
    assert balanced_accuracy(checked(Gallery("raw").run(some, 0), some).test, s) > 0.8


def test_it_declines_without_people_who_return() -> None:
    known, _ = families(nuisance=1.0)
    assert Gallery().unfit_for(known) is None
    assert Gallery().unfit_for(replace(known, people=None)) == "nobody is known by identity"
    once = {k: np.arange(len(v)) for k, v in known.s.items()}
    assert Gallery().unfit_for(replace(known, people=once)) == (
        "fewer than two people of attack have two releases"
    )
