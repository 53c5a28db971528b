"""CelebA in every form in which it is copied: each must give the same data set."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from veil.data.celeba import CelebAConfig
from veil.data.dataset import Dataset
from veil.data.textfile import read_named_integers, read_text
from veil.errors import VeilError

COUNT = 12
COLUMNS = ("Bald", "Male", "Smiling")
NAMES = [f"{i + 1:06}.jpg" for i in range(COUNT)]
_RNG = np.random.default_rng(7)
CLASSES = _RNG.integers(0, 2, (COUNT, len(COLUMNS)))
CLASSES[:2] = [[0, 1, 0], [1, 0, 1]]  # both codes occur in every column
PEOPLE = np.arange(COUNT) // 2 + 100
PARTS = np.repeat([0, 1, 2], [6, 2, 4])
POINTS = _RNG.integers(20, 170, (COUNT, 10))
PIXELS = _RNG.integers(0, 256, (COUNT, 16, 16, 3), dtype=np.uint8)
POINT_NAMES = tuple(f"{part}_{axis}" for part in "abcde" for axis in "xy")

VEIL_DATA = os.environ.get("VEIL_DATA")
real = pytest.mark.skipif(VEIL_DATA is None, reason="needs VEIL_DATA, the unpacked real faces")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))


@dataclass(frozen=True)
class Form:
    """One way to write the data set; the defaults are the official one, but for PNG pixels."""

    csv: bool = False
    count_line: bool = True
    bom: bool = False
    newline: str = "\r\n"
    zero_one: bool = False
    name_column: str | None = None
    trailing: str = " "
    delimiter: str = ","
    quoted: bool = False
    final_newline: bool = True
    container: str = "folder"
    inside: str = ""
    ending: str = ".png"
    anno: bool = False


def label_file(form: Form, columns: tuple[str, ...], values: np.ndarray) -> str:
    """The text of a label file; without columns it has neither count line nor header."""
    lines = []
    if columns and form.count_line and not form.csv:
        lines.append(str(len(values)))
    if form.csv:
        name = form.name_column if form.name_column is not None else "image_id"
        header = columns or ("value",)
        lines.append(form.delimiter.join([name, *header]))
        cell = '"{}"' if form.quoted else "{}"
        for image, row in zip(NAMES, values, strict=False):
            lines.append(form.delimiter.join([cell.format(image), *map(str, row)]))
    else:
        if columns:
            lines.append(" ".join(columns) + form.trailing)
        for image, row in zip(NAMES, values, strict=False):
            lines.append(image + "".join(f" {value:2d}" for value in row) + form.trailing)
    text = form.newline.join(lines) + (form.newline if form.final_newline else "")
    return ("\ufeff" if form.bom else "") + text


def write_celeba(root: Path, form: Form) -> Path:
    """Write the data set under `root` in this form."""
    anno = root / "Anno" if form.anno else root
    images = root / "Img" if form.anno else root
    for folder in (root, anno, images):
        folder.mkdir(exist_ok=True)
    ending = ".csv" if form.csv else ".txt"
    codes = CLASSES if form.zero_one else 2 * CLASSES - 1
    files = {
        "list_attr_celeba": label_file(form, COLUMNS, codes),
        "identity_CelebA": label_file(form, (), PEOPLE[:, None]),
        "list_eval_partition": label_file(form, (), PARTS[:, None]),
        "list_landmarks_align_celeba": label_file(form, POINT_NAMES, POINTS[:5]),
    }
    for name, text in files.items():
        (anno / (name + ending)).write_bytes(text.encode())
    with tempfile.TemporaryDirectory() as scratch:
        flat = Path(scratch)
        for name, pixels in zip(NAMES, PIXELS, strict=True):
            # PNG bytes under a .jpg name are read as well: the content counts, not the name.
            Image.fromarray(pixels).save(flat / (name[:6] + form.ending), "PNG")
        pack(flat, images / "img_align_celeba", form)
    return root


def pack(flat: Path, target: Path, form: Form) -> None:
    files = sorted(flat.iterdir())
    if form.container == "folder":
        (target / form.inside).mkdir(parents=True)
        for file in files:
            shutil.copy(file, target / form.inside / file.name)
    elif form.container == ".zip":
        with zipfile.ZipFile(f"{target}.zip", "w") as archive:
            for file in files:
                archive.write(file, f"{form.inside or '.'}/{file.name}")
    else:
        mode = "w:gz" if form.container == ".tar.gz" else "w:"
        with tarfile.open(f"{target}{form.container}", mode) as tar:  # type: ignore[call-overload]
            for file in files:
                tar.add(file, f"{form.inside or '.'}/{file.name}")


def check(dataset: Dataset) -> None:
    """The data set is exactly the one that was written."""
    assert np.array_equal(dataset.images[dataset.rows], PIXELS)
    assert dataset.files == NAMES
    assert [*dataset.schema] == [*COLUMNS, "identity", "landmarks"]
    for at, name in enumerate(COLUMNS):
        assert dataset.label(name).kind == "binary"
        assert np.array_equal(dataset.column(name), CLASSES[:, at])
    assert np.array_equal(dataset.column("identity"), PEOPLE)
    # 16 stored pixels for 178, from row 20; the centre of the first pixel is (0, 0).
    expected = (POINTS + 0.5 - np.tile([0, 20], 5)) * 16 / 178 - 0.5
    landmarks = dataset.column("landmarks")
    assert landmarks[:5] == pytest.approx(expected[:5], abs=1e-4)
    assert np.isnan(landmarks[5:]).all()


forms = st.builds(
    Form,
    csv=st.booleans(),
    count_line=st.booleans(),
    bom=st.booleans(),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    zero_one=st.booleans(),
    name_column=st.sampled_from(["image_id", "", "Image Name"]),
    trailing=st.sampled_from(["", " ", "  \t"]),
    delimiter=st.sampled_from([",", ", ", ";"]),
    quoted=st.booleans(),
    final_newline=st.booleans(),
    container=st.sampled_from(["folder", ".zip", ".tar", ".tar.gz"]),
    inside=st.sampled_from(["", "img_align_celeba", "a/b"]),
    ending=st.sampled_from([".png", ".jpg", ".PNG"]),
    anno=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(forms)
def test_every_form_gives_the_same_data_set(form: Form) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        root = write_celeba(Path(scratch) / "celeba", form)
        check(CelebAConfig(root=root, size=16).dataset())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_celeba(tmp_path / "celeba", Form())


def test_the_official_partition_is_kept(root: Path) -> None:
    splits = CelebAConfig(root=root, size=16).splits(seed=0)
    assert np.array_equal(splits.select.column("identity"), PEOPLE[PARTS == 1])
    assert np.array_equal(splits.test.column("identity"), PEOPLE[PARTS == 2])
    train = [*splits.fit.column("identity"), *splits.attack.column("identity")]
    assert sorted(train) == sorted(PEOPLE[PARTS == 0])
    assert "official partition" in splits.notes[0]


def test_without_a_partition_people_are_divided(root: Path) -> None:
    (root / "list_eval_partition.txt").unlink()
    splits = CelebAConfig(root=root, size=16).splits(seed=0)
    assert "divided by person" in splits.notes[0]
    assert sum(len(split) for _, split in splits.items()) == COUNT


def test_without_identities_and_landmarks(root: Path) -> None:
    (root / "identity_CelebA.txt").unlink()
    (root / "list_landmarks_align_celeba.txt").unlink()
    dataset = CelebAConfig(root=root, size=16).dataset()
    assert [*dataset.schema] == [*COLUMNS]
    assert dataset.identity is None


def test_a_copy_in_a_later_official_part_wins(root: Path) -> None:
    """Row 0 (train) and row 11 (test) are one picture; rows 1 and 2 are one in train."""
    images = root / "img_align_celeba"
    shutil.copy(images / "000012.png", images / "000001.png")
    shutil.copy(images / "000002.png", images / "000003.png")
    splits = CelebAConfig(root=root, size=16).splits(seed=0)
    assert len(splits.fit) + len(splits.attack) == 5
    assert len(splits.test) == 4
    assert any("1 images left out: the same picture" in note for note in splits.notes)


def test_images_absent_from_the_disk_are_named_or_counted(root: Path) -> None:
    for name in ("000003.png", "000010.png"):
        (root / "img_align_celeba" / name).unlink()
    config = CelebAConfig(root=root, size=16)
    with pytest.raises(VeilError, match=r"2 of 12 images .* \(000003\.jpg, 000010\.jpg\)"):
        config.dataset()
    skipping = CelebAConfig(root=root, size=16, on_bad="skip")
    there = np.delete(np.arange(COUNT), [2, 9])
    assert np.array_equal(skipping.dataset().column("Male"), CLASSES[there, 1])
    assert np.array_equal(skipping.dataset().images, PIXELS[there])
    assert any("2 of 12 images" in note for note in skipping.splits(0).notes)


def test_a_bad_image_is_named_or_counted_and_its_labels_go_too(root: Path) -> None:
    (root / "img_align_celeba" / "000004.png").write_bytes(b"<html>quota</html>")
    with pytest.raises(VeilError, match=r"000004\.png is a web page"):
        CelebAConfig(root=root, size=16).dataset()
    skipping = CelebAConfig(root=root, size=16, on_bad="skip")
    there = np.delete(np.arange(COUNT), 3)
    assert np.array_equal(skipping.dataset().column("identity"), PEOPLE[there])
    assert skipping.dataset().files == [NAMES[row] for row in there]
    assert any("1 bad images left out (000004.png" in note for note in skipping.splits(0).notes)


def test_a_subset_of_labels_ignores_and_counts_the_other_images(root: Path) -> None:
    for file in root.glob("*.txt"):
        lines = read_text(file).split("\n")
        text = "\n".join(line for line in lines if not line.startswith("000012"))
        file.write_text(text.replace(f"{COUNT}\n", f"{COUNT - 1}\n", 1))
    splits = CelebAConfig(root=root, size=16).splits(0)
    assert sum(len(split) for _, split in splits.items()) == COUNT - 1
    assert any("1 images that list_attr_celeba.txt does not list" in n for n in splits.notes)


def test_labels_that_other_files_lack_are_missing(root: Path) -> None:
    identities = root / "identity_CelebA.txt"
    identities.write_text("\n".join(identities.read_text().splitlines()[:-2]))
    dataset = CelebAConfig(root=root, size=16).dataset()
    assert dataset.column("identity").tolist() == [*PEOPLE[:-2], -1, -1]
    notes = CelebAConfig(root=root, size=16).splits(0).notes
    assert "2 images are not in identity_CelebA.txt" in notes


def attributes(*rows: str, count: int | None = None, header: str = "Bald Male Smiling") -> bytes:
    first = [str(count)] if count is not None else []
    return "\n".join([*first, *([header] if header else []), *rows]).encode()


GOOD = "000001.jpg -1 1 -1"
BAD_ATTRIBUTES = {
    "html": (b"<!DOCTYPE html>\n<html>Google Drive - Quota exceeded</html>", "is a web page"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "annex": (b"/annex/objects/SHA256E-s2--ab.txt", "git annex get"),
    "gzip": (b"\x1f\x8b\x08\x00rest", "is a gzip file"),
    "zip": (b"PK\x03\x04rest", "is a zip file"),
    "empty": (b"", "is empty"),
    "blank": (b"\r\n\r\n", "is empty"),
    "binary": (b"\x93\xfa\x01\x00\x02", "line 1: not UTF-8"),
    "nul": (b"abc\0\0\1", "is binary"),
    "count only": (b"12\n", "has no rows"),
    "header only": (attributes(), "has a header and no rows"),
    "cut off": (attributes(GOOD, count=12), "says 12 rows but 1 follow"),
    "short row": (attributes(GOOD, "000002.jpg -1 1"), "line 3: 2 values after '000002.jpg'"),
    "long row": (attributes(GOOD, "000002.jpg 1 1 1 1"), "line 3: 4 values"),
    "name alone": (attributes(GOOD, "000002.jpg"), "line 3: 0 values"),
    "compensating": (attributes(GOOD, "000002.jpg 1 1", "000003.jpg 1 1 1 1"), "line 3: 2 val"),
    "word": (attributes(GOOD, "000002.jpg -1 yes 1"), "line 3: 'yes' is not a whole number"),
    "fraction": (attributes(GOOD, "000002.jpg -1 1.0 1"), "line 3: '1.0' is not a whole"),
    "empty cell": (b"i,Bald,Male,Smiling\na.jpg,1,,1\n", "line 2: '' is not a whole number"),
    "two": (attributes(GOOD, "", "000002.jpg -1 2 1"), "line 4: 2 for Male is not -1, 0 or 1"),
    "mixed": (attributes(GOOD, "000002.jpg 0 1 1"), "line 3: 0 for Bald in a file that codes"),
    "repeated": (attributes(GOOD, "000002.jpg 1 1 1", GOOD), "line 4: '000001.jpg' is on line 2"),
    "no header": (attributes(GOOD, header=""), "no header line"),
    "short header": (attributes(GOOD, header="Bald"), "names 1 columns but line 2 has 3"),
    "prose": (b"Large-scale CelebFaces\n====\n", "line 2: 0 values after '===='"),
}


@pytest.mark.parametrize(("data", "words"), BAD_ATTRIBUTES.values(), ids=BAD_ATTRIBUTES)
def test_what_is_wrong_with_an_attribute_file_is_said_in_one_line(
    root: Path, data: bytes, words: str
) -> None:
    (root / "list_attr_celeba.txt").write_bytes(data)
    with pytest.raises(VeilError) as refusal:
        CelebAConfig(root=root, size=16).dataset()
    assert words in str(refusal.value)
    assert str(root / "list_attr_celeba.txt") in str(refusal.value)
    assert "\n" not in str(refusal.value)


BAD_OTHERS = [
    ("identity_CelebA.txt", b"000001.jpg someone\n", "'someone' is not a whole number"),
    ("identity_CelebA.txt", b"000001.jpg 5\n000002.jpg 0\n", "line 2: 0 is not a person's number"),
    ("identity_CelebA.txt", b"000001.jpg 1 1 1\n", "3 values a row where 1 are expected"),
    ("list_eval_partition.txt", b"000001.jpg 3\n", "line 1: 3 is not 0 (train)"),
    ("list_landmarks_align_celeba.txt", b"000001.jpg 1 2\n", "2 values a row where 10"),
]


@pytest.mark.parametrize(("name", "data", "words"), BAD_OTHERS)
def test_what_is_wrong_with_the_other_files(root: Path, name: str, data: bytes, words: str) -> None:
    (root / name).write_bytes(data)
    with pytest.raises(VeilError) as refusal:
        CelebAConfig(root=root, size=16).dataset()
    assert words in str(refusal.value)
    assert str(root / name) in str(refusal.value)


def test_an_annex_link_without_content(root: Path) -> None:
    (root / "identity_CelebA.txt").unlink()
    (root / "identity_CelebA.txt").symlink_to(".git/annex/objects/ab/SHA256E-s3--ab.txt")
    with pytest.raises(VeilError, match="git annex get"):
        CelebAConfig(root=root, size=16).dataset()


def test_what_is_not_there_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(VeilError, match=r"no list_attr_celeba\.txt"):
        CelebAConfig(root=tmp_path / "nowhere").dataset()
    shutil.rmtree(root / "img_align_celeba")
    (root / "img_align_celeba").mkdir()
    with pytest.raises(VeilError, match="no images; expected img_align_celeba"):
        CelebAConfig(root=root).dataset()


def test_the_folder_is_preferred_to_an_archive_beside_it(root: Path) -> None:
    (root / "img_align_celeba.zip").write_bytes(b"<html>quota</html>")
    check(CelebAConfig(root=root, size=16).dataset())


def test_unknown_settings_are_refused(root: Path) -> None:
    with pytest.raises(ValidationError, match="sise"):
        CelebAConfig(root=root, sise=64)  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="channels"):
        CelebAConfig(root=root, channels=2)


def test_utf16_with_a_mark_is_read(tmp_path: Path) -> None:
    path = tmp_path / "identity_CelebA.txt"
    path.write_bytes("000001.jpg 5\r\n000002.jpg 6\r\n".encode("utf-16"))
    assert read_named_integers(path).values.tolist() == [[5], [6]]


@pytest.fixture
def veil_data() -> Path:
    return Path(str(VEIL_DATA))


@real
def test_the_true_files_as_text_and_as_kaggle_copies_them(veil_data: Path, tmp_path: Path) -> None:
    mini = veil_data / "celeba_native_mini"
    text = CelebAConfig(root=mini, size=32).dataset()
    kaggle = tmp_path / "kaggle"
    shutil.copytree(mini / "kaggle_csv", kaggle)
    shutil.copytree(mini / "img_align_celeba", kaggle / "img_align_celeba" / "img_align_celeba")
    copied = CelebAConfig(root=kaggle, size=32).dataset()
    assert len(text) == len(copied) == 525
    assert np.array_equal(text.images, copied.images)
    assert text.schema.keys() - copied.schema.keys() == {"identity"}
    for name in copied.schema:
        assert np.array_equal(text.column(name), copied.column(name), equal_nan=True)
    landmarks = text.column("landmarks")
    assert np.isfinite(landmarks).all(axis=1).sum() == 75
    known = landmarks[np.isfinite(landmarks).all(axis=1)]
    # Aligned faces: eyes above the nose above the mouth, all within the picture.
    assert (known[:, 1] < known[:, 5]).all()
    assert (known[:, 5] < known[:, 7]).all()
    assert known.min() > 0
    assert known.max() < 32


@real
def test_the_true_files_native_pixels(veil_data: Path) -> None:
    mini = veil_data / "celeba_native_mini"
    dataset = CelebAConfig(root=mini, size=178).dataset()
    with Image.open(mini / "img_align_celeba" / "000001.jpg") as image:
        assert np.array_equal(dataset.images[0], np.asarray(image)[20:198])


@real
def test_the_three_full_label_files(veil_data: Path) -> None:
    """Counts published with CelebA: 202,599 images, 10,177 people, parts of 162,770/19,867/19,962.

    The share of Male, 41.68 %, is the mean of the official file.
    """
    folder = veil_data / "celeba_official_labels"
    attributes = read_named_integers(folder / "list_attr_celeba.txt")
    people = read_named_integers(folder / "identity_CelebA.txt")
    parts = read_named_integers(folder / "list_eval_partition.txt")
    assert attributes.values.shape == (202_599, 40)
    assert attributes.names == people.names == parts.names
    assert len(np.unique(people.values)) == 10_177
    assert np.bincount(parts.values[:, 0]).tolist() == [162_770, 19_867, 19_962]
    male = attributes.values[:, attributes.columns.index("Male")]
    assert np.mean(male == 1) == pytest.approx(0.4168, abs=5e-4)
