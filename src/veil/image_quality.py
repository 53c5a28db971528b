"""How alike two pictures are: PSNR, SSIM, MS-SSIM and a perceptual distance, one value a picture.

Own code because the common libraries disagree about SSIM by 1e-5 to 2e-3 (window in single
precision, windows that reach over the border, a uniform window). Here: the windows of Wang et al.
that lie wholly inside the picture, as scikit-image's `structural_similarity(gaussian_weights=True,
sigma=1.5, use_sample_covariance=False)` averages them. Everything is differentiable and runs where
the pictures lie. In float64 both equal the published values to 1e-13, in float32 to about 1e-6.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from veil.errors import VeilError

LARGEST_PSNR = 100.0
WINDOW = 11
SIGMA = 1.5
C1, C2 = 0.01**2, 0.03**2  # (K L)^2 with the data range L = 1
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB, -10 log10 MSE: the peak is 1.

    At most `LARGEST_PSNR` (100 dB, a root mean square difference of 1e-5), which identical
    pictures get, so that a mean over pictures is always finite.

    Args:
        x, y: (n, c, h, w) in [0, 1].

    Returns:
        (n,).

    Raises:
        VeilError: shapes differ, or pictures are not floating point.
    """
    x, y = _checked(x, y)
    error = (x - y).square().flatten(1).mean(1)
    return -10 * error.clamp(min=10 ** (-LARGEST_PSNR / 10)).log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004, eq. 13), 1 for identical pictures.

    Gaussian windows of 11x11, sigma 1.5, wholly inside the picture; K1 = 0.01, K2 = 0.03; the mean
    over windows and channels.

    Args:
        x, y: (n, c, h, w) in [0, 1], h and w at least 11.

    Returns:
        (n,) in [-1, 1].

    Raises:
        VeilError: shapes differ, pictures are not floating point, or a side is below 11.
    """
    x, y = _checked(x, y, smallest=WINDOW)
    return _similarity(x, y)[0].mean(1)


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """SSIM over several scales (Wang, Simoncelli and Bovik, Asilomar 2003, eq. 7).

    The contrast and structure terms of every scale but the coarsest, and the whole SSIM of that,
    to the powers of `SCALE_WEIGHTS`; negative terms count as 0, where the gradient is 0 too. The
    mean over channels comes last. Each scale halves the one before by 2x2 means; an odd side gets a
    row of zeros first. Pictures too small for five scales get as many as `scales` says, with the
    weights of these scaled up to the sum of all five: compare such values among equal sizes only.

    Args:
        x, y: (n, c, h, w) in [0, 1], h and w at least 11.

    Returns:
        (n,) in [0, 1].

    Raises:
        VeilError: as for `ssim`.
    """
    x, y = _checked(x, y, smallest=WINDOW)
    height, width = x.shape[2:]
    count = scales(height, width)
    terms = []
    for scale in range(count):
        if scale > 0:
            odd = (x.shape[2] % 2, x.shape[3] % 2)
            x, y = (F.avg_pool2d(v, 2, padding=odd) for v in (x, y))
        whole, structure = _similarity(x, y)
        terms.append(whole if scale == count - 1 else structure)
    term = torch.stack(terms)
    weight = term.new_tensor(SCALE_WEIGHTS[:count])[:, None, None]
    weight = weight * sum(SCALE_WEIGHTS) / weight.sum()
    positive = term > 0  # a power of exactly 0 has no finite gradient
    powers = term.where(positive, torch.ones_like(term)) ** weight
    return (powers.prod(0) * positive.all(0)).mean(1)


def scales(height: int, width: int) -> int:
    """How many scales `ms_ssim` has for pictures of this size: 5 above 160 pixels, at least 1.

    Each scale needs room for a window: more than 10 * 2^(scales - 1) pixels.
    """
    side = min(height, width)
    fit = [k for k in range(1, len(SCALE_WEIGHTS) + 1) if side > (WINDOW - 1) * 2 ** (k - 1)]
    return max(fit, default=1)


def perceptual_distance(features_a: Sequence[Tensor], features_b: Sequence[Tensor]) -> Tensor:
    """LPIPS with equal weights (Zhang et al., CVPR 2018, eq. 1 with every w = 1).

    Each position's vector over channels is scaled to unit length; the squared distances of the two
    pictures' vectors are averaged over positions and summed over stages.

    Args:
        features_a, features_b: one (n, c, h, w) map for each stage of a network, of either picture.

    Returns:
        (n,) from 0 (same directions everywhere) to 4 a stage, 2 where features are not negative.

    Raises:
        VeilError: no stages, or the shapes of the two differ.
    """
    shapes_a, shapes_b = ([tuple(map_.shape) for map_ in maps] for maps in (features_a, features_b))
    if not shapes_a or shapes_a != shapes_b or any(len(shape) != 4 for shape in shapes_a):
        raise VeilError(
            f"cannot compare feature maps {shapes_a} with {shapes_b}: (n, c, h, w) each"
        )
    stages = [
        (_unit(a) - _unit(b)).square().sum(1).mean((1, 2))
        for a, b in zip(features_a, features_b, strict=True)
    ]
    return torch.stack(stages).sum(0)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(n, c) means over windows of SSIM and of its contrast and structure factor alone."""
    # Variances do not depend on a shift; about 0 their differences of squares lose fewer digits.
    u, v = x - 0.5, y - 0.5
    u_mean, v_mean, square, product = _windowed(torch.stack([u, v, u * u + v * v, u * v]))
    spread = square - u_mean.square() - v_mean.square()
    together = product - u_mean * v_mean
    structure = (2 * together + C2) / (spread + C2)
    x_mean, y_mean = u_mean + 0.5, v_mean + 0.5
    brightness = (2 * x_mean * y_mean + C1) / (x_mean.square() + y_mean.square() + C1)
    return (brightness * structure).mean((2, 3)), structure.mean((2, 3))


def _windowed(maps: Tensor) -> Tensor:
    """(..., h, w) -> (..., h - 10, w - 10): Gaussian means over all windows that lie inside.

    The two separable passes are products with banded matrices: about ten times as fast on a
    processor as convolutions of so few channels.
    """
    down, across = (_windows(side, maps) for side in maps.shape[-2:])
    return down @ maps @ across.T


def _windows(side: int, like: Tensor) -> Tensor:
    """(side - 10, side): each row is one Gaussian window, which sums to one."""
    offset = torch.arange(WINDOW, dtype=torch.float64, device=like.device) - WINDOW // 2
    bell = torch.exp(-(offset**2) / (2 * SIGMA**2))
    every = torch.eye(side, dtype=torch.float64, device=like.device).unfold(0, WINDOW, 1)
    return (every @ (bell / bell.sum())).to(like.dtype)


def _unit(maps: Tensor) -> Tensor:
    return F.normalize(maps, dim=1, eps=1e-10)


def _checked(x: Tensor, y: Tensor, smallest: int = 1) -> tuple[Tensor, Tensor]:
    """Both pictures in float32 or better."""
    if x.shape != y.shape or x.ndim != 4:
        raise VeilError(
            f"cannot compare pictures {tuple(x.shape)} with {tuple(y.shape)}: (n, c, h, w) both"
        )
    if not (x.is_floating_point() and y.is_floating_point()):
        raise VeilError(f"pictures must be floats in [0, 1], not {x.dtype} and {y.dtype}")
    if min(x.shape[2:]) < smallest:
        raise VeilError(
            f"SSIM needs pictures of {smallest} pixels or more each way, not "
            f"{x.shape[2]}x{x.shape[3]}"
        )
    dtype = torch.promote_types(torch.promote_types(x.dtype, y.dtype), torch.float32)
    return x.to(dtype), y.to(dtype)
