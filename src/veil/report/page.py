"""One self-contained HTML file from one or several run folders: no script, no request."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from veil.errors import VeilError
from veil.records import Audit, Record
from veil.report import curves, scatter, tables, verdicts, view, words
from veil.report.comparing import comparison_clauses
from veil.report.png import data_uri
from veil.report.runs import PICTURES, Pictures, Run, read_run
from veil.report.tradeoff import tradeoffs

MOST_PICTURES = 12
PICTURE_NAMES = {
    "original": "Original",
    "release": "Release",
    "reconstruction": "Reconstruction",
    "gradcam": "Grad-CAM",
    "attacked_original": "Original (attacked)",
    "attacked": "Attacker's reconstruction",
}
Explanations = Mapping[str, tuple[str, str, str]]


def write_report(runs: Sequence[Path], out: Path, explanations: Explanations | None = None) -> None:
    """Write one HTML file that shows the audits of one or several run folders.

    The file holds everything it needs. It is written beside `out` and then renamed, so that `out`
    is never half a report; an earlier report of that name is replaced.

    Args:
        runs: folders that hold audit.json and perhaps run.json, samples.npz and metrics.jsonl.
        out: the HTML file.
        explanations: doubt id -> (raised if, means, do), each a sentence.

    Raises:
        VeilError: no run, a run folder that cannot be read, or a place that cannot be written.
    """
    if not runs:
        raise VeilError("a report needs at least one run folder")
    if not out.parent.is_dir():
        raise VeilError(f"{out}: the folder {out.parent} does not exist; create it first")
    if out.is_dir():
        raise VeilError(f"{out}: is a folder; give the name of the HTML file")
    page = render([read_run(folder) for folder in runs], explanations or {})
    beside = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        beside.write_text(page, "utf-8")
        beside.replace(out)
    except OSError as error:
        raise VeilError(f"{out}: cannot be written: {error.strerror}") from None
    finally:
        beside.unlink(missing_ok=True)


def render(runs: Sequence[Run], explanations: Explanations) -> str:
    """The HTML text of the report on `runs`."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("veil.report")

    def source(name: str) -> str:
        return folder.joinpath(name).read_text("utf-8")

    environment = Environment(
        loader=FunctionLoader(source),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": words.figure,
        "score": words.score,
        "interval": words.interval,
        "metric": words.metric,
        "capitalized": words.capitalized,
    }
    audits = [run.audit for run in runs]
    return environment.get_template("report.html.j2").render(
        style=source("report.css"),
        names=view.short_names([audit.name for audit in audits]),
        runs=runs,
        sections=[_section(index, run, audits) for index, run in enumerate(runs)],
        clauses=comparison_clauses(audits) if len(audits) > 1 else [],
        plots=_plots(audits),
        summary=tables.summary(audits),
        doubts=_doubts(audits, explanations),
        view=view,
        verdicts=verdicts,
        at_most=words.at_most,
        dash=words.DASH,
    )


def _plots(audits: Sequence[Audit]) -> list[dict[str, Any]]:
    """Each plot twice: for a page and for a phone, of which the style sheet shows one."""
    return [
        {
            "plot": plot,
            "wide": scatter.draw(plot, f"plot{number}w", 720, 440),
            "narrow": scatter.draw(plot, f"plot{number}n", 368, 400),
        }
        for number, plot in enumerate(tradeoffs(audits))
    ]


def _section(index: int, run: Run, audits: Sequence[Audit]) -> dict[str, Any]:
    audit = run.audit
    panels: dict[str, list[str]] = {}
    for number, curve in enumerate(curves.curves(run.progress)):
        panel = curves.draw(curve, f"curve{index}-{number}")
        panels.setdefault(curve.stage, []).append(panel)
    targets = view.attacked(audits) + view.useful(audits)
    return {
        "audit": audit,
        "tables": [
            tables.attackers(audit, target, view.scale(audits, target))
            for target in targets
            if target in audit.targets
        ],
        "parts": tables.parts(audit),
        "scan": tables.scan(audit),
        "pictures": _pictures(run.samples),
        "panels": panels,
        "provenance": _rows(audit.provenance),
        "about": _rows(run.about),
    }


def _pictures(samples: Mapping[str, Pictures]) -> list[list[tuple[str, list[str]]]]:
    """For each set of pictures that there is, (row name, data URIs) of each kind."""
    found = []
    for kinds in PICTURES:
        rows = [
            (PICTURE_NAMES[name], [data_uri(picture) for picture in samples[name][:MOST_PICTURES]])
            for name in kinds
            if name in samples
        ]
        found += [rows] if rows else []
    return found


def _doubts(audits: Sequence[Audit], explanations: Explanations) -> list[dict[str, Any]]:
    """Every doubt and refusal by id: what raised it where, and what it means."""
    raised: dict[str, dict[str, list[str]]] = {}
    for audit, name in zip(audits, view.short_names([a.name for a in audits]), strict=True):
        for refusal in audit.refusals:
            raised.setdefault(refusal.id, {}).setdefault(refusal.text, []).append(name)
        for record in _by_importance(audit):
            where = f"{name}: {record.attack} on {record.target}"
            for doubt in record.doubts:
                raised.setdefault(doubt.id, {}).setdefault(doubt.text, []).append(where)
    return [
        {"id": key, "texts": texts, "explained": explanations.get(key)}
        for key, texts in raised.items()
    ]


def _by_importance(audit: Audit) -> list[Record]:
    """The records that verdicts rest on first, then all others."""
    chosen = [summary.worst for summary in audit.targets.values()]
    return chosen + [record for record in audit.records if record not in chosen]


def _rows(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as (dotted name, text) rows."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            rows += _rows(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", _plain(value)))
    return rows


def _plain(value: Any) -> str:
    """Any JSON value as text; an en dash where there is nothing."""
    if value is None or value in ("", [], {}):
        return words.DASH
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else words.DASH
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(v, str | int) for v in value):
        return ", ".join(map(str, value))
    if isinstance(value, bool) or not isinstance(value, int):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
