"""Suites: named, distinct, hashable, and each a superset of the quicker one."""

from __future__ import annotations

import pytest

from veil.attacks.suites import SUITES, identity_suite, suite
from veil.errors import VeilError


@pytest.mark.parametrize("name", SUITES)
def test_names_in_a_suite_are_unique_and_every_attack_says_what_it_is(name: str) -> None:
    attacks = suite(name)
    assert len({attack.name for attack in attacks}) == len(attacks)
    assert {attack.kind for attack in attacks} == {"attribute"}
    assert all(isinstance(attack.seeded, bool) and attack.family for attack in attacks)
    assert suite(name) == attacks  # frozen dataclasses: equal when built alike


def test_standard_holds_all_of_quick_and_at_least_twenty() -> None:
    assert set(suite("quick")) < set(suite("standard"))
    assert len(suite("standard")) >= 20
    assert "convolution" in {attack.family for attack in suite("quick")}


def test_identity_suites_hold_matching_attackers() -> None:
    for name in SUITES:
        assert {attack.kind for attack in identity_suite(name)} == {"identity"}


def test_an_unknown_suite_is_an_error_that_names_the_nearest() -> None:
    for build in (suite, identity_suite):
        with pytest.raises(VeilError, match="did you mean 'standard'"):
            build("standart")
