"""Whether SynthFaces behaves like a face data set: attribute accuracies and face verification.

    python benchmarks/synthfaces_credibility.py [--people 4000] [--width 64] [--epochs 12]

Trains one ResNet-18 on Male, Smiling and Mouth_Slightly_Open and one on identities, on the
first part of the people, and scores both on people neither has seen. Beside each accuracy stands
the ceiling that the label noise sets. `--width 16` is a sixteenth of the work.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from veil.data.face_attributes import ATTRIBUTES
from veil.data.synthfaces import faces, labels
from veil.metrics import eer
from veil.nets.resnet import ResNet
from veil.precision import autocast

TARGETS = ("Male", "Smiling", "Mouth_Slightly_Open")
BATCH = 128


def images(pixels: NDArray[np.uint8], device: torch.device) -> Tensor:
    """(n, 3, h, w) in [-1, 1]."""
    return torch.from_numpy(pixels).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(net: nn.Module, x: NDArray[np.uint8], y: Tensor, epochs: int, identity: bool) -> None:
    """Adam with a one-cycle rate; cross-entropy on `y`, binary for attributes."""
    device = y.device
    steps = epochs * (len(x) // BATCH)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    rng = np.random.default_rng(0)
    net.train()
    for _ in range(epochs):
        order = rng.permutation(len(x))
        for at in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[at : at + BATCH]
            batch = images(x[rows], device)
            mirrored = torch.from_numpy(rng.random(len(rows)) < 0.5).to(device)
            batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
            with autocast(device):
                logits = net(batch).float()
            target = y[torch.from_numpy(rows).to(device)]
            loss = (
                functional.cross_entropy(logits, target, label_smoothing=0.1)
                if identity
                else functional.binary_cross_entropy_with_logits(logits, target)
            )
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            rate.step()


@torch.no_grad()
def outputs(net: nn.Module, x: NDArray[np.uint8], device: torch.device) -> NDArray[np.float32]:
    net.eval()
    parts = [net(images(x[at : at + 256], device)).cpu() for at in range(0, len(x), 256)]
    return torch.cat(parts).float().numpy()


def attributes(args: argparse.Namespace, device: torch.device) -> None:
    held_out = args.people // 4
    count, test = args.people * 5, held_out * 5
    indices = np.arange(count + test, dtype=np.int64)
    x, named = faces(0, indices, args.size), labels(0, indices, args.size)
    y = np.stack([named[name] for name in TARGETS], axis=1)
    net = ResNet(widths=widths(args.width), classes=len(TARGETS)).to(device)
    train(net, x[:count], torch.from_numpy(y[:count]).float().to(device), args.epochs, False)
    said = outputs(net, x[count:], device) > 0
    for i, name in enumerate(TARGETS):
        true, guess = y[count:, i] == 1, said[:, i]
        accuracy = np.mean(true == guess)
        balanced = (np.mean(guess[true]) + np.mean(~guess[~true])) / 2
        a = ATTRIBUTES[name]
        print(
            f"{name:20} accuracy {accuracy:.3f} (ceiling {1 - a.noise:.3f})   "
            f"balanced {balanced:.3f} (ceiling {1 - a.noise / (4 * a.rate * (1 - a.rate)):.3f})"
        )


def verification(args: argparse.Namespace, device: torch.device) -> None:
    photos, known, strangers = 20, args.people // 4, 300
    indices = np.arange((known + strangers) * photos, dtype=np.int64)
    x = faces(1, indices, args.size, photos_per_person=photos)
    person = indices // photos
    count = known * photos
    net = ResNet(widths=widths(args.width), classes=known).to(device)
    train(net, x[:count], torch.from_numpy(person[:count]).to(device), args.epochs, True)
    embed = nn.Sequential(net.stem_and_stages(4), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    z = outputs(embed, x[count:], device)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, len(z), (2, 400_000))
    who = person[count:]
    mates = np.stack([np.arange(len(z)), np.arange(len(z)) ^ 1])
    left, right = np.concatenate([mates[0], first]), np.concatenate([mates[1], second])
    left, right = left[left != right], right[left != right]
    distance = 1 - (z[left] * z[right]).sum(axis=1)
    print(f"verification EER     {eer(who[left] == who[right], distance):.3f} (strangers)")


def widths(first: int) -> tuple[int, int, int, int]:
    return first, 2 * first, 4 * first, 8 * first


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--people", type=int, default=4000)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", choices=("attributes", "verification"))
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    for part in (attributes, verification):
        if args.only in (None, part.__name__):
            torch.manual_seed(0)
            start = time.perf_counter()
            part(args, device)
            print(f"{part.__name__}: {time.perf_counter() - start:.0f} s on {device}")


if __name__ == "__main__":
    main()
