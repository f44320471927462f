"""A folder for each class: layouts, order, what is left out and told, what is refused."""

from __future__ import annotations

import io
import os
import zlib

import numpy as np
import pytest

image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")

from splic_ext.data import load_dataset, open_source  # noqa: E402
from splic_ext.data.sources import Sample  # noqa: E402
from splic_ext.data.sources import base as base_module  # noqa: E402
from splic_ext.errors import ShapeError  # noqa: E402

RNG = np.random.default_rng(0)


def pixels(mode="RGB", size=(8, 10)):
    return RNG.integers(0, 256, size if mode == "L" else (*size, 3), dtype=np.uint8)


def save(path, array=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = pixels() if array is None else array
    image_module.fromarray(array).save(path, **options)
    return array


@pytest.fixture
def folder(tmp_path):
    """Three images of ants and two of bees; their pixels by the path."""
    root = tmp_path / "mine"
    names = ["ant/0.png", "ant/1.png", "ant/more/2.png", "bee/0.bmp", "bee/1.PNG"]
    return root, {name: save(root / name) for name in names}


def test_images_come_in_turn_from_each_class(folder):
    root, saved = folder
    data = load_dataset(root)
    assert repr(data) == "Dataset('mine': 5 images of 3 x 8 x 10, 2 classes)"
    assert data.classes == ("ant", "bee")
    assert data.labels.tolist() == [0, 1, 0, 1, 0]
    order = ["ant/0.png", "bee/0.bmp", "ant/1.png", "bee/1.PNG", "ant/more/2.png"]
    for image, name in zip(data.images, order, strict=True):
        assert np.array_equal(image, saved[name].transpose(2, 0, 1))
    assert data.unread == ()
    assert load_dataset(root, "train").labels.tolist() == [0, 1, 0, 1, 0]


def test_the_limit_reads_no_more(folder, monkeypatch):
    root, _ = folder
    (root / "bee" / "1.PNG").write_bytes(b"damaged")
    data = load_dataset(root, limit=3)
    assert data.labels.tolist() == [0, 1, 0]
    assert data.classes == ("ant", "bee")


def test_splits(tmp_path):
    for name in ("train/ant", "train/bee", "train/cat", "val/bee", "val/cat"):
        save(tmp_path / name / "0.png")
    assert load_dataset(tmp_path, "train").labels.tolist() == [0, 1, 2]
    data = load_dataset(tmp_path, "val")
    assert data.classes == ("ant", "bee", "cat")  # those of all splits, so that labels agree
    assert data.labels.tolist() == [1, 2]
    assert data.name == f"{tmp_path.name}/val"
    assert load_dataset(tmp_path / "val").classes == ("bee", "cat")
    with pytest.raises(
        ValueError, match=r"`split` must be one of train, val, got 'test'; .* choose"
    ):
        load_dataset(tmp_path)


def test_a_split_that_is_none_of_a_folder(folder):
    with pytest.raises(ValueError, match="`split` must be one of train, test, extra, got 'dev'"):
        load_dataset(folder[0], "dev")


def encoded(array, kind="PNG", **options):
    stream = io.BytesIO()
    image_module.fromarray(array).save(stream, kind, **options)
    return stream.getvalue()


def png_header(width, height):
    """A file that promises pixels which are not there."""
    head = b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    chunk = (13).to_bytes(4, "big") + head + zlib.crc32(head).to_bytes(4, "big")
    data = b"IDAT" + zlib.compress(b"")
    rest = (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + chunk + rest


DAMAGED = {
    "empty": (b"", "it is empty"),
    "text": (b"no image at all", "it is no BMP, JPEG, PNG, PPM, TIFF or WebP image"),
    "short": (encoded(pixels())[:-40], ""),
    "bomb": (png_header(30_000, 30_000), "900,000,000|decompression bomb|exceeds limit"),
    "large": (png_header(8_001, 8_000), "its 64,008,000 pixels are more than the limit"),
    "deep": (encoded(np.zeros((8, 10), np.uint16)), "its pixels of mode 'I;16' are not of 8 bits"),
    "float": (encoded(np.zeros((8, 10), np.float32), "TIFF"), "of mode 'F' are not of 8 bits"),
    "gif": (encoded(pixels("L"), "GIF"), "it is no BMP"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_listed(folder, name):
    root, _ = folder
    content, reason = DAMAGED[name]
    (root / "ant" / "1b.png").write_bytes(content)
    with pytest.warns(UserWarning, match=r"1 of the images .* left out: the file 'ant/1b.png' \("):
        data = load_dataset(root)
    assert len(data) == 5
    (found,) = data.unread
    assert found.key == "ant/1b.png"
    assert len(found.reason) < 201
    assert any(text in found.reason for text in reason.split("|"))


def test_frames_links_and_pipes_are_listed(folder):
    root, _ = folder
    frames = [image_module.fromarray(pixels()) for _ in range(2)]
    frames[0].save(root / "bee" / "two.tiff", save_all=True, append_images=frames[1:])
    (root / "bee" / "lost.png").symlink_to(root / "nothing.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "bee" / "pipe.png")
    with pytest.warns(UserWarning, match="cannot be read and are left out"):
        data = load_dataset(root)
    reasons = {found.key: found.reason for found in data.unread}
    assert reasons.pop("bee/two.tiff") == "it has 2 frames, expected 1"
    assert set(reasons.values()) == {"it is no file, or a link to none"}


def test_many_damaged_files_are_counted(folder, monkeypatch):
    root, _ = folder
    for number in range(6):
        (root / "ant" / f"b{number}.png").write_bytes(b"?")
    with pytest.warns(
        UserWarning, match=r"6 of the images in .*'ant/b2.png' \([^)]*\), and 3 more"
    ):
        assert len(load_dataset(root).unread) == 6
    monkeypatch.setattr(base_module, "MOST_UNREAD", 5)
    with pytest.raises(
        ValueError, match=r"more than 5 files of .* cannot be read, the first is the"
    ):
        load_dataset(root)


def test_nothing_readable_is_an_error(tmp_path):
    for name in ("ant/0.png", "bee/0.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"?")
    with pytest.raises(
        ValueError, match=r"no image of .* can be read: the file 'ant/0.png' \(it is"
    ):
        load_dataset(tmp_path)


def test_other_files_are_told(folder):
    root, _ = folder
    for name in ("ant/notes.txt", "bee/.DS_Store", "ant/.hidden.png", "LICENSE"):
        (root / name).write_bytes(b"text")
    (root / "ant" / ".cache").mkdir()
    (root / ".git").mkdir()
    (root / "ant" / "again").symlink_to(root / "ant", target_is_directory=True)
    (root / "cat").mkdir()
    with pytest.warns(UserWarning, match=r"passed over|no image|lead back") as told:
        data = load_dataset(root)
    assert len(data) == 5
    assert data.classes == ("ant", "bee", "cat")
    said = [str(warning.message) for warning in told]
    for words in (
        "files of other kinds are passed over: 1 in",
        "hidden files are passed over: 3 in",
        "files are in no folder of a class and are passed over: 1 in",
        "folders of classes hold no image: 1 in",
        "folders lead back to those above or are too deep: 1 in",
    ):
        assert sum(words in text for text in said) == 1
    assert len(said) == 5


def test_gray_and_colour(tmp_path):
    grays = {f"{kind}/0.png": save(tmp_path / kind / "0.png", pixels("L")) for kind in "ab"}
    data = load_dataset(tmp_path)
    assert data.images.shape == (2, 1, 8, 10)
    assert np.array_equal(data.images[1, 0], grays["b/0.png"])
    colour = save(tmp_path / "c" / "0.png")
    data = load_dataset(tmp_path)
    assert np.array_equal(data.images[2], colour.transpose(2, 0, 1))
    assert np.array_equal(data.images[0], np.repeat(grays["a/0.png"][None], 3, 0))


def test_modes(tmp_path):
    colour = image_module.fromarray(pixels())
    save(tmp_path / "b" / "0.png")
    (tmp_path / "a").mkdir()
    for mode in ("1", "P", "CMYK"):
        kind = "tiff" if mode == "CMYK" else "png"
        colour.convert(mode).save(tmp_path / "a" / f"{mode}.{kind}")
    data = load_dataset(tmp_path)
    assert len(data) == 4
    for mode in ("LA", "RGBA"):
        colour.convert(mode).save(tmp_path / "a" / f"{mode}.png")
    with pytest.warns(UserWarning, match="images have transparency, which is left out: 2 in"):
        data = load_dataset(tmp_path)
    assert len(data) == 6
    assert np.array_equal(data.images[-1], np.asarray(colour).transpose(2, 0, 1))


def test_mixed_sizes(folder):
    root, _ = folder
    save(root / "bee" / "1.PNG", pixels(size=(20, 9)))
    with pytest.raises(ShapeError, match=r"must be of one size, got 8 x 10 in 'ant/0.png' and "
                       "20 x 9 in 'bee/1.PNG'; give `resize` as HEIGHTxWIDTH"):  # fmt: skip
        load_dataset(root)
    assert load_dataset(root, resize="8x8").images.shape == (5, 3, 8, 8)
    assert load_dataset(root, resize=8, center_crop=8).images.shape == (5, 3, 8, 8)
    assert load_dataset(root, center_crop=(8, 9)).images.shape == (5, 3, 8, 9)


def test_bounds(folder):
    root, _ = folder
    assert len(load_dataset(root, max_bytes=5 * 240)) == 5
    with pytest.raises(ValueError, match=r"take 1,200 bytes, more than the limit of 1,199; raise"):
        load_dataset(root, max_bytes=5 * 240 - 1)
    assert len(load_dataset(root, max_bytes=480, limit=2)) == 2
    (root / "ant" / "0.png").write_bytes(bytes(700))
    with pytest.warns(UserWarning, match="its 700 bytes are more than 699"):
        load_dataset(root, max_bytes=699, resize=2)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no images in folders of their classes; expected '.*CLASS.*IMAGE.png' for at"),
        (["0.png"], "holds no images in folders of their classes"),
        (["ant/0.png"], "holds the one class 'ant', expected a folder for each of at least two"),
        (["train/ant/0.png"], "holds the one class 'ant'"),
        (["ant/0.txt", "bee/0.txt"], "holds no image in the folders of its 2 classes; expected"),
        (["ant/0.png", ".bee/0.png"], "holds the one class 'ant'"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, files, message):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(encoded(pixels()))
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path, "train")


def test_the_source_streams(folder):
    root, _ = folder
    source = open_source(root)
    assert (len(source), source.classes, source.name) == (5, ("ant", "bee"), "mine")
    (root / "ant" / "1.png").unlink()
    for _ in range(2):  # it can be read again
        samples = list(source)
        assert [sample.label for sample in samples] == [0, 1, 1, 0]
        assert samples[0] == Sample("ant/0.png", (root / "ant" / "0.png").read_bytes(), 0)
        assert [found.key for found in source.unread] == ["ant/1.png"]


def test_pillow_is_named(folder, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ImportError, match=r"'pillow', which is not installed; .*splic-ext\[data\]"):
        load_dataset(folder[0])
