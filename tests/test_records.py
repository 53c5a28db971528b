"""audit.json: its published schema, what it refuses, and that it comes back as it went."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

from small_evidence import cheap, made_up
from veil.attacks import suites
from veil.audit import audit, refused
from veil.errors import Refused, VeilError
from veil.records import Audit, Doubt, Record

PUBLISHED = Path(__file__).parents[1] / "docs" / "audit.schema.json"


def schema() -> dict[str, Any]:
    """What docs/audit.schema.json must hold."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Audit.model_json_schema(by_alias=True),
    }


@pytest.fixture(scope="module")
def found() -> Audit:
    """A real audit with a useful label."""
    rng = np.random.default_rng(0)
    s = rng.integers(0, 2, 300)
    z = np.column_stack([s, rng.normal(size=300)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(suites.SUITES, "tested", cheap)
        return audit(made_up(z, s, y=1 - s), "tested", 1)


def test_the_published_schema_is_the_models() -> None:
    """After a change of the records: raise the schema's number and write the file anew."""
    assert json.loads(PUBLISHED.read_text("utf-8")) == schema()


def test_real_audits_follow_the_published_schema(found: Audit) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text("utf-8")))
    validator.check_schema(schema())
    for one in (found, refused("r.npz", Refused("splits share 3 people"))):
        validator.validate(json.loads(one.dumps()))
    broken = json.loads(found.dumps())
    broken["records"][0]["n"] = "many"
    assert not validator.is_valid(broken)
    assert not validator.is_valid(json.loads(found.dumps()) | {"schema": 2})
    assert not validator.is_valid(json.loads(found.dumps()) | {"more": 1})


def test_an_audit_comes_back_as_it_went(found: Audit, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(found.dumps(), "utf-8")
    assert Audit.load(path).dumps() == found.dumps()
    assert json.loads(found.dumps())["schema"] == 1
    assert json.loads(found.dumps(), parse_constant=pytest.fail)


def test_every_record_says_what_the_specification_asks_for(found: Audit) -> None:
    asked = (
        "target kind attack metric score interval floor ceiling n seeds spread nag bits "
        "certified reported doubts config"
    )
    for record in json.loads(found.dumps())["records"]:
        assert set(asked.split()) <= record.keys()
        assert record["ceiling"] is None  # absent figures are null, not left out
    for summary in json.loads(found.dumps())["targets"].values():
        assert summary["worst"] in json.loads(found.dumps())["records"]


@pytest.mark.parametrize("figure", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("field", ["score", "bits", "nag", "spread", "ceiling"])
def test_a_record_holds_no_figure_that_is_not_finite(field: str, figure: float) -> None:
    whole: dict[str, Any] = {
        "target": "s",
        "kind": "attribute",
        "attack": "a",
        "family": "f",
        "metric": "m",
        "score": 0.5,
        "interval": (0.4, 0.6),
        "n": 3,
    }
    Record(**whole)
    for bad in ({field: figure}, {"interval": (0.1, figure)}, {"scores": {"auc": figure}}):
        with pytest.raises(ValidationError):
            Record(**(whole | bad))


def test_records_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Doubt(id="a", text="b").text = "c"  # type: ignore[misc]


BAD: list[tuple[str, Any]] = [
    ("records", {"records": None}),
    ("schema", {"schema": 2}),
    ("verdict", {"verdict": "fine"}),
    ("extra", {"extra": 1}),
]


@pytest.mark.parametrize(("field", "change"), BAD)
def test_a_file_that_is_no_audit_names_the_field(
    found: Audit, tmp_path: Path, field: str, change: dict[str, Any]
) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(json.loads(found.dumps()) | change), "utf-8")
    with pytest.raises(VeilError, match=rf"audit\.json: not an audit\.json: {field}: "):
        Audit.load(path)


def test_what_is_no_json_or_not_there_is_one_line(tmp_path: Path) -> None:
    for content in (b"", b"{", b"\xff\xfe\x00", b"[]"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(VeilError, match=r"not an audit\.json") as caught:
            Audit.load(tmp_path / "a.json")
        assert "\n" not in str(caught.value)
    with pytest.raises(VeilError, match="no such file; run 'veil audit' first"):
        Audit.load(tmp_path / "none.json")
    with pytest.raises(VeilError, match="cannot be read"):
        Audit.load(tmp_path)
