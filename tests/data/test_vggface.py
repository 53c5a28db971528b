"""VGGFace2: people from folders, gender and part from the published list."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veil.data.vggface import VGGFaceConfig
from veil.errors import VeilError

TRAIN = [2, 3, 4, 5, 6, 7, 8, 10]
TEST = [1, 9]
PEOPLE = sorted(TRAIN + TEST)
MEN = {1, 3, 5, 9, 10}
# Names with commas, quotes and neither; a comma at the end of some lines, as published.
META = """Class_ID, Name, Sample_Num, Flag, Gender
n000001, "A_Monk", 424, 0, m
n000002, "B_Fine_Singer", 315, 1, f,
n000003, "C._D._Gill", 205, 1, m
n000004, "E_F,_Jr.", 91, 1, f
n000005, "G_"The_H"_I", 100, 1, m
n000006, J_K, 100, 1, f
n000007,"L_M,_1,_N",100,1,f
n000008, "Ö_P", 100, 1, f
n000009, "Q_R", 100, 0, m
n000010, "S_T", 100, 1, m
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))


def write_pictures(root: Path, parts: bool = True, people: Sequence[int] = PEOPLE) -> None:
    """Three pictures of everyone."""
    rng = np.random.default_rng(2)
    for person in people:
        part = "test/" if person in TEST else "train/"
        for photo in ("0001_01", "0002_01", "0011_02"):
            path = root / f"{part if parts else ''}n{person:06}/{photo}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path, "PNG")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    write_pictures(root)
    (root / "identity_meta.csv").write_text(META)
    return root


def config(root: Path) -> VGGFaceConfig:
    return VGGFaceConfig(root=root, size=16)


def test_people_and_genders(root: Path) -> None:
    dataset = config(root).dataset()
    assert len(dataset) == 30
    people = [int(file.split("/")[1][1:]) for file in dataset.files or ()]
    assert [*dataset.schema] == ["identity", "Male"]
    assert dataset.column("identity").tolist() == people
    assert dataset.column("Male").tolist() == [int(person in MEN) for person in people]
    with Image.open(root / (dataset.files or [])[7]) as image:
        assert np.array_equal(dataset.images[7], np.asarray(image))


@pytest.mark.parametrize("place", ["identity_meta.csv", "meta/identity_meta.csv"])
@pytest.mark.parametrize("form", ["published", "windows", "marked", "ages", "no header"])
def test_the_list_in_every_form(tmp_path: Path, place: str, form: str) -> None:
    write_pictures(tmp_path)
    text = META
    if form == "windows":
        text = text.replace("\n", "\r\n")
    elif form == "marked":
        text = "\ufeff" + text
    elif form == "ages":  # a copy with a column more
        text = text.replace(", m\n", ", m, 61\n").replace(", f\n", ", f, 35\n")
    elif form == "no header":
        text = text.partition("\n")[2]
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_bytes(text.encode())
    dataset = config(tmp_path).dataset()
    expected = [int(person in MEN) for person in dataset.column("identity")]
    assert dataset.column("Male").tolist() == expected


@pytest.mark.parametrize("folders", [True, False])
def test_flag_says_who_is_tested_with_and_without_the_folders(
    tmp_path: Path, folders: bool
) -> None:
    write_pictures(tmp_path, folders)
    (tmp_path / "identity_meta.csv").write_text(META)
    splits = config(tmp_path).splits(seed=0)
    assert set(splits.test.column("identity")) == set(TEST)
    train = [set(splits[name].column("identity")) for name in ("fit", "attack", "select")]
    assert set().union(*train) == set(TRAIN)
    assert sum(map(len, train)) == len(TRAIN)
    assert splits.notes == ("official train, divided by person: fit 49% attack 39% select 12%",)


def test_without_the_list_the_folders_say_it(root: Path) -> None:
    (root / "identity_meta.csv").unlink()
    dataset = config(root).dataset()
    assert [*dataset.schema] == ["identity"]
    assert set(config(root).splits(0).test.column("identity")) == set(TEST)


def test_with_neither_all_is_divided_by_person(tmp_path: Path) -> None:
    write_pictures(tmp_path, parts=False, people=range(20))
    splits = config(tmp_path).splits(0)
    people = [set(split.column("identity")) for _, split in splits.items()]
    assert sum(map(len, people)) == len(set().union(*people)) == 20
    assert splits.notes[1].startswith("divided by person")


def test_flag_wins_over_the_folder_and_that_is_said(root: Path) -> None:
    (root / "test" / "n000009").rename(root / "train" / "n000009")
    splits = config(root).splits(0)
    assert set(splits.test.column("identity")) == set(TEST)
    assert "3 images lie in the other part than Flag says: Flag counts" in splits.notes


def test_people_whom_the_list_lacks_keep_their_folder(root: Path) -> None:
    text = "\n".join(
        line for line in META.split("\n") if not line.startswith(("n000004", "n000009"))
    )
    (root / "identity_meta.csv").write_text(text)
    dataset = config(root).dataset()
    unknown = set(dataset.column("identity")[dataset.column("Male") == -1])
    assert unknown == {4, 9}
    splits = config(root).splits(0)
    assert set(splits.test.column("identity")) == set(TEST)
    assert "6 images of people who are not in identity_meta.csv" in splits.notes


def test_a_misplaced_picture_is_named_or_counted(root: Path) -> None:
    Image.new("RGB", (16, 16)).save(root / "train" / "me.jpg")
    with pytest.raises(VeilError, match=r"me\.jpg is not named like n000001/0001_01\.jpg"):
        config(root).dataset()
    skipping = VGGFaceConfig(root=root, size=16, on_bad="skip")
    assert len(skipping.dataset()) == 30
    assert any("1 images left out, not named like" in note for note in skipping.splits(0).notes)


BAD_LISTS = {
    "html": ("<html>404</html>", "is a web page"),
    "lfs": ("version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "header only": ("Class_ID, Name, Sample_Num, Flag, Gender\n", "has a header and no rows"),
    "gender": (META.replace('Q_R", 100, 0, m', 'Q_R", 100, 0, x'), "line 10: 'n000001, "),
    "flag": (META.replace('Q_R", 100, 0', 'Q_R", 100, 2'), "line 10: 'n000001, "),
    "cut off": (META[:-20], "line 11: "),
    "twice": (META + 'n000001, "A_Monk", 424, 0, m\n', "line 12: n000001 is there already"),
    "other file": ('NAME_ID,X,Y,W,H\n"n000001/0001_01",60,60,79,109\n', "line 1: "),
}


@pytest.mark.parametrize(("text", "words"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_what_is_wrong_with_the_list(root: Path, text: str, words: str) -> None:
    path = root / "identity_meta.csv"
    path.write_text(text)
    with pytest.raises(VeilError) as refusal:
        config(root).dataset()
    assert words in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_an_annex_link_without_content(root: Path) -> None:
    (root / "identity_meta.csv").unlink()
    (root / "identity_meta.csv").symlink_to(".git/annex/objects/ab/SHA256E-s3--ab.csv")
    with pytest.raises(VeilError, match="git annex get"):
        config(root).dataset()


def test_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "identity_meta.csv").write_text(META)
    with pytest.raises(VeilError, match="no images; expected train and test"):
        config(tmp_path).dataset()
