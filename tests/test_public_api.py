"""`import veil`: instant, complete, and never ambiguous."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import veil


def test_importing_veil_imports_nothing_heavy() -> None:
    """Fails as soon as __init__.py imports one of its names outside of TYPE_CHECKING."""
    heavy = ("torch", "numpy", "pydantic", "veil.errors")
    code = f"import sys, veil; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", veil.__all__)
def test_every_public_name_is_what_it_was_declared_to_be(name: str) -> None:
    """What type checkers see (the TYPE_CHECKING imports) is what `__getattr__` gives."""
    home, original = declared()[name]
    assert getattr(veil, name) is getattr(import_module(home), original)


def test_public_names_are_exactly_the_declared_ones() -> None:
    assert set(veil.__all__) == declared().keys()
    assert set(veil.__all__) <= set(dir(veil))


def test_no_public_name_is_hidden_by_a_module() -> None:
    """`import veil.train` binds `veil.train`: a function of that name would be lost."""
    modules = {module.name for module in pkgutil.iter_modules(veil.__path__)}
    assert "train" in modules  # the check can fail
    assert not modules & set(veil.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'audti'"):
        _ = veil.audti  # type: ignore[attr-defined]


def declared() -> dict[str, tuple[str, str]]:
    """Public name -> (module, name there), read from the imports under TYPE_CHECKING."""
    tree = ast.parse(Path(str(veil.__file__)).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
