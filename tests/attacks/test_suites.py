"""Suites: named, distinct, hashable, and each a superset of the quicker one."""

from __future__ import annotations

import pytest

from veil.attacks.suites import SUITES, suite_named
from veil.errors import VeilError


@pytest.mark.parametrize("name", SUITES)
def test_names_in_a_suite_are_unique_and_every_attack_says_what_it_is(name: str) -> None:
    suite = suite_named(name)
    assert suite.name == name
    for kind in ("attribute", "quantity", "identity"):
        for attacks in (suite.attackers(kind), suite.heads[kind], suite.ceilings[kind]):
            assert len({attack.name for attack in attacks}) == len(attacks) > 0
            assert {attack.kind for attack in attacks} == {kind}
            assert all(isinstance(attack.seeded, bool) and attack.family for attack in attacks)
    assert suite_named(name).attribute == suite.attribute  # frozen: equal when built alike


def test_each_suite_holds_all_of_the_smaller_one() -> None:
    quick, standard, full = (suite_named(name) for name in ("quick", "standard", "full"))
    for kind in ("attribute", "quantity", "identity"):
        assert set(quick.attackers(kind)) <= set(standard.attackers(kind))
        assert set(standard.attackers(kind)) <= set(full.attackers(kind))
    assert len(standard.attribute) >= 20
    assert len(full.attribute) > len(standard.attribute)
    assert "convolution" in {attack.family for attack in quick.attribute}


def test_a_shorter_attacker_is_of_the_same_kind() -> None:
    for attack in suite_named("full").attribute:
        shorter = attack.shortened(0.25)
        assert (shorter.name, shorter.family) == (attack.name, attack.family)


def test_the_exhaustive_suite_has_the_same_attackers_and_no_plan() -> None:
    suite = suite_named("quick")
    assert suite.plan is not None
    assert suite.exhaustive().plan is None
    assert suite.exhaustive().attribute == suite.attribute


def test_an_unknown_suite_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(VeilError, match="did you mean 'standard'"):
        suite_named("standart")
