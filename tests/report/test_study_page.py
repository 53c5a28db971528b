"""The questionnaire: self-contained, escaped, complete, and for every number of classes."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from veil.report.study_page import render_study

VOID = {"meta", "img", "br"}
EVIL = "</script><script>alert('x')</script>"
PICTURES = np.random.default_rng(0).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)


class Page(HTMLParser):
    """Collects elements with their attributes and text, and fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def buttons(self) -> dict[str, str | None]:
        """Key -> the answer that the button gives; "Cannot judge" gives none."""
        choices = [a for tag, a in self.found if tag == "button" and "data-key" in a]
        return {attributes["data-key"]: attributes.get("data-answer") for attributes in choices}


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_are_inside_as_they_are(channels: int) -> None:
    given = PICTURES[..., :channels]
    text = render_study("s1", "Male", ("no", "yes"), given)
    data = re.search(r'id="data">(.*?)</script>', text)
    assert data is not None
    found = json.loads(data[1])
    assert found["study"] == "s1"
    for uri, picture in zip(found["pictures"], given, strict=True):
        kind, _, code = uri.partition(",")
        assert kind == "data:image/png;base64"
        image = Image.open(BytesIO(base64.b64decode(code)))
        assert np.array_equal(np.asarray(image).reshape(picture.shape), picture)
        assert image.info == {}


def test_every_class_has_a_button_and_a_key() -> None:
    page = Page(render_study("s1", "Male", ("no", "yes"), PICTURES))
    assert page.buttons() == {"1": "no", "2": "yes", "0": None}
    many = tuple(f"class {i}" for i in range(40))
    text = render_study("s1", "Age", many, PICTURES)
    assert Page(text).buttons()["a"] == "class 9"
    assert all(f'data-answer="{name}"' in text for name in many)


def test_the_label_is_the_question() -> None:
    page = Page(render_study("s1", "Mouth_Slightly_Open", ("no", "yes"), PICTURES))
    assert ("h1", "Mouth Slightly Open?") in page.texts
    assert any("4 pictures" in text for _, text in page.texts)


def test_the_page_asks_the_network_for_nothing() -> None:
    """The browser is told to refuse what the page does not hold, should anything ever ask."""
    text = render_study("s1", "Male", ("no", "yes"), PICTURES)
    page = Page(text)
    policies = [a["content"] for tag, a in page.found if a.get("http-equiv")]
    assert policies[0].startswith("default-src 'none'; img-src data:;")
    assert "connect-src" not in policies[0]
    assert "http://" not in text
    assert "https://" not in text
    assert not [a for _, a in page.found if {"src", "href"} & a.keys()]


def test_names_are_text() -> None:
    page = Page(render_study(EVIL, EVIL, (EVIL, "yes"), PICTURES))
    assert page.buttons()["1"] == EVIL
    assert ("h1", f"{EVIL}?") in page.texts
    assert [tag for tag, _ in page.found].count("script") == 2
