"""The published tables that were measured again: every row of their files is a run."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from veil.config import parse

ROOT = Path(__file__).parents[1]
TABLES = sorted((ROOT / "experiments/tables").glob("*.toml"))


@pytest.fixture(scope="module")
def method_tables() -> ModuleType:
    """The script, which is no part of the package."""
    spec = spec_from_file_location("method_tables", ROOT / "experiments/method_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_every_row_is_a_run(path: Path, method_tables: ModuleType) -> None:
    table = method_tables.read_table(path)
    assert table.rows
    for row in table.rows:
        assert parse(row.run, row.name).problem.private
