"""A run's folder: whose it is, what it needs to be loaded, and that it releases the same again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from veil import runs
from veil.checkpoint import load_tensors, save_tensors
from veil.config import RunConfig, parse
from veil.errors import VeilError
from veil.evidence import DRAWS
from veil.release import release_split
from veil.runs import CONFIG, RUN, WEIGHTS, Run, claim, evidence_of, load, train


def config(**given: Any) -> RunConfig:
    """A run of a second: 60 people, an epoch a stage; `given` are fields of the method."""
    method = {
        "name": "aia",
        "pretrain_epochs": 1,
        "joint_epochs": 1,
        "encoder_channels": [4, 4],
        "decoder_channels": [4, 4],
        "siamese_hidden": 16,
    }
    tables: dict[str, Any] = {
        "data": {"source": "synthfaces", "people": 60, "size": 32},
        "problem": {"private": ["Male"], "utility": ["Smiling"]},
        "method": method | given,
        "fit": {"device": "cpu"},
    }
    return parse(tables, "the test")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(config(), tmp_path_factory.mktemp("runs") / "aia")


@pytest.fixture
def folder(trained: Run, tmp_path: Path) -> Path:
    """A copy of the trained run's folder."""
    return Path(shutil.copytree(trained.path, tmp_path / "copy"))


def test_a_run_leaves_what_it_needs_and_nothing_else(trained: Run) -> None:
    assert {path.name for path in trained.path.iterdir()} == {
        CONFIG,
        WEIGHTS,
        RUN,
        "metrics.jsonl",
    }
    facts = json.loads((trained.path / RUN).read_text("utf-8"))
    assert facts["method"] == "aia"
    assert facts["splits"] == {name: len(split) for name, split in trained.splits.items()}


def test_a_loaded_run_releases_the_same_bits(trained: Run) -> None:
    again = load(trained.path)
    assert again.config == trained.config
    for name in ("attack", "test"):
        before = release_split(trained.method.obfuscator, trained.splits[name], 0, name)
        after = release_split(again.method.obfuscator, again.splits[name], 0, name)
        assert torch.equal(before, after)
    untrained = runs.build(trained.config, trained.problem)
    other = release_split(untrained.obfuscator, trained.splits["test"], 0, "test")
    assert not torch.equal(before, other)


def test_a_run_of_another_seed_is_another(trained: Run) -> None:
    other = trained.config.model_copy(
        update={"fit": trained.config.fit.model_copy(update={"seed": 1})}
    )
    a, b = (runs.build(c, trained.problem).state_dict() for c in (trained.config, other))
    assert any(not torch.equal(a[name], b[name]) for name in a)


# --- whose folder is it? ---


def test_a_new_or_empty_folder_is_claimed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "new" / "deep", tmp_path / "empty"):
        claim(path, config(), force=False)
        assert (path / CONFIG).exists()
        claim(path, config(), force=False)  # interrupted: the same command goes on


def test_a_finished_run_is_not_overwritten_but_by_force(folder: Path) -> None:
    with pytest.raises(VeilError, match="finished run; --force"):
        claim(folder, config(), force=False)
    (folder / "audit.json").write_text("of the old weights")
    (folder / "notes.txt").write_text("mine")
    claim(folder, config(alpha=0.1), force=True)
    assert {path.name for path in folder.iterdir()} == {CONFIG, "notes.txt"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"alpha": 0.1}, "method.alpha is 0.5 there, 0.1 here"),
        ({"joint_epochs": 0}, "method.joint_epochs is 1 there, 0 here"),
        ({"encoder_channels": [4, 8]}, r"method.encoder_channels is \[4, 4\] there, \[4, 8\] here"),
    ],
)
def test_another_run_is_named_by_its_first_difference(
    tmp_path: Path, given: dict[str, Any], said: str
) -> None:
    claim(tmp_path / "run", config(), force=False)
    with pytest.raises(VeilError, match=f"another run \\({said}\\)"):
        claim(tmp_path / "run", config(**given), force=False)
    claim(tmp_path / "run", config(**given), force=True)


@pytest.mark.parametrize("force", [False, True])
def test_other_peoples_files_are_never_touched(tmp_path: Path, force: bool) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(VeilError, match="not empty and holds no run"):
        claim(tmp_path, config(), force)
    with pytest.raises(VeilError, match="is a file"):
        claim(tmp_path / "thesis.txt", config(), force)
    with pytest.raises(VeilError, match="cannot be made"):
        claim(tmp_path / "thesis.txt" / "run", config(), force)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert len(list(tmp_path.iterdir())) == 1


# --- what cannot be loaded ---


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(VeilError, match=r"holds no run .* 'veil train"):
            load(path)


def test_an_unfinished_run_says_so(tmp_path: Path) -> None:
    claim(tmp_path / "run", config(), force=False)
    with pytest.raises(VeilError, match="not finished; run its 'veil train' again"):
        load(tmp_path / "run")


def test_weights_that_do_not_fit_are_refused(folder: Path) -> None:
    config(encoder_channels=[4, 8]).save(folder / CONFIG)
    with pytest.raises(VeilError, match=r"does not fit config\.toml: size mismatch") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_missing_weights_are_named(folder: Path) -> None:
    tensors, header = load_tensors(folder / WEIGHTS)
    lost = next(name for name in sorted(tensors) if name.startswith("obfuscator."))
    save_tensors(folder / WEIGHTS, {n: t for n, t in tensors.items() if n != lost}, header)
    with pytest.raises(VeilError, match=f"does not fit .*{lost}"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"\xff" * 64, None])
def test_damaged_weights_are_one_line(folder: Path, content: bytes | None) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(VeilError, match="not a safetensors file") as caught:
        load(folder)
    assert "\n" not in str(caught.value)


# --- what an audit gets ---


@pytest.fixture(scope="module")
def random_run(trained: Run) -> Run:
    """The same run, but half of every release replaced by noise."""
    method = runs.build(config(replaced=0.5), trained.problem)
    method.load_state_dict(trained.method.state_dict())
    return Run(trained.path, config(replaced=0.5), trained.problem, method, trained.splits)


def test_evidence_of_a_run_is_what_it_releases(trained: Run) -> None:
    evidence = evidence_of(trained, seed=0)
    assert (evidence.private, evidence.utility) == (("Male",), ("Smiling",))
    assert not evidence.random
    assert not evidence.averaged
    assert evidence.batch_dependence < 1e-3
    assert evidence.originals is not None
    for name in ("attack", "select", "test"):
        split = trained.splits[name]
        assert len(evidence.z[name]) == len(split)
        assert torch.equal(evidence.originals(name), split.batch(slice(None)).x)
        assert np.array_equal(evidence.labels["Male"][name], split.column("Male"))
        assert evidence.answers["Smiling"][name].shape == (len(split), 2)
    said = evidence.networks["Male"](evidence.z["test"]).detach().numpy()
    assert np.allclose(said, evidence.adversary["Male"], atol=1e-5)
    assert evidence.adversary["Male"].shape == (len(trained.splits.test), 2)
    assert "identity" not in evidence.labels
    assert evidence.identity is not None


def test_evidence_of_a_random_run_averages_fresh_draws(random_run: Run) -> None:
    evidence = evidence_of(random_run, seed=0)
    assert evidence.random
    assert evidence.draws == max(DRAWS)
    assert set(evidence.averaged) == set(DRAWS) - {1}
    assert evidence.averaged[4]["test"].std() < evidence.z["test"].std()
    assert torch.equal(evidence.z["test"], evidence_of(random_run, 0).z["test"])
    assert not torch.equal(evidence.z["test"], evidence_of(random_run, 1).z["test"])
