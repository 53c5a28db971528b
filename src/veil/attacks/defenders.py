"""The defender's own adversary, in the attacker's hands (white box)."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from veil.attacks.attack import AttackSplit, Guess, Kind, Knowledge
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import Splits
from veil.attacks.training import (
    Cycle,
    fastest_device,
    in_chunks,
    initialised_from,
    placed,
    train,
)
from veil.seeds import generator, seed_for

PROBED = 4  # rows by which a network is asked for its shape and its parameters


@dataclass(frozen=True)
class DefendersAdversary:
    """The network that the release was trained to fool: as it is, trained on, or trained afresh.

    It sees releases as the defender's saw them, missing values as zeros. It is always copied. A
    module may hold a whole method: only parameters that its answer depends on are trained.

    Attributes:
        start: "as trained" asks the defender's adversary without training it, its answers as they
            are or divided by the classes' frequencies in "attack", whichever suits "select";
            "warm" trains on from its weights, and falls back on them; "fresh" trains the same
            architecture from new weights.
        learning_rates: the cycle's peaks that are tried; the best on "select" is kept.
        weight_decay, batch, steps, epochs: see `training.Cycle`.
    """

    start: Literal["as trained", "warm", "fresh"] = "warm"
    learning_rates: tuple[float, ...] = (3e-4, 3e-3)
    weight_decay: float = 0.02
    batch: int = 128
    steps: int = 300
    epochs: int = 8

    family: ClassVar[str] = "defender's adversary"
    kind: ClassVar[Kind] = "attribute"

    @property
    def name(self) -> str:
        return f"defender's adversary, {self.start}"

    @property
    def seeded(self) -> bool:
        return self.start != "as trained"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        if knowledge.adversary is None:
            return "the defender's adversary is not at hand"
        network = deepcopy(knowledge.adversary).to("cpu").eval()
        some = _as_seen(knowledge.z["attack"][:PROBED])
        if network(some).shape != (len(some), knowledge.classes):
            return f"the defender's adversary does not tell {knowledge.classes} classes apart"
        return None if self.start == "as trained" else self._cannot_train(network, some)

    def _cannot_train(self, network: nn.Module, some: Tensor) -> str | None:
        if len(some) < PROBED:
            return "too few releases in attack to train a network"
        owners = _owners(network, _train_only_what_answers(network, some))
        if not owners:
            return "the defender's adversary has nothing to train"
        fixed = [type(m).__name__ for m in owners if not hasattr(m, "reset_parameters")]
        if self.start == "fresh" and fixed:
            return f"the defender's adversary has a {fixed[0]}, which knows no fresh start"
        return None

    def shortened(self, share: float) -> DefendersAdversary:
        steps, epochs = (max(1, round(whole * share)) for whole in (self.steps, self.epochs))
        return replace(self, steps=steps, epochs=epochs)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        assert knowledge.adversary is not None
        device = fastest_device()
        x = {split: _as_seen(v) for split, v in knowledge.z.items()}
        best_loss, best = math.inf, dict[AttackSplit, Tensor]()

        def answers(network: nn.Module) -> dict[AttackSplit, Tensor]:
            def logits(v: Tensor) -> Tensor:
                return torch.nan_to_num(network(placed(v, device)))

            return {split: in_chunks(logits, v, 512) for split, v in x.items()}

        if self.start != "fresh":
            given = answers(deepcopy(knowledge.adversary).to(device).eval())
            best_loss, best = _under_better_prior(given, knowledge)
        for peak in self.learning_rates if self.seeded else ():
            with initialised_from(seed_for(seed, self.name, str(peak))):
                network = deepcopy(knowledge.adversary).to(device).eval()
                self._train(network, x, knowledge, peak, generator(seed, self.name))
            trained = answers(network)
            loss = _select_loss(trained["select"], knowledge)
            if not best or loss < best_loss:
                best_loss, best = loss, trained
        return guess_from(best, knowledge)

    def _train(
        self, network: nn.Module, x: Splits, knowledge: Knowledge, peak: float, rng: torch.Generator
    ) -> None:
        """Begin as `start` says and train with one learning rate."""
        device = next(network.parameters()).device
        taking_part = _train_only_what_answers(network, placed(x["attack"][:PROBED], device))
        if self.start == "fresh":
            for module in _owners(network, taking_part):
                reset: Callable[[], None] = module.reset_parameters  # type: ignore[assignment]
                reset()
        cycle = Cycle(peak, self.weight_decay, self.batch, self.steps, self.epochs)
        train(network, x, knowledge, cycle, rng, lambda v: network(placed(v, device)))


def _as_seen(z: Tensor) -> Tensor:
    return torch.nan_to_num(z.float(), nan=0.0, posinf=0.0, neginf=0.0)


def _train_only_what_answers(network: nn.Module, some: Tensor) -> set[Tensor]:
    """Let the parameters that the answer to `some` depends on be trained, and no others."""
    parameters = [p.requires_grad_(p.is_floating_point()) for p in network.parameters()]
    answer = network(some)
    if not answer.requires_grad:
        return set()
    free = [p for p in parameters if p.requires_grad]
    gradients = torch.autograd.grad(answer.sum(), free, allow_unused=True)
    for parameter, gradient in zip(free, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    return {p for p in free if p.requires_grad}


def _owners(network: nn.Module, parameters: set[Tensor]) -> list[nn.Module]:
    """The modules that hold some of the parameters themselves."""
    return [m for m in network.modules() if parameters & set(m.parameters(recurse=False))]


def _under_better_prior(
    given: dict[AttackSplit, Tensor], knowledge: Knowledge
) -> tuple[float, dict[AttackSplit, Tensor]]:
    """Answers as they are, or divided by the frequencies of "attack": the better on "select"."""
    weights = class_weights(torch.from_numpy(knowledge.s["attack"]), knowledge.classes)
    divided = {split: v + weights.clamp_min(1e-6).log() for split, v in given.items()}
    candidates = [(_select_loss(v["select"], knowledge), v) for v in (given, divided)]
    return min(candidates, key=lambda candidate: candidate[0])


def _select_loss(logits: Tensor, knowledge: Knowledge) -> float:
    return balanced_log_loss(logits, torch.from_numpy(knowledge.s["select"]))[0].item()
