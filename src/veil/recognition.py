"""A face-recognition network: how alike two faces are, and whose face a reconstruction shows.

The field asks ArcFace for this, and LPIPS for perceptual distance; neither's weights are veil's to
give away. So veil trains a small network on whatever people are at hand (`recogniser_training`),
carries one trained on drawn faces ("synthfaces"), and takes anyone's ONNX file (`load_recogniser`).
What a recogniser is worth on people it has never seen (`recognition`) belongs beside every figure
made with it: a weak one finds nobody in a perfect copy.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from veil.attacks.attack import Floats, Ints
from veil.attacks.pairs import distances, draw_pairs, rank1
from veil.checkpoint import load_tensors, save_tensors
from veil.data.dataset import MISSING
from veil.errors import VeilError, nearest
from veil.metrics import LOW_RATE, eer, tar_at_far

SHIPPED = {"synthfaces": "weights/synthfaces-recogniser.safetensors"}
KIND = "face recogniser 1"
SIZE = 32
CHUNK = 512


@dataclass(frozen=True)
class Recognition:
    """How well a recogniser tells apart people it has never seen; beside it, the impostor floor.

    Attributes:
        people, pictures: how many were asked about.
        eer: equal error rate of balanced pairs; 0.5 for a recogniser that sees nothing.
        tar_at_far: true accepts at 1 % false accepts; 0.01 for one that sees nothing.
        rank1: share of pictures whose nearest gallery picture (everybody's first) is their own
            person's; rank1_floor: 1 / people.
        cosine_same, cosine_impostor: mean cosine of two pictures of one person, and of two people:
            a reconstruction no nearer to its original than `cosine_impostor` shows anybody.
    """

    people: int
    pictures: int
    eer: float
    tar_at_far: float
    rank1: float
    rank1_floor: float
    cosine_same: float
    cosine_impostor: float


class Recogniser(ABC):
    """Embeds faces so that pictures of one person lie close together.

    Attributes:
        source: where it comes from, in words for a report.
        digest: hash of the network, in hexadecimal.
        held_out: what it reached on people left out of its training, where veil trained it.
    """

    source: str
    digest: str
    held_out: Recognition | None

    @abstractmethod
    def embed(self, x: Tensor) -> Tensor:
        """(n, c, h, w) pictures in [0, 1] (or uint8), c = 1 or 3 -> (n, d) float32 of unit length.

        Pictures of any size are resized to the network's own. No gradient; the result lies where
        x does.

        Raises:
            VeilError: these are no pictures, or they hold NaN or infinity.
        """

    @abstractmethod
    def features(self, x: Tensor) -> list[Tensor] | None:
        """The map (n, c', h', w') after each stage, for `image_quality.perceptual_distance`.

        Differentiable in x. None where the network shows no stages (an ONNX file): then there is
        no perceptual distance.
        """


class TrainedRecogniser(Recogniser):
    """A network of veil's own, fixed; made by `recogniser_training` and `load_recogniser`."""

    def __init__(self, net: FaceNet, source: str, held_out: Recognition | None = None) -> None:
        rounded = net.half().float()  # exactly as it is stored
        self._net = laid_out(rounded).eval().requires_grad_(False)
        self.source = source
        self.digest = _digest_of(self._net)
        self.held_out = held_out

    def embed(self, x: Tensor) -> Tensor:
        return embedded_by(self._on(x.device), x)

    def features(self, x: Tensor) -> list[Tensor]:
        return self._on(x.device).maps(face_pictures(x, (SIZE, SIZE), 3))

    def _on(self, device: torch.device) -> FaceNet:
        with torch.inference_mode(False):  # what moves inside that mode can never carry a gradient
            return self._net.to(device)

    def save(self, path: Path) -> None:
        """Write weights (float16), source and held-out figures, for `load_recogniser` to read."""
        tensors = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in self._net.state_dict().items()
        }
        held_out = None if self.held_out is None else asdict(self.held_out)
        save_tensors(path, tensors, {"kind": KIND, "source": self.source, "held_out": held_out})


class OnnxRecogniser(Recogniser):
    """Anyone's network in an ONNX file: float pictures (n, c, h, w) in, embeddings (n, d) out.

    Args:
        path: the file.
        mean, deviation: it is shown (x - mean) / deviation of x in [0, 1].

    Raises:
        VeilError: onnxruntime is not installed, or this is not such a network.
    """

    def __init__(self, path: Path, mean: float = 0.0, deviation: float = 1.0) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise VeilError(
                f'{path}: ONNX files need another package: pip install "veil[onnx]"'
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised, not printed
        try:
            self._session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own have no class in common
            reason = str(error).partition("\n")[0]
            raise VeilError(f"{path}: not an ONNX network that runs here ({reason})") from None
        first, *others = self._session.get_inputs()
        pictures = len(first.shape) == 4 and first.shape[1] in (1, 3)
        if others or not pictures or first.type != "tensor(float)":
            raise VeilError(
                f"{path}: a recogniser takes float pictures (n, 1 or 3, h, w) and nothing else, "
                f"this one {first.type} {first.shape}{' and more' if others else ''}"
            )
        # A size that is free has a name, or none, in place of a number.
        self._rows, self._channels, self._height, self._width = (
            side if isinstance(side, int) else None for side in first.shape
        )
        self._path, self._entrance = path, first.name
        self._mean, self._deviation = mean, deviation
        self.source = f"{path.name}, shown (x - {mean:g}) / {deviation:g}"
        self.digest = _digest_of_files(path, path.with_name(f"{path.name}.data"))
        self.held_out = None

    def embed(self, x: Tensor) -> Tensor:
        parts = [self._run(part) for part in torch.split(x, self._rows or CHUNK)]
        return _unit_length(parts).to(x.device)

    def features(self, x: Tensor) -> None:
        return None

    def _run(self, x: Tensor) -> Tensor:
        """(n, d) of at most as many pictures as the network takes at once."""
        size = (self._height or x.shape[2], self._width or x.shape[3])
        shown = (face_pictures(x.cpu(), size, self._channels or 3) - self._mean) / self._deviation
        lacking = self._rows - len(shown) if self._rows else 0
        filled = F.pad(shown, (0, 0, 0, 0, 0, 0, 0, lacking))
        try:
            outputs = self._session.run(None, {self._entrance: filled.detach().numpy()})
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise VeilError(f"{self._path}: fails on pictures of {size} ({reason})") from None
        embedded = torch.from_numpy(outputs[0])
        if len(embedded) != len(filled):
            raise VeilError(f"{self._path}: {len(embedded)} embeddings of {len(filled)} pictures")
        return embedded[: len(x)].flatten(1).float()


class FaceNet(nn.Module):
    """Four 3x3 convolutions with batch norm, all but the first halving 32 pixels; FC -> 64.

    The last stage is narrow so that its 4x4 map is kept whole: where a feature is matters in faces.
    """

    def __init__(self) -> None:
        super().__init__()
        shapes = ((3, 32, 1), (32, 64, 2), (64, 96, 2), (96, 64, 2))
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            )
            for before, after, stride in shapes
        )
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.BatchNorm1d(64))

    def maps(self, x: Tensor) -> list[Tensor]:
        """After each stage of x (n, 3, 32, 32) in [0, 1]: sides 32, 16, 8, 4."""
        x = 4 * x - 2
        return [x := stage(x) for stage in self.stages]

    def forward(self, x: Tensor) -> Tensor:
        """(n, 3, 32, 32) in [0, 1] -> (n, 64)."""
        embedded: Tensor = self.head(self.maps(x)[-1])
        return embedded


def load_recogniser(name: str | Path, mean: float = 0.0, deviation: float = 1.0) -> Recogniser:
    """A recogniser by name ("synthfaces", carried by veil) or by file.

    Args:
        name: a name; or a .safetensors file that `TrainedRecogniser.save` wrote, or an .onnx file.
        mean, deviation: an ONNX network is shown (x - mean) / deviation of x in [0, 1]; those of
            the ArcFace family want 0.5 and 0.5.

    Raises:
        VeilError: no such name or file, or the file is not such a network.
    """
    if str(name) in SHIPPED:
        with resources.as_file(resources.files("veil") / SHIPPED[str(name)]) as file:
            return _read(file)
    path = Path(name)
    if path.suffix not in (".safetensors", ".onnx"):
        hint = nearest(str(name), SHIPPED)
        raise VeilError(f"no recogniser '{name}' ({hint}); a file ends in .safetensors or .onnx")
    if not path.is_file():
        raise VeilError(f"{path}: no such file")
    return _read(path) if path.suffix == ".safetensors" else OnnxRecogniser(path, mean, deviation)


def recognition(embedding: Floats, identity: Ints, seed: int) -> Recognition:
    """What a recogniser reaches on these people, on whom it must not have been trained.

    Args:
        embedding: (n, d) of unit length, from `Recogniser.embed`.
        identity: (n,) who is shown; -1 unknown.
        seed: decides which pairs are asked about.

    Raises:
        VeilError: nobody has two pictures, or there is only one person.
    """
    pairs = draw_pairs(identity, seed)
    distance = distances(embedding, pairs)
    cosine = 1 - distance**2 / 2
    known = identity[identity != MISSING]
    people = len(np.unique(known))
    return Recognition(
        people=people,
        pictures=len(known),
        eer=eer(pairs.same, distance),
        tar_at_far=tar_at_far(pairs.same, distance, LOW_RATE),
        rank1=rank1(embedding, identity),
        rank1_floor=1 / people,
        cosine_same=float(cosine[pairs.same].mean()),
        cosine_impostor=float(cosine[~pairs.same].mean()),
    )


def laid_out(net: FaceNet) -> FaceNet:
    """The network with its convolutions stored in the order that is computed fastest."""
    stored: FaceNet = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return stored


def embedded_by(net: FaceNet, x: Tensor) -> Tensor:
    """(n, d) float32 of unit length, where x lies; a face and its mirror image are alike."""
    with torch.no_grad():
        parts = (face_pictures(part, (SIZE, SIZE), 3) for part in torch.split(x, CHUNK))
        return _unit_length([F.normalize(net(p)) + F.normalize(net(p.flip(3))) for p in parts])


def face_pictures(x: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """(n, channels, *size) float32 in [0, 1] of pictures of any size, grey or colour.

    Raises:
        VeilError: these are no pictures.
    """
    if x.ndim != 4 or x.shape[1] not in (1, 3) or 0 in x.shape[2:]:
        raise VeilError(f"pictures of faces are (n, 1 or 3, h, w), not {tuple(x.shape)}")
    if x.dtype == torch.uint8:
        x = x.float() / 255
    elif not x.is_floating_point():
        raise VeilError(f"pictures of faces are floats in [0, 1] or uint8, not {x.dtype}")
    x = x.float()
    if x.shape[2:] != size:
        x = F.interpolate(x, size=size, mode="bilinear", antialias=True)
    if x.shape[1] == channels:
        return x
    return x.expand(-1, 3, -1, -1) if channels == 3 else _luminance(x)


def _luminance(x: Tensor) -> Tensor:
    """(n, 3, h, w) -> (n, 1, h, w), ITU-R 601."""
    return (x * x.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _unit_length(parts: list[Tensor]) -> Tensor:
    embedding = F.normalize(torch.cat(parts))
    if not bool(torch.isfinite(embedding).all()):
        raise VeilError("pictures of faces hold NaN or infinity: no embedding can be given")
    return embedding


def _digest_of(net: nn.Module) -> str:
    content = hashlib.blake2b(digest_size=16)
    for name, tensor in net.state_dict().items():
        content.update(f"{name} {tuple(tensor.shape)}".encode())
        content.update(tensor.contiguous().numpy().tobytes())
    return content.hexdigest()


def _digest_of_files(network: Path, weights: Path) -> str:
    """Of an ONNX file, and of the file of weights that PyTorch writes beside it, if it is there."""
    content = hashlib.blake2b(network.read_bytes(), digest_size=16)
    if weights.is_file():
        content.update(weights.read_bytes())
    return content.hexdigest()


def _read(path: Path) -> TrainedRecogniser:
    """What `TrainedRecogniser.save` wrote."""
    tensors, header = load_tensors(path)
    net = FaceNet()
    try:
        if header["kind"] != KIND:
            raise KeyError(header["kind"])
        net.load_state_dict(tensors)
        held_out = header["held_out"] and Recognition(**header["held_out"])
        return TrainedRecogniser(net, header["source"], held_out)
    except (KeyError, TypeError, RuntimeError):
        raise VeilError(f"{path}: not a face recogniser written by this veil") from None
