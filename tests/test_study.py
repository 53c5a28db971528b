"""Studies with people: which pictures are shown, what the page does not tell, how answers count."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO, StringIO
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor

import tiny
from veil import study as study_file
from veil.attacks.reconstruction import LinearDecoder
from veil.cli_study import print_study, study_app
from veil.config import parse
from veil.data.dataset import MISSING, Dataset
from veil.errors import VeilError
from veil.fixed_classifiers import Training, fixed_classifiers, pictures_of
from veil.method import Obfuscator
from veil.runs import Run
from veil.statistics import clopper_pearson
from veil.study import KEY, PAGE, RESULT, make_study, study_rows
from veil.study_scores import (
    Answer,
    Answers,
    Key,
    Shown,
    StudyResult,
    crossed_interval,
    fleiss,
    read_answers,
    read_key,
    score,
    shuffled_p,
)

SIZE = 16
TINY = Training(epochs=12, blocks=(1, 1), widths=(8, 16), batch_size=12, learning_rate=1e-2)
SPLITS = replace(
    tiny.splits(SIZE),
    fit=tiny.faces(24, 4, SIZE, 3, 100),
    attack=tiny.faces(150, 2, SIZE, 3, 300),
    test=tiny.faces(12, 4, SIZE, 3, 200),
)
Make = Callable[..., Key]


class Darker(tiny.Bare):
    """Releases pictures, half as bright."""

    pictures = True

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x / 2


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Make a study of a run of an obfuscator, in the folder "study"."""

    def call(
        obfuscator: Obfuscator, private: str = "Male", pictures: int = 6, seed: int = 0
    ) -> Key:
        def made(path: Path, *_: object) -> Run:
            method = tiny.Toy({}, lambda _game: iter(()))
            method.obfuscator = obfuscator
            tables = {
                "data": {"source": "synthfaces"},
                "problem": {"private": ["Male"]},
                "method": {"name": "answer-only"},
            }
            return Run(path, parse(tables, "here"), tiny.problem(size=SIZE), method, SPLITS)

        monkeypatch.setattr(study_file, "load", made)
        out = tmp_path / "study"
        return make_study(tmp_path / "run", out, private, pictures, seed, TINY, (LinearDecoder(),))

    return call


def data_of(page: Path) -> dict[str, Any]:
    """What the page's script is given."""
    found = re.search(r'id="data">(.*?)</script>', page.read_text("utf-8"))
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def pictures_on(page: Path) -> NDArray[np.uint8]:
    """(n, h, w, c) as they are shown."""
    uris = data_of(page)["pictures"]
    files = [BytesIO(base64.b64decode(uri.split(",")[1])) for uri in uris]
    return np.stack([np.asarray(Image.open(file)) for file in files])


def originals(key: Key) -> NDArray[np.uint8]:
    return SPLITS.test.images[SPLITS.test.rows[[shown.row for shown in key.pictures]]]


# Making one


def test_released_pictures_are_shown_balanced_and_told_rightly_by_the_reference(
    make: Make, tmp_path: Path
) -> None:
    key = make(Darker())
    out = tmp_path / "study"
    assert {path.name for path in out.iterdir()} == {PAGE, KEY}
    assert read_key(out / KEY) == key
    rows = [shown.row for shown in key.pictures]
    male = SPLITS.test.column("Male")
    assert [shown.answer for shown in key.pictures] == [("no", "yes")[s] for s in male[rows]]
    assert male[rows].sum() == 3
    assert len({*SPLITS.test.column("identity")[rows].tolist()}) == 6
    reader = fixed_classifiers(SPLITS.fit, SPLITS.select, ["Male"], 0, TINY)
    said = reader.read(pictures_of(SPLITS.test))["Male"]
    assert (said[rows] == male[rows]).all()
    assert key.read_right == pytest.approx((said == male).mean())
    assert key.shows == "released pictures"
    apart = pictures_on(out / PAGE) - originals(key) / 2
    assert np.abs(apart).max() <= 0.51


def test_other_releases_are_rebuilt_from_what_attack_teaches(make: Make, tmp_path: Path) -> None:
    """Each picture shown is nearest to its own original; of shuffled rows this fails."""
    key = make(tiny.Bare())
    assert "linear decoder" in key.shows
    shown = pictures_on(tmp_path / "study" / PAGE).reshape(6, -1).astype(float)
    apart = np.square(shown[:, None] - originals(key).reshape(6, -1)[None]).mean(axis=2)
    assert (apart.argmin(axis=1) == np.arange(6)).all()
    assert not (shown == originals(key).reshape(6, -1)).all()


def test_the_page_knows_nothing_but_pictures_and_the_question(make: Make, tmp_path: Path) -> None:
    """The name of the study too is made of what the page shows, and could not tell more."""
    key = make(Darker())
    page = tmp_path / "study" / PAGE
    data = data_of(page)
    assert data.keys() == {"study", "pictures"}
    shown = f"{key.label} {key.classes}".encode() + pictures_on(page).tobytes()
    assert data["study"] == hashlib.blake2b(shown, digest_size=6).hexdigest() == key.study
    assert key.method not in page.read_text("utf-8")


def test_the_order_tells_nothing(make: Make) -> None:
    keys = [make(Darker(), seed=seed, pictures=8) for seed in (0, 0, 1)]
    assert keys[0] == keys[1]
    said = [[shown.answer for shown in key.pictures] for key in keys]
    assert len({*map(tuple, said)}) == 2
    assert any(answers not in (sorted(answers), sorted(answers)[::-1]) for answers in said)


@pytest.mark.parametrize(
    ("private", "pictures", "says"),
    [
        ("Age", 6, "'Age' is continuous"),
        ("Race", 7, r"over the 3 classes of 'Race' \(at most 512 are shown\): ask for 6"),
        ("Male", 1, "ask for 2"),
        ("Male", 1000, "ask for 512"),
        ("Male", 20, r"10 test pictures .* there are 6: ask for at most 12 pictures"),
        ("Mael", 6, "did you mean 'Male'"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    make: Make, tmp_path: Path, private: str, pictures: int, says: str
) -> None:
    with pytest.raises(VeilError, match=says) as refused:
        make(Darker(), private, pictures)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("study/*"))


def test_a_failure_leaves_the_earlier_study(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(Darker())
    before = {path: path.read_bytes() for path in (tmp_path / "study").iterdir()}

    def broken(*_: object) -> str:
        raise RuntimeError("no page")

    monkeypatch.setattr(study_file, "render_study", broken)
    with pytest.raises(RuntimeError, match="no page"):
        make(Darker(), seed=1)
    assert {path: path.read_bytes() for path in (tmp_path / "study").iterdir()} == before


def test_pictures_are_of_different_people_whose_label_is_known() -> None:
    column = np.array([0, 1, 0, 1, 0, 1, MISSING, MISSING])
    faces = tiny.faces(4, 2, SIZE)
    labels = {"Male": column, "identity": np.array([1, 1, 1, 1, 2, 3, 4, 5])}
    test = Dataset("few", faces.images, labels, {n: tiny.SCHEMA[n] for n in labels}, faces.hashes)
    right = np.ones(8, dtype=bool)
    for seed in range(5):
        rows = study_rows(test, "Male", right, 2, seed)
        assert len({*labels["identity"][rows].tolist()}) == 2
        assert sorted(column[rows]) == [0, 1]
    right[[1, 3, 4]] = False  # the first person says "no" now, and nobody else
    with pytest.raises(VeilError, match=r"Male 'no' .*; there are 1: ask for at most 2 pictures"):
        study_rows(test, "Male", right, 4, 0)


# Reading answers


def key_of(truth: str, classes: tuple[str, ...] = ("a", "b")) -> Key:
    """A key whose pictures have these classes, a letter each."""
    return Key(
        study="s1",
        method="m",
        data="d",
        label="Kind",
        classes=classes,
        shows="released pictures",
        seed=0,
        read_right=1.0,
        pictures=tuple(Shown(picture=i, answer=c, row=i) for i, c in enumerate(truth, 1)),
    )


def said(*people: str) -> list[Answers]:
    """What people said of the pictures in turn, a letter each, "-" for Cannot judge."""
    return [
        Answers(
            study="s1",
            participant=f"p{number}",
            answers=tuple(
                Answer(picture=i, answer=None if c == "-" else c) for i, c in enumerate(one, 1)
            ),
        )
        for number, one in enumerate(people)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write one person's answers, with changes, to a file."""

    def call(one: Answers, file: str = "one.json", **changed: Any) -> Path:
        path = tmp_path / file
        tables = one.model_dump(by_alias=True, mode="json") | changed
        path.write_text(json.dumps(tables), "utf-8")
        return path

    return call


def test_answers_come_back_in_any_order(write: Callable[..., Path]) -> None:
    first, second = said("ab-b", "bbba")
    turned = second.model_copy(update={"answers": second.answers[::-1]})
    paths = [write(first, "1.json"), write(turned, "2.json")]
    key = key_of("abab")
    assert score(key, read_answers(paths, key)) == score(key, [first, second])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"study": "s2"}, "answers study s2, but the key is of s1"),
        ({"answers": [{"picture": 1, "answer": "a"}]}, "each of the 2 pictures.*picture 2"),
        ({"answers": [{"picture": 1, "answer": "a"}] * 2}, "picture 2"),
        ({"answers": [{"picture": i, "answer": "a"} for i in (1, 2, 2)]}, "picture 2"),
        ({"answers": [{"picture": i, "answer": "c"} for i in (1, 2)]}, "'c' is no class of Kind"),
        ({"answers": [{"picture": "one", "answer": "a"}]}, r"answers\.0\.picture"),
        ({"participant": ""}, "participant"),
        ({"name": "Eve"}, "not answers to a study: name"),
        ({"schema": 2}, "schema"),
    ],
)
def test_bad_answers_are_refused_in_one_line(
    write: Callable[..., Path], changed: dict[str, Any], says: str
) -> None:
    with pytest.raises(VeilError, match=says) as refused:
        read_answers([write(said("ab")[0], **changed)], key_of("ab"))
    assert "\n" not in str(refused.value)
    assert "one.json" in str(refused.value)


def test_nobody_counts_twice_and_somebody_counts(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    one = said("ab")[0]
    with pytest.raises(VeilError, match=r"p0, whose answers are in .*1\.json already"):
        read_answers([write(one, "1.json"), write(one, "2.json")], key_of("ab"))
    with pytest.raises(VeilError, match="name the files"):
        read_answers([], key_of("ab"))
    with pytest.raises(VeilError, match="no such file"):
        read_answers([tmp_path / "none.json"], key_of("ab"))
    (tmp_path / "text.json").write_text("Male: yes", "utf-8")
    with pytest.raises(VeilError, match="not the key of a study"):
        read_key(tmp_path / "text.json")


# Scores


def test_answers_are_counted() -> None:
    """Counted by hand: 5 right, 4 wrong, 3 undecided of 12."""
    found = score(key_of("abab"), said("ab-b", "bbba", "a--a"))
    shares = (found.correct.value, found.wrong.value, found.undecided.value)
    assert shares == pytest.approx((5 / 12, 4 / 12, 3 / 12))
    assert found.judged is not None
    assert found.judged.value == pytest.approx(5 / 9)
    assert found.judged.n == 9
    assert found.ideal == pytest.approx((5 + 3 / 2) / 12)
    assert found.p_binomial == pytest.approx(1.0)
    assert [(p.correct, p.wrong, p.undecided) for p in found.pictures] == [
        (2, 1, 0),
        (2, 0, 1),
        (0, 1, 2),
        (1, 2, 0),
    ]
    assert [p.agreement for p in found.pictures] == pytest.approx([1 / 3] * 4)
    assert [(p.correct, p.wrong, p.undecided) for p in found.participants] == [
        (3, 0, 1),
        (1, 3, 0),
        (1, 1, 2),
    ]
    for share in (found.correct, found.wrong, found.undecided, found.judged):
        assert share.interval[0] <= share.value <= share.interval[1]


def test_nobody_can_judge_is_the_papers_ideal() -> None:
    found = score(key_of("abc", ("a", "b", "c")), said("---", "---"))
    assert found.ideal == pytest.approx(found.chance) == pytest.approx(1 / 3)
    assert found.undecided.value == 1
    assert (found.judged, found.p_binomial, found.p_shuffled, found.kappa) == (None,) * 4
    assert found.agreement == 1


def test_what_everybody_tells_is_no_guess() -> None:
    truth = "abababab"
    for answers in (truth, truth.translate(str.maketrans("ab", "ba"))):
        found = score(key_of(truth), said(*[answers] * 5))
        assert found.p_binomial == pytest.approx(2 * 0.5**40)
        assert found.p_shuffled is not None
        assert found.p_shuffled == pytest.approx(2 / 70, abs=0.008)  # 8 over 4 arrangements


def test_shuffles_approach_all_arrangements() -> None:
    counts = np.array([[3, 1], [0, 2], [4, 0], [2, 2], [1, 1]])
    truth = np.array([0, 1, 0, 1, 1])
    sums = [sum(row[k] for row, k in zip(counts, p, strict=True)) for p in permutations(truth)]
    centre = np.mean(sums)
    exact = np.mean(np.abs(sums - centre) >= abs(3 + 2 + 4 + 2 + 1 - centre) - 1e-9)
    assert shuffled_p(counts, truth, 0) == pytest.approx(exact, abs=0.02)


def test_people_who_guess_alike_raise_no_alarm_when_classes_are_shuffled() -> None:
    """Each picture makes all 20 people say one thing, at random: the binomial test is misled."""
    rng = np.random.default_rng(0)
    truth = "ab" * 6
    alarms = np.zeros(2)
    for _ in range(60):
        heard = "".join(rng.choice(["a", "b"], len(truth)))
        found = score(key_of(truth), said(*[heard] * 20))
        assert found.p_binomial is not None
        assert found.p_shuffled is not None
        alarms += [found.p_binomial < 0.05, found.p_shuffled < 0.05]
    assert alarms[0] > 30
    assert alarms[1] <= 9  # 60 at 5 %: more with probability 0.001


def test_the_interval_covers_where_people_and_pictures_differ() -> None:
    """200 studies: Clopper-Pearson's interval, as if answers were independent, is the control."""
    rng = np.random.default_rng(0)
    covered = np.zeros(2)
    every = np.ones((15, 20), dtype=bool)
    for _ in range(200):
        person, picture = rng.uniform(-0.2, 0.2, 15), rng.uniform(-0.3, 0.3, 20)
        hits = rng.random((15, 20)) < 0.5 + person[:, None] + picture[None]
        alone = clopper_pearson(int(hits.sum()), hits.size)
        for i, (low, high) in enumerate((crossed_interval(hits, every), alone)):
            covered[i] += low <= 0.5 <= high
    assert covered[0] >= 200 * 0.9
    assert covered[1] < 200 * 0.85


def test_the_interval_of_one_person_or_picture_is_exact() -> None:
    hits = np.array([[True, True, False, True]])
    every = np.ones_like(hits)
    assert crossed_interval(hits, every) == clopper_pearson(3, 4)
    assert crossed_interval(hits.T, every.T) == clopper_pearson(3, 4)


def test_more_of_the_same_people_do_not_make_certain() -> None:
    """All answers right: as sure as one answer of each person could make, not all 200."""
    every = np.ones((10, 20), dtype=bool)
    low, high = crossed_interval(every, every)
    assert low < clopper_pearson(10, 10)[0]
    assert high == 1


def test_kappa_of_a_known_table() -> None:
    """Ten subjects, fourteen raters, five categories: kappa 0.210 (the example of Wikipedia)."""
    rows = "0 0 0 0 14|0 2 6 4 2|0 0 3 5 6|0 3 9 2 0|2 2 8 1 1|7 7 0 0 0|3 2 6 3 0|2 5 3 2 2"
    rows += "|6 5 2 1 0|0 2 2 3 7"
    counts = np.array([[int(n) for n in row.split()] for row in rows.split("|")])
    agreement, kappa = fleiss(counts)
    assert agreement is not None
    assert agreement[[0, 1]] == pytest.approx([1.0, 0.253], abs=1e-3)
    assert kappa == pytest.approx(0.210, abs=1e-3)
    assert fleiss(np.array([[1, 0], [0, 1]])) == (None, None)


# The commands


def test_scores_are_written_once_and_printed(
    tmp_path: Path, write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / KEY).write_text(key_of("abab").model_dump_json(by_alias=True), "utf-8")
    paths = [write(one, f"{i}.json") for i, one in enumerate(said("ab-b", "bbba"))]
    words = ["score", str(tmp_path), *map(str, paths)]
    study_app(words, standalone_mode=False)
    printed = capsys.readouterr().out
    for shown in ("2 people, 4 released pictures", "Cannot judge", "0.500 or 0", "kappa"):
        assert shown in printed
    result = StudyResult.model_validate_json((tmp_path / RESULT).read_bytes())
    assert (result.people, result.study) == (2, "s1")
    with pytest.raises(VeilError, match="--force"):
        study_app(words, standalone_mode=False)
    study_app([*words[:-1], "--force"], standalone_mode=False)
    assert StudyResult.model_validate_json((tmp_path / RESULT).read_bytes()).people == 1


def test_a_study_is_not_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / KEY).write_text("answers to it lie on many desks", "utf-8")
    with pytest.raises(VeilError, match=r"key\.json: exists; --force"):
        study_app(
            ["make", str(tmp_path), "--private", "Male", "--out", str(tmp_path)],
            standalone_mode=False,
        )


def test_tables_keep_to_their_width_and_names_are_no_markup() -> None:
    key = key_of("ab" * 20).model_copy(update={"method": "[bold]M", "label": "[red]"})
    text = StringIO()
    print_study(score(key, said("ab" * 20, "-" * 40)), Console(file=text, width=100))
    printed = text.getvalue()
    assert "[bold]M on d: [red]?" in printed
    assert "and 10 more" in printed
    assert max(map(len, printed.splitlines())) <= 100
