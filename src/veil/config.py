"""One run, written down: data, problem, method, training. From TOML and the command line."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError
from pydantic_core import to_json

from veil.checkpoint import written_beside
from veil.data.sources import SOURCES, DataConfig
from veil.errors import VeilError, nearest
from veil.method import MethodConfig
from veil.methods import METHODS, method_named
from veil.train import FitConfig

Model = TypeVar("Model", bound=BaseModel)
SECTIONS = ("data", "problem", "method", "fit")


class ProblemConfig(MethodConfig):
    """Which labels are private and which are useful ("identity" is 1-to-1 face matching)."""

    private: tuple[str, ...]
    utility: tuple[str, ...] = ()


class RunConfig(MethodConfig):
    """Everything that decides a run; written beside every result as config.toml.

    Attributes:
        data: the source and its settings.
        problem: private and useful labels.
        method_name: the paper, a key of `METHODS`.
        method: its configuration, of that method's own type.
        fit: training settings common to all methods.
    """

    data: DataConfig
    problem: ProblemConfig
    method_name: str
    method: MethodConfig
    fit: FitConfig

    def to_toml(self) -> dict[str, Any]:
        """The tables of config.toml; `parse` reads them back to an equal config."""
        return {
            "data": _without_none(self.data),
            "problem": _without_none(self.problem),
            "method": {"name": self.method_name} | _without_none(self.method),
            "fit": _without_none(self.fit),
        }

    def save(self, path: Path) -> None:
        """Write config.toml, all or nothing."""
        with written_beside(path) as beside:
            beside.write_text(tomli_w.dumps(self.to_toml()), encoding="utf-8")


def parse(tables: Mapping[str, Any], where: str) -> RunConfig:
    """A run's configuration from the tables of a TOML file.

    Args:
        tables: [data] with `source`, [problem], [method] with `name`, [fit].
        where: the file or "the command line", for messages.

    Raises:
        VeilError: every unknown, missing or ill-typed key, by name, with the nearest spelling.
    """
    for section in tables:
        if section not in SECTIONS:
            raise VeilError(f"{where}: no section [{section}]: {nearest(section, SECTIONS)}")
    method = dict(tables.get("method", {}))
    name = method.pop("name", None)
    if name is None:
        raise VeilError(f"{where}: [method] needs a name: {nearest('', METHODS)}")
    return RunConfig(
        data=data_config(tables.get("data", {}), where),
        problem=_section(ProblemConfig, tables.get("problem", {}), f"{where} [problem]"),
        method_name=name,
        method=_section(method_named(str(name)).Config, method, f"{where} [method]"),
        fit=_section(FitConfig, tables.get("fit", {}), f"{where} [fit]"),
    )


def data_config(table: Mapping[str, Any], where: str) -> DataConfig:
    """The configuration of a data source from the table [data]; `source` says which."""
    source = str(table.get("source", "synthfaces"))
    if source not in SOURCES:
        raise VeilError(f"{where}: no data source '{source}': {nearest(source, SOURCES)}")
    return _section(SOURCES[source], table, f"{where} [data]")


def read(path: Path) -> RunConfig:
    """The configuration in a TOML file (see `parse`)."""
    return parse(read_tables(path), str(path))


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        VeilError: the file is missing, is not TOML (the line is named), or has a key outside of a
            section.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VeilError(f"{path}: no such file") from None
    except OSError as error:
        raise VeilError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise VeilError(f"{path}: not a TOML file: {error}") from None
    for key, table in tables.items():
        if not isinstance(table, dict):
            shown = ", ".join(f"[{section}]" for section in SECTIONS)
            raise VeilError(f"{path}: '{key}' stands outside of a section: put it under {shown}")
    return tables


def with_settings(tables: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """The tables with `KEY=VALUE` settings on top; KEY is `section.key`, or a key of [method].

    Values are TOML (`0.5`, `true`, `[8, 12]`); anything else is a string.
    """
    merged = {section: dict(table) for section, table in tables.items()}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            raise VeilError(f"--set '{setting}': write KEY=VALUE, as in --set alpha=0.5")
        section, dot, field = key.strip().rpartition(".")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        if dot and section not in SECTIONS:
            raise VeilError(f"--set {key}: no section '{section}': {nearest(section, SECTIONS)}")
        merged.setdefault(section or "method", {})[field] = value
    return merged


def _section(model: type[Model], values: Mapping[str, Any], where: str) -> Model:
    try:
        # Strict, so that `alpha = true` is no number; as JSON, whose lists may become tuples.
        return model.model_validate_json(to_json(values), strict=True)
    except ValidationError as error:
        problems = []
        for fault in error.errors():
            field = ".".join(map(str, fault["loc"]))
            if fault["type"] == "extra_forbidden":
                problems.append(f"no key '{field}': {nearest(field, model.model_fields)}")
            elif fault["type"] == "missing":
                problems.append(f"'{field}' is missing")
            else:
                problems.append(f"{field} = {fault['input']!r}: {fault['msg']}")
        raise VeilError(f"{where}: " + "; ".join(problems)) from None


def _without_none(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)
