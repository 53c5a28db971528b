"""The HTML report: self-contained, escaped, complete, and strict about what it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_fakes import ONE_DRAW, RUNS, audit, metrics, pictures, realistic, record, write_run

from veil.errors import VeilError
from veil.records import Audit, Doubt
from veil.report import write_report

VOID = {"meta", "img", "br"}
EVIL = "<script>alert('$x_1$ & \"y\"')</script>"


class Page(HTMLParser):
    """Collects what tests ask about, and fails on tags that do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == name]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def report(folder: Path, *audits: Audit, extras: bool = False, **given: Any) -> tuple[str, Page]:
    runs = [write_run(folder / f"run{i}", a, extras) for i, a in enumerate(audits)]
    write_report(runs, folder / "report.html", **given)
    text = folder.joinpath("report.html").read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("four")
    explanations = {"one-draw": ("drawn once", "noise averages out", "draw 16 times")}
    runs = [realistic(run) for run in RUNS]
    return report(folder, *runs, extras=True, explanations=explanations)


def test_the_file_asks_for_nothing_and_runs_nothing(four: tuple[str, Page]) -> None:
    text, page = four
    assert text.startswith("<!doctype html>")
    assert "http" not in text
    assert "@import" not in text
    assert "script" not in page.tags
    assert "link" not in page.tags
    links = page.values("src") + page.values("href") + page.values("xlink:href")
    assert links
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)


def test_ids_are_unique_and_links_lead_somewhere(four: tuple[str, Page]) -> None:
    text, page = four
    ids = Counter(page.values("id"))
    assert [name for name, times in ids.items() if times > 1] == []
    inner = {link[1:] for link in page.values("href") if link.startswith("#")}
    inner |= {part.split(")")[0] for part in text.split("url(#")[1:]}
    assert inner
    assert inner <= set(ids)


def test_everything_is_there(four: tuple[str, Page]) -> None:
    text, page = four
    for expected in (
        "Leaks Male at least 0.78",
        "Random keeps matching only at 0.61 (Original 0.83)",
        "0.778 [0.763–0.793]",
        "drawn once",
        "noise averages out",
        "draw 16 times",
        "A random release was attacked with 1 draw per image, not 16.",
        "copy-the-task-head",
        "ResNet-18 on the original images",
        "TPR@0.01",
        "config.alpha",
        "splits.attack",
        "73000",
        "autoencoder/utility",
        "Hollow points",
    ):
        assert expected in page.words, expected
    assert page.tags["img"] == 4 * 3 * 8
    assert all(alt for tag, name, alt in page.attributes if (tag, name) == ("img", "alt"))
    assert text.count("Original, sample 1") == 4
    assert page.tags["figure"] == 1


def test_absent_figures_are_dashes(tmp_path: Path) -> None:
    bare = record("Male", None, floor=None, ceiling=None, scores={"auc": None})
    utility = record("Smiling", 0.9, kind="utility", interval=None, floor=None, ceiling=None)
    given = audit("bare", bare, utility, note=None, seconds=float("nan"))
    text, page = report(tmp_path, given)
    assert "None" not in page.words
    assert "nan" not in page.words.lower().split()
    assert "–" in page.words
    assert "<figure>" not in text


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    evil = Doubt(id=EVIL, text=EVIL)
    rows = (
        record(EVIL, 0.7, attack=EVIL, family=EVIL, doubts=(evil,), scores={EVIL: 0.5}),
        record(EVIL, 0.5, attack=EVIL, family="floor"),
        record(f"{EVIL}2", 0.8, kind="utility"),
    )
    given = [audit(name, *rows, notes=[EVIL], suite=EVIL) for name in (EVIL, f"{EVIL} 2")]
    explained = {EVIL: (EVIL, EVIL, EVIL)}
    text, page = report(tmp_path, *given, extras=True, explanations=explained)
    assert "script" not in page.tags
    assert "<script" not in text
    # Also in the plot, where matplotlib would typeset $...$ as a formula.
    assert page.words.count("alert('$x_1$") > 10
    assert "&lt;script&gt;alert" in text.split("<figure>")[1].split("</figure>")[0]


def test_a_run_in_another_script_is_drawn_without_a_warning(tmp_path: Path) -> None:
    rows = (record("性别", 0.7), record("微笑", 0.8, kind="utility"))
    text, _ = report(tmp_path, audit("擦除", *rows))
    assert "擦除" in text.split("<figure>")[1]


def test_a_refused_run_has_no_point_and_says_why(tmp_path: Path) -> None:
    rows = (record("Male", 0.7), record("Smiling", 0.8, kind="utility"))
    why = (Doubt(id="overlap", text="12 images overlap."),)
    _, page = report(tmp_path, audit("good", *rows), audit("bad", *rows, refusals=why))
    assert "Refused: 12 images overlap." in page.words
    assert "Not drawn: bad (refused)." in page.words
    assert "No verdict was given." in page.words
    labels = [v for v in page.values("aria-label") if v.startswith("Male leaked against")]
    assert labels
    assert all("good: leaks 0.70" in label and "bad" not in label for label in labels)


def test_long_lists_of_attackers_are_folded(tmp_path: Path) -> None:
    rows = [record("Male", 0.7, attack=f"attack-{i:02}", select=0.9 - i / 100) for i in range(30)]
    text, page = report(tmp_path, audit("many", *rows))
    shown, folded = text.split("18 more, weaker on select")
    assert "attack-11" in shown
    assert "attack-12" not in shown
    assert "attack-29" in folded
    assert page.words.count("worst") >= 1


def test_the_report_is_the_same_every_time(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "a", realistic("AIA"), extras=True)]
    write_report(runs, tmp_path / "one.html")
    write_report(runs, tmp_path / "two.html")
    assert tmp_path.joinpath("one.html").read_bytes() == tmp_path.joinpath("two.html").read_bytes()


def test_an_earlier_report_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    tmp_path.joinpath("report.html").write_text("old")
    text, _ = report(tmp_path, audit("new", record("Male", 0.7)))
    assert text != "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "run0"]


def test_a_failing_report_leaves_the_earlier_one(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", audit("x", record("Male", 0.7)))
    run.joinpath("run.json").write_text("{")
    out = tmp_path / "report.html"
    out.write_text("old")
    with pytest.raises(VeilError):
        write_report([run], out)
    assert out.read_text() == "old"


def test_places_that_cannot_hold_a_report(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", audit("x", record("Male", 0.7)))
    with pytest.raises(VeilError, match="does not exist"):
        write_report([run], tmp_path / "nowhere" / "report.html")
    with pytest.raises(VeilError, match="is a folder"):
        write_report([run], tmp_path)
    with pytest.raises(VeilError, match="at least one"):
        write_report([], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("audit.json", None, "audit.json: no such file"),
        ("audit.json", b'{"schema": 1}', "not an audit.json"),
        ("run.json", b"{", "run.json: not JSON"),
        ("run.json", b"[1]", "one JSON object, not a list"),
        ("run.json", b"\xff", "run.json: not JSON"),
        ("metrics.jsonl", b'{"a/b": 1}\n\n{"a/b": 1', "metrics.jsonl:3: not JSON"),
        ("metrics.jsonl", b"7", "metrics.jsonl:1: must be a JSON object"),
        ("metrics.jsonl", b"\xff", "metrics.jsonl: not UTF-8"),
        ("samples.npz", b"PK\x03\x04 broken", "samples.npz: not an .npz"),
        ("samples.npz", b"", "samples.npz: not an .npz"),
        ("samples.npz", b"text", "samples.npz: not an .npz"),
    ],
)
def test_files_that_cannot_be_understood(
    tmp_path: Path, name: str, content: bytes | None, complaint: str
) -> None:
    run = write_run(tmp_path / "run", audit("x", record("Male", 0.7)), extras=True)
    run.joinpath(name).unlink()
    if content is not None:
        run.joinpath(name).write_bytes(content)
    with pytest.raises(VeilError, match=complaint) as caught:
        write_report([run], tmp_path / "report.html")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros((8, 4, 4, 3), np.float32), "float32"),
        (np.zeros((8, 4, 4), np.uint8), "must be"),
        (np.zeros((8, 4, 4, 4), np.uint8), "must be"),
        (np.zeros((7, 4, 4, 3), np.uint8), "same number of pictures: original 8"),
        (np.array([None]), "not an .npz of arrays"),
    ],
)
def test_samples_that_are_not_pictures(tmp_path: Path, array: Any, complaint: str) -> None:
    run = write_run(tmp_path / "run", audit("x", record("Male", 0.7)))
    original = pictures()["original"]
    np.savez(run / "samples.npz", original=original, reconstruction=array)
    with pytest.raises(VeilError, match=complaint):
        write_report([run], tmp_path / "report.html")


def test_not_a_run_folder(tmp_path: Path) -> None:
    file = tmp_path / "audit.json"
    file.write_text(audit("x", record("Male", 0.7)).dumps())
    with pytest.raises(VeilError, match="not a run folder"):
        write_report([file], tmp_path / "report.html")


def test_grey_samples_and_metrics_that_are_not_finite(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", audit("x", record("Male", 0.7, doubts=(ONE_DRAW,))))
    grey = pictures(count=2)["original"][..., :1]
    np.savez(run / "samples.npz", original=grey, release=grey)
    line = json.loads(metrics()[0])
    broken = json.dumps(line | {"adversary/inference": float("nan"), "epoch": 2})
    run.joinpath("metrics.jsonl").write_text(f"{json.dumps(line)}\n{broken}\n")
    write_report([run], tmp_path / "report.html")
    page = Page(tmp_path.joinpath("report.html").read_text("utf-8"))
    assert page.tags["img"] == 4
    assert "nan" not in page.words.lower().split()


def test_a_report_needs_no_torch_and_importing_it_no_plotting(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", realistic("AIA"), extras=True)
    program = (
        "import sys; from pathlib import Path; from veil.report import write_report\n"
        "assert not {'matplotlib', 'jinja2', 'PIL', 'rich'} & set(sys.modules)\n"
        "write_report([Path(sys.argv[1])], Path(sys.argv[2]))\n"
        "assert 'torch' not in sys.modules\n"
    )
    out = tmp_path / "report.html"
    subprocess.run([sys.executable, "-c", program, str(run), str(out)], check=True)
    assert out.exists()
