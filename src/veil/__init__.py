"""Learn, release and audit face representations that carry a task and not a private attribute.

Everything below is imported when it is first used, so `import veil` costs nothing. The names stand
for what a user of the package needs; the rooms behind them are shown in docs/architecture.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from veil.audit import audit as audit_evidence
    from veil.auditing import audit_file, audit_folder, audit_onnx, audit_release, audit_run
    from veil.config import read as read_config
    from veil.data.batch import Batch
    from veil.data.dataset import Dataset, Label
    from veil.data.splits import Splits
    from veil.errors import Refused, VeilError
    from veil.evidence import Evidence
    from veil.mechanism import ClippedGaussian
    from veil.method import (
        Adam,
        Method,
        MethodConfig,
        Move,
        Obfuscator,
        Player,
        Problem,
        Stage,
    )
    from veil.methods import METHODS
    from veil.records import Audit
    from veil.report import write_report
    from veil.runs import load as load_run
    from veil.runs import train as train_run
    from veil.train import FitConfig, fit

__all__ = [
    "METHODS",
    "Adam",
    "Audit",
    "Batch",
    "ClippedGaussian",
    "Dataset",
    "Evidence",
    "FitConfig",
    "Label",
    "Method",
    "MethodConfig",
    "Move",
    "Obfuscator",
    "Player",
    "Problem",
    "Refused",
    "Splits",
    "Stage",
    "VeilError",
    "audit_evidence",
    "audit_file",
    "audit_folder",
    "audit_onnx",
    "audit_release",
    "audit_run",
    "fit",
    "load_run",
    "read_config",
    "train_run",
    "write_report",
]

# No public name may be that of a module of this package: importing `veil.train` would hide a
# function `veil.train` behind the module, so the functions say what they act on.
_HOME = {
    "METHODS": "methods",
    "Adam": "method",
    "Audit": "records",
    "Batch": "data.batch",
    "ClippedGaussian": "mechanism",
    "Dataset": "data.dataset",
    "Evidence": "evidence",
    "FitConfig": "train",
    "Label": "data.dataset",
    "Method": "method",
    "MethodConfig": "method",
    "Move": "method",
    "Obfuscator": "method",
    "Player": "method",
    "Problem": "method",
    "Refused": "errors",
    "Splits": "data.splits",
    "Stage": "method",
    "VeilError": "errors",
    "audit_evidence": "audit:audit",
    "audit_file": "auditing",
    "audit_folder": "auditing",
    "audit_onnx": "auditing",
    "audit_release": "auditing",
    "audit_run": "auditing",
    "fit": "train",
    "load_run": "runs:load",
    "read_config": "config:read",
    "train_run": "runs:train",
    "write_report": "report",
}


if not TYPE_CHECKING:  # to a type checker, a name that is not imported above is an error

    def __getattr__(name: str) -> Any:
        try:
            home, _, original = _HOME[name].partition(":")
        except KeyError:
            raise AttributeError(f"module 'veil' has no attribute '{name}'") from None
        found = getattr(import_module(f"veil.{home}"), original or name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
