"""Fixed classifiers: what they learn, what they are asked, and what is written of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

import tiny
from veil import fixed_classifiers as classifiers_file
from veil import reclassify as reclassify_file
from veil.cli_reclassify import print_reclassification
from veil.cli_reclassify import reclassify as command
from veil.config import parse
from veil.data.dataset import BINARY, MISSING, Dataset, Label
from veil.errors import VeilError
from veil.fixed_classifiers import FixedClassifiers, Training, fixed_classifiers, pictures_of
from veil.method import Obfuscator, Replacement
from veil.metrics import balanced_accuracy
from veil.reclassified import Reclassification, correlations, utility_score
from veil.reclassify import CORRELATIONS, PICTURES, RESULT, labels_read, reclassify
from veil.runs import Run

SIZE = 16
TINY = Training(epochs=12, blocks=(1, 1), widths=(8, 16), batch_size=12, learning_rate=1e-2)
FIT, TEST = tiny.faces(24, 4, SIZE, 3, 100), tiny.faces(12, 4, SIZE, 3, 200)
SPLITS = replace(tiny.splits(SIZE), fit=FIT, test=TEST)
LABELS = ("Smiling", "Male")


class Pictures(tiny.Bare):
    """Releases the picture itself."""

    pictures = True


class Brighter(Pictures):
    """Releases the picture a tenth brighter."""

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x + 0.1


class Redrawn(Replacement):
    """Draws Male anew: brightens or darkens the left half, and shows it as a true one would be."""

    def replace(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        s_new = torch.randint(2, (len(x),), generator=rng)
        left = x[..., : SIZE // 2]
        right = x[..., SIZE // 2 :]
        # Smiles brighten both halves of the bottom alike, so the right half tells where 0 is.
        shift = (70 / 255) * s_new.view(-1, 1, 1, 1) - (left - right).mean((1, 2, 3), keepdim=True)
        return torch.cat([left + shift, right], dim=3), {"Male": s_new}


class Ignored(Replacement):
    """Says that it drew Male anew and releases the picture as it is."""

    def replace(self, x: Tensor, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return x, {"Male": torch.randint(2, (len(x),), generator=rng)}


@pytest.fixture(scope="module")
def readers() -> FixedClassifiers:
    return fixed_classifiers(SPLITS.fit, SPLITS.select, LABELS, 0, TINY)


Read = Callable[..., Reclassification]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Reclassify runs made of obfuscators, one folder each: `read(one=Pictures())`."""

    def call(labels: tuple[str, ...] = LABELS, **obfuscators: Obfuscator) -> Reclassification:
        def made(path: Path, *_: object) -> Run:
            method = tiny.Toy({}, lambda _game: iter(()))
            method.obfuscator = obfuscators[path.name]
            tables = {
                "data": {"source": "synthfaces"},
                "problem": {"private": ["Male"]},
                "method": {"name": "answer-only"},
            }
            return Run(path, parse(tables, "here"), tiny.problem(size=SIZE), method, SPLITS)

        monkeypatch.setattr(reclassify_file, "load", made)
        paths = [tmp_path / name for name in obfuscators]
        return reclassify(paths, tmp_path / "out", labels, 0, TINY)

    return call


# Classifiers


def test_classifiers_read_originals_they_have_not_seen(readers: FixedClassifiers) -> None:
    said = readers.read(pictures_of(SPLITS.test))
    for name in LABELS:
        assert balanced_accuracy(SPLITS.test.column(name), said[name]) > 0.9


def test_they_are_remembered_by_all_that_decides_them(
    readers: FixedClassifiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second call trains nothing; another seed, label, picture or setting trains anew."""

    def no_training(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(classifiers_file, "train_by", no_training)
    again = fixed_classifiers(SPLITS.fit, SPLITS.select, LABELS, 0, TINY)
    for name, tensor in readers.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
    others: list[tuple[Any, ...]] = [
        (SPLITS.fit, SPLITS.select, LABELS, 1, TINY),
        (SPLITS.fit, SPLITS.select, ("Smiling",), 0, TINY),
        (SPLITS.fit, SPLITS.select, LABELS, 0, replace(TINY, epochs=2)),
        (SPLITS.fit.view(np.arange(40)), SPLITS.select, LABELS, 0, TINY),
        (SPLITS.fit, SPLITS.select.view(np.arange(4)), LABELS, 0, TINY),
    ]
    for arguments in others:
        with pytest.raises(AssertionError, match="trained again"):
            fixed_classifiers(*arguments)


def test_a_damaged_memory_is_trained_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path))
    few = replace(TINY, epochs=1)
    first = fixed_classifiers(SPLITS.fit, SPLITS.select, LABELS, 0, few)
    (file,) = (tmp_path / "classifiers").iterdir()
    file.write_bytes(file.read_bytes()[:100])
    second = fixed_classifiers(SPLITS.fit, SPLITS.select, LABELS, 0, few)
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)


def test_a_guess_counts_all_classes_alike() -> None:
    """A network that has learnt nothing but the shares leans to no class."""
    readers = FixedClassifiers({"Race": 3}, (3, SIZE, SIZE), TINY)
    shares = torch.tensor([0.9, 0.08, 0.02])
    readers.get_buffer("log_prior").copy_(shares.log())
    last = readers.network.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(shares.log() + torch.tensor([0.0, 0.1, 0.0]))
    x = torch.rand(4, 3, SIZE, SIZE)
    assert readers.read([x])["Race"].tolist() == [1] * 4
    assert readers.eval()(x)["Race"].argmax(1).tolist() == [0] * 4


def test_missing_labels_train_nothing_and_score_nothing() -> None:
    column = SPLITS.fit.column("Smiling").copy()
    column[::3] = MISSING
    labels = {"Smiling": column, "Empty": np.full(len(column), MISSING)}
    schema = dict.fromkeys(labels, BINARY)
    images = SPLITS.fit.images[SPLITS.fit.rows]
    data = Dataset("holes", images, labels, schema, SPLITS.fit.content())
    found = fixed_classifiers(data, data, ("Smiling", "Empty"), 0, replace(TINY, epochs=2))
    assert all(bool(torch.isfinite(t).all()) for t in found.state_dict().values())


def test_labels_without_classes_are_refused() -> None:
    with pytest.raises(VeilError, match="'Age' is continuous: classifiers read class labels"):
        fixed_classifiers(SPLITS.fit, SPLITS.select, ("Age",), 0, TINY)
    with pytest.raises(VeilError, match="did you mean 'Male'"):
        fixed_classifiers(SPLITS.fit, SPLITS.select, ("Mal",), 0, TINY)


def test_the_papers_labels_are_the_default_and_private_ones_always_come_along() -> None:
    schema = dict.fromkeys(("Bald", "Young", "Male", "Smiling"), BINARY)
    schema |= {"identity": Label("identity"), "Race": Label("multiclass", ("a", "b", "c"))}
    assert labels_read(schema, (), ("Male",)) == ("Smiling", "Male", "Young")
    assert labels_read(schema, (), ("Bald", "identity")) == ("Smiling", "Male", "Young", "Bald")
    assert labels_read(schema, ("Young",), ("Male",)) == ("Young", "Male")
    del schema["Young"], schema["Male"], schema["Smiling"]
    assert labels_read(schema, (), ()) == ("Bald", "Race")


# Figures


def test_a_picture_released_as_it_is_is_read_as_before(read: Read) -> None:
    """And nothing is fooled: a value drawn against the truth is never read."""
    (bare, ignored) = read(bare=Pictures(), ignored=Ignored()).runs
    for run in (bare, ignored):
        assert (run.mse, run.psnr) == (0, 100)
        assert run.utility_original == run.utility_released
        for reading in run.readings:
            assert reading.original == reading.released
            assert reading.original.value > 0.9
        assert run.correlations is not None
        assert run.correlations.originals == run.correlations.released
    assert bare.fooling == ()
    (fooling,) = ignored.fooling
    assert fooling.rate.value == pytest.approx(0.5, abs=0.25)
    assert fooling.changed is not None
    assert fooling.changed.value < 0.1


def test_a_redrawn_attribute_fools_and_the_other_is_kept(read: Read) -> None:
    (run,) = read(redrawn=Redrawn()).runs
    (fooling,) = run.fooling
    assert fooling.label == "Male"
    assert fooling.changed is not None
    assert fooling.rate.n == len(SPLITS.test)
    assert 0 < fooling.changed.n < fooling.rate.n
    assert {*fooling.by_class} == {"no", "yes"}
    assert sum(rate.n for rate in fooling.by_class.values()) == fooling.rate.n
    for rate in (fooling.rate, fooling.changed, *fooling.by_class.values()):
        assert rate.value > 0.85
        assert rate.interval[0] < rate.value <= rate.interval[1]
    hidden = next(r for r in run.readings if r.private)
    assert hidden.label == "Male"
    assert hidden.released.value < 0.75 < hidden.original.value
    assert run.utility_released is not None
    assert run.utility_released.value > 0.8


def test_distortion_is_the_mean_squared_error_and_its_decibels(read: Read) -> None:
    (run,) = read(brighter=Brighter()).runs
    assert run.mse == pytest.approx(0.01, rel=1e-5)
    assert run.psnr == pytest.approx(20, abs=1e-4)


def test_the_same_seed_gives_the_same_figures(read: Read) -> None:
    assert read(redrawn=Redrawn()) == read(redrawn=Redrawn())


def slow_balanced_accuracy(truth: list[int], said: list[int]) -> float:
    recalls = []
    for k in sorted({t for t in truth if t >= 0}):
        hits = [s == k for t, s in zip(truth, said, strict=True) if t == k]
        recalls.append(sum(hits) / len(hits))
    return sum(recalls) / len(recalls)


def test_the_utility_score_is_the_mean_balanced_accuracy_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    truth = {"a": rng.integers(-1, 2, 90), "b": rng.integers(0, 3, 90), "none": np.full(90, -1)}
    said = {"a": rng.integers(0, 2, 90), "b": rng.integers(0, 3, 90), "none": np.zeros(90, int)}
    found = utility_score(truth, said, None, 0)
    assert found is not None
    expected = [slow_balanced_accuracy(truth[n].tolist(), said[n].tolist()) for n in ("a", "b")]
    assert found.value == pytest.approx(sum(expected) / 2)
    assert utility_score({}, {}, None, 0) is None


def test_the_interval_of_the_utility_score_covers() -> None:
    """Two labels read rightly with known chances by class, people with four photos who vary."""
    rng = np.random.default_rng(0)
    people = np.repeat(np.arange(60), 4)
    covered = 0
    for trial in range(100):
        truth = {name: rng.integers(0, 2, 240) for name in ("a", "b")}
        gift = rng.uniform(-0.15, 0.15, 60)[people]
        said = {}
        for name, column in truth.items():
            right = rng.random(240) < np.where(column == 1, 0.8, 0.6) + gift
            said[name] = np.where(right, column, 1 - column)
        found = utility_score(truth, said, people, trial)
        assert found is not None
        covered += found.interval[0] <= 0.7 <= found.interval[1]
    assert covered >= 88  # 95 expected, 88 or fewer with 0.4 %


def test_correlations_are_pearsons_and_undefined_with_a_constant() -> None:
    rng = np.random.default_rng(0)
    columns = rng.integers(0, 2, (50, 3))
    found: NDArray[np.float64] = np.array(correlations(2 * columns - 1))
    np.testing.assert_allclose(found, np.corrcoef(columns.T), atol=1e-12)
    columns[:, 1] = 1
    (first, constant, _) = correlations(columns)
    assert constant == (None, None, None)
    assert first[0] == pytest.approx(1)
    assert first[1] is None


# Files and words


def test_files_are_written_and_say_what_was_found(read: Read, tmp_path: Path) -> None:
    found = read(bare=Pictures(), redrawn=Redrawn())
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {RESULT, PICTURES, CORRELATIONS}
    written = json.loads((out / RESULT).read_text("utf-8"))
    assert [run["run"] for run in written["runs"]] == ["bare", "redrawn"]
    assert written["runs"][1]["fooling"][0]["rate"]["value"] == found.runs[1].fooling[0].rate.value
    assert str(tmp_path) not in (out / RESULT).read_text("utf-8")
    for name in (PICTURES, CORRELATIONS):
        with Image.open(out / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 100
    console = Console(width=100, record=True, quiet=False, file=(tmp_path / "said").open("w"))
    print_reclassification(found, console)
    said = console.export_text()
    console.file.close()
    for word in ("Male (hidden)", "utility score", "drawn against the truth", "PSNR", "redrawn"):
        assert word in said
    assert max(map(len, said.splitlines())) <= 100


def test_runs_that_release_no_pictures_are_refused_in_one_line(read: Read) -> None:
    with pytest.raises(VeilError, match=r"bare: Toy releases no pictures.*'veil audit'"):
        read(bare=tiny.Bare())


def test_runs_on_other_pictures_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def made(path: Path, *_: object) -> Run:
        method = tiny.Toy({}, lambda _game: iter(()))
        method.obfuscator = Pictures()
        tables = {
            "data": {"source": "synthfaces"},
            "problem": {"private": ["Male"]},
            "method": {"name": "answer-only"},
        }
        data = SPLITS if path.name == "a" else tiny.splits(SIZE)
        return Run(path, parse(tables, "here"), tiny.problem(size=SIZE), method, data)

    monkeypatch.setattr(reclassify_file, "load", made)
    with pytest.raises(VeilError, match="not about the same pictures"):
        reclassify([tmp_path / "a", tmp_path / "b"], tmp_path / "out", LABELS, 0, TINY)
    assert not (tmp_path / "out").exists()


def test_the_command_asks_for_a_folder_for_several_runs_and_keeps_what_is_there(
    tmp_path: Path,
) -> None:
    with pytest.raises(VeilError, match="say --out FOLDER"):
        command([tmp_path / "a", tmp_path / "b"])
    (tmp_path / RESULT).write_text("mine")
    with pytest.raises(VeilError, match="exists; --force"):
        command([tmp_path])
    assert (tmp_path / RESULT).read_text() == "mine"
