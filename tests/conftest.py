"""What every test may count on: a cache of the session's own, and tiny faces."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import tiny
from veil.data.splits import Splits
from veil.method import Problem


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEIL_CACHE", str(tmp_path_factory.mktemp("veil-cache")))
        yield


@pytest.fixture(scope="session")
def tiny_splits() -> Splits:
    """Faces of 16 x 16 pixels with "Male", "Smiling", "Race", "Age" and "identity"."""
    return tiny.splits()


@pytest.fixture
def tiny_problem() -> Problem:
    """Hide "Male", keep "Smiling"."""
    return tiny.problem()
