"""Independent perceptrons trained side by side: small networks cost little more than their sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class Perceptrons(nn.Module):
    """groups x copies perceptrons of one shape with tanh, the copies of a group side by side.

    They share no weight. The copies of a group begin alike and drop the same units; groups share
    nothing.

    Args:
        groups, copies: how many.
        widths: units of every layer, inputs first.
        dropped: layer -> probability with which its units are dropped in training.
        rng: of the weights and biases, uniform within 1 / sqrt(inputs) of zero.
    """

    def __init__(
        self,
        groups: int,
        copies: int,
        widths: Sequence[int],
        dropped: Mapping[int, float],
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        self.groups, self.copies, self.dropped = groups, copies, dropped
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in pairwise(widths):
            for rows, parameters in ((inputs, self.weights), (1, self.biases)):
                uniform = 2 * torch.rand(groups, rows, outputs, generator=rng) - 1
                parameters.append((uniform / inputs**0.5).repeat_interleave(copies, dim=0))

    def forward(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """(groups x copies, n, inputs) -> (groups x copies, n, outputs) float32.

        Args:
            rng: of the dropout.
        """
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if layer:
                x = self._dropped(x.tanh(), self.dropped.get(layer, 0.0), rng)
            x = torch.baddbmm(bias, x, weight)
        return x.float()

    def _dropped(self, x: Tensor, share: float, rng: torch.Generator) -> Tensor:
        if share == 0 or not self.training:
            return x
        kept = torch.rand(self.groups, *x.shape[1:], generator=rng, device=x.device) >= share
        return x * (kept.to(x.dtype) / (1 - share)).repeat_interleave(self.copies, dim=0)
