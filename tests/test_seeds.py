"""Seeds from their purpose: stable, distinct, in range."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from veil.seeds import generator, seed_for

purposes = st.lists(st.one_of(st.text(alphabet="ab1", max_size=3), st.integers(0, 20)), max_size=4)


def test_a_seed_is_the_hash_of_its_purpose() -> None:
    """Fixed for ever: another formula would change every published run."""
    digest = hashlib.blake2b(b"7\x1fround\x1f3", digest_size=8).digest()
    assert seed_for(7, "round", 3) == int.from_bytes(digest, "big") // 2


@given(st.integers(), purposes)
def test_seeds_fit_in_63_bits(run: int, purpose: list[str | int]) -> None:
    assert 0 <= seed_for(run, *purpose) < 2**63


@given(purposes, purposes)
def test_other_purposes_have_other_seeds(one: list[str | int], other: list[str | int]) -> None:
    """("ab", "c") is not ("a", "bc"); 1 and "1" are the same word."""
    same = [*map(str, one)] == [*map(str, other)]
    assert (seed_for(0, *one) == seed_for(0, *other)) is same


def test_no_two_of_many_seeds_coincide() -> None:
    seeds = {
        seed_for(run, who, step)
        for run in range(10)
        for who in ("order", "round", "attack", "release")
        for step in range(500)
    }
    assert len(seeds) == 10 * 4 * 500


def test_generators_are_fresh_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    a, b, c = generator(1, "x"), generator(1, "x"), generator(1, "y")
    first = torch.rand(4, generator=a)
    assert torch.equal(torch.rand(4, generator=b), first)
    assert not torch.equal(torch.rand(4, generator=c), first)
    assert not torch.equal(torch.rand(4, generator=a), first)
    assert torch.equal(torch.rand(1), expected)


def test_seeds_need_no_torch() -> None:
    """The command line derives seeds before anything heavy is imported."""
    code = "import sys, veil.seeds as s; s.seed_for(0, 'x'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
