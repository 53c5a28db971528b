"""Ceilings, remembered: what leaks from the original images does not depend on the release."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import numpy as np
from pydantic import ValidationError

from veil.checkpoint import written_beside
from veil.data.cache import cache_folder
from veil.records import Record


def remembered(key: tuple[Any, ...], compute: Callable[[], Record]) -> Record:
    """The record stored under `key`, or the one that `compute` returns, which is then stored.

    Args:
        key: everything that decides the record; arrays count by content, the rest by `repr`.
        compute: measures it.
    """
    path = cache_folder() / "ceilings" / f"{_digest((version('veil'), *key))}.json"
    if path.exists():
        try:
            return Record.model_validate_json(path.read_bytes())
        except ValidationError:
            path.unlink(missing_ok=True)
    record = compute()
    with written_beside(path) as beside:
        beside.write_text(record.model_dump_json(), encoding="utf-8")
    return record


def _digest(key: tuple[Any, ...]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in key:
        if isinstance(part, Mapping):
            digest.update(_digest(tuple(x for item in part.items() for x in item)).encode())
        elif isinstance(part, np.ndarray):
            digest.update(part.tobytes())
        else:
            digest.update(repr(part).encode())
        digest.update(b"\x1f")
    return digest.hexdigest()
