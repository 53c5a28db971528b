"""Anyone's encoder as an ONNX model: what onnxruntime computes is what leaves the building."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from veil.errors import VeilError, nearest
from veil.method import Obfuscator

if TYPE_CHECKING:
    from onnxruntime import InferenceSession, NodeArg

IMAGES_AT_ONCE: Final = 64
TWINS: Final = 8
ROUNDING: Final = 1e-3
PIXELS: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(uint8)": np.dtype(np.uint8),
}
SEEDS: Final[dict[str, np.dtype[Any]]] = {
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
}
NUMBERS: Final = {
    *(*PIXELS, *SEEDS),
    *("tensor(bool)", "tensor(int8)", "tensor(int16)", "tensor(uint16)", "tensor(uint32)"),
}


class OnnxRelease(Obfuscator):
    """An ONNX model of pictures, run on the CPU with as many threads as torch may use.

    The model's picture is (n, c, h, w), or (n, h, w, c) where only its last axis is fixed to 1 or 3
    channels. Floating-point models are given [0, 1], uint8 ones 0 to 255; a model that wants
    pictures normalised otherwise must do so itself. Each call is cut into batches of the size
    that the model was exported with, the last one filled up with copies of its last picture.

    A second input called "seed" or "rng", a scalar or (k,) of integers, is drawn from the
    generator: the release can then be repeated. Random operators of ONNX take no seed from
    outside: such a release differs at every call, and its figures at every audit (a note says so).
    Where a batch shares one draw of noise, pictures are released one at a time, as one client's
    picture would be.

    No gradients pass through it.

    Args:
        path: the .onnx file.
        image: (c, h, w) of the pictures that it will be given.
        output: the output that is released; the first one by default.

    Attributes:
        notes: what an audit's reader must know about the way in which the model was run.

    Raises:
        VeilError: onnxruntime is not installed; the file is damaged; the model does not take
            one picture of this size, cannot be run, or has no such output.
    """

    def __init__(self, path: Path, image: tuple[int, int, int], output: str | None = None) -> None:
        super().__init__()
        self.path = path
        self._session = _open(path)
        picture, seed = _inputs(self._session.get_inputs(), path)
        self._picture = _Picture.of(picture, image, path)
        self._seed = seed
        self._output, notes = _output(self._session.get_outputs(), output, path)
        self._at_once = self._picture.batch or IMAGES_AT_ONCE
        repeatable, shared = self._probe(image)
        if not repeatable:
            notes += (
                f"{path.name} draws its own noise, whose seed cannot be set: "
                "another audit sees other releases",
            )
        if shared:
            self._at_once = 1
            notes += (
                f"{path.name} gives all pictures of a batch the same noise: released one at a time",
            )
        self.notes: tuple[str, ...] = notes

    def release(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Run the model on (n, c, h, w) pictures in [0, 1].

        Returns:
            (n, ...) float32, on the device of x; (n, 1) where the model gives one number each.

        Raises:
            VeilError: the model cannot run, or does not give one row for each picture.
        """
        parts = torch.split(x.detach().cpu(), self._at_once)
        return torch.cat([self._run(part, rng) for part in parts]).to(x.device)

    def _run(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """(m, ...) the release of m pictures at most `_at_once`."""
        count = len(x)
        filled = self._picture.batch or count
        x = torch.cat([x, x[-1:].expand(filled - count, *x.shape[1:])])
        feed = {self._picture.name: self._picture.of_tensor(x)}
        if self._seed is not None:
            feed[self._seed.name] = _drawn_seed(self._seed, filled, rng)
        try:
            (z,) = self._session.run([self._output], feed)
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise VeilError(
                f"{self.path}: cannot be run on {filled} pictures: {_first_line(error)}"
            ) from None
        if z.shape[:1] != (filled,):
            raise VeilError(
                f"{self.path}: output '{self._output}' has shape {z.shape} for {filled} pictures: "
                "export the model with one row for each, and a free or true batch axis"
            )
        with np.errstate(over="ignore"):  # what float32 cannot hold is inf, which can be attacked
            released = torch.from_numpy(z[:count].astype(np.float32))
        return released[:, None] if released.ndim == 1 else released

    def _probe(self, image: tuple[int, int, int]) -> tuple[bool, bool]:
        """Whether the same seed gives the same release, and whether a batch shares its noise.

        Identical pictures in one batch tell: noise of their own sets them apart, by more than the
        rounding in which their places in the batch may differ.
        """
        one = torch.rand(image, generator=torch.Generator().manual_seed(0))
        twins = one.expand(min(TWINS, self._at_once), *image)

        def drawn(seed: int) -> Tensor:
            return self._run(twins, torch.Generator().manual_seed(seed)).nan_to_num()

        first, again, other = drawn(1), drawn(1), drawn(2)
        between_draws = torch.maximum((first - again).abs(), (first - other).abs()).max()
        between_twins = (other - other[:1]).abs().max()
        shared = len(twins) > 1 and bool(between_twins < ROUNDING * between_draws)
        return torch.equal(first, again), shared


@dataclass(frozen=True)
class _Picture:
    """The input that takes the picture.

    Attributes:
        name: of the input.
        dtype: what it takes.
        batch: pictures in each run; None where any number may be given.
        channels_last: (n, h, w, c) instead of (n, c, h, w).
    """

    name: str
    dtype: np.dtype[Any]
    batch: int | None
    channels_last: bool

    @classmethod
    def of(cls, given: NodeArg, image: tuple[int, int, int], path: Path) -> _Picture:
        """Read an input of the model, and refuse pictures that do not fit it."""
        if given.type not in PIXELS:
            raise VeilError(
                f"{path}: input '{given.name}' takes {given.type}; a picture is float or uint8"
            )
        # Without any shape the model promises nothing, so the usual order is tried.
        shape = [size if isinstance(size, int) else None for size in given.shape] or [None] * 4
        if len(shape) != 4:
            raise VeilError(
                f"{path}: input '{given.name}' has {len(shape)} axes {given.shape}; "
                "a picture has four, (n, c, h, w)"
            )
        channels_last = shape[1] not in (1, 3) and shape[3] in (1, 3)
        batch, *sizes = shape
        channels, height, width = (sizes[2], *sizes[:2]) if channels_last else sizes
        c, h, w = image
        if channels not in (None, c):
            raise VeilError(
                f"{path}: expects {channels}-channel pictures, the data have {c}; "
                f"audit with --set data.channels={channels}"
            )
        if (height or h, width or w) != (h, w):
            wanted = f"{height or width}x{width or height}"
            mend = (
                "pictures here are square: let the model resize them"
                if height and width and height != width
                else f"audit with --size {height or width}"
            )
            raise VeilError(f"{path}: expects {wanted} pictures, the data have {h}x{w}; {mend}")
        return cls(given.name, PIXELS[given.type], batch, channels_last)

    def of_tensor(self, x: Tensor) -> NDArray[Any]:
        """(n, c, h, w) in [0, 1] as the model wants it."""
        pixels: NDArray[Any] = x.numpy()
        if self.dtype == np.uint8:
            pixels = np.round(pixels * 255)
        if self.channels_last:
            pixels = pixels.transpose(0, 2, 3, 1)
        return np.ascontiguousarray(pixels, dtype=self.dtype)


def _open(path: Path) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError:
        raise VeilError(f'{path}: ONNX models need onnxruntime: pip install "veil[onnx]"') from None
    if not path.is_file():
        raise VeilError(f"{path}: no such file")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # its errors are raised as well as logged
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no class of their own
        raise VeilError(
            f"{path}: is no ONNX model that can be read: {_first_line(error)}"
        ) from None


def _inputs(given: Sequence[NodeArg], path: Path) -> tuple[NodeArg, NodeArg | None]:
    """The input that takes the picture, and the one that takes a seed."""
    seeds = [entry for entry in given if _is_seed(entry)]
    others = [entry for entry in given if not _is_seed(entry)]
    if len(others) != 1 or len(seeds) > 1:
        names = ", ".join(f"'{entry.name}' {entry.shape} {entry.type}" for entry in given)
        raise VeilError(
            f"{path}: takes {names or 'nothing'}; a release takes one picture (n, c, h, w), "
            "and at most a seed: int64, called 'seed' or 'rng'"
        )
    return others[0], seeds[0] if seeds else None


def _is_seed(entry: NodeArg) -> bool:
    named = any(word in entry.name.lower() for word in ("seed", "rng"))
    return named and entry.type in SEEDS and len(entry.shape) <= 1


def _drawn_seed(entry: NodeArg, batch: int, rng: torch.Generator) -> NDArray[Any]:
    """A scalar, or as many as the model has places for: one for each picture where it is open."""
    shape = [size if isinstance(size, int) else batch for size in entry.shape]
    drawn = torch.randint(2**31 - 1, shape, generator=rng, device=rng.device)
    seed: NDArray[Any] = drawn.cpu().numpy().astype(SEEDS[entry.type])
    return seed


def _output(given: Sequence[NodeArg], name: str | None, path: Path) -> tuple[str, tuple[str, ...]]:
    """The output that is released, and a note where others are not."""
    names = [entry.name for entry in given]
    if name is not None and name not in names:
        raise VeilError(f"{path}: has no output '{name}': {nearest(name, names)}")
    chosen = given[0] if name is None else given[names.index(name)]
    if chosen.type not in NUMBERS:
        raise VeilError(f"{path}: output '{chosen.name}' is {chosen.type}; a release is numbers")
    others = ", ".join(f"'{other}'" for other in names if other != chosen.name)
    if not others:
        return chosen.name, ()
    return chosen.name, (
        f"{path.name}: only output '{chosen.name}' is audited; what else it puts out "
        f"({others}) must not leave the building",
    )


def _first_line(error: Exception) -> str:
    """What onnxruntime says, without its codes and the path it repeats."""
    lines = str(error).strip().splitlines()
    said = lines[0] if lines else type(error).__name__
    for announcement in (" : ", "failed:", "Status Message: "):
        said = said.rpartition(announcement)[2]
    return said
