"""A run that was stopped, however roughly, ends with the bits of one that was not.

Run as a script, this file trains the tiny AIA in the folder it is given: `wait` prints a line when
training is under way, for a Ctrl-C from outside; `kill` is killed by the kernel at random times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import pytest
import torch
from torch import nn

from tiny import Bare, problem, splits
from veil.checkpoint import load_tensors
from veil.data.batch import Batch
from veil.errors import VeilError
from veil.losses import cross_entropy
from veil.method import Adam, Method, MethodConfig, Move, Player, Round, Stage
from veil.methods.aia import AIA, AIAConfig
from veil.train import CHECKPOINT, METRICS, FitConfig, fit

SPLITS = splits()
EVERY_STEP = FitConfig(device="cpu", checkpoint_seconds=0)
KILLS = 6


def tiny_aia() -> AIA:
    """48 rounds of two stages, early stopping in the first, on pairs."""
    config = AIAConfig(
        decoder_channels=(8, 4),
        siamese_hidden=16,
        embedding=8,
        batch_size=8,
        pretrain_epochs=8,
        joint_epochs=8,
        patience=2,
        lr=0.02,
    )
    torch.manual_seed(0)
    return AIA(config, problem(utility=("identity", "Smiling")))


def train_aia(run: Path) -> AIA:
    torch.set_num_threads(1)
    method = tiny_aia()
    fit(method, method.problem, SPLITS.fit, SPLITS.select, EVERY_STEP, run)
    return method


def same_bits(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Shaky(Method):
    """Everything that could go astray in a resumption: dropout, batch-norm, noise, patience."""

    Config = MethodConfig

    def __init__(self, interrupt_at: int | None = None) -> None:
        super().__init__(MethodConfig(), problem())
        self.obfuscator = Bare()
        torch.manual_seed(1)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(4 * 7 * 7, 2))
        self.interrupt_at = interrupt_at
        self.played = 0

    @cached_property
    def players(self) -> Mapping[str, Player]:
        return {
            "encoder": Player(self.encoder, Adam(0.05, weight_decay=0.01)),
            "head": Player(self.head, Adam(0.05)),
        }

    def stages(self) -> list[Stage]:
        return [Stage("first", 5, 8, self.play, "images", 1), Stage("second", 2, 8, self.play)]

    def play(self, batch: Batch, rng: torch.Generator) -> Round:
        self.played += self.training
        if self.training and self.played == self.interrupt_at:
            signal.raise_signal(signal.SIGINT)
        z = self.encoder(batch.x)
        z = z + 0.1 * torch.randn(z.shape, generator=rng)
        yield Move("head", {"loss": cross_entropy(self.head(z.detach()), batch["Male"])})
        yield Move("encoder", {"loss": -cross_entropy(self.head(z), batch["Male"])})


def train_shaky(run: Path, interrupt_at: int | None, every: float) -> Shaky:
    method = Shaky(interrupt_at)
    config = FitConfig(device="cpu", precision="fp32", checkpoint_seconds=every)
    fit(method, problem(), SPLITS.fit, SPLITS.select, config, run)
    return method


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[AIA, bytes]:
    """The tiny AIA trained at one go, in this process, and its metrics.jsonl."""
    run = tmp_path_factory.mktemp("whole")
    method = train_aia(run)
    return method, (run / METRICS).read_bytes()


def test_interrupted_after_every_possible_step(tmp_path: Path) -> None:
    """Mid-epoch, at the end of an epoch, between stages: for each step one run and its resumption.

    Seen to fail when the optimisers' state, the best weights, or the seed of dropout is not kept.
    """
    whole = tmp_path / "whole"
    whole.mkdir()
    reference = train_shaky(whole, None, 60)
    stages = [json.loads(line)["stage"] for line in (whole / METRICS).read_text().splitlines()]
    assert 2 * 2 <= stages.count("first") < 2 * 5  # patience stopped the first stage early
    for step in range(1, reference.played + 1):
        run = tmp_path / str(step)
        run.mkdir()
        with pytest.raises(KeyboardInterrupt):
            train_shaky(run, step, 60)
        resumed = train_shaky(run, None, 60)
        assert resumed.played == reference.played - step
        assert same_bits(resumed.state_dict(), reference.state_dict()), step
        assert (run / METRICS).read_bytes() == (whole / METRICS).read_bytes(), step


def test_a_run_interrupted_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "run").mkdir()
    reference = train_shaky(tmp_path / "whole", None, 60)
    for _ in range(reference.played):
        with pytest.raises(KeyboardInterrupt):
            train_shaky(tmp_path / "run", 1, 60)
    resumed = train_shaky(tmp_path / "run", None, 60)
    assert resumed.played == 0
    assert same_bits(resumed.state_dict(), reference.state_dict())
    whole, run = (tmp_path / name / METRICS for name in ("whole", "run"))
    assert run.read_bytes() == whole.read_bytes()


def test_a_crash_after_the_last_checkpoint_takes_back_the_metrics_written_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint is the one between the stages; no line may be written twice."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    whole.mkdir()
    run.mkdir()
    reference = train_shaky(whole, None, 60)

    class Crash(Exception):
        pass

    def crash(*_: object) -> None:
        raise Crash

    crashing = Shaky(interrupt_at=12)
    monkeypatch.setattr(signal, "raise_signal", crash)
    config = FitConfig(device="cpu", precision="fp32")
    with pytest.raises(Crash):
        fit(crashing, problem(), SPLITS.fit, SPLITS.select, config, run)
    assert len((run / METRICS).read_text().splitlines()) == 4 + 2
    resumed = train_shaky(run, None, 60)
    assert resumed.played == 6
    assert same_bits(resumed.state_dict(), reference.state_dict())
    assert (run / METRICS).read_bytes() == (whole / METRICS).read_bytes()


def test_the_second_interrupt_does_not_wait(tmp_path: Path) -> None:
    class Impatient(Shaky):
        def play(self, batch: Batch, rng: torch.Generator) -> Round:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            yield from super().play(batch, rng)

    method = Impatient()
    with pytest.raises(KeyboardInterrupt):
        fit(method, problem(), SPLITS.fit, SPLITS.select, EVERY_STEP, tmp_path)
    assert method.played == 0
    assert load_tensors(tmp_path / CHECKPOINT)[1]["step"] == 0


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    reference = train_shaky(tmp_path, None, 60)
    before = (tmp_path / METRICS).read_bytes()
    again = train_shaky(tmp_path, None, 60)
    assert again.played == 0
    assert same_bits(again.state_dict(), reference.state_dict())
    assert (tmp_path / METRICS).read_bytes() == before


def test_another_seed_gives_other_bits(tmp_path: Path) -> None:
    """The negative control of every comparison above."""
    reference = train_shaky(tmp_path, None, 60)
    other = Shaky()
    config = FitConfig(device="cpu", precision="fp32", seed=1)
    fit(other, problem(), SPLITS.fit, SPLITS.select, config)
    assert not same_bits(other.state_dict(), reference.state_dict())


def test_a_checkpoint_cut_short_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train_shaky(tmp_path, 2, 60)
    file = tmp_path / CHECKPOINT
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(VeilError, match=CHECKPOINT):
        train_shaky(tmp_path, None, 60)


def start(mode: str, run: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, mode, str(run)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def assert_same_end(run: Path, uninterrupted: tuple[AIA, bytes]) -> None:
    method, metrics = uninterrupted
    resumed = train_aia(run)
    assert same_bits(resumed.state_dict(), method.state_dict())
    assert (run / METRICS).read_bytes() == metrics


def test_ctrl_c_in_another_process(tmp_path: Path, uninterrupted: tuple[AIA, bytes]) -> None:
    process = start("wait", tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "under way\n"
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=60)
    assert rest == "interrupted\n"
    position = load_tensors(tmp_path / CHECKPOINT)[1]
    assert position["stage"] < 2
    assert_same_end(tmp_path, uninterrupted)


def test_killed_at_random_times(tmp_path: Path, uninterrupted: tuple[AIA, bytes]) -> None:
    """A checkpoint at every step, six kills between and within them."""
    process = start("kill", tmp_path)
    out, _ = process.communicate(timeout=120)
    assert int(out) >= 1, "the run was over before the first kill"
    assert_same_end(tmp_path, uninterrupted)


def be_interrupted(run: Path) -> None:
    class Telling(AIA):
        told = False

        def joint_round(self, batch: Batch, rng: torch.Generator) -> Round:
            if not self.told:
                print("under way", flush=True)
                self.told = True
            time.sleep(0.02)
            yield from super().joint_round(batch, rng)

    method = tiny_aia()
    method.__class__ = Telling
    try:
        fit(method, method.problem, SPLITS.fit, SPLITS.select, EVERY_STEP, run)
    except KeyboardInterrupt:
        print("interrupted", flush=True)


def be_killed(run: Path) -> None:
    """Prints how many kills hit a run that was still going on."""
    killed = 0
    for _ in range(KILLS):
        child = os.fork()
        if child == 0:
            train_aia(run)
            os._exit(0)
        time.sleep(random.uniform(0.05, 0.5))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    print(killed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"wait": be_interrupted, "kill": be_killed}[sys.argv[1]](Path(sys.argv[2]))
