"""The command line: exit statuses, one line of what is wrong, and the whole job from end to end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from small_evidence import cheap, write
from veil import cli, pictures
from veil.attacks import suites
from veil.attacks.suites import Suite
from veil.cli_options import Source
from veil.data.sources import SOURCES
from veil.records import Audit
from veil.report import verdict

N = 200
RNG = np.random.default_rng(4)
S = RNG.integers(0, 2, N)
Z = RNG.normal(size=(N, 4)).astype(np.float32)
TINY = (
    "--size 32 --set data.people=60 --set pretrain_epochs=1 --set joint_epochs=1 "
    "--set encoder_channels=[4,4] --set decoder_channels=[4,4] --quiet"
)


@dataclass(frozen=True)
class Said:
    """What one call of `veil` left behind."""

    status: int
    out: str
    error: str


Veil = Callable[[str], Said]


@pytest.fixture
def veil(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Veil:
    """`veil ARGUMENTS` in an empty folder; anything but an exit is a traceback and fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(suites.SUITES, "cheap", cheap)
    monkeypatch.setattr(pictures, "STEPS", 3)

    def call(arguments: str) -> Said:
        monkeypatch.setattr("sys.argv", ["veil", *arguments.split()])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as stop:
            status = int(stop.code or 0)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return call


def test_train_audit_release_and_report_from_end_to_end(veil: Veil, tmp_path: Path) -> None:
    assert veil(f"train aia --private Male --utility Smiling --out run {TINY}").status == 0

    audited = veil("audit run --suite cheap --seeds 1 --quiet")
    found = Audit.load(tmp_path / "run" / "audit.json")
    assert audited.status == (3 if found.verdict == "refused" else 0)
    assert {"Male", "Smiling"} == set(found.targets)
    assert "Male" in audited.out
    with np.load(tmp_path / "run" / "samples.npz", allow_pickle=False) as samples:
        assert {"original", "reconstruction", "gradcam"} == set(samples.files)

    splits = "--split attack --split select --split test"
    for name in ("z.npz", "z.safetensors"):
        assert veil(f"release run {splits} --out {name} --quiet").status == 0
        outside = veil(f"audit --released {name} --suite cheap --seeds 1 --quiet --out {name}.json")
        assert outside.status in (0, 3)
    npz, safetensors = (Audit.load(tmp_path / f"z.{n}.json") for n in ("npz", "safetensors"))
    assert npz.targets == safetensors.targets
    ours = {r.attack: r.score for r in found.records if r.target == "Male"}
    theirs = {r.attack: r.score for r in npz.records if r.target == "s"}
    assert theirs["logistic standardised"] == ours["logistic standardised"]

    assert veil("report run --out report.html").status == 0
    page = (tmp_path / "report.html").read_text("utf-8")
    assert verdict(found).split(",")[0] in page
    assert "http://" not in page.replace("http://www.w3.org/", "")


def test_pictures_of_a_folder_are_released_one_file_each(veil: Veil, tmp_path: Path) -> None:
    from PIL import Image

    veil(f"train aia --private Male --out run {TINY}")
    (tmp_path / "pics" / "deep").mkdir(parents=True)
    for name in ("a.png", "b.jpg", "deep/c.png"):
        pixels = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pics" / name)
    assert veil("release run --images pics --out out --quiet").status == 0
    found = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.npy")}
    assert found == {"a.npy", "b.npy", "deep/c.npy"}
    assert np.load(tmp_path / "out" / "a.npy", allow_pickle=False).shape == (4, 8, 8)
    (tmp_path / "pics" / "d.png").write_bytes(b"no picture")
    said = veil("release run --images pics --out other --quiet")
    assert (said.status, said.error.count("\n")) == (2, 1)
    assert not (tmp_path / "other").exists()


def test_a_verdict_is_status_0_and_written_where_it_is_said(veil: Veil, tmp_path: Path) -> None:
    write(tmp_path / "r.npz", z=Z, s=S)
    said = veil("audit --released r.npz --suite cheap --seeds 1 --quiet")
    assert (said.status, said.error) == (0, "")
    assert "wrote r.audit.json" in said.out
    assert json.loads((tmp_path / "r.audit.json").read_text())["verdict"] == "given"
    again = veil("audit --released r.npz --suite cheap --seeds 1 --quiet")
    assert again.status == 2
    assert "--force" in again.error
    assert veil("audit --released r.npz --suite cheap --seeds 1 --quiet --force").status == 0


def test_a_refusal_is_status_3_and_written_too(veil: Veil, tmp_path: Path) -> None:
    write(tmp_path / "r.npz", z=Z, s=S, identity=np.arange(N) // 2, split=np.arange(N) % 3)
    said = veil("audit --released r.npz --suite cheap --quiet")
    assert said.status == 3
    assert "share" in said.out
    found = Audit.load(tmp_path / "r.audit.json")
    assert (found.verdict, [r.id for r in found.refusals]) == ("refused", ["overlap"])


@pytest.fixture
def things(tmp_path: Path) -> None:
    """A folder of somebody's, a file, and releases good and bad."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    write(tmp_path / "ok.npz", z=Z, s=S)
    write(tmp_path / "typo.npz", z=Z, s=S, identitty=S)
    np.savez(tmp_path / "object.npz", z=Z, s=S, identity=np.array([{}] * N, dtype=object))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "ok.npz").read_bytes()[:300])


# (what standard error says, arguments)
MISTAKES = [
    ("did you mean 'Male'", f"train aia --private Mael {TINY}"),
    ("did you mean 'Smiling'", f"train aia --private Male --utility smilling {TINY}"),
    ("no method 'aai': did you mean 'aia'", f"train aai --private Male {TINY}"),
    ("[method] needs a name", f"train --private Male {TINY}"),
    ("'private' is missing", f"train aia {TINY}"),
    ("both private and useful", f"train aia --private Male --utility Male {TINY}"),
    ("'age' has no classes", f"train aia --private age {TINY}"),
    ("did you mean 'alpha'", f"train aia --private Male {TINY} --set aplha=1"),
    ("write KEY=VALUE", f"train aia --private Male {TINY} --set alpha"),
    ("did you mean 'fit'", f"train aia --private Male {TINY} --set fitt.seed=1"),
    ("did you mean 'people'", f"train aia --private Male {TINY} --set data.peeple=9"),
    ("alpha = -1", f"train aia --private Male {TINY} --set alpha=-1"),
    ("alpha = nan", f"train aia --private Male {TINY} --set alpha=nan"),
    ("seed = 'x'", f"train aia --private Male {TINY} --set fit.seed=x"),
    ("device = 'gpu'", f"train aia --private Male {TINY} --set fit.device=gpu"),
    ("size = 7", "train aia --private Male --size 7"),
    ("'root' is missing", "train aia --private Male --data celeba"),
    ("nowhere", "train aia --private Male --data celeba --root nowhere --quiet"),
    ("nowhere: no such folder", "train aia --private Male --data table --root nowhere --quiet"),
    ("none.toml: no such file", "train aia --private Male --config none.toml"),
    ("not a TOML file", "train aia --private Male --config file"),
    ("not empty and holds no run", f"train aia --private Male --out folder {TINY}"),
    ("not empty and holds no run", f"train aia --private Male --out folder --force {TINY}"),
    ("file: is a file", f"train aia --private Male --out file {TINY}"),
    ("file/run: cannot be made", f"train aia --private Male --out file/run {TINY}"),
    ("'fit' split is empty", f"train aia --private Male {TINY} --set data.people=1"),
    ("name one thing to audit", "audit"),
    ("name one thing to audit", "audit run --released ok.npz"),
    ("holds no run", "audit nowhere"),
    ("holds no run", "audit folder"),
    ("none.npz: no such file", "audit --released none.npz"),
    ("did you mean 'identity'", "audit --released typo.npz --quiet"),
    ("pickled objects", "audit --released object.npz --quiet"),
    ("cut short", "audit --released cut.npz --quiet"),
    ("did you mean 'quick'", "audit --released ok.npz --suite quik --quiet"),
    ("folder: exists", "audit --released ok.npz --out folder"),
    ("folder: is a folder", "audit --released ok.npz --out folder --force --quiet"),
    ("not a run folder", "report nowhere"),
    ("not a run folder", "report file"),
    ("folder/audit.json: no such file", "report folder"),
    ("say what to release", "release folder --out z.npz"),
    ("say what to release", "release folder --out z.npz --split test --images folder"),
    ("did you mean 'test'", "release folder --out z.npz --split tset"),
    (".npz or .safetensors", "release folder --out z.csv --split test"),
    ("holds no run", "release folder --out z.npz --split test"),
    ("folder: exists", "release folder --out folder --images folder"),
    ("did you mean 'people'", "data inspect --set peple=4"),
    ("'root' is missing", "data inspect --data celeba"),
]


@pytest.mark.parametrize(("says", "arguments"), MISTAKES)
@pytest.mark.usefixtures("things")
def test_a_mistake_is_one_line_and_status_2(
    veil: Veil, tmp_path: Path, says: str, arguments: str
) -> None:
    said = veil(arguments)
    assert said.status == 2
    assert says in said.error
    assert said.error.startswith("veil: ")
    assert said.error.count("\n") == 1
    assert said.out == ""
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "nowhere").exists()


USAGE = [
    ("No such command", "frobnicate"),
    ("No such option", "audit --nope"),
    ("Missing argument", "report"),
    ("Missing option", "release folder"),
    ("--seeds", "audit --released ok.npz --seeds 0"),
    ("--seeds", "audit --released ok.npz --seeds many"),
    ("--data", "train aia --data flickr"),
]


@pytest.mark.parametrize(("says", "arguments"), USAGE)
def test_wrong_usage_is_one_line_and_status_2(veil: Veil, says: str, arguments: str) -> None:
    said = veil(arguments)
    assert said.status == 2
    assert says in said.error
    assert said.error.startswith("veil: ")
    command = "" if "command" in says else f"{arguments.split(maxsplit=1)[0]} "
    assert said.error.endswith(f"(see veil {command}--help)\n")
    assert said.error.count("\n") == 1


def test_an_interrupt_is_one_line_and_status_130(
    veil: Veil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> Suite:
        raise KeyboardInterrupt

    monkeypatch.setitem(suites.SUITES, "cheap", interrupted)
    write(tmp_path / "r.npz", z=Z, s=S)
    said = veil("audit --released r.npz --suite cheap --quiet")
    assert said.status == 130
    assert not (tmp_path / "r.audit.json").exists()


def test_a_finished_run_is_kept_and_an_unfinished_one_not_audited(
    veil: Veil, tmp_path: Path
) -> None:
    assert veil(f"train aia --private Male --out run {TINY}").status == 0
    weights = (tmp_path / "run" / "method.safetensors").read_bytes()
    said = veil(f"train aia --private Male --out run {TINY}")
    assert (said.status, said.error.count("\n")) == (2, 1)
    assert "--force" in said.error
    assert veil(f"train aia --private Male --out run --force {TINY}").status == 0
    assert (tmp_path / "run" / "method.safetensors").read_bytes() == weights
    (tmp_path / "run" / "method.safetensors").unlink()
    assert "not finished" in veil("audit run --quiet").error


def test_a_run_is_its_config_file(veil: Veil, tmp_path: Path) -> None:
    """config.toml of one run makes the same run again, bit for bit."""
    assert veil(f"train aia --private Male --out one {TINY}").status == 0
    assert veil("train --config one/config.toml --out two --quiet").status == 0
    one, two = (tmp_path / name / "method.safetensors" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_data_inspect_prints_what_there_is(veil: Veil) -> None:
    said = veil("data inspect --size 32 --set people=40 --quiet")
    assert said.status == 0
    assert "200 images" in said.out
    assert "40 people" in said.out


def test_the_demo_runs_goes_on_and_is_not_overwritten(
    veil: Veil, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four rows, tiny; a row that an interrupt left without its audit is not trained again."""
    from veil import demo

    smaller = {"encoder_channels": [4, 4], "decoder_channels": [4, 4]}
    monkeypatch.setattr(demo, "PEOPLE", 60)
    monkeypatch.setattr(
        demo, "METHOD", demo.METHOD | smaller | {"pretrain_epochs": 1, "joint_epochs": 1}
    )
    monkeypatch.setitem(suites.SUITES, "quick", cheap)
    said = veil("demo --out demo")
    assert said.status == 0
    page = (tmp_path / "demo" / "report.html").read_text("utf-8")
    assert all(name in page for name in ("Original", "Random", "AIA"))
    again = veil("demo --out demo")
    assert (again.status, "--force" in again.error) == (2, True)
    (tmp_path / "demo" / "report.html").unlink()
    (tmp_path / "demo" / "aia" / "audit.json").unlink()
    trained = (tmp_path / "demo" / "aia" / "run.json").stat().st_mtime_ns
    assert veil("demo --out demo").status == 0
    assert (tmp_path / "demo" / "aia" / "run.json").stat().st_mtime_ns == trained


def test_every_data_source_has_its_word_on_the_command_line() -> None:
    assert {source.value for source in Source} == {*SOURCES}
