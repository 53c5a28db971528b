"""Classifiers of original pictures, trained once and remembered: what unsuspecting readers use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor, nn

from veil.attacks.training import Cycle, fastest_device, initialised_from, placed
from veil.attacks.training import fit as train_by
from veil.augmentation import flipped
from veil.checkpoint import load_tensors, save_tensors
from veil.data.cache import cache_folder
from veil.data.dataset import MISSING, Dataset
from veil.errors import Diverged, VeilError
from veil.game import channels_last
from veil.losses import cross_entropy
from veil.metrics import balanced_accuracy
from veil.nets.resnet import ResNet
from veil.precision import autocast
from veil.progress import bar
from veil.seeds import generator, seed_for

AT_ONCE = 256
CIFAR_STEM_UP_TO = 32


@dataclass(frozen=True)
class Training:
    """How the classifiers are trained: one residual network, one cross-entropy for each label.

    Attributes:
        epochs: passes over `fit`; the best one on `select` is kept. The defaults take about two
            minutes for 8,000 pictures of 64 px on two cores.
        blocks, widths: of the residual network; ResNet-18 at half its widths.
        batch_size: pictures.
        learning_rate: the peak of a one-cycle AdamW.
        weight_decay: its decay.
    """

    epochs: int = 8
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    widths: tuple[int, ...] = (32, 64, 128, 256)
    batch_size: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 0.02


class FixedClassifiers(nn.Module):
    """One network that reads several class labels from a picture.

    Args:
        classes: label -> K.
        image: (c, h, w) of the pictures.
        training: says how large the network is.
    """

    def __init__(
        self, classes: Mapping[str, int], image: tuple[int, int, int], training: Training
    ) -> None:
        super().__init__()
        self.classes = dict(classes)
        channels, size, _ = image
        self.network = ResNet(
            training.blocks,
            training.widths,
            classes=sum(self.classes.values()),
            in_channels=channels,
            stem="cifar" if size <= CIFAR_STEM_UP_TO else "imagenet",
        )
        self.register_buffer("log_prior", torch.zeros(sum(self.classes.values())))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(n, c, h, w) in [0, 1] -> label -> (n, K) logits, under the classes' shares of `fit`."""
        return self._by_label(self.network(x).float())

    @torch.inference_mode()
    def read(self, chunks: Iterable[Tensor]) -> dict[str, NDArray[np.int64]]:
        """What pictures show, the likeliest class of each label if all were equally frequent.

        Args:
            chunks: (m, c, h, w) in [0, 1] each, on the CPU; n pictures in all.

        Returns:
            Label -> (n,) classes.
        """
        self.eval()
        prior: Tensor = self.get_buffer("log_prior")
        said: dict[str, list[NDArray[np.int64]]] = {name: [] for name in self.classes}
        for x in chunks:
            with autocast(prior.device):
                logits = self.network(placed(x, prior.device))
            for name, part in self._by_label(logits.float() - prior).items():
                said[name].append(part.argmax(dim=1).cpu().numpy())
        return {name: np.concatenate(parts) for name, parts in said.items()}

    def _by_label(self, logits: Tensor) -> dict[str, Tensor]:
        parts = torch.split(logits, list(self.classes.values()), dim=1)
        return dict(zip(self.classes, parts, strict=True))


def pictures_of(dataset: Dataset) -> Iterator[Tensor]:
    """All pictures of a data set, (m, c, h, w) in [0, 1], a few hundred at a time."""
    for start in range(0, len(dataset), AT_ONCE):
        yield dataset.batch(slice(start, start + AT_ONCE), labels=()).x


def fixed_classifiers(
    fit: Dataset,
    select: Dataset,
    labels: Sequence[str],
    seed: int,
    training: Training | None = None,
    console: Console | None = None,
) -> FixedClassifiers:
    """Classifiers trained on the pictures of `fit`, or remembered from an earlier call.

    The key is everything that decides them: the pictures' content, the labels, the settings, the
    seed and veil's version.

    Args:
        fit, select: originals; a picture without one of the labels trains the others.
        labels: names of class labels.
        seed: decides everything random.
        training: how.
        console: where progress is drawn; None draws nothing.

    Raises:
        VeilError: a label is unknown or has no classes.
        Diverged: the loss is not finite.
    """
    training = training or Training()
    for name in labels:
        if not fit.label(name).is_class:
            raise VeilError(f"'{name}' is {fit.label(name).kind}: classifiers read class labels")
    classes = {name: len(fit.label(name).classes) for name in labels}
    path = _remembered_at(fit, select, classes, seed, training)
    with initialised_from(seed_for(seed, "fixed classifiers", "weights")):
        found = FixedClassifiers(classes, fit.image_shape, training)
    found.to(fastest_device())
    channels_last(found)
    if path.exists():
        try:
            found.load_state_dict(load_tensors(path)[0])
        except VeilError:  # cut short, say: as if it had never been written
            path.unlink(missing_ok=True)
        else:
            return found
    _train(found, fit, select, seed, training, console)
    save_tensors(path, found.state_dict(), {"labels": list(labels)})
    return found


def _remembered_at(
    fit: Dataset, select: Dataset, classes: Mapping[str, int], seed: int, training: Training
) -> Path:
    digest = hashlib.blake2b(digest_size=16)
    settings = (version("veil"), sorted(asdict(training).items()), seed, fit.image_shape)
    digest.update(repr((settings, [*classes.items()])).encode())
    for part in (fit, select):
        digest.update(part.content().tobytes())
        for name in classes:
            digest.update(part.column(name).tobytes())
    return cache_folder() / "classifiers" / f"{digest.hexdigest()}.safetensors"


def _train(
    found: FixedClassifiers,
    fit: Dataset,
    select: Dataset,
    seed: int,
    training: Training,
    console: Console | None,
) -> None:
    """Train in place, and keep the epoch with the best mean balanced accuracy on `select`."""
    device = fastest_device()
    columns = {name: torch.from_numpy(fit.column(name)) for name in found.classes}
    shares = [_shares(columns[name], k) for name, k in found.classes.items()]
    found.get_buffer("log_prior").copy_(torch.cat(shares).log())
    cycle = Cycle(
        training.learning_rate, training.weight_decay, training.batch_size, 0, training.epochs
    )
    rng = generator(seed, "fixed classifiers", "batches")
    with bar(console, "fixed classifiers", training.epochs * len(fit)) as advance:

        def loss(rows: Tensor) -> Tensor:
            x = flipped(fit.batch(rows.numpy(), labels=()).x, rng)
            with autocast(device):
                logits = found(placed(x, device))
            advance(len(rows), "")
            losses = [cross_entropy(s, columns[n][rows].to(device)) for n, s in logits.items()]
            mean = torch.stack(losses).mean()
            if not torch.isfinite(mean):
                raise Diverged(f"the fixed classifiers' loss became {mean.item()}")
            return mean

        train_by(found, len(fit), cycle, rng, loss, lambda: _error(found, select))


def _error(found: FixedClassifiers, dataset: Dataset) -> float:
    """One minus the mean balanced accuracy over the labels that the data know."""
    scores = []
    for name, said in found.read(pictures_of(dataset)).items():
        column = dataset.column(name)
        known = column != MISSING
        if known.any():
            scores.append(balanced_accuracy(column[known], said[known]))
    return 1 - float(np.mean(scores)) if scores else 1.0


def _shares(column: Tensor, k: int) -> Tensor:
    """(k,) each class's share of the known rows, none of them nothing."""
    count = torch.bincount(column[column != MISSING], minlength=k).float() + 1
    return count / count.sum()
