"""Sample pictures for the report: originals, reconstructions, and where a classifier looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from veil.attacks.reconstruction import Reconstruction
from veil.checkpoint import written_beside
from veil.evidence import Evidence
from veil.nets.heads import ConvHead
from veil.precision import autocast
from veil.reconstructing import rows_shown
from veil.runs import Run
from veil.seeds import generator, seed_for

SAMPLES = 8
CLASSIFIER = (32, 64, 64, 128, 128, 256)  # AIA, section 5.2: the gender classifier of figure 3
STEPS = 200
BATCH = 64


def write_samples(
    run: Run, evidence: Evidence, out: Path, seed: int, rebuilt: Reconstruction | None = None
) -> None:
    """Write samples.npz: uint8 `original`, and where they exist `reconstruction` and `gradcam`.

    With an attacker's reconstructions also `attacked` and `attacked_original`: others' faces.

    The samples are the first photos of different people of `test`, both classes of the first
    private label in turn; Grad-CAM explains a classifier of that label trained on the releases of
    `attack` (AIA, figure 3).

    Args:
        run: trained.
        evidence: its releases.
        out: the file.
        seed: of the audit.
        rebuilt: what an attacker made of the releases of `rows_shown`, where one was asked to.
    """
    test = run.splits.test
    chosen = sample_rows(run)
    images = test.images[test.rows[chosen]]
    arrays = {"original": np.ascontiguousarray(images)}
    z = evidence.z["test"][torch.from_numpy(chosen)]
    x_hat = reconstruct(run, z)
    if x_hat is not None:
        arrays["reconstruction"] = x_hat
    private = run.problem.private[0]
    if z.ndim == 4 and test.label(private).is_class:
        heat = gradcam(evidence, private, z, seed)
        arrays["gradcam"] = overlay(images, heat)
    if rebuilt is not None:
        rows = rows_shown(evidence, seed)["test"][:SAMPLES]
        arrays["attacked_original"] = test.images[test.rows[rows]]
        arrays["attacked"] = _pixels(rebuilt.test[:SAMPLES])
    with written_beside(out) as beside, beside.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def sample_rows(run: Run) -> NDArray[np.int64]:
    """(k,) positions in `test`: one photo a person, the classes of the private label in turn."""
    test, name = run.splits.test, run.problem.private[0]
    people = test.identity
    first = (
        np.arange(len(test)) if people is None else np.sort(np.unique(people, return_index=True)[1])
    )
    if not test.label(name).is_class:
        return first[:SAMPLES]
    classes = test.column(name)[first]
    turn = np.empty(len(first), dtype=np.int64)
    for k in np.unique(classes):
        members = np.flatnonzero(classes == k)
        turn[members] = np.arange(len(members))
    order = np.lexsort((classes, turn))
    return first[order][:SAMPLES]


@torch.no_grad()
def reconstruct(run: Run, z: Tensor) -> NDArray[np.uint8] | None:
    """(k, h, w, c) the defender's own reconstruction of some releases, where it has a decoder."""
    device = next(run.method.parameters(), z).device
    x_hat = run.method.reconstruct(z.to(device))
    return None if x_hat is None else _pixels(x_hat)


def _pixels(x: Tensor) -> NDArray[np.uint8]:
    """(n, c, h, w) in [0, 1] -> (n, h, w, c)."""
    pixels = x.mul(255).round().clamp(0, 255).to(torch.uint8)
    found: NDArray[np.uint8] = pixels.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return found


def gradcam(evidence: Evidence, name: str, z: Tensor, seed: int) -> NDArray[np.float32]:
    """(k, h', w') in [0, 1]: Grad-CAM of a fresh classifier of `name` on the releases z.

    The classifier has the six convolutions of AIA, section 5.2, and explains the class it predicts.
    """
    from captum.attr import LayerGradCam

    train_z = evidence.z["attack"]
    s = torch.from_numpy(evidence.labels[name]["attack"])
    mean = train_z.mean(dim=(0, 2, 3), keepdim=True)
    spread = train_z.std(dim=(0, 2, 3), keepdim=True).clamp_min(1e-6)
    counts = torch.bincount(s).float()
    weights = len(s) / (len(counts) * counts.clamp_min(1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "gradcam", "weights"))
        network = ConvHead(z.shape[1], CLASSIFIER, len(counts))
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    rng = generator(seed, "gradcam", "batches")
    for _ in range(STEPS):
        rows = torch.randint(len(s), (BATCH,), generator=rng)
        with autocast(torch.device("cpu")):
            logits = network((train_z[rows] - mean) / spread)
        loss = nn.functional.cross_entropy(logits.float(), s[rows], weight=weights)
        adam.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        adam.step()
    network.eval()
    shown = (z - mean) / spread
    predicted = network(shown).argmax(dim=1)
    explained = LayerGradCam(network, network.convs[-1]).attribute(
        shown, target=predicted, relu_attributions=True
    )
    heat = explained.detach().sum(dim=1)
    heat = heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(1e-12)
    found: NDArray[np.float32] = heat.numpy()
    return found


def overlay(images: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(k, h, w, 3): the heat, blue to red, over the grey image."""
    from matplotlib import colormaps
    from PIL import Image

    _, height, width, _ = images.shape
    shown = []
    for image, one in zip(images, heat, strict=True):
        large = Image.fromarray((one * 255).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        colours = colormaps["turbo"](np.asarray(large) / 255)[..., :3]
        grey = image.mean(axis=2, keepdims=True) / 255
        shown.append(0.5 * grey + 0.5 * colours)
    return np.round(np.stack(shown) * 255).astype(np.uint8)
