"""The command line answers at once: nothing heavy is imported before a command needs it."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "numpy", "pydantic", "sklearn", "scipy", "matplotlib", "PIL", "torchmetrics")

BUILDING = {
    "import veil": "import veil",
    "the command tree": "import typer.main, veil.cli; typer.main.get_command(veil.cli.app)",
    "veil --help": "import sys; sys.argv = ['veil', '--help']; import veil.cli; run(veil.cli.main)",
}
RUN = """
def run(main):
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, stop.code
"""


def heavy_after(code: str) -> str:
    """Names of heavy packages that are imported once `code` has run in a new interpreter."""
    report = f"print('heavy:', [m for m in {HEAVY} if m in sys.modules])"
    source = f"{RUN}\n{code}\nimport sys; {report}"
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("what", BUILDING)
def test_nothing_heavy_is_imported(what: str) -> None:
    assert heavy_after(BUILDING[what]) == "heavy: []"


def test_what_is_imported_is_seen() -> None:
    """The negative control."""
    assert heavy_after("import veil.records") == "heavy: ['pydantic']"
