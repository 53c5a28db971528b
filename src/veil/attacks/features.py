"""What an attacker makes of a release before it learns: scaling, whitening, statistics.

Everything is fitted on the "attack" split alone and never fails on what a release may hold:
a missing or infinite value becomes the feature's mean, with an indicator column beside it;
constants become zero; heavy tails are cut at eight standard deviations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from veil.attacks.attack import AttackSplit

Preparation = Literal["raw", "standardised", "normalised", "whitened", "statistics"]
Splits = Mapping[AttackSplit, Tensor]

# Attackers on flat vectors see larger maps average-pooled; convolutions see them whole.
MAX_FEATURES = 4096
WHITENED = 256
LARGEST = 1e12
CUT = 8.0


class Releases(dict[AttackSplit, Tensor]):
    """Releases that remember how they were prepared, so that a suite prepares them once."""

    def __init__(self, z: Splits) -> None:
        super().__init__(z)
        # A copy of releases remembers together with the first.
        known = z.prepared if isinstance(z, Releases) else {}
        self.prepared: dict[Preparation, dict[AttackSplit, Tensor]] = known


def prepare(z: Splits, how: Preparation) -> dict[AttackSplit, Tensor]:
    """Releases as finite float32 vectors.

    Args:
        z: split -> (n, ...) releases.
        how: "raw" shifts and scales everything alike; "standardised" each feature by itself;
            "normalised" divides each sample's channel (or vector) by its own root mean square and
            appends the logarithms of those; "whitened" decorrelates up to 256 leading directions
            of the standardised features; "statistics" describes each sample by moments,
            correlations and Fourier energies of its channels (see `describe`).

    Returns:
        split -> (n, d), not to be changed in place.
    """
    if not isinstance(z, Releases):
        return _prepared(z, how)
    if how not in z.prepared:
        z.prepared[how] = _prepared(z, how)
    return z.prepared[how]


def _prepared(z: Splits, how: Preparation) -> dict[AttackSplit, Tensor]:
    if how == "whitened":
        return whiten(prepare(z, "standardised"))
    if how == "statistics":
        return standardise({split: describe(x) for split, x in fill(z).items()})
    pooled = {split: _pooled(x) for split, x in fill(z).items()}
    if how == "normalised":
        return standardise({split: _normalised(x) for split, x in pooled.items()})
    flat = {split: x.flatten(1) for split, x in pooled.items()}
    if how == "raw":
        return _scaled_alike(flat)
    return standardise(flat)


def prepare_map(z: Splits, how: Literal["raw", "standardised"]) -> dict[AttackSplit, Tensor]:
    """Maps (n, c, h, w) as finite float32 maps, scaled all alike or each channel by itself."""
    maps = fill(z)
    if how == "raw":
        return _scaled_alike(maps)
    return standardise(maps, over=(0, 2, 3))


def fill(z: Splits) -> dict[AttackSplit, Tensor]:
    """Missing and infinite values become the feature's mean, and indicators are appended.

    A flat release gains one column for each feature that is ever missing in "attack", a map one
    channel for each such channel.
    """
    finite = {split: x.isfinite() for split, x in z.items()}
    known = finite["attack"]
    filled = {s: torch.where(finite[s], x, 0.0).clamp(-LARGEST, LARGEST) for s, x in z.items()}
    if all(bool(mask.all()) for mask in finite.values()):
        return filled
    mean = filled["attack"].sum(0) / known.sum(0).clamp_min(1)
    gaps = ~(known.all(0) if known.ndim == 2 else known.transpose(0, 1).flatten(1).all(1))
    return {
        split: torch.cat([torch.where(finite[split], x, mean), (~finite[split])[:, gaps]], 1)
        for split, x in filled.items()
    }


def standardise(x: Splits, over: tuple[int, ...] = (0,)) -> dict[AttackSplit, Tensor]:
    """Zero mean and unit deviation over the axes `over` of "attack", outliers cut at eight.

    Values more than twenty interquartile ranges from the median are cut first, so that one
    enormous value does not hide the spread of the others.
    """
    least, greatest = _whiskers(x["attack"], over)
    cut = {split: v.clamp(least, greatest) for split, v in x.items()}
    mean = cut["attack"].double().mean(over, keepdim=True).float()
    spread = (cut["attack"] - mean).square().mean(over, keepdim=True).sqrt()
    constant = spread <= 1e-6 * mean.abs()
    scale = torch.where(constant, 0.0, 1 / spread.clamp_min(1e-30))
    return {split: ((v - mean) * scale).clamp_(-CUT, CUT) for split, v in cut.items()}


def describe(x: Tensor) -> Tensor:
    """Per-sample statistics: what changes with a sample's scale and texture, not its content.

    Args:
        x: (n, c, h, w) maps, or (n, d) vectors, which are taken as one channel.

    Returns:
        (n, k): for each channel its mean, log deviation, skewness, kurtosis, least and greatest
        value; of maps the Fourier amplitudes and the correlations between up to 16 channels; of
        vectors of at most 48 features the products of every two.
    """
    channels = x.flatten(2) if x.ndim > 2 else x.unsqueeze(1)
    mean = channels.mean(2, keepdim=True)
    spread = (channels - mean).square().mean(2, keepdim=True).sqrt()
    unit = (channels - mean) / spread.clamp_min(1e-20)
    parts = [
        mean.squeeze(2),
        spread.squeeze(2).clamp_min(1e-20).log(),
        unit.pow(3).mean(2),
        unit.pow(4).mean(2),
        channels.amin(2),
        channels.amax(2),
    ]
    if x.ndim == 4:
        parts += [_fourier_amplitudes(x), _products(unit[:, :16]) / unit.shape[2]]
    elif x.ndim == 2 and x.shape[1] <= 48:
        deviation = (x - x.mean(0)) / x.std(0).clamp_min(1e-20)
        parts.append(_products(deviation.unsqueeze(2)))
    return torch.cat(parts, 1)


def _whiskers(x: Tensor, over: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Per feature, twenty interquartile ranges below and above the median of a few hundred rows.

    A feature most of whose values are equal has no such range and no limits.
    """
    some = x[:: -(-len(x) // 512)]
    kept = [axis for axis in range(x.ndim) if axis not in over]
    values = some.permute(*over, *kept).flatten(0, len(over) - 1)
    values = values[:: -(-len(values) // 4096)].sort(0).values
    low, middle, high = (values[int(share * (len(values) - 1))] for share in (0.25, 0.5, 0.75))
    reach = torch.where(high > low, 20 * (high - low), torch.inf)
    shape = [1 if axis in over else x.shape[axis] for axis in range(x.ndim)]
    return (middle - reach).view(shape), (middle + reach).view(shape)


def _products(x: Tensor) -> Tensor:
    """(n, k, m) -> (n, k(k+1)/2): inner products over m of every two of the k rows."""
    row, column = torch.triu_indices(x.shape[1], x.shape[1])
    return torch.bmm(x, x.transpose(1, 2))[:, row, column]


def _fourier_amplitudes(x: Tensor) -> Tensor:
    """(n, c, h, w) -> (n, k): root energies of frequencies, or of cells of them on larger maps.

    At most 8 x 5 cells a channel, 4 x 3 beyond 16 channels; the mean, told apart, counts as zero.
    """
    energy = torch.fft.rfft2(x, norm="ortho").abs().square()
    energy[:, :, 0, 0] = 0.0
    most = (8, 5) if x.shape[1] <= 16 else (4, 3)
    cells = (min(most[0], energy.shape[2]), min(most[1], energy.shape[3]))
    shifted = torch.fft.fftshift(energy, dim=2)
    return adaptive_avg_pool2d(shifted, cells).sqrt().flatten(1)


def _pooled(x: Tensor) -> Tensor:
    if x.ndim != 4 or x[0].numel() <= MAX_FEATURES:
        return x
    shrink = (MAX_FEATURES / x[0].numel()) ** 0.5
    return adaptive_avg_pool2d(
        x, (max(1, int(x.shape[2] * shrink)), max(1, int(x.shape[3] * shrink)))
    )


def _normalised(x: Tensor) -> Tensor:
    channels = x.flatten(2) if x.ndim > 2 else x.unsqueeze(1)
    size = channels.square().mean(2, keepdim=True).sqrt().clamp_min(1e-20)
    return torch.cat([(channels / size).flatten(1), size.log().flatten(1)], 1)


def _scaled_alike(x: Splits) -> dict[AttackSplit, Tensor]:
    centre = x["attack"].double().mean().float()
    spread = (x["attack"] - centre).square().double().mean().sqrt().float().clamp_min(1e-20)
    return {split: (v - centre) / spread for split, v in x.items()}


def whiten(x: Splits) -> dict[AttackSplit, Tensor]:
    """Principal directions of standardised features, each scaled to unit deviation."""
    known = x["attack"]
    if min(known.shape) <= 2 * WHITENED:
        _, values, directions = torch.linalg.svd(known, full_matrices=False)
        directions = directions.T
    else:
        with torch.random.fork_rng(devices=[]):  # svd_lowrank starts from the global stream
            torch.manual_seed(0)
            _, values, directions = torch.svd_lowrank(known, q=WHITENED, niter=3)
    kept = values > 1e-4 * values[0].clamp_min(1e-20)
    projection = (directions / values.clamp_min(1e-20) * len(known) ** 0.5)[:, kept][:, :WHITENED]
    return {split: v @ projection for split, v in x.items()}
