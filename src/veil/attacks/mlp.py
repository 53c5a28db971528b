"""Multilayer perceptrons: a whole grid of learning rates and decays trained at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise, product
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu

from veil.attacks.attack import Guess, Kind, Knowledge
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import Preparation, prepare
from veil.attacks.training import fastest_device, in_chunks, shuffled
from veil.precision import autocast
from veil.seeds import generator

Layers = list[Tensor]  # weight (m, in, out), bias (m, 1, out), weight, bias, ... of m networks


@dataclass(frozen=True)
class Mlp:
    """Perceptrons trained side by side with Adam and a cosine schedule; the best on "select" wins.

    The networks share each batch and nothing else: their weights are stacked, one batched matrix
    product a layer, and each has its own learning rate and decay.

    Attributes:
        preparation: what they see.
        hidden: widths of the hidden layers (GELU, dropout).
        learning_rates, weight_decays: every pair is one network.
        dropout: probability for a hidden unit.
        batch: rows a step.
        steps: least number of steps, and `epochs` least number of passes; the larger holds.
    """

    preparation: Preparation = "standardised"
    hidden: tuple[int, ...] = (64,)
    learning_rates: tuple[float, ...] = (1e-3, 4e-3)
    weight_decays: tuple[float, ...] = (1e-2, 1.0)
    dropout: float = 0.2
    batch: int = 128
    steps: int = 600
    epochs: int = 12

    family: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"mlp {'x'.join(map(str, self.hidden))} {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        device = fastest_device()
        x = {k: v.to(device) for k, v in prepare(knowledge.z, self.preparation).items()}
        s = torch.from_numpy(knowledge.s["attack"]).to(device)
        s_select = torch.from_numpy(knowledge.s["select"])
        balance = class_weights(s.cpu(), knowledge.classes).to(device)
        rng = generator(seed, "mlp", self.name)
        rates, decays = zip(*product(self.learning_rates, self.weight_decays), strict=True)
        widths = (x["attack"].shape[1], *self.hidden, knowledge.classes)
        layers = [p.to(device).requires_grad_() for p in _initial(len(rates), widths, rng)]
        adam = _Adam(layers, torch.tensor(rates), torch.tensor(decays))

        epochs = max(self.epochs, math.ceil(self.steps * self.batch / len(s)))
        total = epochs * max(1, round(len(s) / self.batch))
        every, taken = max(1, total // 24), 0
        best_loss = torch.full((len(rates),), math.inf)
        best, idle = [p.detach().clone() for p in layers], 0
        for _ in range(epochs):
            for rows in shuffled(len(s), self.batch, rng):
                self._step(layers, adam, x["attack"][rows], s[rows], balance, taken / total, rng)
                taken += 1
                if taken % every:
                    continue
                logits = in_chunks(lambda v: _forward(layers, v), x["select"], 2048, axis=1)
                loss, _ = balanced_log_loss(logits, s_select)
                better = loss < best_loss - 1e-5
                best_loss = torch.where(better, loss, best_loss)
                for kept, now in zip(best, layers, strict=True):
                    kept[better] = now.detach()[better]
                idle = 0 if better.any() else idle + 1
            if idle >= 8:
                break
        winner = int(best_loss.argmin())
        chosen = [p[winner : winner + 1] for p in best]
        return guess_from(
            {k: in_chunks(lambda v: _forward(chosen, v)[0], v, 2048) for k, v in x.items()},
            knowledge,
        )

    def _step(
        self,
        layers: Layers,
        adam: _Adam,
        x: Tensor,
        s: Tensor,
        balance: Tensor,
        progress: float,
        rng: torch.Generator,
    ) -> None:
        with autocast(x.device, "auto" if x.shape[1] >= 1024 else "fp32"):
            logits = _forward(layers, x, self.dropout, rng).float()
        members = len(logits)
        loss = members * cross_entropy(logits.flatten(0, 1), s.repeat(members), balance)
        gradients = torch.autograd.grad(loss, layers)
        adam.step(gradients, min(1.0, 20 * progress) * (1 + math.cos(math.pi * progress)) / 2)


class _Adam:
    """Adam with decoupled decay (Loshchilov & Hutter, 2019), a rate and a decay for each member."""

    def __init__(self, layers: Layers, rates: Tensor, decays: Tensor) -> None:
        self.layers = layers
        self.rates = rates.to(layers[0].device).view(-1, 1, 1)
        self.decays = decays.to(layers[0].device).view(-1, 1, 1)
        self.first = [torch.zeros_like(p) for p in layers]
        self.second = [torch.zeros_like(p) for p in layers]
        self.taken = 0

    @torch.no_grad()
    def step(self, gradients: tuple[Tensor, ...], schedule: float) -> None:
        self.taken += 1
        rate = self.rates * schedule
        for p, g, m, v in zip(self.layers, gradients, self.first, self.second, strict=True):
            m.lerp_(g, 0.1)
            v.lerp_(g.square(), 0.001)
            size = (v / (1 - 0.999**self.taken)).sqrt_().add_(1e-8)
            p.sub_(rate * (m / (1 - 0.9**self.taken) / size + self.decays * p))


def _initial(members: int, widths: tuple[int, ...], rng: torch.Generator) -> Layers:
    """He's initialisation for hidden layers, a small one for the last; biases zero."""
    layers = []
    for last, (i, o) in enumerate(pairwise(widths), start=2):
        gain = 0.1 if last == len(widths) else 2**0.5
        layers += [
            torch.randn(members, i, o, generator=rng) * gain / i**0.5,
            torch.zeros(members, 1, o),
        ]
    return layers


def _forward(
    layers: Layers, x: Tensor, dropout: float = 0.0, rng: torch.Generator | None = None
) -> Tensor:
    """Logits (m, n, K) of the same rows (n, d) by every network; dropout only with `rng`."""
    members = layers[0].shape[0]
    hidden = x.expand(members, *x.shape)
    for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        hidden = gelu(torch.baddbmm(bias, hidden, weight))
        if rng is not None and dropout > 0:
            kept = torch.rand(hidden.shape, generator=rng) >= dropout
            hidden = hidden * kept.to(x.device) / (1 - dropout)
    return torch.baddbmm(layers[-1], hidden, layers[-2])
