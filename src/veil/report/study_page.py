"""The questionnaire of a study: one self-contained HTML file that makes no request."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from veil.report.png import data_uri
from veil.report.runs import Pictures

KEYS = "123456789abcdefghijklmnopqrstuvwxyz"


def render_study(study: str, label: str, classes: Sequence[str], pictures: Pictures) -> str:
    """The HTML text of a questionnaire, which knows nothing of the answers.

    Everybody sees the pictures in an order of their own, one at a time, says which class each
    shows or that they cannot judge, and saves a JSON file (`study_scores.Answers`) at the end.

    Args:
        study: what tells this questionnaire from others.
        label: the private label; classes: its classes, in order.
        pictures: (n, h, w, 1 or 3) uint8, by number from 1; their order must tell nothing.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("veil.report").joinpath("study.html.j2").read_text("utf-8")
    return environment.from_string(template).render(
        study=study,
        question=f"{label.replace('_', ' ')}?",
        classes=[
            (name, KEYS[number] if number < len(KEYS) else "")
            for number, name in enumerate(classes)
        ],
        pictures=[data_uri(picture) for picture in pictures],
    )
