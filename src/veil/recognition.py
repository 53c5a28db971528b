"""A face-recognition network: how alike two faces are, and whose face a reconstruction shows.

The field asks ArcFace for this, and LPIPS for perceptual distance; neither's weights are veil's to
give away. So veil trains a small network on whatever people are at hand (`train_recogniser`),
carries one trained on drawn faces ("synthfaces"), and takes anyone's ONNX file (`load_recogniser`).
What a recogniser is worth on people it has never seen (`recognition`) belongs beside every figure
made with it: a weak one finds nobody in a perfect copy.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor, nn

from veil.attacks.attack import Floats, Ints
from veil.attacks.pairs import distances, draw_pairs, rank1, recurring_people
from veil.attacks.training import fastest_device, initialised_from
from veil.checkpoint import load_tensors, save_tensors
from veil.data.dataset import MISSING, Dataset
from veil.data.splits import divide
from veil.errors import Diverged, VeilError, nearest
from veil.metrics import LOW_RATE, auc, eer, tar_at_far
from veil.precision import autocast
from veil.progress import bar
from veil.seeds import generator, seed_for

SHIPPED = {"synthfaces": "weights/synthfaces-recogniser.safetensors"}
KIND = "face recogniser 1"
SIZE = 32
CHUNK = 512
FEWEST_PEOPLE = 20
LOOKS = 10

Part = Literal["train", "select", "test"]
SHARES: dict[Part, float] = {"train": 0.8, "select": 0.1, "test": 0.1}


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


@dataclass(frozen=True)
class Recipe:
    """How `train_recogniser` trains: N-pair loss (Sohn, NIPS 2016, eq. 4) over cosines, both ways.

    Each step draws `people` people and two pictures of each; either picture must name its partner
    among the partners of all.

    Attributes:
        steps: of training; the AUC of pairs of people left out is looked at ten times, and the
            best state is kept.
        people: drawn for a step.
        temperature: of the softmax, in units of cosine.
        learning_rate: the peak of a one-cycle AdamW; weight_decay: its decay.
        shift: pictures are moved by up to this many pixels each way.
        noise: deviation of the Gaussian noise added to pictures in [0, 1].
        coarse: share of the pictures shown at half their resolution, as reconstructions often are.
    """

    steps: int = 1200
    people: int = 64
    temperature: float = 0.1
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    shift: int = 2
    noise: float = 0.025
    coarse: float = 0.25


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
    """A network of veil's own, fixed; made by `train_recogniser` and `load_recogniser`."""

    def __init__(self, net: FaceNet, source: str, held_out: Recognition | None = None) -> None:
        rounded = net.half().float()  # exactly as it is stored
        self._net = _laid_out(rounded).eval().requires_grad_(False)
        self.source = source
        self.digest = _digest_of(self._net)
        self.held_out = held_out

    def embed(self, x: Tensor) -> Tensor:
        return _embedded(self._on(x.device), x)

    def features(self, x: Tensor) -> list[Tensor]:
        return self._on(x.device).maps(_pictures(x, (SIZE, SIZE), 3))

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
        shown = (_pictures(x.cpu(), size, self._channels or 3) - self._mean) / self._deviation
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


def train_recogniser(
    images: Dataset | Tensor,
    identity: Ints,
    seed: int,
    recipe: Recipe | None = None,
    source: str = "",
    console: Console | None = None,
) -> TrainedRecogniser:
    """Train on 80 % of the people; 10 % choose the best state, 10 % say what it reached.

    Args:
        images: a data set, or (n, c, h, w) pictures, uint8 or in [0, 1]; c = 1 or 3.
        identity: (n,) who is shown; -1 unknown. Only people with two pictures or more serve.
        seed: decides everything.
        recipe: how; the defaults of `Recipe` take two to three minutes on one core.
        source: in words for a report; "" says on how many people it was trained.
        console: where progress is drawn; None draws nothing.

    Returns:
        A recogniser whose `held_out` is what it reached on people it never saw.

    Raises:
        VeilError: fewer than 20 people with two pictures, or these are no pictures.
        Diverged: the loss is not finite.
    """
    recipe = recipe or Recipe()
    if len(images) != len(identity):
        raise VeilError(f"{len(images)} pictures but {len(identity)} identities")
    rows, _, people = recurring_people(identity)
    if people < FEWEST_PEOPLE:
        raise VeilError(
            f"a face recogniser learns from {FEWEST_PEOPLE} people with two pictures or more, and "
            f"here are {people}: name a trained one ('synthfaces', or an ONNX file)"
        )
    parts = divide(identity[rows.numpy()], SHARES, seed_for(seed, "recogniser"))
    x: dict[Part, Tensor] = {}
    who: dict[Part, Ints] = {}
    for part, positions in parts.items():
        chosen = rows[positions].numpy()
        x[part], who[part] = _small(images, chosen), identity[chosen]
    net = _trained(x, who, seed, recipe, console)
    source = source or f"trained on {len(np.unique(who['train']))} people of these data"
    unproven = TrainedRecogniser(net, source)
    reached = recognition(unproven.embed(x["test"]).numpy(), who["test"], seed)
    return TrainedRecogniser(net, source, reached)


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


def _trained(
    x: Mapping[Part, Tensor],
    who: Mapping[Part, Ints],
    seed: int,
    recipe: Recipe,
    console: Console | None,
) -> FaceNet:
    """The network trained on "train", as it was when it told the people of "select" apart best."""
    device = fastest_device()
    with initialised_from(seed_for(seed, "recogniser", "weights")):
        net = FaceNet()
    net = _laid_out(net.to(device))
    adam = torch.optim.AdamW(
        net.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        adam, recipe.learning_rate, total_steps=recipe.steps
    )
    order = torch.from_numpy(np.argsort(who["train"], kind="stable"))
    count = torch.from_numpy(np.unique(who["train"], return_counts=True)[1])
    asked = draw_pairs(who["select"], seed)
    rng = generator(seed, "recogniser", "batches")
    best, state = -1.0, net.state_dict()
    every = max(1, recipe.steps // LOOKS)
    with bar(console, "Face recogniser", recipe.steps) as advance:
        for step in range(1, recipe.steps + 1):
            rows = order[_two_each(count, recipe.people, rng)]
            seen = _varied(x["train"][rows].float() / 255, recipe, rng).to(device)
            with autocast(device):
                embedded = net(seen.contiguous(memory_format=torch.channels_last))
            a, b = F.normalize(embedded.float()).chunk(2)
            cosine = a @ b.T / recipe.temperature
            partner = torch.arange(len(a), device=device)
            loss = F.cross_entropy(cosine, partner) + F.cross_entropy(cosine.T, partner)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            schedule.step()
            advance(1, "")
            if step % every == 0 or step == recipe.steps:
                if not torch.isfinite(loss):
                    raise Diverged(f"the face recogniser's loss is {loss.item()} at step {step}")
                embedding = _embedded(net.eval(), x["select"].to(device)).cpu().numpy()
                net.train()
                score = auc(asked.same, -distances(embedding, asked))
                if score > best:
                    best = score
                    state = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(state)
    return net.cpu()


def _two_each(count: Tensor, people: int, rng: torch.Generator) -> Tensor:
    """(2m,) rows of two pictures each of m <= `people` people: all the first, then all others.

    Args:
        count: (p,) pictures of each person, 2 or more; rows are sorted by person.
    """
    start = count.cumsum(0) - count
    drawn = torch.randperm(len(count), generator=rng)[:people]
    many = count[drawn].double()
    one, further = torch.rand(2, len(drawn), generator=rng, dtype=torch.float64)
    first = (one * many).long()
    second = (first + 1 + (further * (many - 1)).long()) % count[drawn]
    return torch.cat([start[drawn] + first, start[drawn] + second])


def _varied(x: Tensor, recipe: Recipe, rng: torch.Generator) -> Tensor:
    """The pictures mirrored, coarsened and disturbed by chance, and all moved alike."""

    def by_chance(share: float) -> Tensor:
        return torch.rand(len(x), 1, 1, 1, generator=rng) < share

    x = torch.where(by_chance(0.5), x.flip(3), x)
    coarse = F.interpolate(F.avg_pool2d(x, 2), size=(SIZE, SIZE), mode="bilinear")
    x = torch.where(by_chance(recipe.coarse), coarse, x)
    top, left = torch.randint(0, 2 * recipe.shift + 1, (2,), generator=rng).tolist()
    moved = F.pad(x, [recipe.shift] * 4, mode="replicate")[
        ..., top : top + SIZE, left : left + SIZE
    ]
    return moved + recipe.noise * torch.randn(moved.shape, generator=rng)


def _laid_out(net: FaceNet) -> FaceNet:
    """The network with its convolutions stored in the order that is computed fastest."""
    stored: FaceNet = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return stored


def _embedded(net: FaceNet, x: Tensor) -> Tensor:
    """(n, d) float32 of unit length; a face and its mirror image are alike."""
    with torch.no_grad():
        parts = (_pictures(part, (SIZE, SIZE), 3) for part in torch.split(x, CHUNK))
        return _unit_length([F.normalize(net(p)) + F.normalize(net(p.flip(3))) for p in parts])


def _pictures(x: Tensor, size: tuple[int, int], channels: int) -> Tensor:
    """(n, channels, *size) float32 in [0, 1] of pictures of any size, grey or colour."""
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


def _small(images: Dataset | Tensor, rows: Ints) -> Tensor:
    """(n, 3, 32, 32) uint8: these pictures as the network takes them."""

    def taken(chunk: Ints) -> Tensor:
        if isinstance(images, Dataset):
            return images.batch(chunk, labels=()).x
        return images[torch.from_numpy(chunk)]

    chunks = np.array_split(rows, 1 + len(rows) // CHUNK)
    parts = [_pictures(taken(chunk), (SIZE, SIZE), 3) for chunk in chunks]
    return torch.cat([(255 * part).round().clamp(0, 255).byte() for part in parts])


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
