"""The documentation is true of the code: its Python runs, its commands parse, its links lead."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

from small_evidence import cheap
from veil import demo, doubts, runs
from veil.attacks.neighbours import Neighbours
from veil.cli import app
from veil.config import RunConfig, data_config, parse, read
from veil.data.dataset import BINARY, IDENTITY
from veil.doubts import EXPLANATIONS, about_worst, refusals_of
from veil.method import Problem
from veil.methods import method_named

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXPERIMENTS = sorted(ROOT.glob("experiments/*.toml"))
# Rows of AIA's table 1 by the last word of the folder that a command trains into.
ROWS = {"original": "Original", "random": "Random", "aia_without_task": "AIA\\T", "aia": "AIA"}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = re.compile(r"^<!-- run -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [body for kind, body in FENCE.findall(page.read_text("utf-8")) if kind == language]


def commands(page: Path) -> list[list[str]]:
    """The `veil ...` commands of a page (or of a TOML file's comments), as words."""
    if page.suffix == ".toml":
        lines = [line.removeprefix("# ") for line in page.read_text("utf-8").splitlines()]
    else:
        lines = [line for body in blocks(page, "sh") for line in body.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines if line.startswith("veil ")]
    return [words[1:] for words in split]


def pages_with(found: Callable[[Path], object]) -> list[Path]:
    return [page for page in PAGES if found(page)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with its own cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VEIL_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize(
    "page", pages_with(lambda page: RUN.search(page.read_text("utf-8"))), ids=name_of
)
@pytest.mark.usefixtures("desk")
def test_marked_python_runs(page: Path) -> None:
    """The blocks of a page, in order, in one namespace: a name that moved fails here."""
    namespace: dict[str, Any] = {"__name__": f"docs_{page.stem}"}
    for body in RUN.findall(page.read_text("utf-8")):
        exec(compile(body, name_of(page), "exec", dont_inherit=True), namespace)


def test_the_method_that_a_page_quotes_is_in_the_code() -> None:
    quoted = next(b for b in blocks(ROOT / "docs/researcher.md", "python") if "joint_round" in b)
    source = (ROOT / "src/veil/methods/aia.py").read_text("utf-8")
    indented = "".join(f"    {line}\n" if line else "\n" for line in quoted.splitlines())
    assert indented in source


@pytest.mark.parametrize("page", pages_with(commands) + EXPERIMENTS, ids=name_of)
def test_commands_parse(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command, option and value exists; of `veil train`, every setting too."""
    shutil.copytree(ROOT / "experiments", desk / "experiments")
    if page.suffix == ".md":
        write_toml_blocks(page, desk)
    trained = record_training(monkeypatch)
    assert commands(page)
    for words in commands(page):
        if words[0] == "train":
            app(words, standalone_mode=False)
            assert trained
        else:
            parse_only(words)


def parse_only(words: list[str]) -> None:
    """Let the command line's own parser judge the words; nothing is executed."""
    command: Any = get_command(app)
    while hasattr(command, "commands"):
        assert words[0] in command.commands, f"there is no command '{words[0]}'"
        command, words = command.commands[words[0]], words[1:]
    command.make_context(command.name, words)


def record_training(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """`veil train` stops short of training: its configurations are collected instead."""
    configs: list[RunConfig] = []

    def pretend(config: RunConfig, *_: object) -> SimpleNamespace:
        configs.append(config)
        return SimpleNamespace(method=SimpleNamespace(title=lambda: config.method_name))

    monkeypatch.setattr(runs, "train", pretend)
    return configs


@pytest.mark.parametrize(
    "words", [["adit", "run"], ["audit", "--relased", "x.npz"], ["audit", "r", "--seeds", "two"]]
)
def test_a_wrong_command_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"(?i)no command|no such option|valid integer"):
        parse_only(words)


@pytest.mark.parametrize("page", pages_with(lambda page: blocks(page, "toml")), ids=name_of)
def test_toml_is_understood(page: Path) -> None:
    for body in blocks(page, "toml"):
        tables = tomllib.loads(body)
        if "method" in tables:
            parse(tables, name_of(page))
        else:
            data_config(tables["data"], name_of(page))


def write_toml_blocks(page: Path, folder: Path) -> None:
    """Blocks that begin with `# NAME.toml` become that file."""
    for body in blocks(page, "toml"):
        if named := re.match(r"# (\S+\.toml)\n", body):
            (folder / named[1]).write_text(body, encoding="utf-8")


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/aia_*.toml")), ids=name_of)
def test_experiments_are_the_rows_of_table_1(
    path: Path, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file itself is the row AIA; the commands in its header give all four, by title."""
    assert title_of(read(path)) == "AIA"
    shutil.copytree(ROOT / "experiments", desk / "experiments")
    trained = record_training(monkeypatch)
    for words in commands(path):
        app(words, standalone_mode=False)
    folders = [Path(words[words.index("--out") + 1]).name for words in commands(path)]
    assert {f: title_of(c) for f, c in zip(folders, trained, strict=True)} == ROWS


def test_table_1_has_reported_figures_on_celeba() -> None:
    """Figures of the paper's table 1 stand beside a run that is a row of it."""
    config = read(ROOT / "experiments/aia_paper.toml")
    method = method_named("aia")(config.method, problem_of(config))
    assert method.reported("celeba") == {"Male": 0.6496, "identity": 0.7864}
    assert "| AIA | 64.96 | 78.64 |" in (ROOT / "docs/methods/aia.md").read_text("utf-8")
    assert method.reported("synthfaces") == {}


def title_of(config: RunConfig) -> str:
    return method_named(config.method_name)(config.method, problem_of(config)).title()


def problem_of(config: RunConfig) -> Problem:
    labels = dict.fromkeys(config.problem.private, BINARY) | {"identity": IDENTITY}
    size = config.data.size
    shape = (config.data.channels, size, size)
    return Problem(config.problem.private, config.problem.utility, labels, shape)


def test_readme_describes_the_demo_that_is_run() -> None:
    readme = " ".join((ROOT / "README.md").read_text("utf-8").split())
    assert f"drawn faces of {demo.PEOPLE:,} people at {demo.SIZE} pixels" in readme
    assert f"private label is `{demo.PRIVATE}`, the useful one `{demo.UTILITY}`" in readme


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = {
        target
        for page in PAGES
        for target in re.findall(r"\bmake (\w+)\b(?= |$|`)", "\n".join(blocks(page, "sh")))
    }
    assert {"demo", "test"} <= named <= targets


def test_the_rooms_stand_in_the_order_that_is_checked() -> None:
    """The layers of docs/architecture.md are those of pyproject.toml, and every room is named."""
    page = ROOT / "docs/architecture.md"
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
    layers = tools["importlinter"]["contracts"][0]["layers"]
    assert blocks(page, "text")[0].splitlines() == layers[::-1]
    text = page.read_text("utf-8")
    for room in re.findall(r"\w+", " ".join(layers)):
        assert f"`{room}.py`" in text or f"`{room}/`" in text, room


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path) if path else page
        assert found.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(found), f"{name_of(page)}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    headings = HEADING.findall(page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_current() -> None:
    """The pages say what the code says; mend with `python docs/generate.py`."""
    generate = runpy.run_path(str(ROOT / "docs/generate.py"))
    assert (ROOT / "docs/doubts.md").read_text("utf-8") == generate["doubts_page"]()
    for name, written in generate["PAGES"].items():
        page = (ROOT / "docs" / name).read_text("utf-8")
        assert written(page) == page, name
    assert json.loads((ROOT / "docs/audit.schema.json").read_text("utf-8")) == generate["schema"]()
    assert set(generate["REFUSALS"]) < EXPLANATIONS.keys()


def test_refusals_and_doubts_are_told_apart_as_the_code_does() -> None:
    """What `refusals_of` raises is a refusal on the page, what `about_worst` raises a doubt."""
    refusals = set(runpy.run_path(str(ROOT / "docs/generate.py"))["REFUSALS"])
    assert ids_in(refusals_of) <= refusals
    assert ids_in(about_worst) == EXPLANATIONS.keys() - refusals


def ids_in(function: Any) -> set[str]:
    """The doubts that a function of `veil.doubts` names, or those that it calls."""
    names = set(map(str, function.__code__.co_consts)) & EXPLANATIONS.keys()
    called = [getattr(doubts, name, None) for name in function.__code__.co_names]
    return names.union(*(ids_in(f) for f in called if isinstance(f, FunctionType)))


def test_words_that_veil_does_not_use() -> None:
    """A page that says "anonymous" or "secure" at all says it to forbid the word."""
    claims = re.compile(r"\b(anonymous|secure|anonymi[sz]ed|privacy-preserving)\b", re.IGNORECASE)
    forbidding = re.compile(r"(?i)\b(not|never)\b")
    for page in PAGES:
        for paragraph in page.read_text("utf-8").split("\n\n"):
            if claims.search(paragraph):
                assert forbidding.search(paragraph), f"{name_of(page)}: {paragraph}"


@pytest.mark.parametrize(
    ("example", "sizes"),
    [
        ("audit_your_own", {"people": 80}),
        ("audit_a_folder", {"people": 160, "suite": cheap(Neighbours("whitened"))}),
        ("train_and_release", {"people": 60, "epochs": 1}),
        ("add_an_attack", {"rows": 200}),
    ],
)
@pytest.mark.usefixtures("desk")
def test_examples_run(
    example: str, sizes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    found = runpy.run_path(str(ROOT / "examples" / f"{example}.py"))["main"](**sizes)
    said = capsys.readouterr().out
    if example == "train_and_release":
        assert "the same release: True" in said
    else:
        assert found.verdict == "given"
        assert "Leaks" in said


def test_every_example_is_tested() -> None:
    assert {path.stem for path in ROOT.glob("examples/*.py")} == {
        "add_an_attack",
        "audit_a_folder",
        "audit_your_own",
        "train_and_release",
    }
