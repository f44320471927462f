"""``as_dataset``: pairs of arrays and tensors, data sets of torch; and who takes them."""

from __future__ import annotations

import sys
from typing import ClassVar

import numpy as np
import pytest

from splic_ext.data import Dataset, as_dataset, load_dataset
from splic_ext.errors import ShapeError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 3, 8, 10), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


class Items:
    """A map-style data set."""

    def __init__(self, items, **attributes):
        self.items = items
        self.asked = []
        vars(self).update(attributes)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.items[index]


@pytest.mark.parametrize(
    "images",
    [
        IMAGES,
        IMAGES.transpose(0, 2, 3, 1),
        IMAGES / 255,
        (IMAGES / 255).astype(np.float32),
        (IMAGES / 255).astype(np.float16),
        list(IMAGES),
        np.asfortranarray(IMAGES),
    ],
    ids=["bytes", "last", "float64", "float32", "float16", "list", "fortran"],
)
def test_pairs_of_arrays(images):
    data = as_dataset((images, LABELS.tolist()))
    assert np.array_equal(data.images, IMAGES)
    assert data.labels.tolist() == LABELS.tolist()
    assert (data.name, data.classes) == ("arrays", ("0", "1", "2"))


def test_every_level_is_kept():
    """Bytes over 255, in any precision, come back as they were; bytes are not copied."""
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    for kind in (np.float16, np.float32, np.float64):
        scaled = (levels / 255).astype(kind)
        assert np.array_equal(as_dataset((scaled, [0])).images, levels)
        assert np.array_equal(as_dataset([(scaled[0], 0)]).images, levels)
    assert np.shares_memory(as_dataset((levels, [0])).images, levels)


def test_gray_pairs_and_names():
    data = as_dataset((IMAGES[:, 0], LABELS), name="mine/test", classes=("a", "b", "c"), limit=4)
    assert repr(data) == "Dataset('mine/test': 4 images of 1 x 8 x 10, 3 classes)"
    assert as_dataset(data) is data
    assert repr(as_dataset(data, name="new", resize=4)).startswith(
        "Dataset('new': 4 images of 1 x 4 x"
    )
    assert len(as_dataset(data, limit=2)) == 2


def test_values_between_the_levels_are_told():
    with pytest.warns(UserWarning, match="lie between the 256 levels and are rounded"):
        data = as_dataset((np.full((2, 4, 4), 0.5 / 255 + 0.2), [0, 1]))
    assert data.images.max() in (51, 52)
    with pytest.warns(UserWarning, match="are rounded: 2 in 'list', such as 'image 0'"):
        as_dataset([(np.full((4, 4), 0.3011), 0)] * 2)


def test_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    tensors = torch.from_numpy(IMAGES)
    floats = (tensors / 255).requires_grad_()
    for images in (tensors, floats, tensors.permute(0, 2, 3, 1), [*tensors], floats.half()):
        assert np.array_equal(as_dataset((images, torch.from_numpy(LABELS))).images, IMAGES)
    pairs = torch.utils.data.TensorDataset(tensors, torch.from_numpy(LABELS))
    data = as_dataset(torch.utils.data.Subset(pairs, [4, 0]))
    assert np.array_equal(data.images, IMAGES[[4, 0]])
    assert (data.name, data.labels.tolist()) == ("Subset", [1, 0])
    batch = next(iter(torch.utils.data.DataLoader(pairs, batch_size=2)))  # a list of two tensors
    assert np.array_equal(as_dataset(batch).images, IMAGES[:2])
    with pytest.raises(TypeError, match="`images` must be an array or a tensor, got Tensor"):
        as_dataset((floats.bfloat16(), LABELS))


def test_data_sets_of_torch():
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pictures = [image.fromarray(np.ascontiguousarray(x.transpose(1, 2, 0))) for x in IMAGES]
    arrays = [(x / np.float32(255), np.int64(y)) for x, y in zip(IMAGES, LABELS, strict=True)]
    names = ["ant", "bee", "cat"]
    for items in (
        Items(list(zip(pictures, LABELS.tolist(), strict=True)), classes=names),
        Items([{"img": p, "label": int(y)} for p, y in zip(pictures, LABELS, strict=True)]),
        Items(arrays, dataset=Items([], classes=names)),
        Items([(x.transpose(1, 2, 0), y, "more") for x, y in arrays]),
    ):
        data = as_dataset(items)
        assert np.array_equal(data.images, IMAGES)
        assert data.labels.tolist() == LABELS.tolist()
        assert data.classes == (tuple(names) if items.items and vars(items).keys() & {
            "classes", "dataset"} else ("0", "1", "2"))  # fmt: skip
        assert data.name == "Items"


def test_no_more_items_are_asked_for_than_the_limit():
    items = Items(list(zip(IMAGES, LABELS, strict=True)))
    assert len(as_dataset(items, limit=2)) == 2
    assert set(items.asked) == {0, 1}


def test_gray_pictures_among_colours_become_colour():
    gray, colour = IMAGES[0, :1], IMAGES[1]
    for items in ([(gray, 0), (colour, 1)], [(colour, 1), (gray, 0)]):
        data = as_dataset([*items, *items])
        where = data.labels.tolist().index(0)
        assert np.array_equal(data.images[where], np.repeat(gray, 3, 0))
        assert np.array_equal(data.images[1 - where], colour)
        assert np.array_equal(data.images[2:], data.images[:2])


def test_random_transforms_are_told():
    class Noisy(Items):
        def __getitem__(self, index):
            return RNG.integers(0, 256, (3, 8, 8), dtype=np.uint8), 0

    with pytest.warns(UserWarning, match="another image 0 when it is asked again: leave random"):
        as_dataset(Noisy([None, None]))


BAD = IMAGES.astype(np.float64) / 255


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (3, TypeError, "`dataset` must be a Dataset, got int; make one with `load_dataset`, or"),
        (IMAGES, TypeError, "must be a Dataset, got ndarray"),
        ("cifar10", TypeError, "must be a Dataset, got str"),
        ({"x": IMAGES}, TypeError, "must be a Dataset, got dict"),
        ((1, 2), TypeError, "got a pair whose images are of int; give"),
        ((None, LABELS), TypeError, "got a pair whose images are of NoneType"),
        ((IMAGES, LABELS, LABELS), TypeError, "must be a Dataset, got tuple"),
        ([], ValueError, "`dataset` must hold an image at least"),
        ((IMAGES, LABELS[:5]), ShapeError, r"`labels` must have shape \(N,\) = \(6,\)"),
        ((IMAGES, LABELS - 1), ValueError, "`labels` must be at least 0, got -1"),
        ((IMAGES, LABELS + 0.5), TypeError, "`labels` must be integers"),
        ((IMAGES, LABELS + 2**40), ValueError, r"its label 1099511627778 is outside \[0, 1048575"),
        ((BAD - 1, LABELS), ValueError, r"got values in \[-1, 0\]; leave out what normalises them"),
        ((BAD * 255, LABELS), ValueError, r"got values in \[0, 255\]; divide them by 255"),
        ((BAD * np.nan, LABELS), ValueError, "got NaN or infinity; replace them"),
        ((BAD * 1.1, LABELS), ValueError, r"got values in \[0, 1.1\]; leave"),
        ((IMAGES.astype(np.int16), LABELS), TypeError, "got int16; convert it with `.astype`"),
        ((IMAGES > 9, LABELS), TypeError, "or floats in .* got bool; convert"),
        ((IMAGES[0, 0], LABELS), ShapeError, r"must have shape \(N, H, W\), .* got \(8, 10\)"),
        ((IMAGES[..., :3], LABELS), ShapeError, "may have their channels first or last; make a"),
        (([IMAGES[0], IMAGES[0, :, :4]], [0, 1]), TypeError, "of other sizes give a data set"),
        (Items([(IMAGES[0], 0), (IMAGES[0, :, :4], 1)]), ShapeError,
         "must be of one size, got 8 x 10 in 'image 0' and 4 x 10 in 'image 1'; give `resize`"),
        (Items([(IMAGES[0], 0), (IMAGES[:1].transpose(1, 0, 2, 3)[:2, 0], 1)]), ShapeError,
         "must have the same channels, got 3 in 'image 0' and 2 in 'image 1'"),
        (Items([IMAGES[0]]), TypeError, r"must have items \(image, label\), got ndarray for item"),
        (Items([{"pixels": 1}]), TypeError, "got dict for item 0"),
        (Items([(BAD[0] * 2 - 1, 0)]), ValueError, "item 0 of the data set 'Items' cannot be read"),
        (Items([(IMAGES[0], "cat")]), ValueError, "item 0 .*: its label is no integer but 'cat'"),
        (Items([(IMAGES[0], 7)], classes=["a", "b"]), ValueError, r"label 7 is outside \[0, 1\]"),
        (Items([(IMAGES, 7)]), ValueError, r"must be of shape \(C, H, W\) or .* got \(6, 3, 8, 10"),
    ],
)  # fmt: skip
def test_bad_data(data, error, message):
    with pytest.raises(error, match=message):
        as_dataset(data)


def test_memory_is_bounded():
    items = Items(list(zip(IMAGES, LABELS, strict=True)))
    with pytest.raises(ValueError, match=r"take 1,440 bytes, more than the limit of 1,000; raise"):
        as_dataset(items, max_bytes=1000)
    assert items.asked == [0, 0]  # the number of images is known
    assert len(as_dataset(items, max_bytes=1000, limit=4)) == 4


# Sizes


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({"resize": 4}, (4, 5)),
        ({"resize": "4"}, (4, 5)),
        ({"resize": (12, 7)}, (12, 7)),
        ({"resize": "12x7"}, (12, 7)),
        ({"resize": [12, 7], "interpolation": "bicubic"}, (12, 7)),
        ({"center_crop": 6}, (6, 6)),
        ({"center_crop": "8x4"}, (8, 4)),
        ({"resize": 16, "center_crop": 14}, (14, 14)),
    ],
)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_sizes(options, shape, channels):
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    data = as_dataset((IMAGES[:, :channels], LABELS), **options)
    assert data.images.shape == (6, channels, *shape)
    assert data.labels.tolist() == LABELS.tolist()


def test_a_strip_that_would_grow_is_left_out():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    strip = np.zeros((1, 1, 9000), np.uint8)
    with pytest.warns(
        UserWarning, match=r"left out: 'image 1' \(resized it would have 90 x 810000"
    ):
        data = as_dataset([(IMAGES[0], 2), (strip, 1), (IMAGES[1], 0)], resize=90)
    assert data.labels.tolist() == [2, 0]
    with pytest.raises(ValueError, match="no image of 'arrays' can be read: 'image 0'"):
        as_dataset((strip[None], [0]), resize=90)


def test_resizing_is_antialiased_and_cuts_the_centre():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    stripes = np.zeros((1, 1, 8, 8), np.uint8)
    stripes[..., ::2] = 255  # without antialiasing all black or all white
    small = as_dataset((stripes, [0]), resize=2).images
    assert np.abs(small.astype(int) - 127).max() < 20
    corner = np.arange(64, dtype=np.uint8).reshape(1, 1, 8, 8)
    cut = as_dataset((corner, [0]), center_crop=(4, 2)).images
    assert np.array_equal(cut, corner[..., 2:6, 3:5])
    assert as_dataset((corner, [0]), resize=8).images.tobytes() == corner.tobytes()


def test_resizing_is_that_of_torchvision_and_pillow():
    """Bilinear: the mean of 2 x 2 pixels with weights 1, 3, 3, 1 along each axis."""
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    edge = np.zeros((1, 1, 8, 8), np.uint8)
    edge[..., 4:] = 240
    small = as_dataset((edge, [0]), resize=4).images[0, 0, 0]
    assert small.tolist() == [0, 30, 210, 240]


def test_images_of_several_sizes_are_brought_to_one():
    pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    items = Items([(IMAGES[0], 0), (IMAGES[1, :, :6, :9], 1)])
    assert as_dataset(items, resize=(8, 8)).images.shape == (2, 3, 8, 8)
    assert as_dataset(items, center_crop=6).images.shape == (2, 3, 6, 6)
    with pytest.raises(ShapeError, match=r"must be of one size, got 8 x 10 .* and 8 x 12"):
        as_dataset(items, resize=8)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"resize": 0}, ValueError, r"`resize` must be an integer in \[1, 8192\], got 0"),
        ({"resize": 2.5}, TypeError, "`resize` must be an integer"),
        ({"resize": "large"}, ValueError, "`resize` must be a side such as 32, or height x width"),
        ({"center_crop": "3x4x5"}, ValueError, "`center_crop` must be a side"),
        ({"center_crop": (3, 4, 5)}, ValueError, "`center_crop` must be a side, or a pair"),
        ({"resize": 9, "interpolation": "nearest"}, ValueError, "`interpolation` must be one of"),
        ({"center_crop": 9}, ShapeError, "must fit into each image, got 9 x 9 for 'image 0' of 8"),
    ],
)  # fmt: skip
def test_bad_sizes(options, error, message):
    with pytest.raises(error, match=message):
        as_dataset(Items(list(zip(IMAGES, LABELS, strict=True))), **options)
    with pytest.raises(error, match=message):
        load_dataset("digits", **options)


def test_pillow_is_not_needed_for_arrays(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    assert len(as_dataset(Items(list(zip(IMAGES, LABELS, strict=True))))) == 6
    with pytest.raises(ImportError, match="needs the package 'pillow'"):
        as_dataset((IMAGES, LABELS), resize=4)


# Who takes them


def test_long_computations_take_them():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from helpers.evaluation import fit_digits

    from splic_ext.evaluation import evaluate

    digits, network = load_dataset("digits", limit=6), fit_digits()
    pair = (torch.from_numpy(digits.to_float()), digits.labels)
    items = torch.utils.data.TensorDataset(*map(torch.as_tensor, pair))

    def scored(data):
        report = evaluate(network, data, defenses=["identity"], draws=1, limit=5, progress=False)
        (record,) = report.records
        return record.right, record.dataset.images, record.dataset.sha256, record.dataset.name

    expected = scored(digits)
    assert scored(pair) == (*expected[:3], "arrays")
    assert scored(items) == (*expected[:3], "TensorDataset")


def test_training_takes_them():
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    from splic_ext.training import TrainingOptions, train

    data = load_dataset("digits", "train", limit=40)
    test = load_dataset("digits", limit=9)
    options = TrainingOptions(epochs=1, crop=1, flip=False)
    expected = train("digits_cnn", data, options, test=test, progress=False)
    pair = ((data.to_float(), data.labels), (test.images, test.labels))
    assert set(data.labels) == set(range(10))
    given = train("digits_cnn", pair[0], options, test=pair[1], progress=False)
    for first, second in zip(
        expected.network.state_dict().values(), given.network.state_dict().values(), strict=True
    ):
        assert first.equal(second)
    named = [Dataset("x", part.images, part.labels, tuple("abcdefghij")) for part in (data, test)]
    train("digits_cnn", named[0], options, test=pair[1], progress=False)  # numbers are no names
    data, other = named[0], Dataset("y", test.images, test.labels, tuple("bacdefghij"))
    with pytest.raises(ValueError, match=r"`test` must have the classes of .* got 'b' for the cla"):
        train("digits_cnn", data, options, test=other, progress=False)


def test_the_adaptive_protocol_and_certificates_take_them():
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    from helpers.evaluation import fit_digits

    from splic_ext.certify import evaluate_patches
    from splic_ext.experiments import evaluate_adaptively

    digits, network = load_dataset("digits", limit=3), fit_digits()
    pair = (digits.to_float(), digits.labels)
    result = evaluate_adaptively(
        network, pair, defense="tv:iterations=3", size="smoke", sections=["gradients"],
        score_draws=1, progress=False,
    )  # fmt: skip
    assert len(result.select(section="gradients")) > 1
    options = {"fills": ["gray"], "patch": 1, "masks": 2, "progress": False}
    expected = evaluate_patches(network, digits, **options)
    given = evaluate_patches(network, pair, **options)
    assert given.records[0].dataset.sha256 == expected.records[0].dataset.sha256


def test_names_of_hugging_face():
    class Label:
        names: ClassVar = ["ant", "bee"]

    items = Items([{"img": IMAGES[0], "label": 1}], features={"img": None, "label": Label()})
    assert as_dataset(items).classes == ("ant", "bee")


def test_experiments_take_them():
    pytest.importorskip("foolbox", reason="foolbox is not installed")
    from splic_ext.experiments import Subject

    subject = Subject("svhn", (IMAGES, LABELS), training=(IMAGES, LABELS))
    assert subject.name == "arrays"
    assert isinstance(subject.training, Dataset)
