"""Training state as one safetensors file, written beside and then renamed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from veil.errors import VeilError


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        if beside.is_file():
            beside.chmod(0o644)  # safetensors writes files that only their owner may read
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors and a JSON header to `path`, all or nothing."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with written_beside(path) as beside:
        save_file(kept, beside, metadata={"veil": json.dumps(header)})


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header that `save_tensors` wrote.

    Raises:
        VeilError: the file is missing, cut short, or not one of ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["veil"])
            return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118
    except FileNotFoundError:
        raise VeilError(f"{path}: no such file") from None
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise VeilError(f"{path}: not a safetensors file written by veil ({error})") from None


def is_finite(module: nn.Module) -> bool:
    """Whether every floating-point parameter and buffer is finite."""
    return all(
        bool(torch.isfinite(tensor).all())
        for tensor in module.state_dict().values()
        if tensor.is_floating_point()
    )


def with_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under `prefix/name`."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def under_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors stored under `prefix/`, by their own names."""
    start = f"{prefix}/"
    return {n.removeprefix(start): tensor for n, tensor in tensors.items() if n.startswith(start)}


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's per-parameter state as `index/field` tensors."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}/{field}": torch.as_tensor(value)
        for index, fields in state.items()
        for field, value in fields.items()
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Undo `optimiser_tensors`; moments are laid out in memory as their parameters are."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, field = name.split("/")
        like = parameters[int(index)]
        value = torch.empty_like(like).copy_(tensor) if tensor.shape == like.shape else tensor
        state.setdefault(int(index), {})[field] = value
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": state, "param_groups": groups})
