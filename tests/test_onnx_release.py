"""ONNX models against what their graphs say, and against torch; graphs are a node or three."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper
from torch import Tensor

import tiny
from veil.errors import VeilError
from veil.evidence import of_release
from veil.onnx_release import IMAGES_AT_ONCE, OnnxRelease
from veil.release import is_random

IMAGE = (3, 4, 5)
FREE = ("n", 3, "h", "w")
Shape = Sequence[int | str | None] | None


def picture(shape: Shape = FREE, kind: int = TensorProto.FLOAT, name: str = "x") -> ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    path: Path,
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto] | None = None,
    outputs: Sequence[ValueInfoProto] | None = None,
    **constants: np.ndarray,
) -> Path:
    """An .onnx file of these nodes; by default from a picture "x" to a float "z"."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs or [picture()],
        outputs or [picture(None, name="z")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def node(op: str, inputs: str = "x", output: str = "z", **attributes: Any) -> NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def pictures(count: int, image: tuple[int, int, int] = IMAGE) -> Tensor:
    return torch.rand(count, *image, generator=torch.Generator().manual_seed(count))


def release(
    path: Path, x: Tensor, seed: int = 0, output: str | None = None
) -> tuple[Tensor, tuple[str, ...]]:
    c, h, w = x.shape[1:]
    loaded = OnnxRelease(path, (c, h, w), output)
    return loaded.release(x, torch.Generator().manual_seed(seed)), loaded.notes


def complaint(path: Path, image: tuple[int, int, int] = IMAGE, output: str | None = None) -> str:
    with pytest.raises(VeilError) as caught:
        OnnxRelease(path, image, output)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What comes out -----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", ["n", 1, 4])
@pytest.mark.parametrize("count", [1, 4, 6, IMAGES_AT_ONCE + 1])
def test_a_linear_model_is_a_matrix_product(tmp_path: Path, batch: int | str, count: int) -> None:
    """Whatever the batch it was exported with, and whether or not the pictures fill it."""
    weights = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
    path = model(
        tmp_path / "a.onnx",
        [node("Flatten", output="flat"), node("MatMul", "flat w")],
        [picture((batch, 3, 4, 5))],
        w=weights,
    )
    x = pictures(count)
    z, notes = release(path, x)
    assert torch.allclose(z, x.flatten(1) @ torch.from_numpy(weights), atol=1e-4)
    assert z.dtype == torch.float32
    assert notes == ()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)],
)
def test_other_floats_are_given_the_unit_interval(
    tmp_path: Path, kind: int, dtype: type[np.floating]
) -> None:
    path = model(
        tmp_path / "a.onnx", [node("Identity")], [picture(FREE, kind)], [picture(None, kind, "z")]
    )
    x = pictures(3)
    z, _ = release(path, x)
    assert np.array_equal(z.numpy(), x.numpy().astype(dtype).astype(np.float32))


def test_bytes_are_the_nearest_levels(tmp_path: Path) -> None:
    kind = TensorProto.UINT8
    path = model(
        tmp_path / "a.onnx", [node("Identity")], [picture(FREE, kind)], [picture(None, kind, "z")]
    )
    levels = torch.arange(256.0).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    for off in (-0.4, 0, 0.4):
        z, _ = release(path, ((levels + off) / 255).clamp(0, 1))
        assert torch.equal(z, levels)


def test_channels_first_are_preferred_where_both_fit(tmp_path: Path) -> None:
    path = model(tmp_path / "a.onnx", [node("Identity")], [picture(("n", 3, None, 3))])
    x = pictures(2, (3, 5, 3))
    assert torch.equal(release(path, x)[0], x)


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        (("n", None, None, 3), True),
        (("n", 4, 5, 3), True),
        (("n", 3, None, None), False),
        (("n", None, None, None), False),
        (None, False),
    ],
)
def test_channels_last_is_recognised_by_its_last_axis(
    tmp_path: Path, shape: Shape, last: bool
) -> None:
    path = model(tmp_path / "a.onnx", [node("Identity")], [picture(shape)])
    x = pictures(2)
    z, _ = release(path, x)
    assert torch.equal(z, x.permute(0, 2, 3, 1) if last else x)


def test_one_number_for_each_picture_is_a_column(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", axes=[1, 2, 3], keepdims=0)]
    z, _ = release(model(tmp_path / "a.onnx", nodes), pictures(5))
    assert z.shape == (5, 1)


def test_integer_codes_become_floats(tmp_path: Path) -> None:
    path = model(
        tmp_path / "a.onnx",
        [node("Flatten", output="flat"), node("ArgMax", "flat", axis=1, keepdims=1)],
        outputs=[picture(None, TensorProto.INT64, "z")],
    )
    x = pictures(6)
    z, _ = release(path, x)
    assert z.dtype == torch.float32
    assert z[:, 0].tolist() == x.flatten(1).argmax(1).tolist()


def two_outputs(tmp_path: Path) -> Path:
    return model(
        tmp_path / "two.onnx",
        [node("Neg", output="features"), node("Abs", output="logits")],
        outputs=[picture(None, name="features"), picture(None, name="logits")],
    )


def test_of_several_outputs_the_first_or_the_named_one(tmp_path: Path) -> None:
    x = pictures(2)
    first, notes = release(two_outputs(tmp_path), x)
    assert torch.equal(first, -x)
    assert "only output 'features' is audited" in notes[0]
    assert "'logits'" in notes[0]
    named, notes = release(two_outputs(tmp_path), x, output="logits")
    assert torch.equal(named, x)
    assert "only output 'logits'" in notes[0]


def test_an_unknown_output_is_named_with_the_nearest(tmp_path: Path) -> None:
    assert "did you mean 'logits'?" in complaint(two_outputs(tmp_path), output="logit")


# Noise --------------------------------------------------------------------------------------


def seeded(tmp_path: Path, shape: Sequence[int | str], kind: int = TensorProto.INT64) -> Path:
    """x plus its seed (as many as `shape` says), one for each picture where it has an axis."""
    entry = helper.make_tensor_value_info("rng_seed", kind, shape)
    nodes = [node("Cast", "rng_seed", "noise", to=TensorProto.FLOAT)]
    if shape:
        nodes.append(node("Reshape", "noise rows", "rows_of_noise"))
    nodes.append(node("Add", f"x {'rows_of_noise' if shape else 'noise'}"))
    rows = np.array([-1, 1, 1, 1], dtype=np.int64)
    return model(tmp_path / "seeded.onnx", nodes, [picture(), entry], rows=rows)


@pytest.mark.parametrize(
    ("shape", "shared"), [((), True), ((1,), True), (("n",), False), (("anything",), False)]
)
@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_a_seed_is_drawn_from_the_generator(
    tmp_path: Path, shape: Sequence[int | str], shared: bool, kind: int
) -> None:
    """Same generator, same bits; and no two pictures get the same noise, however it is given."""
    path, same = seeded(tmp_path, shape, kind), pictures(1).expand(20, *IMAGE)
    z, notes = release(path, same, seed=1)
    assert torch.equal(z, release(path, same, seed=1)[0])
    assert not torch.equal(z, release(path, same, seed=2)[0])
    assert len(set(z[:, 0, 0, 0].tolist())) > 15
    assert any("the same noise" in note for note in notes) == shared
    assert not any("cannot be set" in note for note in notes)


def noisy(tmp_path: Path) -> Path:
    """Every element gets its own noise, from an operator of ONNX."""
    nodes = [node("RandomNormalLike", output="noise"), node("Add", "x noise")]
    return model(tmp_path / "noisy.onnx", nodes)


def test_random_operators_are_seen_and_said(tmp_path: Path) -> None:
    x = pictures(3)
    z, notes = release(noisy(tmp_path), x)
    assert not torch.equal(z, x)
    assert len(notes) == 1
    assert "noise, whose seed cannot be set" in notes[0]
    data = tiny.faces(size=4)
    assert is_random(OnnxRelease(noisy(tmp_path), (3, 4, 4)), data, 0)
    plain = model(tmp_path / "plain.onnx", [node("Neg")])
    assert not is_random(OnnxRelease(plain, (3, 4, 4)), data, 0)


@pytest.mark.parametrize("batch", ["n", 4])
def test_noise_that_a_batch_shares_is_drawn_for_each_picture(
    tmp_path: Path, batch: int | str
) -> None:
    """Otherwise whole batches would differ by one draw, and an attacker see past it."""
    shared = [node("RandomNormal", "", "noise", shape=[1, 3, 4, 5]), node("Add", "x noise")]
    path = model(tmp_path / "a.onnx", shared, [picture((batch, *IMAGE))])
    z, notes = release(path, pictures(1).expand(9, *IMAGE))
    assert z.shape == (9, *IMAGE)
    assert (z[1:] - z[:1]).abs().flatten(1).amax(1).min() > 0.1
    assert any("released one at a time" in note for note in notes)


def test_an_audit_holds_its_releases_and_draws(tmp_path: Path) -> None:
    splits = tiny.splits(size=4)
    image = splits.test.image_shape
    plain = OnnxRelease(model(tmp_path / "plain.onnx", [node("Neg")]), image)
    evidence = of_release(plain, splits, ("Male",), ("Smiling",), 0, "plain")
    originals = splits.test.batch(slice(None), labels=()).x
    assert torch.equal(evidence.z["test"], -originals)
    assert not evidence.random
    assert evidence.batch_dependence == 0
    random = of_release(
        OnnxRelease(noisy(tmp_path), image), splits, ("Male",), ("Smiling",), 0, "noisy"
    )
    assert random.random
    off = (random.z["test"] - originals).std()
    assert (random.averaged[16]["test"] - originals).std() < off / 3


# What does not fit --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((1, 3, 112, 112), "expects 112x112 pictures, the data have 64x64; audit with --size 112"),
        (("n", 112, 112, 3), "expects 112x112 pictures"),
        (("n", 3, 112, None), "expects 112x112 pictures"),
        (("n", 3, 112, 96), "pictures here are square: let the model resize them"),
        (
            ("n", 1, None, None),
            "expects 1-channel pictures, the data have 3; audit with --set data.channels=1",
        ),
        (("n", 512), "has 2 axes"),
    ],
)
def test_pictures_that_do_not_fit(tmp_path: Path, shape: Shape, hint: str) -> None:
    path = model(tmp_path / "a.onnx", [node("Identity")], [picture(shape)])
    assert hint in complaint(path, (3, 64, 64))


def test_what_is_no_model_of_one_picture(tmp_path: Path) -> None:
    two = [picture(), picture(name="mask")]
    path = model(tmp_path / "two.onnx", [node("Add", "x mask")], two)
    assert "'mask'" in complaint(path)
    kind = TensorProto.INT64
    whole = [picture(FREE, kind)], [picture(None, kind, "z")]
    assert "a picture is float or uint8" in complaint(
        model(tmp_path / "a.onnx", [node("Identity")], *whole)
    )
    texts = [picture(None, TensorProto.STRING, "z")]
    cast = [node("Cast", to=TensorProto.STRING)]
    assert "a release is numbers" in complaint(model(tmp_path / "b.onnx", cast, outputs=texts))


def test_a_model_without_one_row_for_each_picture(tmp_path: Path) -> None:
    nodes = [node("ReduceMean", axes=[0], keepdims=1)]
    assert "one row for each" in complaint(model(tmp_path / "a.onnx", nodes))


def test_a_model_that_cannot_run(tmp_path: Path) -> None:
    """Its batch axis says "any", and it was traced with one picture."""
    shape = np.array([1, 60], dtype=np.int64)
    path = model(tmp_path / "a.onnx", [node("Reshape", "x shape")], shape=shape)
    assert "cannot be run on 8 pictures: " in complaint(path)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x08\x08rubbish"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    assert "is no ONNX model that can be read" in complaint(path)


def test_cut_unknown_and_missing_models(tmp_path: Path) -> None:
    weights = np.zeros((60, 7), dtype=np.float32)
    nodes = [node("Flatten", output="flat"), node("MatMul", "flat w")]
    path = model(tmp_path / "a.onnx", nodes, w=weights)
    path.write_bytes(path.read_bytes()[:-600])
    assert "is no ONNX model that can be read" in complaint(path)
    unknown = model(tmp_path / "b.onnx", [node("NoSuchOperator")])
    assert "NoSuchOperator" in complaint(unknown)
    assert "no such file" in complaint(tmp_path / "c.onnx")


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model(tmp_path / "a.onnx", [node("Identity")])
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert 'pip install "veil[onnx]"' in complaint(path)


def test_threads_are_those_of_torch(tmp_path: Path) -> None:
    loaded = OnnxRelease(model(tmp_path / "a.onnx", [node("Identity")]), IMAGE)
    options = loaded._session.get_session_options()
    assert options.intra_op_num_threads == torch.get_num_threads()
