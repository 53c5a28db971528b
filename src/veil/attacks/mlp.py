"""Multilayer perceptrons: a grid of learning rates and decays, and all seeds, trained at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise, product
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu

from veil.attacks.attack import Guess, Kind, Knowledge
from veil.attacks.decisions import balanced_log_loss, class_weights, guess_from
from veil.attacks.features import Preparation, Splits, prepare
from veil.attacks.training import fastest_device, in_chunks
from veil.precision import Precision, autocast
from veil.seeds import generator

LARGEST_BATCH = 512
STEPS_AN_EPOCH = 40  # from here on batches grow instead
EVALUATIONS = 24
LEAST_BETWEEN = 12  # steps; more often, looking at "select" would cost as much as training
PATIENCE = 8
HEAVY = 2**16  # weights of one network from which mixed precision is worth its conversions


@dataclass(frozen=True)
class Mlp:
    """Perceptrons trained side by side with Adam and a cosine schedule; the best on "select" wins.

    Each seed trains a network for every learning rate and decay. All are stacked, so that a layer
    is one batched matrix product. Networks of one seed share its batches and dropout masks and
    nothing else; seeds share nothing, so that a seed's guess does not depend on which others ran
    beside it. At 1/3 and at 2/3 of the steps each seed drops the worse half of its networks
    (successive halving; Jamieson & Talwalkar, AISTATS 2016).

    Attributes:
        preparation: what they see.
        hidden: widths of the hidden layers (GELU, dropout).
        learning_rates, weight_decays: every pair is one network; the rates are those of `batch`
            rows and grow with the root of larger batches.
        dropout: probability for a hidden unit.
        batch: rows a step; up to 512 where "attack" has so many that an epoch is 40 steps still.
        steps: least number of steps of `batch` rows, and `epochs` least number of passes; the
            larger holds.
        halving: whether networks are dropped on the way.
    """

    preparation: Preparation = "standardised"
    hidden: tuple[int, ...] = (64,)
    learning_rates: tuple[float, ...] = (1e-3, 4e-3)
    weight_decays: tuple[float, ...] = (1e-2, 1.0)
    dropout: float = 0.2
    batch: int = 128
    steps: int = 600
    epochs: int = 12
    halving: bool = True

    family: ClassVar[str] = "mlp"
    kind: ClassVar[Kind] = "attribute"
    seeded: ClassVar[bool] = True

    @property
    def name(self) -> str:
        return f"mlp {'x'.join(map(str, self.hidden))} {self.preparation}"

    def unfit_for(self, knowledge: Knowledge) -> str | None:
        return None

    def shortened(self, share: float) -> Mlp:
        steps, epochs = (max(1, round(whole * share)) for whole in (self.steps, self.epochs))
        return replace(self, steps=steps, epochs=epochs)

    def run(self, knowledge: Knowledge, seed: int) -> Guess:
        return self.run_seeds(knowledge, (seed,))[0]

    def run_seeds(self, knowledge: Knowledge, seeds: Sequence[int]) -> list[Guess]:
        """The guess of every seed, each as `run` gives it, their networks trained side by side.

        On one CPU thread they are the same to the bit, elsewhere up to rounding.
        """
        device = fastest_device()
        x = {k: v.to(device) for k, v in prepare(knowledge.z, self.preparation).items()}
        widths = (x["attack"].shape[1], *self.hidden, knowledge.classes)
        best = layers_of(self._train(x, knowledge, seeds, widths), widths)
        logits = {k: in_chunks(lambda v: forward(best, v[None]), v, 2048, 1) for k, v in x.items()}
        return [
            guess_from({k: v[number] for k, v in logits.items()}, knowledge)
            for number in range(len(seeds))
        ]

    def _train(
        self, x: Splits, knowledge: Knowledge, seeds: Sequence[int], widths: tuple[int, ...]
    ) -> Tensor:
        """(S, 1, P) weights of the best network of each seed."""
        device = x["attack"].device
        s = torch.from_numpy(knowledge.s["attack"]).to(device)
        s_select = torch.from_numpy(knowledge.s["select"])
        balance = class_weights(s.cpu(), knowledge.classes).to(device)
        batch = max(self.batch, min(LARGEST_BATCH, len(s) // STEPS_AN_EPOCH))
        per_epoch = max(1, round(len(s) / batch))
        total = per_epoch * max(self.epochs, math.ceil(self.steps * self.batch / len(s)))
        # Not sooner: at a quarter of the way a product of features is often still to be found.
        halvings = (total // 3, 2 * total // 3) if self.halving else ()
        every = max(LEAST_BETWEEN, total // EVALUATIONS)
        rates, decays = torch.tensor(list(product(self.learning_rates, self.weight_decays))).T
        weights = torch.stack(
            [
                initial_weights(len(rates), widths, generator(seed, "mlp", self.name, "weights"))
                for seed in seeds
            ]
        ).to(device)
        crowd = Crowd(weights, widths, rates * (batch / self.batch) ** 0.5, decays)
        noise = [generator(seed, "mlp", self.name, "dropout", device=device) for seed in seeds]
        order = [generator(seed, "mlp", self.name, "batches") for seed in seeds]

        best = weights.flatten(0, 1).clone()  # of every network, by its number
        best_loss = torch.full((len(best),), math.inf)
        number = torch.arange(len(best)).view(len(seeds), -1)  # (S, G) of those still in training
        idle = torch.zeros(len(seeds), dtype=torch.int64)  # evaluations since a seed's last best
        for step, rows in enumerate(islice(_batches(len(s), per_epoch, order), total), start=1):
            seed_of = number[:, 0] // len(rates)
            drawn = rows[seed_of].to(device)
            masks = self._masks(drawn.shape[1], [noise[i] for i in seed_of.tolist()], device)
            crowd.step(x["attack"][drawn], s[drawn], balance, masks, _schedule((step - 1) / total))
            if step % every and step not in halvings and step < total:
                continue
            logits = in_chunks(lambda v: crowd.logits(v[None]), x["select"], 2048, 1)
            loss = balanced_log_loss(logits, s_select)[0].view_as(number)
            better = loss < best_loss[number] - 1e-5
            best[number[better]] = crowd.weights[better]
            best_loss[number[better]] = loss[better]
            idle[seed_of] = torch.where(better.any(1), 0, idle[seed_of] + 1)
            kept = torch.arange(number.numel()).view_as(number)[idle[seed_of] < PATIENCE]
            if step in halvings:
                ranked = best_loss[number.flatten()[kept]].argsort(1)
                kept = kept.gather(1, ranked[:, : math.ceil(number.shape[1] / 2)])
            if not len(kept):
                break
            if kept.shape != number.shape:
                number = number.flatten()[kept]
                crowd.keep(kept)
        winner = best_loss.view(len(seeds), -1).argmin(1, keepdim=True)
        return best.view_as(weights).take_along_dim(winner.unsqueeze(2).to(device), 1)

    def _masks(
        self, rows: int, noise: Sequence[torch.Generator], device: torch.device
    ) -> list[Tensor]:
        """Of each hidden layer (S, rows, h): 0 where a unit is dropped, else its enlargement."""
        if not self.dropout:
            return []
        words = torch.empty(len(noise), rows, math.ceil(sum(self.hidden) / 8), dtype=torch.int64)
        words = words.to(device)
        for of_seed, rng in zip(words, noise, strict=True):
            of_seed.random_(-(2**63), None, generator=rng)
        # A byte decides for a unit: far cheaper than a uniform number each.
        kept = words.view(torch.uint8)[:, :, : sum(self.hidden)] >= round(256 * self.dropout)
        return list(torch.split(kept / (1 - self.dropout), list(self.hidden), 2))


class Crowd:
    """G networks of each of S seeds, stacked, and Adam to move them.

    Adam with decoupled decay (Loshchilov & Hutter, ICLR 2019). All weights of a network lie in one
    row, so that a step is a handful of operations on one tensor.

    Attributes:
        weights: (S, G, P), changed in place by `step`.
        layers: views of them (see `layers_of`).
    """

    def __init__(
        self, weights: Tensor, widths: tuple[int, ...], rates: Tensor, decays: Tensor
    ) -> None:
        """Take weights (S, G, P) of networks of these widths, learning rates and decays (G,)."""
        self.weights = weights.clone()
        self.widths = widths
        self.rates, self.decays = (
            v.to(weights.device).expand(weights.shape[:2]).unsqueeze(2) for v in (rates, decays)
        )
        self.first, self.second = torch.zeros_like(weights), torch.zeros_like(weights)
        self.taken = 0
        heavy = sum(i * o for i, o in pairwise(widths)) >= HEAVY
        self.precision: Precision = "auto" if heavy else "fp32"
        self.layers = self._layers()

    def _layers(self) -> list[Tensor]:
        return [p.requires_grad_() for p in layers_of(self.weights, self.widths)]

    def keep(self, which: Tensor) -> None:
        """Go on with the networks `which` (S', G') alone, counted through all seeds."""
        for name in ("weights", "first", "second", "rates", "decays"):
            setattr(self, name, getattr(self, name).flatten(0, 1)[which])
        self.layers = self._layers()

    def logits(self, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """(S*G, n, K), in mixed precision where that pays (see `forward`)."""
        with autocast(x.device, self.precision):
            return forward(self.layers, x, masks).float()

    def step(
        self, x: Tensor, s: Tensor, balance: Tensor, masks: Sequence[Tensor], schedule: float
    ) -> None:
        """One update on rows x (S, n, d) of classes s (S, n), the rates times `schedule`."""
        logits = self.logits(x, masks)
        truth = s.repeat_interleave(self.weights.shape[1], 0).flatten()
        loss = cross_entropy(logits.flatten(0, 1), truth, balance, reduction="sum") / s.shape[1]
        gradients = torch.autograd.grad(loss, self.layers)
        self._adam(torch.cat([g.flatten(1) for g in gradients], 1).view_as(self.weights), schedule)

    @torch.no_grad()
    def _adam(self, gradient: Tensor, schedule: float) -> None:
        self.taken += 1
        rate = self.rates * schedule
        unbiased = (1 - 0.999**self.taken) ** 0.5
        self.first.lerp_(gradient, 0.1)
        self.second.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        move = self.first / self.second.sqrt().add_(1e-8 * unbiased)
        self.weights.mul_(1 - rate * self.decays)
        self.weights.addcmul_(move, -rate * unbiased / (1 - 0.9**self.taken))


def layers_of(weights: Tensor, widths: tuple[int, ...]) -> list[Tensor]:
    """Views of weights (S, G, P): weight (S*G, in, out), bias (S*G, 1, out), weight, bias, ..."""
    shapes = [shape for i, o in pairwise(widths) for shape in ((i, o), (1, o))]
    parts = torch.split(weights.detach().flatten(0, 1), [a * b for a, b in shapes], 1)
    return [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]


def initial_weights(count: int, widths: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """(count, P): He's initialisation of hidden layers, a small one of the last; biases zero."""
    parts = []
    for last, (i, o) in enumerate(pairwise(widths), start=2):
        gain = 0.1 if last == len(widths) else 2**0.5
        parts += [
            torch.randn(count, i * o, generator=rng) * gain / i**0.5,
            torch.zeros(count, o),
        ]
    return torch.cat(parts, 1)


def forward(layers: Sequence[Tensor], x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
    """Logits (S*G, n, K) of rows (S, n, d), or of (1, n, d) that all networks share.

    Args:
        layers: see `layers_of`.
        masks: of each hidden layer (S, n, h), multiplied into its outputs; or none.
    """
    hidden = _for_each(x, len(layers[0]))
    for number, (weight, bias) in enumerate(zip(layers[:-2:2], layers[1:-2:2], strict=True)):
        hidden = gelu(torch.baddbmm(bias, hidden, weight))
        if masks:
            hidden = hidden * _for_each(masks[number], len(weight))
    return torch.baddbmm(layers[-1], hidden, layers[-2])


def _for_each(of_seeds: Tensor, networks: int) -> Tensor:
    """(S, n, d) -> (networks, n, d), each seed's repeated; not copied where there is one seed."""
    seeds, n, d = of_seeds.shape
    return of_seeds.unsqueeze(1).expand(seeds, networks // seeds, n, d).flatten(0, 1)


def _batches(rows: int, count: int, order: Sequence[torch.Generator]) -> Iterator[Tensor]:
    """Without end: (S, n) row numbers, each seed's in its own order, all in `count` batches."""
    while True:
        shuffled = torch.stack([torch.randperm(rows, generator=rng) for rng in order])
        yield from shuffled.tensor_split(count, 1)


def _schedule(progress: float) -> float:
    """A twentieth of the way up, then down along a cosine, as a share of the peak rate."""
    return min(1.0, 20 * progress) * (1 + math.cos(math.pi * progress)) / 2
