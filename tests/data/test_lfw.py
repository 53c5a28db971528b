"""LFW: people from folders, labels from lists, and the official pairs."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from veil.data.lfw import LFWConfig, official_pairs
from veil.errors import VeilError

VEIL_DATA = os.environ.get("VEIL_DATA")
real = pytest.mark.skipif(VEIL_DATA is None, reason="needs VEIL_DATA, the unpacked real faces")

PEOPLE = ["Ada_Lo", "Bo_Ek", "Cy_de-la-Rey", "Di_Oh", "Ed_Ng", "Flo_Zu", "Gus_Ax", "Hal_Io"]
PHOTOS = [(person, number) for person in PEOPLE for number in (1, 2, 10)]
NAMES = [f"{person}/{person}_{number:04}.jpg" for person, number in PHOTOS]
PIXELS = np.random.default_rng(9).integers(0, 256, (len(NAMES), 16, 16, 3), dtype=np.uint8)
WOMEN = {"Ada_Lo", "Di_Oh", "Flo_Zu"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))


def write_pictures(folder: Path) -> None:
    for name, pixels in zip(NAMES, PIXELS, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name, "PNG")


def base(name: str) -> str:
    return name.rpartition("/")[2]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures, lists of genders with Windows line ends, smiles of the first 20 pictures."""
    root = tmp_path / "data"
    write_pictures(root / "lfw")
    for file, women in (("female_names.txt", True), ("male_names.txt", False)):
        listed = [base(name) for name in NAMES if (name.partition("/")[0] in WOMEN) == women]
        (root / file).write_bytes("\r\n".join(["", *listed, "No_One_0001.jpg", ""]).encode())
    rows = [f"{base(name)},{at % 2 if at < 20 else ''}" for at, name in enumerate(NAMES)]
    (root / "lfw_labels.csv").write_text("\n".join(["file,smiling", *rows]))
    return root


def config(root: Path) -> LFWConfig:
    return LFWConfig(root=root, size=16)


def test_people_and_labels(root: Path) -> None:
    dataset = config(root).dataset()
    assert dataset.files == NAMES
    assert np.array_equal(dataset.images, PIXELS)
    assert [*dataset.schema] == ["identity", "Male", "Smiling"]
    assert dataset.column("identity").tolist() == [PEOPLE.index(person) for person, _ in PHOTOS]
    assert dataset.column("Male").tolist() == [int(person not in WOMEN) for person, _ in PHOTOS]
    assert dataset.column("Smiling").tolist() == [at % 2 for at in range(20)] + [-1] * 4
    assert dataset.label("Male").kind == "binary"


@pytest.mark.parametrize("place", ["", "lfw_funneled", "lfw-deepfunneled", "lfw/lfw"])
def test_wherever_the_folders_of_people_lie(tmp_path: Path, place: str) -> None:
    write_pictures(tmp_path / "data" / place)
    dataset = config(tmp_path / "data").dataset()
    assert [*dataset.schema] == ["identity"]
    assert np.array_equal(dataset.images, PIXELS)


def test_the_archive_need_not_be_unpacked(tmp_path: Path, root: Path) -> None:
    (root / "lfw").rename(tmp_path / "elsewhere")
    with tarfile.open(root / "lfw.tgz", "w:gz") as tar:
        tar.add(tmp_path / "elsewhere", "lfw")
    dataset = config(root).dataset()
    assert np.array_equal(dataset.images, PIXELS)
    assert dataset.column("identity").tolist() == [PEOPLE.index(person) for person, _ in PHOTOS]
    assert len(official_pairs(pairs_file(root, PAIRS), dataset).left) == 4


def test_a_photo_in_both_lists_or_neither_is_unknown_unless_the_table_says_it(root: Path) -> None:
    men = root / "male_names.txt"
    listed = men.read_text().split()
    listed.remove("Bo_Ek_0001.jpg")
    listed.append("Ada_Lo_0001.jpg")
    men.write_text("\n".join(listed))
    ada, bo = NAMES.index("Ada_Lo/Ada_Lo_0001.jpg"), NAMES.index("Bo_Ek/Bo_Ek_0001.jpg")
    assert config(root).dataset().column("Male")[[ada, bo]].tolist() == [-1, -1]
    notes = config(root).splits(0).notes
    assert "1 images in the lists of both genders (Ada_Lo_0001)" in notes
    (root / "lfw_labels.csv").write_text("file,male\nAda_Lo_0001.jpg,0\nBo_Ek_0001.jpg,1\n")
    male = config(root).dataset().column("Male")
    assert male.tolist() == [int(person not in WOMEN) for person, _ in PHOTOS]


def test_the_table_alone_says_genders(root: Path) -> None:
    (root / "male_names.txt").unlink()
    (root / "female_names.txt").unlink()
    (root / "lfw_labels.csv").write_text("file,male\nAda_Lo_0002.jpg,0\nBo_Ek_0010.jpg,1\n")
    dataset = config(root).dataset()
    known = {
        name: male for name, male in zip(NAMES, dataset.column("Male"), strict=True) if male + 1
    }
    assert known == {"Ada_Lo/Ada_Lo_0002.jpg": 0, "Bo_Ek/Bo_Ek_0010.jpg": 1}


def test_splits_share_nobody(root: Path) -> None:
    splits = config(root).splits(seed=0)
    people = [set(split.column("identity")) for _, split in splits.items()]
    assert sum(map(len, people)) == len(set().union(*people)) == len(PEOPLE)
    assert splits.notes[0].startswith("divided by person")


def test_people_of_whom_one_photograph_exists_twice_share_a_split(root: Path) -> None:
    brighter = np.clip(PIXELS[0].astype(int) + 9, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).save(root / "lfw" / NAMES[-1], "PNG")  # Ada's, of Hal
    for seed in range(4):
        splits = config(root).splits(seed)
        both = {PEOPLE.index("Ada_Lo"), PEOPLE.index("Hal_Io")}
        assert sum(bool(both & {*split.column("identity")}) for _, split in splits.items()) == 1


@pytest.mark.parametrize("name", ["Ada_Lo_0001.jpg", "faces/Ada_Lo_0001.jpg", "Ada_Lo/1.jpg"])
def test_a_picture_in_no_persons_folder_is_named_or_counted(root: Path, name: str) -> None:
    path = root / "lfw" / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (16, 16)).save(path)
    with pytest.raises(VeilError, match=r"is not named like NAME/NAME_0001\.jpg"):
        config(root).dataset()
    skipping = LFWConfig(root=root, size=16, on_bad="skip")
    assert skipping.dataset().files == NAMES


BAD_LABELS = [
    ("male_names.txt", b"<!DOCTYPE html><html>quota</html>", "is a web page"),
    ("female_names.txt", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ("lfw_labels.csv", b"", "is empty"),
    ("lfw_labels.csv", b"photo,male\nAda_Lo_0001.jpg,1\n", "needs the columns file and male"),
    ("lfw_labels.csv", b"file,age\nAda_Lo_0001.jpg,1\n", "needs the columns file and male"),
    ("lfw_labels.csv", b"file,male\nAda_Lo_0001.jpg,m\nBo_Ek_0001.jpg,f\n", "is coded f and m"),
    ("lfw_labels.csv", b"file,male\nAda_Lo_0001.jpg,2\nBo_Ek_0001.jpg,1\n", "is coded 1 and 2"),
    ("lfw_labels.csv", b"file,male\nAda_Lo_0001.jpg\n", "line 2: 1 cells"),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD_LABELS)
def test_what_is_wrong_with_a_label_file(root: Path, name: str, data: bytes, words: str) -> None:
    (root / name).write_bytes(data)
    with pytest.raises(VeilError) as refusal:
        config(root).dataset()
    assert words in str(refusal.value)
    assert str(root / name) in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_lists_of_other_pictures_are_refused(root: Path) -> None:
    for file in ("male_names.txt", "female_names.txt"):
        (root / file).write_text("000001.jpg\n000002.jpg\n")
    with pytest.raises(VeilError, match="name none of the 24 images"):
        config(root).dataset()


def test_annex_links_without_content_are_said(root: Path) -> None:
    for file in ("male_names.txt", "lfw_labels.csv"):
        (root / file).unlink()
        (root / file).symlink_to(".git/annex/objects/ab/SHA256E-s3--ab.txt")
        with pytest.raises(VeilError, match=f"{file} is a git-annex link"):
            config(root).dataset()
        (root / file).unlink()


# Two folds of one pair of each kind; numbers are not padded, and tabs part the fields.
PAIRS = "2\t1\nAda_Lo\t1\t10\nBo_Ek\t2\tEd_Ng\t1\nDi_Oh\t2\t1\nHal_Io\t10\tCy_de-la-Rey\t2\n"


def pairs_file(folder: Path, text: str) -> Path:
    (folder / "pairs.txt").write_text(text)
    return folder / "pairs.txt"


def test_official_pairs_are_positions(root: Path) -> None:
    dataset = config(root).dataset()
    pairs = official_pairs(pairs_file(root, PAIRS), dataset)
    files = dataset.files or []
    assert [
        (base(files[a]), base(files[b])) for a, b in zip(pairs.left, pairs.right, strict=True)
    ] == [
        ("Ada_Lo_0001.jpg", "Ada_Lo_0010.jpg"),
        ("Bo_Ek_0002.jpg", "Ed_Ng_0001.jpg"),
        ("Di_Oh_0002.jpg", "Di_Oh_0001.jpg"),
        ("Hal_Io_0010.jpg", "Cy_de-la-Rey_0002.jpg"),
    ]
    assert pairs.same.tolist() == [True, False, True, False]
    assert pairs.fold.tolist() == [0, 0, 1, 1]
    assert pairs.absent == 0


def test_pairs_of_a_view_are_positions_in_it(root: Path) -> None:
    """Only Ada and Di are in the view, Di first."""
    dataset = config(root).dataset()
    people = dataset.column("identity")
    di, ada = (np.flatnonzero(people == PEOPLE.index(name)) for name in ("Di_Oh", "Ada_Lo"))
    view = dataset.view(np.concatenate([di, ada]))
    pairs = official_pairs(pairs_file(root, PAIRS), view)
    assert (pairs.left.tolist(), pairs.right.tolist()) == ([3, 1], [5, 0])
    assert pairs.fold.tolist() == [0, 1]
    assert pairs.absent == 2


def test_the_development_pairs_are_one_fold(root: Path) -> None:
    text = "1\r\nAda_Lo\t1\t10\r\nBo_Ek\t2\tEd_Ng\t1\r\n"
    pairs = official_pairs(pairs_file(root, text), config(root).dataset())
    assert pairs.fold.tolist() == [0, 0]


BAD_PAIRS = [
    ("<html>404</html>", "is a web page"),
    ("Ada_Lo\t1\t10\n", "line 1: the number of folds and of pairs is expected"),
    ("2\t1\nAda_Lo\t1\t10\n", "says 2 x 2 x 1 pairs but 1 follow"),
    ("1\nAda_Lo\t1\t10\nBo_Ek\t2\n", "line 3: 'NAME i j' or 'NAME i NAME j' is expected"),
    ("1\nAda_Lo\t1\t10\nBo_Ek\tone\tEd_Ng\t1\n", "line 3: 'NAME i j'"),
    ("1\nNo_One\t1\t10\nNo_One\t2\tOther\t1\n", "both pictures of none of its pairs"),
]


@pytest.mark.parametrize(("text", "words"), BAD_PAIRS)
def test_what_is_wrong_with_pairs(root: Path, text: str, words: str) -> None:
    with pytest.raises(VeilError) as refusal:
        official_pairs(pairs_file(root, text), config(root).dataset())
    assert words in str(refusal.value)
    assert "\n" not in str(refusal.value)


@real
def test_the_true_files() -> None:
    """Published: 6,000 pairs in 10 folds, half of them of one person; of 229 smiles nobody knows.

    Two pictures here are in both lists of genders; the table decides them.
    """
    root = Path(str(VEIL_DATA)) / "lfw64_pairs"
    dataset = LFWConfig(root=root).dataset()
    assert len(dataset) == 7701
    assert len(set(dataset.column("identity"))) == 4281
    assert int((dataset.column("Smiling") == -1).sum()) == 229
    assert int((dataset.column("Male") == 1).sum()) == 5766
    assert int((dataset.column("Male") == -1).sum()) == 0
    pairs = official_pairs(root / "pairs.txt", dataset)
    assert np.bincount(pairs.fold, weights=pairs.same).tolist() == [300] * 10
    assert len(pairs.left) == 6000
    people = dataset.column("identity")
    assert np.array_equal(people[pairs.left] == people[pairs.right], pairs.same)
