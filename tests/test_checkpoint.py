"""Files that are whole or absent, and state that comes back bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from veil.checkpoint import (
    is_finite,
    load_tensors,
    optimiser_tensors,
    restore_optimiser,
    save_tensors,
    under_prefix,
    with_prefix,
    written_beside,
)
from veil.errors import VeilError
from veil.game import channels_last

HEADER = {"epoch": 3, "best": 0.1 + 0.2, "none": None, "tally": {"a/b": [1e-300, 2]}}


def test_tensors_and_header_come_back_bit_for_bit(tmp_path: Path) -> None:
    tensors = {
        "float": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "channels last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.tensor([1.5, -0.0], dtype=torch.bfloat16),
        "whole": torch.tensor(2**62 + 1),
        "empty": torch.empty(0, 3),
        "parameter": nn.Parameter(torch.ones(2)),
    }
    save_tensors(tmp_path / "new" / "file", tensors, HEADER)
    loaded, header = load_tensors(tmp_path / "new" / "file")
    assert header == HEADER
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor)
        assert loaded[name].dtype == tensor.dtype


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save_tensors(path, {"x": torch.ones(1)}, HEADER)

    def fail_halfway() -> None:
        with written_beside(path) as beside:
            beside.write_bytes(b"half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail_halfway()
    assert [*tmp_path.iterdir()] == [path]
    assert torch.equal(load_tensors(path)[0]["x"], torch.ones(1))


def test_the_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with written_beside(path) as beside:
        beside.write_bytes(b"all")
        assert not path.exists()
        assert beside.parent == path.parent  # so that the renaming is atomic
    assert [*tmp_path.iterdir()] == [path]


def test_what_is_not_ours_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    save_tensors(whole, {"x": torch.ones(100)}, HEADER)
    cases = {
        "cut": whole.read_bytes()[:-1],
        "cut in the header": whole.read_bytes()[:20],
        "empty": b"",
        "text": b"hello, this is no safetensors file at all",
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
    save_file({"x": torch.ones(1)}, tmp_path / "strange")
    save_file({"x": torch.ones(1)}, tmp_path / "not json", metadata={"veil": "{"})
    for name in (*cases, "strange", "not json"):
        with pytest.raises(VeilError, match="not a safetensors file written by veil") as caught:
            load_tensors(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(VeilError, match="no such file"):
        load_tensors(tmp_path / "missing")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_number_that_is_not_finite_is_found(value: float) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    assert is_finite(module)
    module.state_dict()["1.running_mean"][1] = value
    assert not is_finite(module)


def test_prefixes_divide_one_file_without_mixing() -> None:
    one = with_prefix("player", {"a": torch.ones(1)})
    two = with_prefix("player/b", {"a": torch.zeros(1)})
    other = with_prefix("playerx", {"a": torch.zeros(1)})
    assert [*under_prefix("player/b", one | two | other)] == ["a"]
    assert [*under_prefix("playerx", one | two | other)] == ["a"]
    assert torch.equal(under_prefix("player", one | other)["a"], torch.ones(1))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 1))
    channels_last(module)
    return module


def adam(module: nn.Module) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=0.1, fused=True)


def step(module: nn.Module, optimiser: torch.optim.Adam, seed: int) -> None:
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    gradients = torch.autograd.grad(module(x).square().mean(), [*module.parameters()])
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        parameter.grad = gradient
    optimiser.step()


def test_an_optimiser_goes_on_as_if_it_had_never_stopped(tmp_path: Path) -> None:
    """Without its state (the negative control) the next step is another one."""
    module = network()
    optimiser = adam(module)
    for seed in range(3):
        step(module, optimiser, seed)
    save_tensors(tmp_path / "o", optimiser_tensors(optimiser), {})
    weights = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    step(module, optimiser, 9)
    ends = []
    for restore in (True, False):
        again = network()
        again.load_state_dict(weights)
        resumed = adam(again)
        if restore:
            restore_optimiser(resumed, load_tensors(tmp_path / "o")[0])
            moment = resumed.state[next(again.parameters())]["exp_avg"]
            assert moment.is_contiguous(memory_format=torch.channels_last)
        step(again, resumed, 9)
        pairs = zip(again.parameters(), module.parameters(), strict=True)
        ends.append(all(torch.equal(a, b) for a, b in pairs))
    assert ends == [True, False]


def test_an_optimiser_that_never_stepped_has_no_state() -> None:
    module = network()
    assert optimiser_tensors(adam(module)) == {}
    optimiser = adam(module)
    restore_optimiser(optimiser, {})
    step(module, optimiser, 0)
