"""Image files in and out: formats, metadata, what is refused."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the extra 'cli' is not installed")

from PIL import Image, ImageCms, TiffImagePlugin

from splic_ext.files.images import (
    ImageFileError,
    encode_picture,
    no_pillow_limit,
    read_picture,
)

RNG = np.random.default_rng(3)
MAX_PIXELS = 10_000


def pixels_of(mode, height=9, width=12):
    shape = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,), "CMYK": (4,)}[mode]
    return RNG.integers(0, 256, (height, width, *shape), dtype=np.uint8)


def make_image(mode, height=9, width=12):
    if mode == "P":
        return make_image("RGB", height, width).quantize(16)
    if mode == "1":
        return make_image("L", height, width).convert("1")
    if mode == "F":
        values = RNG.random((height, width), dtype=np.float32)
        return Image.frombytes("F", (width, height), values.tobytes())
    if mode == "I;16":
        values = RNG.integers(0, 65536, (height, width), dtype=np.uint16)
        return Image.frombytes("I;16", (width, height), values.astype("<u2").tobytes())
    return Image.frombytes(mode, (width, height), pixels_of(mode, height, width).tobytes())


def read(path, **options):
    return read_picture(path, max_pixels=MAX_PIXELS, **options)


def opened(path):
    with Image.open(path) as image:
        image.load()
        return image


def write_back(path, target, change=lambda pixels: pixels, **options):
    """Read a file, change its pixels, write it; return the picture and the file read anew."""
    picture = read(path, **options)
    with target.open("wb") as stream:
        encode_picture(picture, change(picture.pixels), stream)
    return picture, opened(target)


def huge_png(path, width=100_000, height=100_000):
    """Write a PNG file that consists of little more than a header."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


# Formats and modes

LOSSLESS = [
    *(("png", mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")),
    *(("tiff", mode) for mode in ("L", "LA", "RGB", "RGBA", "CMYK", "I;16", "F")),
    *(("bmp", mode) for mode in ("L", "RGB")),
    *(("webp", mode) for mode in ("RGB", "RGBA")),
]


@pytest.mark.parametrize(("suffix", "mode"), LOSSLESS)
def test_lossless_formats_keep_mode_and_pixels(tmp_path, suffix, mode):
    image = make_image(mode)
    source = tmp_path / f"a.{suffix}"
    image.save(source, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    picture, result = write_back(source, tmp_path / f"b.{suffix}")
    assert picture.pixels.ndim == 3
    assert picture.pixels.dtype == (np.float32 if mode in ("I;16", "F") else np.uint8)
    assert result.format == opened(source).format
    assert result.mode == opened(source).mode
    if mode != "I;16":  # older versions of Pillow read such a PNG as "I"
        assert result.mode == mode
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image))


@pytest.mark.parametrize(("suffix", "mode"), [p for p in LOSSLESS if p[1] in ("LA", "RGBA")])
def test_alpha_passes_through_untouched(tmp_path, suffix, mode):
    image = make_image(mode)
    source = tmp_path / f"a.{suffix}"
    image.save(source, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    picture, result = write_back(source, tmp_path / f"b.{suffix}", lambda pixels: 255 - pixels)
    before, after = np.asarray(image), np.asarray(result)
    assert picture.pixels.shape == (9, 12, len(mode) - 1)
    np.testing.assert_array_equal(after[..., -1], before[..., -1])
    np.testing.assert_array_equal(after[..., :-1], 255 - before[..., :-1])


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_keeps_its_mode_and_takes_the_quality(tmp_path, mode):
    source = tmp_path / "a.jpg"
    make_image(mode, 64, 64).save(source, quality=99)
    sizes = []
    for quality in (20, 95):
        _, result = write_back(source, tmp_path / f"{quality}.jpg", quality=quality)
        assert (result.format, result.mode, result.size) == ("JPEG", mode, (64, 64))
        sizes.append((tmp_path / f"{quality}.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_keeps_its_subsampling(tmp_path, subsampling):
    source = tmp_path / "a.jpg"
    make_image("RGB").save(source, subsampling=subsampling)
    assert read(source).save_options["subsampling"] == subsampling


def test_lossy_webp_stays_lossy(tmp_path):
    source = tmp_path / "a.webp"
    make_image("RGB", 32, 32).save(source, lossless=False, quality=50)
    picture = read(source, quality=60)
    assert (picture.save_options["lossless"], picture.save_options["quality"]) == (False, 60)


@pytest.mark.parametrize(
    ("suffix", "mode", "expected"),
    [("png", "P", "RGB"), ("bmp", "P", "RGB"), ("tiff", "P", "RGB"), ("png", "1", "L"),
     ("tiff", "1", "L"), ("bmp", "1", "L")],
)  # fmt: skip
def test_palette_becomes_rgb_and_bilevel_gray(tmp_path, suffix, mode, expected):
    image = make_image(mode)
    image.save(tmp_path / f"a.{suffix}")
    _, result = write_back(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    assert result.mode == expected
    np.testing.assert_array_equal(np.asarray(result), np.asarray(image.convert(expected)))


@pytest.mark.parametrize(("mode", "expected"), [("P", "RGBA"), ("L", "LA"), ("RGB", "RGBA")])
def test_a_transparent_colour_becomes_alpha(tmp_path, mode, expected):
    image = make_image(mode)
    key = image.getpixel((2, 3))
    image.save(tmp_path / "a.png", transparency=key)
    _, result = write_back(tmp_path / "a.png", tmp_path / "b.png")
    assert result.mode == expected
    alpha = np.asarray(result)[..., -1]
    assert alpha[3, 2] == 0
    assert (alpha == 255).any()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray_is_scaled_to_one_and_back(tmp_path, suffix):
    values = np.arange(65536, dtype="<u2").reshape(256, 256)
    source = tmp_path / f"a.{suffix}"
    Image.frombytes("I;16", (256, 256), values.tobytes()).save(source)
    picture = read_picture(source, max_pixels=1 << 16)
    assert picture.data_range == 1.0
    assert (picture.pixels.min(), picture.pixels.max()) == (0.0, 1.0)
    with (tmp_path / "b").open("wb") as stream:
        encode_picture(picture, picture.pixels, stream)
    np.testing.assert_array_equal(np.asarray(opened(tmp_path / "b")), values)


def test_big_endian_16_bit_tiff(tmp_path):
    values = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    Image.frombytes("I;16B", (8, 8), values.astype(">u2").tobytes()).save(tmp_path / "a.tif")
    _, result = write_back(tmp_path / "a.tif", tmp_path / "b.tif")
    np.testing.assert_array_equal(np.asarray(result), values)


def test_16_bit_colour_is_noted(tmp_path):
    rows = b"".join(b"\0" + RNG.bytes(6 * 4) for _ in range(4))
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    picture = read(tmp_path / "a.png")
    assert picture.mode == "RGB"
    assert "8-bit" in picture.note
    make_image("I;16").save(tmp_path / "gray.png")
    make_image("RGB").save(tmp_path / "rgb.png")
    assert read(tmp_path / "gray.png").note is None
    assert read(tmp_path / "rgb.png").note is None


def test_the_content_decides_on_the_format(tmp_path):
    make_image("RGB").save(tmp_path / "a.png", format="JPEG")
    _, result = write_back(tmp_path / "a.png", tmp_path / "b.png")
    assert result.format == "JPEG"


def test_the_first_picture_of_a_camera_file(tmp_path):
    frames = [make_image("RGB") for _ in range(2)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    assert opened(tmp_path / "a.jpg").format == "MPO"
    _, result = write_back(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert (result.format, result.size) == ("JPEG", (12, 9))
    assert (
        read(tmp_path / "a.jpg").note == "of its 2 frames only the first is completed and written"
    )


def test_16_bit_gray_with_a_transparent_value_says_what_is_lost(tmp_path):
    make_image("I;16").save(tmp_path / "plain.png")
    assert read(tmp_path / "plain.png").note is None
    whole = (tmp_path / "plain.png").read_bytes()
    chunk = b"tRNS" + (7).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    at = whole.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(whole[:at] + chunk + whole[at:])
    assert "transparent gray value is lost" in read(tmp_path / "a.png").note


# Metadata


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp"])
def test_exif_orientation_and_profile_are_kept(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    exif[0x010E] = "a picture"
    make_image("RGB").save(tmp_path / f"a.{suffix}", exif=exif, icc_profile=profile)
    _, result = write_back(tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}")
    assert result.size == (12, 9)  # not turned
    assert result.getexif()[0x0112] == 6
    assert result.getexif()[0x010E] == "a picture"
    assert result.info["icc_profile"] == profile


def test_tiff_is_upright_and_keeps_its_tags(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = "a picture"
    tags[274] = 6
    image = make_image("RGB")
    image.save(
        tmp_path / "a.tif", tiffinfo=tags, icc_profile=profile, compression="tiff_lzw", dpi=(72, 72)
    )
    upright = np.asarray(opened(tmp_path / "a.tif"))
    assert upright.shape == (12, 9, 3)
    picture, result = write_back(tmp_path / "a.tif", tmp_path / "b.tif")
    assert picture.pixels.shape == (12, 9, 3)
    np.testing.assert_array_equal(np.asarray(result), upright)
    assert result.getexif().get(274, 1) == 1
    assert result.tag_v2[270] == "a picture"
    assert result.info["icc_profile"] == profile
    assert result.info["compression"] == "tiff_lzw"
    assert result.info["dpi"] == (72, 72)


def test_a_lossy_tiff_is_stored_without_loss(tmp_path):
    make_image("RGB", 16, 16).save(tmp_path / "a.tif", compression="jpeg")
    _, result = write_back(tmp_path / "a.tif", tmp_path / "b.tif")
    assert result.info["compression"] == "tiff_adobe_deflate"


# What is refused


def test_too_large_is_refused_by_the_header(tmp_path):
    huge_png(tmp_path / "a.png")
    with (
        no_pillow_limit(),
        pytest.raises(ImageFileError, match=r"10,000,000,000 pixels.*`max_pix"),
    ):
        read(tmp_path / "a.png")
    with pytest.raises(ImageFileError):
        read(tmp_path / "a.png")  # Pillow's own limit


def test_the_limit_is_inclusive_and_pillows_comes_back(tmp_path):
    make_image("L", 10, 10).save(tmp_path / "a.png")
    assert read_picture(tmp_path / "a.png", max_pixels=100).pixels.shape == (10, 10, 1)
    with pytest.raises(ImageFileError, match="10 x 10 = 100 pixels"):
        read_picture(tmp_path / "a.png", max_pixels=99)
    before = Image.MAX_IMAGE_PIXELS
    with no_pillow_limit():
        assert Image.MAX_IMAGE_PIXELS is None
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif"])
def test_truncated_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    make_image("RGB", 40, 40).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageFileError, match=r"decoded|not a PNG"):
        read(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text\n", b"\x89PNG\r\n\x1a\n"])
def test_not_an_image(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageFileError, match="not a PNG"):
        read(tmp_path / "a.png")


def test_a_missing_file(tmp_path):
    with pytest.raises(ImageFileError, match="No such file"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["tif", "webp", "png"])
def test_several_frames(tmp_path, suffix):
    frames = [make_image("RGB") for _ in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageFileError, match="holds 3 frames, expected 1"):
        read(tmp_path / f"a.{suffix}")


def test_32_bit_integers(tmp_path):
    Image.frombytes("I", (4, 4), np.arange(16, dtype=np.int32).tobytes()).save(tmp_path / "a.tif")
    with pytest.raises(ImageFileError, match="mode 'I' are not supported"):
        read(tmp_path / "a.tif")


def test_what_pillow_warns_of_is_a_note_of_the_file(tmp_path):
    path = tmp_path / "a.tif"
    make_image("L").save(path, exif={271: "maker"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x0f\x01\x02\x00\x06", b"\x0f\x01\x02\x00\xff", 1))
    with warnings.catch_warnings(record=True) as told, no_pillow_limit():
        picture = read(path)
    assert not told
    assert picture.note.startswith("Pillow warns: ")
    assert picture.pixels.shape == (9, 12, 1)


def test_what_is_warned_of_metadata_is_a_note(tmp_path):
    """Pillow reads tags of TIFF only where it writes them."""
    exif = Image.Exif()
    exif[271] = "maker"
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, "TIFF", exif=exif)
    content = stream.getvalue()
    at = content.index(b"\x0f\x01\x02\x00")  # tag 271, of type ASCII: now shorts
    path = tmp_path / "odd.tiff"
    path.write_bytes(content[: at + 2] + b"\x03" + content[at + 3 :])
    with no_pillow_limit():
        picture = read_picture(path, max_pixels=10**6)
        encode_picture(picture, picture.pixels, io.BytesIO())
    assert "Pillow warns: Metadata Warning, tag 271" in picture.note
