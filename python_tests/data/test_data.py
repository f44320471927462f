"""Data sets by name and path: parameters, roots, downloads, missing packages, the real files."""

from __future__ import annotations

import functools
import hashlib
import http.server
import sys
import threading

import numpy as np
import pytest
from helpers.data import batch_values, write_tar

from splic_ext import MissingExtraError, ShapeError
from splic_ext.data import DATASETS, OFFICIAL_FILES, Dataset, OfficialFile, load_dataset
from splic_ext.data import loading as loading_module
from splic_ext.data.loading import default_root

# Dataset


def small(**changes):
    values = {
        "name": "small",
        "images": np.arange(3 * 2 * 4 * 5, dtype=np.uint8).reshape(3, 2, 4, 5),
        "labels": np.array([0, 1, 1]),
        "classes": ("cat", "dog"),
    }
    return Dataset(**{**values, **changes})


def test_dataset():
    data = small()
    assert len(data) == 3
    assert repr(data) == "Dataset('small': 3 images of 2 x 4 x 5, 2 classes)"
    assert len(data.first(2)) == 2
    assert len(data.first(99)) == 3
    floats = data.to_float()
    assert floats.dtype == np.float32
    assert np.array_equal(floats, data.images.astype(np.float32) / np.float32(255))
    with pytest.raises(AttributeError):
        data.name = "other"


def test_dataset_without_images():
    data = small(images=np.zeros((0, 1, 8, 8), np.uint8), labels=np.zeros(0, np.int64))
    assert len(data) == 0


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"images": np.zeros((3, 2, 4, 5))}, TypeError, "`images` must be an array of uint8"),
        ({"images": [1]}, TypeError, "`images` must be an array of uint8, got list"),
        ({"images": np.zeros((3, 4, 5), np.uint8)}, ShapeError, r"must have shape \(N, C, H, W\)"),
        ({"labels": np.zeros(3)}, TypeError, "`labels` must be integers, .* got float64; convert"),
        ({"labels": "cat"}, TypeError, "`labels` must be integers, .* got str; convert"),
        ({"labels": ["cat"] * 3}, TypeError, "`labels` must be integers, .* got list of str; conv"),
        ({"labels": np.ones(3, bool)}, TypeError, "`labels` must be integers, .* got bool; conv"),
        ({"labels": 1}, ShapeError, r"must have shape \(N,\) = \(3,\), got \(\); pass"),
        ({"labels": np.eye(3)}, ShapeError, r"\(N,\) = \(3,\), got \(3, 3\); .*labels.argmax\(1\)"),
        ({"labels": np.zeros(2, np.int64)}, ShapeError, r"\(N,\) = \(3,\), got \(2,\); pass"),
        ({"labels": np.array([0, 1, 2])}, ValueError, r"in \[0, 1\].*got \[0, 2\]"),
        ({"labels": np.array([0, -1, 1])}, ValueError, r"in \[0, 1\].*got \[-1, 1\]"),
        ({"classes": ["cat", "dog"]}, TypeError, "`classes` must be a tuple of names"),
        ({"classes": (1, 2)}, TypeError, "`classes` must be a tuple of names"),
    ],
)
def test_bad_dataset(changes, error, message):
    with pytest.raises(error, match=message):
        small(**changes)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channel_last_images_are_refused(channels):
    images = np.zeros((3, 28, 32, channels), np.uint8)
    with pytest.raises(ShapeError, match=r"look channel last, .*images.transpose\(0, 3, 1, 2\)"):
        small(images=images)
    assert len(small(images=images.transpose(0, 3, 1, 2))) == 3


def test_channel_last_images_of_an_archive(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)
    np.savez(tmp_path / "last.npz", x=images, y=[0, 1])
    found = load_dataset(tmp_path / "last.npz").images
    assert np.array_equal(found, images.transpose(0, 3, 1, 2))
    np.savez(tmp_path / "either.npz", x=images[:, :3, :, :], y=[0, 1])
    with pytest.raises(ValueError, match=r"either.npz' holds .* channels first or last; make a"):
        load_dataset(tmp_path / "either.npz")


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0, 1.0, 1], TypeError, r"list of float, int; .*`np.asarray\(labels, np.int64\)`$"),
        ([0, 1, 2**64], TypeError, "got list of int; convert them"),
        ([[1, 0], [0, 1], [0, 1]], ShapeError, r"got \(3, 2\); .*`labels.argmax\(1\)` if they"),
        ([0, 1], ShapeError, r"have shape \(N,\) = \(3,\), got \(2,\)"),
        (np.array([0, 1, 1], object), TypeError, "got object; convert them"),
        (np.array(["cat", "dog", "dog"], object), TypeError, r"got object; .*classes.index"),
        (["cat", "dog", "dog"], TypeError, r"got list of str; .*classes.index\(name\) for name"),
        (np.array(["cat", "dog", "dog"]), TypeError, r"got <U3; .*classes.index\(name\) for name"),
        (np.array(1), ShapeError, r"have shape \(N,\) = \(3,\), got \(\)"),
        (1, ShapeError, r"got \(\)"),
        (np.eye(2)[[0, 1, 1]], ShapeError, r"`labels.argmax\(1\)` if they are one-hot"),
        (np.zeros((3, 1), np.int64), ShapeError, r"as `labels.flatten\(\)` has it"),
        (np.array([True, False, True]), TypeError, "got bool; convert them"),
    ],
)
def test_labels_of_another_kind(labels, error, message):
    with pytest.raises(error, match=f"`labels` must .*{message}"):
        small(labels=labels)


def test_floating_point_images_are_told_by_their_range():
    images = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5)).astype(np.float32)
    for given, fix in ((images / 255, r"np.rint\(255 \* images\)"), (images, r"np.rint\(images\)")):
        with pytest.raises(TypeError, match=fix):
            small(images=given)


def test_tensors():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    data = small()
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    same = small(images=images, labels=labels)
    assert same.images.dtype == np.uint8
    assert np.shares_memory(same.images, data.images)
    assert np.array_equal(same.labels, data.labels)
    one_hot = torch.nn.functional.one_hot(labels)
    with pytest.raises(ShapeError, match=r"`labels.argmax\(1\)`"):
        small(labels=one_hot)
    assert np.array_equal(small(labels=one_hot.argmax(axis=1)).labels, data.labels)
    last = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    with pytest.raises(ShapeError, match=r"look channel last, .*`images.permute\(0, 3, 1, 2\)`"):
        small(images=last)
    with pytest.raises(TypeError, match=r"a tensor of torch.uint8 on meta; .*\.cpu\(\)\.numpy\(\)"):
        small(images=images.to("meta"))
    for changes, got in (
        ({"images": images.int()}, "a tensor of torch.int32"),
        ({"images": images / 255}, "a tensor of torch.float32"),
        ({"images": images.half()}, "a tensor of torch.float16"),
    ):
        with pytest.raises(TypeError, match=f"got {got}; convert ") as caught:
            small(**changes)
        fix = str(caught.value).rpartition(" with ")[2].strip("`")  # it works as it is told
        (parameter,) = changes
        told = small(**{parameter: eval(fix, {"torch": torch, **changes})})
        assert np.array_equal(getattr(told, parameter), getattr(data, parameter))


@pytest.mark.parametrize("dtype", ["uint8", "int32", ">i8", "uint64"])
def test_labels_that_are_clear_are_taken(dtype):
    numbers = np.array([0, 1, 1], dtype)
    for labels in (numbers, numbers.tolist(), tuple(numbers)):
        found = small(labels=labels).labels
        assert (found.dtype, found.tolist()) == (np.int64, [0, 1, 1])


def test_labels_of_torch_are_taken():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert small(labels=torch.tensor([0, 1, 1])).labels.dtype == np.int64
    with pytest.raises(TypeError, match=r"got torch.int64 on the device meta"):
        small(labels=torch.zeros(3, dtype=torch.int64, device="meta"))


def test_first_needs_a_count():
    with pytest.raises(ValueError, match="`count` must be an integer in"):
        small().first(0)


# Digits


def test_digits():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    train, test = load_dataset("digits", "train"), load_dataset("digits")
    assert (len(train), len(test)) == (1297, 500)
    content = datasets.load_digits()
    images = np.concatenate([train.images, test.images])
    assert images.shape == (1797, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 255)
    assert np.abs(images[:, 0] / 255 - content.images / 16).max() <= 0.5 / 255 + 1e-9
    assert np.array_equal(np.concatenate([train.labels, test.labels]), content.target)
    assert len(load_dataset("digits", limit=7)) == 7
    assert set(test.labels) == set(range(10))


# Names, paths, parameters


def test_names():
    assert dict(DATASETS) == {
        "cifar10": ("train", "test"),
        "svhn": ("train", "test", "extra"),
        "digits": ("train", "test"),
        "shapes": ("train", "test"),
    }
    assert set(OFFICIAL_FILES) == {(n, s) for n in ("cifar10", "svhn") for s in DATASETS[n]}
    assert all(len(file.sha256) == 64 for file in OFFICIAL_FILES.values())


@pytest.mark.parametrize("name", ["cifar10", "svhn"])
def test_missing_data_names_the_places_and_the_remedy(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        load_dataset(name, "train", root=tmp_path)
    message = str(caught.value)
    file = OFFICIAL_FILES[name, "train"]
    assert str(tmp_path / file.name) in message
    assert file.url in message
    assert "get it with `download=True`, or put" in message


def test_root_comes_from_the_environment(cifar, tmp_path, monkeypatch):
    monkeypatch.setenv("SPLIC_DATA", str(tmp_path))
    assert default_root() == tmp_path
    assert len(load_dataset("cifar10")) == 4
    monkeypatch.delenv("SPLIC_DATA")
    assert default_root().parts[-2:] == (".cache", "splic_ext")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("cifar100",), ValueError, "`name_or_path` must be one of cifar10, svhn, digits, shapes"),
        (("none/at/all",), FileNotFoundError, "'none/at/all' does not exist; check"),
        (("none.npz",), FileNotFoundError, "'none.npz' does not exist"),
        ((3,), TypeError, "`name_or_path` must be a string or a path, got int"),
        (("digits", "extra"), ValueError, "`split` must be one of train, test, got 'extra'"),
        (("svhn", None), ValueError, "`split` must be one of train, test, extra, got None"),
        (("digits", "test", None, 0), ValueError, "`limit` must be an integer in"),
        (("digits", "test", None, 1.5), TypeError, "`limit` must be an integer"),
    ],
)
def test_bad_parameters(arguments, error, message):
    with pytest.raises(error, match=message):
        load_dataset(*arguments)


def test_download_must_be_a_bool():
    with pytest.raises(TypeError, match="`download` must be True or False, got 'yes'"):
        load_dataset("digits", download="yes")


def test_paths_of_another_kind(tmp_path):
    (tmp_path / "notes.txt").write_text("text")
    with pytest.raises(ValueError, match=r"notes.txt' must be a folder of classes, or a file of"):
        load_dataset(tmp_path / "notes.txt")
    with pytest.raises(ValueError, match="holds no images in folders of their classes"):
        load_dataset(tmp_path)


def test_split_of_a_folder(cifar):
    with pytest.raises(ValueError, match="`split` must be one of train, test, got 'extra'"):
        load_dataset(cifar, "extra")


@pytest.mark.parametrize(
    ("module", "name"), [("scipy.io", "scipy"), ("sklearn.datasets", "scikit-learn")]
)
def test_missing_extras(tmp_path, monkeypatch, module, name):
    (tmp_path / "test_32x32.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=name) as caught:
        load_dataset("svhn" if name == "scipy" else "digits", root=tmp_path)
    assert caught.value.extra == "data"


def test_import_is_light(run_python):
    code = "import sys, splic_ext.data; print(*sorted({n.partition('.')[0] for n in sys.modules}))"
    loaded = run_python(code).split()
    assert not {"torch", "scipy", "sklearn", "pooch", "PIL"} & set(loaded)


# Downloads, from a server on this machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def official(cifar, tmp_path, monkeypatch):
    """A tiny archive that stands for the official one; give a function to say its SHA-256."""
    pytest.importorskip("pooch", reason="pooch is not installed")
    for variable in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.upper(), raising=False)
    served = tmp_path / "served"
    served.mkdir()
    content = write_tar(cifar, served / "cifar-10-python.tar.gz").read_bytes()
    handler = functools.partial(Quiet, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def register(sha256=None, name="cifar-10-python.tar.gz"):
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            sha256 = sha256 or hashlib.sha256(content).hexdigest()
            file = OfficialFile("cifar-10-python.tar.gz", url, sha256)
            monkeypatch.setattr(loading_module, "OFFICIAL_FILES", {("cifar10", "test"): file})

        register()
        yield register
        server.shutdown()
        thread.join()


def test_download(official, tmp_path):
    root = tmp_path / "new" / "root"
    data = load_dataset("cifar10", root=root, download=True)
    assert data.labels.tolist() == batch_values(6)[1]
    assert (root / "cifar-10-python.tar.gz").is_file()
    official(name="gone")
    assert len(load_dataset("cifar10", root=root, download=True)) == 4


def test_download_of_another_file_is_not_kept(official, tmp_path):
    official(sha256="0" * 64)
    with pytest.raises(ValueError, match=r"the download from http.* is not the official file"):
        load_dataset("cifar10", root=tmp_path / "root", download=True)
    assert not list((tmp_path / "root").iterdir())


def test_download_that_fails(official, tmp_path):
    official(name="gone")
    with pytest.raises(ConnectionError, match=r"gone cannot be downloaded to .*404"):
        load_dataset("cifar10", root=tmp_path / "root", download=True)


def test_download_without_pooch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match="pooch") as caught:
        load_dataset("cifar10", root=tmp_path, download=True)
    assert caught.value.extra == "data"


# The real files


def test_real_archives(shared_folder, cifar10):
    folder = shared_folder / "data"
    data = load_dataset(folder / "cifar10_test_lossless.npz")
    assert np.array_equal(data.images, cifar10[0])
    assert np.array_equal(data.labels, cifar10[1])
    assert len(load_dataset(folder / "svhn_subset_test.npz", limit=100)) == 100
    copy = load_dataset(folder / "cifar10_jpeg_test.npz", limit=500)
    assert np.array_equal(copy.labels, data.labels)
    error = copy.to_float() - data.to_float()
    assert -10 * np.log10(np.mean(error**2)) > 28  # dB: the same pictures, in the same order
