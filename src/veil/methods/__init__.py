"""One file = one paper. METHODS is the registry: the name on the command line -> the class."""

from __future__ import annotations

from veil.errors import VeilError, nearest
from veil.method import Method
from veil.methods.aia import AIA
from veil.methods.answer_only import AnswerOnly

METHODS: dict[str, type[Method]] = {"aia": AIA, "answer-only": AnswerOnly}


def method_named(name: str) -> type[Method]:
    """The method called `name`; an unknown one is an error with the nearest spelling."""
    try:
        return METHODS[name]
    except KeyError:
        raise VeilError(f"no method '{name}': {nearest(name, METHODS)}") from None
