"""Recognisers: figures with known answers, training that finds people, files that come back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from veil.attacks.attack import Ints
from veil.checkpoint import save_tensors
from veil.data.splits import SHARES, divide
from veil.data.synthfaces import SynthFacesConfig, faces
from veil.errors import VeilError
from veil.image_quality import perceptual_distance
from veil.recogniser_training import Recipe, train_recogniser
from veil.recognition import (
    FaceNet,
    Recogniser,
    TrainedRecogniser,
    load_recogniser,
    recognition,
)

SHORT = Recipe(steps=40, people=32)


def people(seed: int, count: int, size: int = 32, photos: int = 5) -> tuple[Tensor, Ints]:
    """(count * photos, 3, size, size) uint8 pictures and who they show."""
    rows = np.arange(count * photos)
    pictures = faces(seed, rows, size, photos_per_person=photos)
    return torch.from_numpy(pictures).permute(0, 3, 1, 2), rows // photos


@pytest.fixture(scope="module")
def shipped() -> Recogniser:
    return load_recogniser("synthfaces")


@pytest.fixture(scope="module")
def strangers() -> tuple[Tensor, Ints]:
    return people(424_242, 100)


@pytest.fixture(scope="module")
def trained() -> TrainedRecogniser:
    return train_recogniser(*people(1, 200, photos=4), seed=0, recipe=SHORT)


def untrained() -> TrainedRecogniser:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TrainedRecogniser(FaceNet(), "untrained")


def test_a_perfect_and_a_blind_recogniser_reach_the_known_figures() -> None:
    identity = np.repeat(np.arange(50), 4)
    perfect = recognition(np.eye(50, dtype=np.float32)[identity], identity, 0)
    assert (perfect.eer, perfect.tar_at_far, perfect.rank1) == (0.0, 1.0, 1.0)
    assert perfect.cosine_same == 1.0
    assert perfect.cosine_impostor == pytest.approx(0.0, abs=1e-6)
    assert (perfect.people, perfect.pictures, perfect.rank1_floor) == (50, 200, 0.02)
    random = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    blind = recognition(random, identity, 0)
    assert blind.eer == pytest.approx(0.5, abs=0.08)
    assert blind.tar_at_far < 0.05
    assert blind.rank1 < 0.1
    assert blind.cosine_same == pytest.approx(blind.cosine_impostor, abs=0.05)


def test_people_who_are_unknown_are_not_counted() -> None:
    identity = np.array([0, 0, 1, 1, -1, -1])
    found = recognition(np.eye(6, dtype=np.float32)[[0, 0, 1, 1, 0, 0]], identity, 0)
    assert (found.people, found.pictures, found.eer) == (2, 4, 0.0)


def test_training_finds_people_whom_it_never_saw(
    trained: TrainedRecogniser, strangers: tuple[Tensor, Ints]
) -> None:
    images, identity = strangers
    before = recognition(untrained().embed(images).numpy(), identity, 0)
    after = recognition(trained.embed(images).numpy(), identity, 0)
    assert after.eer < 0.15
    assert before.eer > 0.2
    assert after.rank1 > before.rank1 > before.rank1_floor
    assert after.cosine_same > after.cosine_impostor + 0.3
    assert trained.held_out is not None
    assert trained.held_out.people == 20
    assert trained.held_out.eer == pytest.approx(after.eer, abs=0.08)


def test_held_out_figures_are_at_the_floor_when_nothing_can_be_learned() -> None:
    """Negative control: pictures dealt out to people at random."""
    images, identity = people(2, 200, photos=4)
    dealt = np.random.default_rng(0).permutation(identity)
    held_out = train_recogniser(images, dealt, 0, Recipe(steps=20, people=32)).held_out
    assert held_out is not None
    assert held_out.eer == pytest.approx(0.5, abs=0.1)


def test_training_is_decided_by_its_seed() -> None:
    images, identity = people(3, 40, photos=3)
    recipe = Recipe(steps=3, people=8)
    digests = [train_recogniser(images, identity, s, recipe).digest for s in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]


def test_a_data_set_and_its_pictures_train_the_same_network() -> None:
    dataset = SynthFacesConfig(people=30, photos_per_person=3, size=40, seed=5).dataset()
    assert dataset.identity is not None
    view = dataset.view(divide(dataset.identity, SHARES, 0)["fit"])
    assert view.identity is not None
    recipe = Recipe(steps=2, people=8)
    with pytest.raises(VeilError, match=r"learns from 20 people .* here are 13"):
        train_recogniser(view, view.identity, 0, recipe)
    pictures = dataset.batch(slice(None)).x
    from_dataset = train_recogniser(dataset, dataset.identity, 0, recipe)
    from_pictures = train_recogniser(pictures, dataset.identity, 0, recipe)
    assert from_dataset.digest == from_pictures.digest
    with pytest.raises(VeilError, match="90 pictures but 89 identities"):
        train_recogniser(pictures, dataset.identity[1:], 0, recipe)


def test_the_shipped_network_knows_strangers(
    shipped: Recogniser, strangers: tuple[Tensor, Ints]
) -> None:
    images, identity = strangers
    found = recognition(shipped.embed(images).numpy(), identity, 0)
    assert found.eer < 0.06
    assert found.tar_at_far > 0.75
    assert found.rank1 > 0.7
    assert found.cosine_impostor < 0.1
    assert found.cosine_same > 0.75
    assert shipped.held_out is not None
    assert shipped.held_out.eer == pytest.approx(found.eer, abs=0.03)
    assert "SynthFaces" in shipped.source


def test_embeddings_are_of_unit_length_and_independent_of_the_batch(
    shipped: Recogniser, strangers: tuple[Tensor, Ints]
) -> None:
    images = strangers[0][:6]
    embedded = shipped.embed(images)
    assert embedded.dtype == torch.float32
    assert torch.allclose(embedded.norm(dim=1), torch.ones(6))
    assert torch.allclose(shipped.embed(images[2:3]), embedded[2:3], atol=1e-5)
    assert torch.allclose(shipped.embed(images.flip(3)), embedded, atol=1e-5)
    assert torch.equal(shipped.embed(images.float() / 255), embedded)
    assert shipped.embed(images[:0]).shape == (0, embedded.shape[1])


def test_pictures_of_any_size_and_grey_ones_are_embedded_alike(shipped: Recogniser) -> None:
    small, large = people(9, 4)[0], people(9, 4, size=96)[0]
    cosine = (shipped.embed(small) * shipped.embed(large)).sum(1)
    assert bool((cosine > 0.8).all())
    grey = small[:, :1]
    assert torch.equal(shipped.embed(grey), shipped.embed(grey.expand(-1, 3, -1, -1)))


def test_features_carry_a_gradient_and_tell_a_blur_from_another_face(shipped: Recogniser) -> None:
    x = people(11, 8, photos=1)[0].float() / 255
    y = x.clone().requires_grad_()
    maps, own = shipped.features(x), shipped.features(y)
    assert maps is not None
    assert own is not None
    assert [tuple(m.shape[1:]) for m in maps] == [
        (32, 32, 32),
        (64, 16, 16),
        (96, 8, 8),
        (64, 4, 4),
    ]
    assert perceptual_distance(maps, own).max() == 0
    blurred = shipped.features(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1))
    others = shipped.features(x.roll(1, 0))
    assert blurred is not None
    assert others is not None
    blur, other = perceptual_distance(maps, blurred), perceptual_distance(maps, others)
    assert bool((blur > 0).all())
    assert bool((blur < other).all())
    (gradient,) = torch.autograd.grad(perceptual_distance(own, others).sum(), y)
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().sum()) > 0


def test_features_still_carry_a_gradient_after_use_in_inference_mode(
    trained: TrainedRecogniser,
) -> None:
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        trained.embed(x)
        trained.features(x)
    y = x.requires_grad_()
    (gradient,) = torch.autograd.grad(trained.features(y)[-1].sum(), y)
    assert float(gradient.abs().sum()) > 0


def test_a_recogniser_comes_back_from_its_file_to_the_bit(
    trained: TrainedRecogniser, strangers: tuple[Tensor, Ints], tmp_path: Path
) -> None:
    path = tmp_path / "mine.safetensors"
    trained.save(path)
    assert path.stat().st_size < 410_000
    again = load_recogniser(path)
    assert (again.digest, again.source) == (trained.digest, trained.source)
    assert again.held_out == trained.held_out
    images = strangers[0][:10]
    assert torch.equal(again.embed(images), trained.embed(images))
    assert trained.digest != untrained().digest == untrained().digest


def test_what_is_no_recogniser_is_refused_in_one_line(tmp_path: Path) -> None:
    junk = tmp_path / "junk.safetensors"
    junk.write_text("hello")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    other = tmp_path / "other.safetensors"
    save_tensors(other, {"a": torch.zeros(2)}, {"epoch": 3})
    shapes = tmp_path / "shapes.safetensors"
    wrong = {"kind": "face recogniser 1", "source": "", "held_out": None}
    save_tensors(shapes, {"a": torch.zeros(2)}, wrong)
    cases = {
        "synthface": "did you mean 'synthfaces'",
        "arcface.pth": "a file ends in .safetensors or .onnx",
        str(tmp_path / "none.safetensors"): "no such file",
        str(tmp_path / "none.onnx"): "no such file",
        str(junk): "not a safetensors file",
        str(foreign): "not a safetensors file written by veil",
        str(other): "not a face recogniser",
        str(shapes): "not a face recogniser",
    }
    for name, message in cases.items():
        with pytest.raises(VeilError, match=message) as error:
            load_recogniser(name)
        assert "\n" not in str(error.value)


def test_what_is_no_picture_is_refused_in_one_line(shipped: Recogniser) -> None:
    bad = {
        "not \\(3, 32, 32\\)": torch.rand(3, 32, 32),
        "not \\(1, 4, 32, 32\\)": torch.rand(1, 4, 32, 32),
        "not torch.int64": torch.zeros(1, 3, 32, 32, dtype=torch.int64),
        "NaN or infinity": torch.full((1, 3, 32, 32), torch.nan),
    }
    for message, x in bad.items():
        with pytest.raises(VeilError, match=message):
            shipped.embed(x)


def onnx_file(path: Path, shape: list[int | str], weight: Tensor) -> Path:
    """A network that averages each channel and multiplies by `weight` (c, d)."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    tensor = onnx.TensorProto.FLOAT
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["x"], ["means"]),
        onnx.helper.make_node("Flatten", ["means"], ["flat"]),
        onnx.helper.make_node("MatMul", ["flat", "weight"], ["z"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "means",
        [onnx.helper.make_tensor_value_info("x", tensor, shape)],
        [onnx.helper.make_tensor_value_info("z", tensor, [shape[0], weight.shape[1]])],
        [onnx.helper.make_tensor("weight", tensor, weight.shape, weight.flatten().tolist())],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), str(path))
    return path


@pytest.mark.parametrize("shape", [["n", 3, 16, 16], [4, 3, "h", "w"], [1, 3, 16, 16]])
def test_an_onnx_file_embeds_as_its_network_does(shape: list[int | str], tmp_path: Path) -> None:
    weight = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    path = onnx_file(tmp_path / "mine.onnx", shape, weight)
    x = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    recogniser = load_recogniser(path, mean=0.5, deviation=0.25)
    # Halving with a triangle filter moves a channel's mean by its border alone: use flat channels.
    flat = x.mean((2, 3), keepdim=True).expand_as(x)
    expected = F.normalize((flat[:, :, 0, 0] - 0.5) / 0.25 @ weight)
    assert torch.allclose(recogniser.embed(flat), expected, atol=1e-5)
    assert recogniser.features(flat) is None
    assert recogniser.held_out is None
    assert recogniser.source == "mine.onnx, shown (x - 0.5) / 0.25"
    assert recogniser.digest == load_recogniser(path).digest
    doubled = onnx_file(tmp_path / "other.onnx", shape, 2 * weight)
    assert recogniser.digest != load_recogniser(doubled).digest


def test_a_grey_onnx_network_is_shown_luminance(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "grey.onnx", ["n", 1, 8, 8], torch.tensor([[1.0, 0.0]]))
    constant = torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    luminance = 0.299 + 0.587 * 0.5 + 0.114 * 0.25
    above, below = (
        load_recogniser(path, mean=luminance + shift).embed(constant) for shift in (-1e-3, 1e-3)
    )
    assert above.tolist() == [[1.0, 0.0]]
    assert below.tolist() == [[-1.0, 0.0]]


def test_onnx_files_that_do_not_serve_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat: list[Any] = ["n", 7, 8, 8]
    channels = onnx_file(tmp_path / "channels.onnx", flat, torch.ones(7, 2))
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"hello")
    for path, message in ((channels, "takes float pictures"), (junk, "not an ONNX network")):
        with pytest.raises(VeilError, match=message) as error:
            load_recogniser(path)
        assert "\n" not in str(error.value)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VeilError, match=r'pip install "veil\[onnx\]"'):
        load_recogniser(channels)
