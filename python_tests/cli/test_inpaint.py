"""``splic-ext inpaint``: photos and masks, one or a folder, and what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.cli import invoke, load
from PIL import Image

import splic_ext

QUICK = ("--backend", "numpy")


def photo(path, shape=(24, 20, 3), dtype=np.uint8, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    scale = np.iinfo(dtype).max
    pixels = scale * (0.5 + 0.2 * np.sin(rows / 5) + 0.2 * np.cos(columns / 4))
    if len(shape) == 3:
        pixels = np.repeat(pixels[..., None], shape[2], axis=2) * np.linspace(1, 0.8, shape[2])
    pixels = pixels.astype(dtype)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def mask(path, shape=(24, 20), white=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    hole = np.zeros(shape, bool)
    hole[5:12, 6:15] = True
    Image.fromarray(np.uint8(255) * (hole == white)).save(path)
    return ~hole


def run(*arguments, code=0):
    result = invoke("inpaint", *arguments, *QUICK)
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.parametrize("shape", [(24, 20), (24, 20, 3), (24, 20, 4)])
def test_one_photo(tmp_path, shape):
    pixels, visible = photo(tmp_path / "p.png", shape), mask(tmp_path / "m.png")
    output = run(tmp_path / "p.png", "--mask", tmp_path / "m.png", "-o", tmp_path / "out.png")
    assert "inpainted 1 image" in output
    found = load(tmp_path / "out.png")
    colours = pixels[..., :3] if len(shape) == 3 else pixels
    expected = splic_ext.inpaint(colours, visible, channel_axis=-1, backend="numpy")
    assert np.array_equal(found[..., :3] if len(shape) == 3 else found, expected)
    if shape[-1] == 4:
        assert np.array_equal(found[..., 3], pixels[..., 3])
    assert np.array_equal(found[visible], pixels[visible])
    assert not np.array_equal(found, pixels)


def test_16_bits(tmp_path):
    pixels, visible = photo(tmp_path / "p.png", (24, 20), np.uint16), mask(tmp_path / "m.png")
    run(tmp_path / "p.png", "--mask", tmp_path / "m.png", "-o", tmp_path / "out.png")
    found = load(tmp_path / "out.png")
    assert np.array_equal(found[visible], pixels[visible])
    assert np.abs(found[~visible].astype(float) - pixels[~visible]).max() < 0.1 * 65535


def test_the_inverse(tmp_path):
    photo(tmp_path / "p.png")
    mask(tmp_path / "m.png")
    mask(tmp_path / "black.png", white=False)
    run(tmp_path / "p.png", "-m", tmp_path / "m.png", "-o", tmp_path / "a.png")
    run(tmp_path / "p.png", "-m", tmp_path / "black.png", "-o", tmp_path / "b.png", "--invert")
    assert np.array_equal(load(tmp_path / "a.png"), load(tmp_path / "b.png"))


def test_a_folder(tmp_path):
    visible = mask(tmp_path / "m/1.png")
    mask(tmp_path / "m/deep/2.bmp")
    photos = [
        photo(tmp_path / "p/1.png"),
        photo(tmp_path / "p/deep/2.png"),
        photo(tmp_path / "p/3.png"),
    ]
    output = run(tmp_path / "p", "-m", tmp_path / "m", "-o", tmp_path / "out", code=1)
    assert "3.png: has no mask of its name in the folder of the masks" in output
    assert "inpainted 2 images" in output
    assert not (tmp_path / "out/3.png").exists()
    for name, pixels in zip(("1.png", "deep/2.png"), photos, strict=False):
        found = load(tmp_path / "out" / name)
        assert np.array_equal(found[visible], pixels[visible])
    mask(tmp_path / "m/3.png")
    output = run(tmp_path / "p", "-m", tmp_path / "m", "-o", tmp_path / "out", "--skip-existing")
    assert "inpainted 1 image" in output
    # one mask for all
    run(tmp_path / "p", "-m", tmp_path / "m/1.png", "-o", tmp_path / "again")
    for name in ("1.png", "deep/2.png", "3.png"):
        assert np.array_equal(load(tmp_path / "out" / name), load(tmp_path / "again" / name))


def test_options(tmp_path):
    pixels, visible = photo(tmp_path / "p.png"), mask(tmp_path / "m.png")
    arguments = tmp_path / "p.png", "-m", tmp_path / "m.png", "-o", tmp_path / "out.png"
    run(*arguments, "--preset", "holes", "--max-iterations", 21)
    options = splic_ext.SolverOptions.preset("holes").replace(max_iterations=21)
    expected = splic_ext.inpaint(pixels, visible, options=options, channel_axis=-1, backend="numpy")
    assert np.array_equal(load(tmp_path / "out.png"), expected)
    output = run(*arguments, "--preset", "recommended", "--overwrite", code=2)
    assert "of one pass with one mask, got alternate=True" in output


def test_nothing_to_fill(tmp_path):
    photo(tmp_path / "p.jpg", quality=40)
    Image.fromarray(np.zeros((24, 20), np.uint8)).save(tmp_path / "m.png")
    output = run(tmp_path / "p.jpg", "-m", tmp_path / "m.png", "-o", tmp_path / "out.jpg")
    assert "marks nothing to fill; the file is copied" in output
    assert (tmp_path / "p.jpg").read_bytes() == (tmp_path / "out.jpg").read_bytes()


def test_notes(tmp_path):
    photo(tmp_path / "p.jpg")
    gray = np.zeros((24, 20), np.uint8)
    gray[4:9, 4:9], gray[12:14, 4:9] = 140, 100
    Image.fromarray(gray).save(tmp_path / "m.png")
    output = run(tmp_path / "p.jpg", "-m", tmp_path / "m.png", "-o", tmp_path / "out.jpg")
    assert "m.png: has gray values: those of at least half count as white" in output
    assert "p.jpg: JPEG is lossy: visible pixels change a little" in output


def test_wrong_masks(tmp_path):
    photo(tmp_path / "p.png")
    arguments = tmp_path / "p.png", "-o", tmp_path / "out.png", "-m"
    mask(tmp_path / "size.png", (24, 21))
    output = run(*arguments, tmp_path / "size.png", code=1)
    assert "is 21 x 24 pixels, expected the size of the photo, 20 x 24; resize one" in output
    Image.fromarray(np.full((24, 20), 255, np.uint8)).save(tmp_path / "all.png")
    output = run(*arguments, tmp_path / "all.png", code=1)
    assert "hides every pixel, so that nothing is left to fill them from; --invert fills" in output
    (tmp_path / "text.png").write_text("no image")
    output = run(*arguments, tmp_path / "text.png", code=1)
    assert "text.png' cannot be used: not a PNG, JPEG" in output
    assert "does not exist" in run(*arguments, tmp_path / "none.png", code=2)
    assert "are a folder, but the photo" in run(*arguments, tmp_path, code=2)
    assert not (tmp_path / "out.png").exists()


def test_wrong_photos(tmp_path):
    mask(tmp_path / "m.png")
    photo(tmp_path / "p/1.png")
    photo(tmp_path / "p/2.png")
    (tmp_path / "p/2.png").write_bytes((tmp_path / "p/1.png").read_bytes()[:-60])
    np.save(tmp_path / "p/3.npy", np.zeros((24, 20)))
    output = run(tmp_path / "p", "-m", tmp_path / "m.png", "-o", tmp_path / "out", code=1)
    assert "3.npy: is no image; inpaint arrays with splic_ext.inpaint" in output
    assert "2.png: cannot be decoded" in output
    assert "inpainted 1 image" in output
    assert "2 files failed" in output
    output = run(tmp_path / "p", "-m", tmp_path / "m.png", "-o", tmp_path / "out", code=2)
    assert "--overwrite" in output
