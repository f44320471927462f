"""Small PNG files: the pixels are Pillow's, and whatever is unusual is left to Pillow."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")

from PIL import Image, PngImagePlugin

from splic_ext.files.images import encode_picture, read_picture
from splic_ext.files.png import MOST_PIXELS, encode_plain, read_plain

MANY = 2**40


def random(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height, width, channels):
    y, x = np.mgrid[:height, :width]
    planes = [(3 * y + 2 * x + 40 * c) % 256 for c in range(channels)]
    return np.stack(planes, -1).astype(np.uint8)


def saved(image, mode=None, **options):
    stream = io.BytesIO()
    made = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    (made if mode is None else made.convert(mode)).save(stream, format="PNG", **options)
    return stream.getvalue()


def opened(content):
    with Image.open(io.BytesIO(content)) as image:
        image.load()
        assert image.format == "PNG"
        return np.asarray(image).reshape(image.height, image.width, -1)


SHAPES = [(1, 1, 1), (1, 1, 3), (1, 7, 3), (9, 1, 1), (5, 3, 3), (32, 32, 3), (128, 128, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [lambda s: random(s), lambda s: smooth(*s)])
def test_pillow_and_this_read_what_either_writes(shape, make):
    image = make(shape)
    (own,) = encode_plain([image])
    for content in (own, saved(image), saved(image, optimize=True), saved(image, compress_level=0)):
        assert np.array_equal(opened(content), image)
        assert np.array_equal(read_plain(content, MANY), image)


def test_files_do_not_depend_on_those_beside_them():
    images = [*random((40, 32, 32, 3)), smooth(32, 32, 3), np.zeros((32, 32, 3), np.uint8)]
    assert encode_plain(images) == [encode_plain([image])[0] for image in images]
    strided = [image[:, ::-1] for image in images]
    assert encode_plain(strided) == encode_plain([np.ascontiguousarray(one) for one in strided])


def test_files_are_about_as_short_as_pillows():
    photographs = pytest.importorskip("skimage.data", reason="scikit-image is not installed")
    photo = photographs.astronaut()
    tiles = [photo[y : y + 32, x : x + 32] for y in range(0, 512, 64) for x in range(0, 512, 64)]
    own = sum(map(len, encode_plain(tiles)))
    assert own < 1.05 * sum(len(saved(tile)) for tile in tiles)


def test_a_picture_is_written_by_it_if_it_is_plain():
    image = random((8, 8, 3))
    for content, plain in (
        (saved(image), True),
        (saved(image, dpi=(72, 72)), False),
        (saved(image, mode="RGBA"), False),
    ):
        stream = io.BytesIO()
        picture = read_picture(io.BytesIO(content), max_pixels=MANY)
        encode_picture(picture, picture.pixels, stream)
        assert (stream.getvalue() == encode_plain([image])[0]) is plain
        assert np.array_equal(opened(stream.getvalue())[..., :3], image)


def chunk(kind, content):
    check = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + check


def parts(content):
    """Return the chunks of a file as (kind, content)."""
    at = 8
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        yield content[at + 4 : at + 8], content[at + 8 : at + 8 + size]
        at += 12 + size


def test_pixels_in_several_chunks():
    image = random((16, 16, 3))
    content = encode_plain([image])[0]
    made = content[:8]
    for kind, inside in parts(content):
        pieces = [inside[:100], b"", inside[100:]] if kind == b"IDAT" else [inside]
        made += b"".join(chunk(kind, piece) for piece in pieces)
    assert np.array_equal(read_plain(made, MANY), image)
    assert np.array_equal(opened(made), image)


def test_what_is_unusual_is_left_to_pillow():
    image = random((16, 16, 3))
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b")
    for content in (
        saved(image, pnginfo=text),
        saved(image, dpi=(72, 72)),
        saved(image, mode="RGBA"),
        saved(image, mode="P"),
        saved(image, mode="1"),
        saved(random((16, 16)).astype(np.uint16)[..., None]),
        b"\xff\xd8" + saved(image),
        b"",
    ):
        assert read_plain(content, MANY) is None
    assert read_plain(saved(image), 255) is None
    side = 1 + int(MOST_PIXELS**0.5)
    assert read_plain(saved(random((side, side, 1))), MANY) is None


def test_a_damaged_file_is_left_to_pillow_or_has_the_same_pixels():
    """Each byte changed, and each end cut off."""
    image = random((4, 5, 3))
    content = encode_plain([image])[0]
    for at in range(len(content)):
        broken = bytearray(content)
        broken[at] ^= 0x21
        assert read_plain(bytes(broken), MANY) is None, at
        assert read_plain(content[:at], MANY) is None
    assert read_plain(content + b"x", MANY) is None


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 4, 6])
@pytest.mark.parametrize("kind", [0, 1, 4, 9])
def test_too_few_or_too_many_rows_with_right_sums_are_what_they_are_to_pillow(rows, kind):
    content = encode_plain([random((4, 16, 3))])[0]
    header = next(inside for name, inside in parts(content) if name == b"IHDR")
    lines = zlib.compress((bytes([kind]) + bytes(range(48))) * rows)
    made = content[:8] + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")
    try:
        right = opened(made)
    except (OSError, SyntaxError):
        assert read_plain(made, MANY) is None
    else:
        found = read_plain(made, MANY)
        assert found is None or np.array_equal(found, right)
