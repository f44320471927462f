"""``splic-ext complete``: results, inputs, failures."""

import os

import numpy as np
import pytest
from helpers.cli import (
    FAST,
    RNG,
    complete_files,
    damage,
    expected,
    files_below,
    load,
    run_command,
    save_png,
)
from PIL import Image

# Results


def test_each_file_has_the_mask_of_its_number(tmp_path):
    shapes = [(8, 10, 3)] * 3 + [(9, 9)] + [(8, 10, 3)] * 2
    sources = [save_png(tmp_path / f"in/{i}.png", shape) for i, shape in enumerate(shapes)]
    output = complete_files(tmp_path / "in", "-o", tmp_path / "out")
    assert "completed 6 images" in output
    for i, pixels in enumerate(sources):
        result = load(tmp_path / f"out/{i}.png")
        axis = -1 if pixels.ndim == 3 else -3
        np.testing.assert_array_equal(result, expected(pixels, i, channel_axis=axis))


@pytest.mark.parametrize("arguments", [("--jobs", 1), ("--threads", 1), ("--threads", 5)])
def test_results_depend_neither_on_threads_nor_on_neighbours(tmp_path, arguments):
    for i in range(10):
        save_png(tmp_path / f"in/{i}.png")
    complete_files(tmp_path / "in", "-o", tmp_path / "all")
    complete_files(tmp_path / "in", "-o", tmp_path / "again", *arguments)
    (tmp_path / "all/0.png").rename(tmp_path / "kept.png")
    (tmp_path / "all/5.png").rename(tmp_path / "also.png")
    complete_files(tmp_path / "in", "-o", tmp_path / "all", "--skip-existing")
    assert (tmp_path / "all/0.png").read_bytes() == (tmp_path / "kept.png").read_bytes()
    assert (tmp_path / "all/5.png").read_bytes() == (tmp_path / "also.png").read_bytes()
    for i in range(10):
        first, second = (tmp_path / f"{name}/{i}.png" for name in ("all", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_many_images_go_in_few_calls(tmp_path, monkeypatch):
    for i in range(300):
        save_png(tmp_path / f"in/{i:03}.png", (4, 4))
    calls = []

    def counting(batch, **arguments):
        calls.append((len(batch), arguments["first_index"]))
        return batch

    monkeypatch.setattr("splic_ext.files.work.complete", counting)
    complete_files(tmp_path / "in", "-o", tmp_path / "out")
    assert sorted(calls) == [(44, 256), (256, 0)]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_gray(tmp_path, suffix):
    values = RNG.integers(0, 65536, (9, 8), dtype=np.uint16)
    Image.frombytes("I;16", (8, 9), values.astype("<u2").tobytes()).save(tmp_path / f"a.{suffix}")
    complete_files(tmp_path / f"a.{suffix}", "-o", tmp_path / "out", "--data-range", "7")
    unit = expected((values / np.float32(65535)).astype(np.float32))
    result = load(tmp_path / f"out/a.{suffix}")
    assert result.max() > 255
    if suffix == "png":
        assert (tmp_path / "out/a.png").read_bytes()[24] == 16  # bit depth
    np.testing.assert_array_equal(result, np.rint(unit.astype(float) * 65535))


def test_float_tiff_takes_the_data_range(tmp_path):
    values = (RNG.random((6, 7)) * 40).astype(np.float32)
    Image.frombytes("F", (7, 6), values.tobytes()).save(tmp_path / "a.tif")
    output = complete_files(tmp_path / "a.tif", "-o", tmp_path / "out", code=1)
    assert "rescale it or pass the right --data-range" in output
    complete_files(tmp_path / "a.tif", "-o", tmp_path / "out", "--data-range", "40")
    np.testing.assert_array_equal(load(tmp_path / "out/a.tif"), expected(values, data_range=40))


def test_alpha_is_untouched(tmp_path):
    pixels = RNG.integers(0, 256, (8, 8, 4), dtype=np.uint8)
    Image.frombytes("RGBA", (8, 8), pixels.tobytes()).save(tmp_path / "a.png")
    complete_files(tmp_path / "a.png", "-o", tmp_path / "out")
    result = load(tmp_path / "out/a.png")
    np.testing.assert_array_equal(result[..., 3], pixels[..., 3])
    colours = np.ascontiguousarray(pixels[..., :3])
    np.testing.assert_array_equal(result[..., :3], expected(colours, channel_axis=-1))


def test_a_large_image_goes_tile_by_tile(tmp_path):
    pixels = save_png(tmp_path / "a.png", (3, 1030))
    complete_files(tmp_path / "a.png", "-o", tmp_path / "out")
    result = load(tmp_path / "out/a.png")
    for spans, index in (((0, 344), 0), ((344, 687), 1), ((687, 1030), 2)):
        np.testing.assert_array_equal(
            result[:, slice(*spans)], expected(pixels[:, slice(*spans)], index)
        )
    output = complete_files(tmp_path / "a.png", "-o", tmp_path / "out2", "--rank", "9", code=1)
    assert "`rank` must be at most" in output
    assert "completed 0 images" in output


@pytest.mark.parametrize(("arguments", "axis"), [((), -3), (("--channel-axis", "-1"), -1)])
def test_arrays(tmp_path, arguments, axis):
    shape = (3, 2, 8, 9) if axis == -3 else (3, 8, 9, 2)
    array = RNG.random(shape, dtype=np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.npz", images=array * 3, labels=np.arange(3))
    common = (*arguments, "--data-range", "3")
    output = complete_files(tmp_path / "a.npy", tmp_path / "b.npz", "-o", tmp_path, "--overwrite",
                            *common)  # fmt: skip
    assert "completed 6 images" in output
    options = {"channel_axis": axis, "data_range": 3}
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), expected(array, 0, **options))
    with np.load(tmp_path / "b.npz") as result:
        np.testing.assert_array_equal(result["images"], expected(array * 3, 1, **options))
        np.testing.assert_array_equal(result["labels"], np.arange(3))


def test_seed(tmp_path):
    pixels = save_png(tmp_path / "a.png", (8, 8))
    complete_files(tmp_path / "a.png", "-o", tmp_path / "out", "--seed", 2**64 - 1)
    np.testing.assert_array_equal(load(tmp_path / "out/a.png"), expected(pixels, seed=2**64 - 1))


def test_jpeg_quality(tmp_path):
    Image.effect_noise((64, 64), 80).save(tmp_path / "a.jpg")
    for quality in (30, 95):
        complete_files(tmp_path / "a.jpg", "-o", tmp_path / str(quality), "--quality", quality)
    complete_files(tmp_path / "a.jpg", "-o", tmp_path / "default")
    assert (tmp_path / "30/a.jpg").stat().st_size < (tmp_path / "95/a.jpg").stat().st_size
    assert (tmp_path / "default/a.jpg").read_bytes() == (tmp_path / "95/a.jpg").read_bytes()


# Inputs


def test_patterns_are_expanded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("1.png", "2.png", "3.bmp"):
        save_png(tmp_path / name)
    complete_files("*.png", "-o", "out")
    assert files_below(tmp_path / "out") == ["1.png", "2.png"]


def test_one_file_to_one_file(tmp_path):
    pixels = save_png(tmp_path / "a.png", (8, 8))
    complete_files(tmp_path / "a.png", "-o", tmp_path / "b.png")
    np.testing.assert_array_equal(load(tmp_path / "b.png"), expected(pixels))


@pytest.mark.skipif(os.name == "nt", reason="names of files are text there")
def test_names_that_are_no_text(tmp_path):
    folder = os.fsencode(tmp_path) + b"/in"
    os.mkdir(folder)  # noqa: PTH102 - bytes
    with open(folder + b"/\xff.png", "wb") as stream:  # noqa: PTH123 - bytes
        stream.write(b"no image")
    result = run_command("complete", tmp_path / "in", "-o", tmp_path / "out", *FAST)
    assert result.returncode == 1
    assert "\\udcff.png: not a PNG" in result.stderr


# Failures


def test_bad_files_are_named_and_the_others_go_on(tmp_path):
    bad = damage(tmp_path / "in")
    output = complete_files(
        tmp_path / "in", "-o", tmp_path / "out", "--max-pixels", "3000", "--quiet", code=1
    )
    lines = output.splitlines()
    assert len(lines) == len(bad)
    for name, reason in bad.items():
        (line,) = (line for line in lines if f"{tmp_path / 'in' / name}: " in line)
        assert reason in line
    assert files_below(tmp_path / "out") == ["0.png", "2.png", "4.png", "6.png", "8.png"]
    for i in (2, 8):
        source = load(tmp_path / f"in/{i}.png")
        np.testing.assert_array_equal(
            load(tmp_path / f"out/{i}.png"), expected(source, i, channel_axis=-1)
        )


def test_an_unknown_suffix_is_a_failure_of_that_file(tmp_path):
    save_png(tmp_path / "a.png")
    (tmp_path / "b.txt").write_text("text")
    output = complete_files(tmp_path / "a.png", tmp_path / "b.txt", "-o", tmp_path / "out", code=1)
    assert "b.txt: unknown suffix '.txt'" in output
    assert "completed 1 image in" in output
    assert "1 file failed" in output


def test_one_bad_image_does_not_spoil_its_batch(tmp_path):
    for i in range(4):
        values = np.full((4, 4), np.nan if i == 2 else 0.5, np.float32)
        Image.frombytes("F", (4, 4), values.tobytes()).save(tmp_path / f"{i}.tif")
    output = complete_files(tmp_path / "*.tif", "-o", tmp_path / "out", code=1)
    assert "2.tif: `batch` must be finite" in output
    assert files_below(tmp_path / "out") == ["0.tif", "1.tif", "3.tif"]


def test_an_output_that_cannot_be_written(tmp_path):
    save_png(tmp_path / "in/a/x.png")
    save_png(tmp_path / "in/b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("a file, not a folder")
    output = complete_files(tmp_path / "in", "-o", tmp_path / "out", code=1)
    assert "x.png: " in output
    assert files_below(tmp_path / "out") == ["a", "b.png"]


def test_a_failing_write_leaves_nothing(tmp_path, monkeypatch):
    save_png(tmp_path / "a.png")

    def fail(picture, completed, stream):
        stream.write(b"half of a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("splic_ext.files.work.encode_picture", fail)
    output = complete_files(tmp_path / "a.png", "-o", tmp_path / "out", code=1)
    assert "a.png: No space left on device" in output
    assert files_below(tmp_path / "out") == []


def test_an_output_that_fails_is_not_blamed_on_its_source(tmp_path):
    save_png(tmp_path / "in/a/x.png")
    np.save(tmp_path / "in/a/y.npy", np.zeros((1, 8, 8), np.uint8))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a").write_text("a file, not a folder")
    output = " ".join(complete_files(tmp_path / "in", "-o", tmp_path / "out", code=1).split())
    for name in ("x.png", "y.npy"):
        assert f"error: {tmp_path / 'out/a' / name}: File exists: '{tmp_path / 'out/a'}'" in output
        assert str(tmp_path / "in/a" / name) not in output
    assert output.count("(the output cannot be written)") == 2


def test_images_of_other_formats_in_a_folder_are_told(tmp_path):
    save_png(tmp_path / "in/a.png")
    (tmp_path / "in/b.gif").touch()
    output = " ".join(complete_files(tmp_path / "in", "-o", tmp_path / "out").split())
    assert f"note: {tmp_path / 'in'}: images of other formats are left out, 1 of .gif" in output
