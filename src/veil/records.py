"""audit.json, schema 1: what an audit says, as data. Reports read this and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from veil.errors import VeilError

RecordKind = Literal["attribute", "identity", "reconstruction", "utility"]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Doubt(Frozen):
    """One thing wrong with a figure.

    Attributes:
        id: the entry in docs/doubts.md ("one-draw").
        text: one sentence with the numbers that raised it.
    """

    id: str
    text: str


class Certificate(Frozen):
    """What is proved about a release, whoever attacks it.

    Attributes:
        kind: how it was proved; "none" says plainly that nothing is.
        target: the label whose inference is bounded; None where any binary label's is.
        bound: balanced accuracy that no attacker covered exceeds; None where none is proved.
        attackers: whom the bound covers: "all", or only "linear" ones.
        assumption: what must hold for it, in words.
        epsilon, delta: differential privacy of one image's whole release, where it is known.
        releases: how often one image may be released for the bound to hold.
    """

    kind: Literal["clipped gaussian", "finite codebook", "linear guardedness", "none"]
    target: str | None = None
    bound: Finite | None
    attackers: Literal["all", "linear"] = "all"
    assumption: str
    epsilon: Finite | None = None
    delta: Finite | None = None
    releases: int = 1


class Record(Frozen):
    """One attacker (or one floor, or one utility head) against one target; absent figures null.

    Attributes:
        target: name of the label.
        kind: what was attacked; "utility" rows score what is meant to survive.
        attack: the attacker's name; family: its group.
        metric: what `score` is ("balanced_accuracy" first; "verification_accuracy" for matching).
        score: on test, in [0, 1]; interval: 95 %, [lo, hi].
        select: the same metric on select, by which the worst attacker was chosen.
        scores: other metrics beside it (accuracy, auc, mcc, tpr_at_fpr_0.01, train, ...).
        floor: the highest of majority, label-only and copy-the-task-head.
        ceiling: the same target attacked on the original images.
        n: test rows scored; seeds: runs; spread: standard deviation of score over the seeds.
        nag: normalised accuracy gain, max(0, (acc - majority) / (acc_clean - majority)).
        bits: lower bound on the information about the target, by held-out log-loss.
        certified: an upper bound no attacker can exceed, where one was proved; assumption: what
            must hold for it.
        reported: the figure that the paper gives, where it exists.
        config: the attacker's hyperparameters.
    """

    target: str
    kind: RecordKind
    attack: str
    family: str
    metric: str
    score: Finite | None
    interval: tuple[Finite, Finite] | None
    select: Finite | None = None
    scores: dict[str, Finite | None] = {}
    floor: Finite | None = None
    ceiling: Finite | None = None
    n: int
    seeds: int = 1
    spread: Finite | None = None
    nag: Finite | None = None
    bits: Finite | None = None
    certified: Finite | None = None
    assumption: str | None = None
    reported: Finite | None = None
    doubts: tuple[Doubt, ...] = ()
    config: dict[str, Any] = {}


class TargetSummary(Frozen):
    """The verdict on one target: the attacker chosen on `select`, with its one test score."""

    kind: RecordKind
    worst: Record


class Audit(Frozen):
    """A whole audit.

    Attributes:
        name: what was audited ("AIA alpha=0.5 beta=0.5 on celeba").
        verdict: "refused" when a figure would not be worth having; `refusals` say why.
        targets: label name -> its worst (for utility: best) record.
        certificates: what is proved about the release, the strongest first.
        scan: one record for each label that nobody declared private or useful.
        provenance: versions, seeds, data hashes, split sizes, the resolved suite, wall time,
            split notes, and the run's problem ("private", "utility") where there is one.
    """

    schema_version: Literal[1] = Field(1, alias="schema")
    name: str
    verdict: Literal["given", "refused"]
    refusals: tuple[Doubt, ...] = ()
    targets: dict[str, TargetSummary]
    records: tuple[Record, ...]
    certificates: tuple[Certificate, ...] = ()
    scan: tuple[Record, ...] = ()
    provenance: dict[str, Any]

    def dumps(self) -> str:
        """The JSON text of audit.json."""
        return self.model_dump_json(by_alias=True, indent=1)

    @classmethod
    def load(cls, path: Path) -> Audit:
        """Read an audit.json.

        Raises:
            VeilError: the file is missing or does not follow schema 1 (the field is named).
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise VeilError(f"{path}: no such file; run 'veil audit' first") from None
        except OSError as error:
            raise VeilError(f"{path}: cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the file"
            raise VeilError(f"{path}: not an audit.json: {where}: {first['msg']}") from None
