"""A run's configuration: what is written reads back equal; what is wrong is named, with a hint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from veil.config import parse, read, read_tables, with_settings
from veil.data.synthfaces import SynthFacesConfig
from veil.data.table import TableConfig
from veil.errors import VeilError
from veil.methods.aia import AIAConfig
from veil.train import FitConfig


def tables(**method: Any) -> dict[str, Any]:
    return {
        "data": {"source": "synthfaces", "people": 20},
        "problem": {"private": ["Male"], "utility": ["identity"]},
        "method": {"name": "aia"} | method,
    }


def refusal(asked: dict[str, Any]) -> str:
    with pytest.raises(VeilError) as caught:
        parse(asked, "run.toml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("run.toml")
    return message


def test_what_is_asked_for_arrives_and_the_rest_is_default() -> None:
    config = parse(tables(alpha=0.2, encoder_channels=[4, 6]), "here")
    assert config.method == AIAConfig(alpha=0.2, encoder_channels=(4, 6))
    assert config.data == SynthFacesConfig(people=20)
    assert config.fit == FitConfig()
    assert config.problem.private == ("Male",)
    assert config.method_name == "aia"


def test_a_saved_config_reads_back_equal_and_says_everything(tmp_path: Path) -> None:
    asked = tables(alpha=0.2, patience=0) | {"fit": {"seed": 5, "precision": "fp32"}}
    asked["data"]["correlations"] = {"Male,Smiling": -0.3}
    config = parse(asked, "here")
    config.save(tmp_path / "config.toml")
    assert read(tmp_path / "config.toml") == config
    written = read_tables(tmp_path / "config.toml")
    assert written["method"].keys() == {"name", *AIAConfig.model_fields}
    assert written["fit"].keys() == {*FitConfig.model_fields}
    assert read(tmp_path / "config.toml") != parse(tables(alpha=0.3), "here")


def test_paths_survive_the_round_trip(tmp_path: Path) -> None:
    asked = tables() | {"data": {"source": "table", "root": "some where/ä", "table": "t.csv"}}
    config = parse(asked, "here")
    assert isinstance(config.data, TableConfig)
    assert config.data.root == Path("some where/ä")
    config.save(tmp_path / "c.toml")
    assert read(tmp_path / "c.toml") == config


def test_whole_numbers_are_fine_for_fractions() -> None:
    assert parse(tables(alpha=1), "here").method == AIAConfig(alpha=1.0)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (tables() | {"metod": {}}, "no section [metod]: did you mean 'method'?"),
        (tables(alhpa=0.5), "[method]: no key 'alhpa': did you mean 'alpha'?"),
        (tables() | {"fit": {"sead": 1}}, "[fit]: no key 'sead': did you mean 'seed'?"),
        (tables() | {"data": {"source": "celebs"}}, "no data source 'celebs': did you mean 'cel"),
        (
            tables() | {"data": {"source": "synthfaces", "poeple": 3}},
            "[data]: no key 'poeple': did you mean 'people'?",
        ),
        (tables() | {"problem": {}}, "[problem]: 'private' is missing"),
        (tables() | {"problem": {"private": "Male"}}, "private = 'Male'"),
        (tables() | {"method": {}}, "[method] needs a name: known: aia"),
        (tables(alpha="half"), "alpha = 'half'"),
        (tables(alpha="0.5"), "alpha = '0.5'"),
        (tables(alpha=True), "alpha = True"),
        (tables(alpha=-0.5), "alpha = -0.5"),
        (tables(lr=float("nan")), "lr = nan"),
        (tables(beta=float("inf")), "beta = inf"),
        (tables(batch_size=8.5), "batch_size = 8.5"),
        (tables(encoder_channels=8), "encoder_channels = 8"),
        (tables(encoder_channels=[8, "x"]), "encoder_channels.1 = 'x'"),
        (tables(privacy="caped"), "privacy = 'caped'"),
        (tables() | {"fit": {"device": "gpu"}}, "device = 'gpu'"),
    ],
)
def test_what_is_wrong_is_named(asked: dict[str, Any], says: str) -> None:
    assert says in refusal(asked)


def test_all_faults_of_a_section_are_told_at_once() -> None:
    message = refusal(tables(alhpa=0.5, beta="much", lr=-1))
    for part in ("no key 'alhpa'", "beta = 'much'", "lr = -1"):
        assert part in message


def test_an_unknown_method_is_told_with_the_nearest() -> None:
    with pytest.raises(VeilError, match=r"no method 'aja': did you mean 'aia'\?"):
        parse(tables(name="aja"), "here")
    with pytest.raises(VeilError, match="no method '3': known: aia"):
        parse(tables(name=3), "here")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[method\n", "not a TOML file"),
        ("seed = 3\n", "'seed' stands outside of a section: put it under [data], [problem]"),
        ('method = "aia"\n', "'method' stands outside of a section"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(VeilError) as caught:
        read(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_file_that_is_missing_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(VeilError, match="no such file"):
        read(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(VeilError, match="not a TOML file"):
        read(tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("setting", "section", "field", "value"),
    [
        ("alpha=0.2", "method", "alpha", 0.2),
        ("alpha = 0.2", "method", "alpha", 0.2),
        ("method.alpha=1e-3", "method", "alpha", 1e-3),
        ("fit.seed=7", "fit", "seed", 7),
        ("privacy=printed", "method", "privacy", "printed"),
        ('privacy="printed"', "method", "privacy", "printed"),
        ("encoder_channels=[4, 6]", "method", "encoder_channels", [4, 6]),
        ("data.label_noise=false", "data", "label_noise", False),
        ("data.root=/some/where", "data", "root", "/some/where"),
        ("data.root=a=b", "data", "root", "a=b"),
        (
            'data.correlations={"Male,Smiling" = -0.3}',
            "data",
            "correlations",
            {"Male,Smiling": -0.3},
        ),
        ('problem.private=["Male"]', "problem", "private", ["Male"]),
        ("name=aia", "method", "name", "aia"),
    ],
)
def test_settings_on_top(setting: str, section: str, field: str, value: object) -> None:
    before = tables()
    merged = with_settings(before, [setting])
    assert merged[section][field] == value
    assert type(merged[section][field]) is type(value)
    assert before == tables(), "the file's own tables were changed"
    rest = {
        s: {k: v for k, v in t.items() if (s, k) != (section, field)} for s, t in merged.items()
    }
    for name, table in tables().items():
        assert rest[name] == {k: v for k, v in table.items() if (name, k) != (section, field)}


def test_the_last_setting_wins() -> None:
    assert with_settings({}, ["alpha=0.1", "alpha=0.2"]) == {"method": {"alpha": 0.2}}


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("alpha", "write KEY=VALUE"),
        ("=3", "write KEY=VALUE"),
        ("fitt.seed=3", "no section 'fitt': did you mean 'fit'?"),
    ],
)
def test_settings_that_say_nothing(setting: str, says: str) -> None:
    with pytest.raises(VeilError) as caught:
        with_settings(tables(), [setting])
    assert says in str(caught.value)
    assert "--set" in str(caught.value)
