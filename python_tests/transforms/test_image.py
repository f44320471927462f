"""One image: what comes back, and with which mask."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import splic_ext
from splic_ext import ShapeError, SolverOptions
from splic_ext.transforms import Complete, processes

QUICK = SolverOptions(max_iterations=7)
SHAPES = [((3, 9, 8), -3), ((1, 9, 8), -3), ((9, 8), -3), ((9, 8), -1), ((9, 8, 3), -1)]


def values(shape, dtype):
    rng = np.random.default_rng(1)
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.random(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_arrays_and_tensors(shape, axis, dtype):
    array = values(shape, dtype)
    before = array.copy()
    expected = splic_ext.complete(array, options=QUICK, seed=3, first_index=11, channel_axis=axis)
    transform = Complete(QUICK, seed=3, channel_axis=axis)
    done = transform(array, index=11)
    assert done.dtype == array.dtype
    assert np.array_equal(done, expected)
    assert np.array_equal(array, before)
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensor = transform(torch.from_numpy(array), index=11)
    assert isinstance(tensor, torch.Tensor)
    assert np.array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "CMYK", "F"])
def test_pictures(mode):
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    shape = (9, 8, len(mode))
    array = values(shape, "float32" if mode == "F" else "uint8")
    picture = image.frombytes(mode, (8, 9), array.tobytes())
    picture.info["dpi"] = (72, 72)
    done = Complete(QUICK, seed=3)(picture, index=2)
    assert (type(done), done.mode, done.size) == (image.Image, mode, (8, 9))
    assert done.info == {"dpi": (72, 72)}
    colours = len(mode) - (mode in ("LA", "RGBA"))
    expected = splic_ext.complete(
        array[..., :colours], options=QUICK, seed=3, first_index=2, channel_axis=-1
    )
    found = np.asarray(done).reshape(shape)
    assert np.array_equal(found[..., :colours], expected)
    assert np.array_equal(found[..., colours:], array[..., colours:])
    assert not np.array_equal(expected, array[..., :colours])


def test_a_class_of_tensors_comes_back():
    """As the images of torchvision are, which is not installed here."""
    torch = pytest.importorskip("torch", reason="torch is not installed")

    class Image(torch.Tensor):
        pass

    image = torch.rand(3, 9, 8).as_subclass(Image)
    assert type(Complete(QUICK)(image)) is Image


def test_what_belongs_to_the_image_comes_back():
    image, target = values((3, 9, 8), "float32"), {"label": 3}
    done, same = Complete(QUICK)(image, target)
    assert done.shape == image.shape
    assert same is target


def test_masks_of_samples_and_epochs():
    image = values((3, 9, 8), "float32")
    transform = Complete(QUICK, seed=5)
    found = {
        transform(image, index=i, epoch=e).tobytes()
        for i in (0, 1, 2**32 - 1)
        for e in (0, 1, 2**32 - 1)
    }
    assert len(found) == 9
    expected = splic_ext.complete(image, options=QUICK, seed=5, first_index=7 * 2**32 + 4)
    assert np.array_equal(transform(image, index=4, epoch=7), expected)
    assert np.array_equal(transform(image, index=np.int64(4), epoch=7), expected)
    other = Complete(QUICK, seed=6)(image, index=4, epoch=7)
    assert not np.array_equal(other, expected)


def test_fresh_masks(monkeypatch):
    image = values((3, 9, 8), "float32")
    transform = Complete(QUICK)
    assert len({transform(image, index=0).tobytes() for _ in range(8)}) == 8
    # without torch they come from the system
    monkeypatch.setitem(processes.sys.modules, "torch", None)
    assert len({processes.fresh_seed() for _ in range(8)}) == 8


def test_fresh_masks_can_be_repeated():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    image, found = values((3, 9, 8), "float32"), []
    for _ in range(2):
        torch.manual_seed(4)
        found.append([Complete(QUICK)(image).tobytes() for _ in range(3)])
    assert found[0] == found[1]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies(again):
    transform = Complete("recommended", seed=5, channel_axis=-1, threads=2)
    assert vars(again(transform)) == vars(transform)
    assert repr(transform) == "Complete(options=SolverOptions.preset('recommended'), seed=5)"


def test_data_range():
    image = 255 * values((3, 9, 8), "float32")
    done = Complete(QUICK, seed=0, data_range=255)(image, index=0)
    assert np.array_equal(done, splic_ext.complete(image, options=QUICK, data_range=255))
    with pytest.raises(ValueError, match="data_range"):
        Complete(QUICK)(image)


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"options": "papr"}, ValueError, "preset name"),
        ({"seed": -1}, ValueError, "`seed`"),
        ({"seed": 1.5}, TypeError, "`seed`"),
        ({"channel_axis": 0}, ValueError, "`channel_axis` must be -3"),
        ({"data_range": 0}, ValueError, "`data_range`"),
        ({"threads": 0}, ValueError, "`threads`"),
        ({"backend": "gpu"}, ValueError, "`backend`"),
    ],
)
def test_wrong_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        Complete(**parameters)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        ([[0.5]], TypeError, "must be a tensor, an array or a PIL image, got list"),
        (np.zeros((2, 3, 9, 8)), ShapeError, "a transform takes one image"),
        (np.zeros((9, 8, 3)), ShapeError, "looks channel last; pass `channel_axis=-1`"),
        (np.zeros((9, 8, 1)), ShapeError, "looks channel last"),
        (np.zeros((3, 9, 8), int), TypeError, "must be of uint8"),
        (np.full((3, 9, 8), 2.0), ValueError, "must lie in"),
        (np.full((3, 9, 8), np.nan), ValueError, "must be finite"),
        (np.zeros((3, 513, 8)), ShapeError, "from 1 to 512"),
    ],
)
def test_wrong_images(image, error, message):
    with pytest.raises(error, match=message):
        Complete(QUICK)(image)


def test_wrong_modes():
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with pytest.raises(TypeError, match=r"got 'P'; convert it with image.convert"):
        Complete(QUICK)(image.new("P", (8, 9)))


def test_a_seed_needs_the_number_of_the_sample():
    image = np.zeros((3, 9, 8))
    with pytest.raises(TypeError, match="`index` must be given to a transform with a `seed`"):
        Complete(QUICK, seed=0)(image)
    for wrong in ({"index": -1}, {"index": 2**32}, {"index": 0, "epoch": 2**32}):
        with pytest.raises(ValueError, match="must be an integer in"):
            Complete(QUICK, seed=0)(image, **wrong)
