"""Plain filters: the picture itself, blurred, pixelated, or under additive noise.

The lines every trade-off plot needs. They have no paper and learn nothing; strengths are in pixels
of the stored image or in its units, [0, 1].

Threat model: whoever receives the filtered picture reads a useful label from it and infers a
private attribute, having trained on pictures filtered in the same way.

Equation map
    Original.release   z = x, the upper bound of utility and of leakage
    Blur.release       z = D x A', rows of D and A Gaussian windows, `gaussian_windows`
    Pixelate.release   every pixel becomes the mean of its block, `block_means`
    Noise.release      z = min(1, max(0, x + N(0, deviation^2)))

Departures
    None: there is no paper.

Unclear in the paper
    Nothing to be unclear; ours to choose was the border.
    1. Where a Gaussian window reaches over the border its rest is scaled up to a sum of one: no
       pixels are made up, and a flat picture stays flat.
    2. Blocks that reach over the right or lower border are averaged over what lies inside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from veil.method import Method, MethodConfig, Obfuscator, Player, Problem, Stage


class OriginalConfig(MethodConfig):
    """Nothing to choose."""


class BlurConfig(MethodConfig):
    """Fields.

    Attributes:
        deviation: standard deviation of the Gaussian window, in pixels of the stored image.
    """

    deviation: float = Field(4.0, gt=0)


class PixelateConfig(MethodConfig):
    """Fields.

    Attributes:
        block: side of the square blocks, in pixels of the stored image; 1 changes nothing.
    """

    block: int = Field(8, ge=1)


class NoiseConfig(MethodConfig):
    """Fields.

    Attributes:
        deviation: standard deviation of the noise of every pixel and channel, in units of [0, 1].
    """

    deviation: float = Field(0.25, gt=0)


def gaussian_windows(side: int, deviation: float, like: Tensor) -> Tensor:
    """(side, side): row i weighs the pixels of a line for its new pixel i; every row sums to one.

    Args:
        side: pixels of the line.
        deviation: of the Gaussian, in pixels.
        like: gives device and dtype.
    """
    place = torch.arange(side, dtype=torch.float64, device=like.device)
    log_weight = -((place[:, None] - place) / deviation).square() / 2
    return log_weight.softmax(dim=1).to(like.dtype)


def block_means(x: Tensor, block: int) -> Tensor:
    """(n, c, h, w) -> the same shape, every block x block square filled with its mean."""
    height, width = x.shape[2:]
    means = F.avg_pool2d(x, block, ceil_mode=True)
    filled = means.repeat_interleave(block, dim=2).repeat_interleave(block, dim=3)
    return filled[:, :, :height, :width]


class OriginalObfuscator(Obfuscator):
    """The picture as it is."""

    pictures: ClassVar[bool] = True

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return x


class BlurObfuscator(Obfuscator):
    """The picture under Gaussian windows as wide as the picture itself."""

    pictures: ClassVar[bool] = True

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        down, across = (gaussian_windows(side, self.deviation, x) for side in x.shape[2:])
        return (down @ x @ across.T).clamp(0, 1)


class PixelateObfuscator(Obfuscator):
    """The picture in blocks of one colour."""

    pictures: ClassVar[bool] = True

    def __init__(self, block: int) -> None:
        super().__init__()
        self.block = block

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        return block_means(x, self.block)


class NoiseObfuscator(Obfuscator):
    """The picture under independent Gaussian noise, clipped to [0, 1]."""

    pictures: ClassVar[bool] = True

    def __init__(self, deviation: float) -> None:
        super().__init__()
        self.deviation = deviation

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        return (x + self.deviation * noise).clamp(0, 1)


class Filter(Method):
    """What learns nothing, and so takes every problem: no players, no stages, no heads."""

    @cached_property
    def players(self) -> Mapping[str, Player]:
        return {}

    def stages(self) -> Sequence[Stage]:
        return ()


class Original(Filter):
    """The clean picture: what can be read at all, useful or private."""

    Config = OriginalConfig

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        self.obfuscator = OriginalObfuscator()

    def title(self) -> str:
        return "Original picture"


class Blur(Filter):
    """The blurred picture."""

    Config = BlurConfig

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, BlurConfig)
        self.config = config
        self.obfuscator = BlurObfuscator(config.deviation)

    def title(self) -> str:
        return f"Blur {self.config.deviation:g} px"


class Pixelate(Filter):
    """The pixelated picture."""

    Config = PixelateConfig

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, PixelateConfig)
        self.config = config
        self.obfuscator = PixelateObfuscator(config.block)

    def title(self) -> str:
        return f"Pixelate {self.config.block} px"


class Noise(Filter):
    """The noisy picture."""

    Config = NoiseConfig

    def __init__(self, config: MethodConfig, problem: Problem) -> None:
        super().__init__(config, problem)
        assert isinstance(config, NoiseConfig)
        self.config = config
        self.obfuscator = NoiseObfuscator(config.deviation)

    def title(self) -> str:
        return f"Noise {self.config.deviation:g}"
