"""The one error a user may see, and the nearest-spelling hint that goes with it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VeilError(Exception):
    """Bad input or an impossible request: one line that says what, where and how to mend it.

    The command line prints the message alone and exits with status 2.
    """


class Refused(VeilError):
    """No verdict may be given on this release; the message says why. Exit status 3.

    Args:
        message: one line.
        id: the refusal's entry in docs/doubts.md.
    """

    def __init__(self, message: str, id: str = "overlap") -> None:
        super().__init__(message)
        self.id = id


class Diverged(VeilError):
    """Training produced a value that is not finite; the last good state is kept."""


def nearest(word: str, options: Iterable[str]) -> str:
    """A hint naming the closest of `options` ("did you mean 'Male'?"), or a list of them."""
    known = sorted(options)
    lowered = {option.lower(): option for option in known}
    close = get_close_matches(word.lower(), lowered, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{lowered[close[0]]}'?"
    shown = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"known: {shown}" if known else "none are known"
