"""What every test may count on: a cache of the session's own. Tiny faces are in `tiny.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VEIL_CACHE", str(tmp_path_factory.mktemp("veil-cache")))
        yield
