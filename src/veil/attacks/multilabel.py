"""A cheap set of attackers of many class labels at once, for a scan.

One set of products serves the linear discriminants of all labels, one search the neighbours' votes,
one trunk the networks. Each label may be missing in other rows. For each label the candidate with
the least balanced log-loss on "select" is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, one_hot

from veil.attacks.attack import AttackSplit, Floats, Ints, TrainingSplit
from veil.attacks.decisions import SHARPNESS
from veil.attacks.estimates import ridge_path
from veil.attacks.features import Releases, Splits, prepare, standardise
from veil.attacks.neighbours import nearest
from veil.attacks.patterns import special_values
from veil.attacks.training import fastest_device, in_chunks, initialised_from, shuffled
from veil.data.dataset import MISSING
from veil.progress import Advance
from veil.seeds import generator, seed_for

PENALTIES = tuple(10.0**power for power in range(2, -5, -1))
NEIGHBOURS = (3, 15, 63)
QUERIES = 512  # rows that all of "attack" could vote on at once
HIDDEN = 256
DROPOUT = 0.2
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.3
BATCH = 128
STEPS, EPOCHS = 400, 8  # least numbers; the larger holds
CANDIDATES = 12  # states of a network that are compared, equally spaced
UNSEEN = -20.0  # logit of a class that a label does not have in "attack"
STAGES = 6  # attackers

Logits = Mapping[AttackSplit, Tensor]  # of "select" and "test": (n, L, K)


@dataclass(frozen=True)
class Labels:
    """Several class labels of "attack" and "select", side by side; K is the most classes of any.

    Attributes:
        classes: of each label, its number of classes.
        truth: split -> (n, L, 1) int64 classes, 0 where missing.
        weights: split -> (n, L), such that the classes of a label weigh the same and all its rows
            sum to one; 0 where missing.
        groups: (n, L, K) one-hot classes of "attack", zeros where missing.
    """

    classes: tuple[int, ...]
    truth: Mapping[TrainingSplit, Tensor]
    weights: Mapping[TrainingSplit, Tensor]
    groups: Tensor

    @staticmethod
    def of(columns: Sequence[Mapping[TrainingSplit, Ints]], classes: Sequence[int]) -> Labels:
        """Labels from their columns, split -> (n,) with -1 where missing.

        In "select" a class that "attack" lacks counts as missing: nothing can be learned of it.
        """

        def beside(split: TrainingSplit) -> Tensor:
            return torch.stack([torch.from_numpy(column[split]) for column in columns], 1)

        attack, select = beside("attack"), beside("select")
        groups = _one_hot(attack, max(classes))
        unseen = (groups.sum(0) == 0).T.gather(0, select.clamp_min(0))
        select = select.masked_fill(unseen, MISSING)
        return Labels(
            classes=tuple(classes),
            truth={
                "attack": attack.clamp_min(0).unsqueeze(2),
                "select": select.clamp_min(0).unsqueeze(2),
            },
            weights={
                "attack": _balanced(groups),
                "select": _balanced(_one_hot(select, max(classes))),
            },
            groups=groups,
        )

    @property
    def unseen(self) -> Tensor:
        """(L, K) bool: classes that a label does not have in "attack"."""
        return self.groups.sum(0) == 0

    def losses(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Balanced log-loss of each label on "select" at its best temperature.

        Args:
            logits: (n, L, K).

        Returns:
            Losses (L,) in nats, and the inverse temperatures (L,) that give them.
        """
        losses = []
        for sharpness in SHARPNESS.tolist():
            log_p = (logits * sharpness).log_softmax(2).gather(2, self.truth["select"]).squeeze(2)
            losses.append(-(log_p * self.weights["select"]).sum(0))
        best, index = torch.stack(losses).min(0)
        return best, SHARPNESS[index]


@dataclass(frozen=True)
class Chosen:
    """What is guessed of one label.

    Attributes:
        attack: the attacker that was best on "select".
        select, test: (n, K) float32 natural-log class probabilities under equal class priors, of
            all rows, those where the label is missing among them.
    """

    attack: str
    select: Floats
    test: Floats


def attack_all(
    z: Mapping[AttackSplit, Tensor], labels: Labels, seed: int, advance: Advance
) -> list[Chosen]:
    """The best attacker of each label.

    Args:
        z: split -> (n, ...) releases.
        labels: of "attack" and "select", the same rows.
        seed: of the networks.
        advance: told of each of the `STAGES` attackers.
    """
    best_loss = torch.full((len(labels.classes),), torch.inf)
    attacks = [""] * len(labels.classes)
    best: dict[AttackSplit, Tensor] = {}
    known = z if isinstance(z, Releases) else Releases(z)
    for attack, candidates in _attackers(known, labels, seed).items():
        for found in candidates():
            logits = {split: v.masked_fill(labels.unseen, UNSEEN) for split, v in found.items()}
            loss, sharpness = labels.losses(logits["select"])
            better = loss < best_loss
            best_loss = torch.where(better, loss, best_loss)
            attacks = [attack if b else a for a, b in zip(attacks, better.tolist(), strict=True)]
            for split, v in logits.items():
                log_p = (v * sharpness.unsqueeze(1)).log_softmax(2).clamp_min(-60.0)
                kept = best.get(split, log_p)
                best[split] = torch.where(better.unsqueeze(1), log_p, kept)
        advance(1, attack)

    def columns(split: AttackSplit, label: int) -> Floats:
        rows: Floats = best[split][:, label, : labels.classes[label]].numpy()
        return rows

    return [Chosen(a, columns("select", i), columns("test", i)) for i, a in enumerate(attacks)]


def _attackers(z: Releases, labels: Labels, seed: int) -> dict[str, Callable[[], Iterator[Logits]]]:
    """Name -> what yields its candidates."""
    return {
        "discriminant standardised": lambda: _discriminants(prepare(z, "standardised"), labels),
        "discriminant statistics": lambda: _discriminants(prepare(z, "statistics"), labels),
        "discriminant patterns": lambda: _discriminants(standardise(special_values(z)), labels),
        "neighbours whitened": lambda: _neighbours(prepare(z, "whitened"), labels),
        "perceptron standardised": lambda: _perceptron(prepare(z, "standardised"), labels, seed),
        "perceptron statistics": lambda: _perceptron(prepare(z, "statistics"), labels, seed),
    }


def _discriminants(x: Splits, labels: Labels) -> Iterator[Logits]:
    """Regularised linear discriminants (Friedman 1989), one for each penalty.

    A class of mean m scores z'Cm - m'Cm / 2, where C inverts the covariance of all rows plus the
    penalty. For two classes that is the discriminant within classes up to a factor, and the same
    matrix serves every label, whichever of its rows are missing.
    """
    mean = x["attack"].mean(0)
    centred = {split: v - mean for split, v in x.items()}
    n = len(labels.groups)
    targets = labels.groups.flatten(1)
    targets = targets * (n / targets.sum(0).clamp_min(1))
    means = centred["attack"].T @ targets / n
    for weights in ridge_path(centred["attack"], targets, PENALTIES):
        offset = (means * weights).sum(0) / 2
        yield {
            split: (centred[split] @ weights - offset).view(-1, *labels.groups.shape[1:])
            for split in ("select", "test")
        }


def _neighbours(x: Splits, labels: Labels) -> Iterator[Logits]:
    """Logarithms of the votes of the nearest rows of "attack", each class weighing the same."""
    n = len(labels.groups)
    votes = labels.groups * (n * labels.weights["attack"]).unsqueeze(2)
    counts = sorted({min(count, n) for count in NEIGHBOURS})
    asked: tuple[AttackSplit, ...] = ("select", "test")
    rows = {split: nearest(x, split, counts[-1]) for split in asked}
    shares = partial(_log_shares, votes)
    for count in counts:
        yield {split: in_chunks(shares, rows[split][:, :count], QUERIES) for split in asked}


def _log_shares(votes: Tensor, voters: Tensor) -> Tensor:
    """(m, L, K) logarithms of the shares of the votes (n, L, K) of each row's voters (m, k)."""
    voting = torch.zeros(len(voters), len(votes)).scatter_(1, voters, 1.0)
    found = (voting @ votes.flatten(1)).view(-1, *votes.shape[1:])
    return (found + 1 / votes.shape[2]).log() - (found.sum(2, keepdim=True) + 1).log()


def _perceptron(x: Splits, labels: Labels, seed: int) -> Iterator[Logits]:
    """One hidden layer for all labels, a head for each; a dozen times it is a candidate."""
    device = fastest_device()
    n, many, k = labels.groups.shape
    with initialised_from(seed_for(seed, "scan", "network")):
        trunk = nn.Linear(x["attack"].shape[1], HIDDEN).to(device)
        heads = nn.Linear(HIDDEN, many * k).to(device)
    rng = generator(seed, "scan", "batches")
    shown, truth, unseen = (
        v.to(device) for v in (x["attack"], labels.truth["attack"], labels.unseen)
    )
    weights = (n * labels.weights["attack"]).to(device)
    per_epoch = max(1, round(n / BATCH))
    epochs = max(EPOCHS, -(-STEPS // per_epoch))
    adam = torch.optim.AdamW(
        [*trunk.parameters(), *heads.parameters()], LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        adam, LEARNING_RATE, total_steps=epochs * per_epoch, pct_start=0.21
    )

    def logits(rows: Tensor) -> Tensor:
        found: Tensor = heads(gelu(trunk(rows.to(device)))).view(-1, many, k)
        return found

    for epoch in range(1, epochs + 1):
        for rows in shuffled(n, BATCH, rng):
            kept = torch.rand(len(rows), HIDDEN, generator=rng) >= DROPOUT
            hidden = gelu(trunk(shown[rows])) * kept.to(device) / (1 - DROPOUT)
            scores = heads(hidden).view(-1, many, k).masked_fill(unseen, UNSEEN)
            log_p = scores.log_softmax(2).gather(2, truth[rows]).squeeze(2)
            adam.zero_grad()
            loss = -(log_p * weights[rows]).sum() / len(rows)
            loss.backward()
            adam.step()
            cycle.step()
        if epoch * CANDIDATES // epochs > (epoch - 1) * CANDIDATES // epochs:
            yield {split: in_chunks(logits, x[split], 2048) for split in ("select", "test")}


def _one_hot(codes: Tensor, k: int) -> Tensor:
    """(n, L, K) of (n, L) codes; zeros where missing."""
    return one_hot(codes.clamp_min(0), k).float() * (codes >= 0).unsqueeze(2)


def _balanced(groups: Tensor) -> Tensor:
    """(n, L) weights of one-hot classes (n, L, K); see `Labels.weights`."""
    counts = groups.sum(0)
    share = 1 / (counts.clamp_min(1) * (counts > 0).sum(1, keepdim=True).clamp_min(1))
    return (groups * share).sum(2)
