"""Array files in and out, and large images in tiles."""

import errno
import os
import zipfile
from itertools import pairwise

import numpy as np
import pytest

import splic_ext
from splic_ext.files.arrays import Calls, complete_images, complete_npy, complete_npz, tile_spans

RNG = np.random.default_rng(3)
FAST = splic_ext.SolverOptions(max_iterations=2)

# Tiles


@pytest.mark.parametrize("length", [0, 1, 511, 512, 513, 1023, 1024, 1025, 5000])
def test_tile_spans_cover_the_side_evenly(length):
    spans = tile_spans(length)
    sizes = [span.stop - span.start for span in spans]
    assert sum(sizes) == length
    assert spans[0].start == 0
    assert all(a.stop == b.start for a, b in pairwise(spans))
    assert max(sizes) <= 512
    assert max(sizes) - min(sizes) <= 1
    assert len(spans) == max(1, -(-length // 512))


def numbered(calls):
    """Make a solver that adds the mask index of each image, and lists the shapes it got."""

    def solve(batch, first_index):
        calls.append((batch.shape, first_index))
        assert batch.dtype.isnative
        return batch + (first_index + np.arange(len(batch))).reshape(-1, 1, 1, 1)

    return solve


@pytest.mark.parametrize("shape", [(1, 2, 700, 1100), (5, 1, 3, 1030), (7, 1, 4, 4)])
def test_every_tile_of_every_image_has_an_index_of_its_own(shape):
    calls, done = [], []
    target = np.full(shape, -1.0)
    how = Calls(numbered(calls), 10, lambda *step: done.append(step), threads=1)
    complete_images(np.zeros(shape), target, how)
    tiles = {}
    for image in range(shape[0]):
        for rows in tile_spans(shape[2]):
            for columns in tile_spans(shape[3]):
                (index,) = np.unique(target[image, :, rows, columns])
                tiles[image, rows.start, columns.start] = index
    count = len(tiles)
    assert sorted(tiles.values()) == list(range(10, 10 + count))
    if shape[3] <= 512:
        assert [tiles[image, 0, 0] for image in range(7)] == list(range(10, 17))
    assert sum(found for found, _ in done) == shape[0]
    assert sum(part for _, part in done) == pytest.approx(shape[0])
    assert all(max(batch[2:]) <= 512 for batch, _ in calls)


def test_pieces_do_not_depend_on_the_number_of_threads():
    shape = (50, 1, 128, 600)
    results = []
    for threads in (1, 7, 64):
        target = np.zeros(shape, np.float32)
        how = Calls(numbered([]), 0, lambda *_: None, threads)
        complete_images(np.zeros(shape, np.float32), target, how)
        results.append(target)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


# Array files


def real_solver(options):
    def solve(batch, first_index):
        return splic_ext.complete(batch, first_index=first_index, options=options)

    return solve


def quiet(solve, first_index=0):
    return Calls(solve, first_index, lambda *_: None, threads=1)


def run_file(function, source, target, channel_axis=-3, first_index=0, **limits):
    calls = quiet(real_solver(FAST), first_index)
    return function(source, target, calls, channel_axis, **limits)


@pytest.mark.parametrize("dtype", ["uint8", "float16", "<f4", ">f4", "float64"])
@pytest.mark.parametrize("shape", [(8, 9), (3, 8, 9), (5, 3, 8, 9), (0, 3, 8, 9)])
def test_npy_keeps_dtype_shape_and_values(tmp_path, dtype, shape):
    values = RNG.random(shape)
    array = (values * 255 if dtype == "uint8" else values).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    run_file(complete_npy, tmp_path / "a.npy", tmp_path / "b.npy", first_index=4)
    result = np.load(tmp_path / "b.npy")
    native = array.astype(array.dtype.newbyteorder("="))
    assert result.dtype == array.dtype
    np.testing.assert_array_equal(
        result, splic_ext.complete(native, first_index=4, options=FAST).astype(array.dtype)
    )


def test_npy_in_fortran_order_and_channel_last(tmp_path):
    array = np.asfortranarray(RNG.random((2, 8, 9, 3), dtype=np.float32))
    np.save(tmp_path / "a.npy", array)
    run_file(complete_npy, tmp_path / "a.npy", tmp_path / "b.npy", channel_axis=-1)
    result = np.load(tmp_path / "b.npy")
    assert result.flags.f_contiguous
    expected = splic_ext.complete(array, channel_axis=-1, options=FAST)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("array", "error", "match"),
    [
        (np.zeros(4), ValueError, "must have shape"),
        (np.zeros((2, 2), int), TypeError, "int64"),
        (np.full((2, 2), np.nan), ValueError, "finite"),
        (np.full((2, 2), 7.0), ValueError, "data_range"),
        (np.array([{}]), ValueError, "Python objects"),
    ],
)
def test_npy_that_is_refused(tmp_path, array, error, match):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(error, match=match):
        run_file(complete_npy, tmp_path / "a.npy", tmp_path / "b.npy")


def test_a_bad_image_is_counted_from_the_start_of_the_array(tmp_path):
    array = np.zeros((300, 1, 4, 4), np.float32)
    array[290] = np.nan
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(ValueError, match=r"in image 34.*\(counted from image 256\)"):
        run_file(complete_npy, tmp_path / "a.npy", tmp_path / "b.npy")


def failing(kind):
    def solve(batch, first_index):
        raise kind("no, image 0")

    return solve


@pytest.mark.parametrize("kind", [ValueError, ArithmeticError])
def test_a_bad_tile_is_counted_from_the_first_of_its_call(kind):
    image = np.zeros((1, 1, 3, 1024))
    with pytest.raises(kind, match=r"no, image 0 \(tiles of one image, counted from tile 0\)"):
        complete_images(image, image, quiet(failing(kind), 7))
    small = np.zeros((1, 1, 3, 3))
    with pytest.raises(kind, match=r"no, image 0$"):
        complete_images(small, small, quiet(failing(kind), 7))


def test_divergence_in_an_archive_names_the_array(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((1, 4, 4)))
    with pytest.raises(ArithmeticError, match="array 'x' of the archive: no, image 0"):
        complete_npz(tmp_path / "a.npz", tmp_path / "b.npz", quiet(failing(ArithmeticError)))


def test_arrays_that_look_channel_last_are_noted(tmp_path):
    array = np.zeros((2, 8, 9, 3), np.float32)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array)
    for axis in (-3, -1):
        for function, suffix in ((complete_npy, "npy"), (complete_npz, "npz")):
            files = (tmp_path / f"{name}.{suffix}" for name in "ab")
            notes = function(*files, quiet(lambda batch, _: batch), axis)
            told = [note for note in notes if "give `channel_axis=-1`" in note]
            assert len(told) == (axis == -3)


def test_a_full_disk_is_an_error_before_the_work(tmp_path, monkeypatch):
    """Without that, writing to the mapped file would end the process."""

    def claim(file, offset, length):
        claimed.append((offset, length))
        if length > 1000:
            raise OSError(code, os.strerror(code))

    claimed = []
    monkeypatch.setattr(os, "posix_fallocate", claim, raising=False)
    np.save(tmp_path / "a.npy", np.zeros((20, 20)))
    code = errno.ENOSPC
    with pytest.raises(OSError, match="No space left"):
        run_file(complete_npy, tmp_path / "a.npy", tmp_path / "b.npy")
    assert claimed == [(0, 3328)]
    code = errno.EOPNOTSUPP  # not every file system can tell
    run_file(complete_npy, tmp_path / "a.npy", tmp_path / "b.npy")
    assert np.load(tmp_path / "b.npy").shape == (20, 20)


def test_truncated_npy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((10, 10)))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="mmap length"):
        run_file(complete_npy, path, tmp_path / "b.npy")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_completes_images_and_copies_the_rest(tmp_path, save):
    arrays = {
        "images": RNG.integers(0, 256, (3, 3, 8, 8), dtype=np.uint8),
        "one": RNG.random((1, 8, 9), dtype=np.float32),
        "table": RNG.random((8, 9), dtype=np.float32),
        "levels": RNG.integers(0, 9, (3, 4), dtype=np.uint8),
        "labels": np.arange(3),
        "weights": RNG.random(5),
        "mask": RNG.random((3, 8, 8)) < 0.5,
        "scalar": np.array(7.5),
        "names": np.array(["a", "b"]),
        "deep": RNG.random((1, 1, 1, 2, 2)),
    }
    save(tmp_path / "a.npz", **arrays)
    notes = run_file(complete_npz, tmp_path / "a.npz", tmp_path / "b.npz", first_index=2)
    assert notes == [
        "completed 'images' (3 x 3 channels of 8 x 8), 'one' (1 x 1 channels of 8 x 9); "
        "the rest is copied"
    ]
    with np.load(tmp_path / "b.npz", allow_pickle=False) as result:
        assert list(result) == list(arrays)
        for name, array in arrays.items():
            expected = array
            if name in ("images", "one"):
                expected = splic_ext.complete(array, first_index=2, options=FAST)
            assert result[name].dtype == array.dtype
            np.testing.assert_array_equal(result[name], expected)
    with (
        zipfile.ZipFile(tmp_path / "a.npz") as before,
        zipfile.ZipFile(tmp_path / "b.npz") as after,
    ):
        assert [member.compress_type for member in before.infolist()] == [
            member.compress_type for member in after.infolist()
        ]


def test_npz_with_objects_or_a_bad_array(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.array([{}]))
    with pytest.raises(ValueError, match="allow_pickle=False"):
        run_file(complete_npz, tmp_path / "a.npz", tmp_path / "b.npz")
    np.savez(tmp_path / "a.npz", pictures=np.full((1, 4, 4), 2.0))
    with pytest.raises(ValueError, match="array 'pictures' of the archive: `batch` must lie in"):
        run_file(complete_npz, tmp_path / "a.npz", tmp_path / "b.npz")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and nothing")
    with pytest.raises(zipfile.BadZipFile):
        run_file(complete_npz, tmp_path / "a.npz", tmp_path / "b.npz")


def test_npz_that_would_take_the_memory(tmp_path):
    source, target = tmp_path / "a.npz", tmp_path / "b.npz"
    np.savez_compressed(source, x=np.zeros((1, 64, 64), np.uint8), other=np.zeros(1000, np.uint8))
    with pytest.raises(ValueError, match=r"^unpacks to 5,\d+ bytes, .* of 5,000; .*`max_bytes`"):
        run_file(complete_npz, source, target, max_bytes=5000)
    with zipfile.ZipFile(source, "w") as archive, archive.open("x.npy", "w") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (2**20, 2**20, 2**10)}
        np.lib.format.write_array_header_1_0(stream, header)
    with pytest.raises(ValueError, match="bytes, too few for its shape"):
        run_file(complete_npz, source, target)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("(2**40, 3, 2, 2)", "too few for its shape"),
        ("(-1, 3, 2, 2)", "too few for its shape"),
        ("(1, 3, 2, '\\d')", "Cannot parse header"),
        ("(1e3, 3, 2, 2)", "shape is not valid"),
    ],
)
def test_headers_that_lie(tmp_path, name, header, message):
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {header}}}"
    text = text.replace("2**40", str(2**40)).ljust(117) + "\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + bytes(12)
    if name == "a.npz":
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.npy", content)
    else:
        (tmp_path / name).write_bytes(content)
    run = complete_npy if name == "a.npy" else complete_npz
    with pytest.raises(
        ValueError, match=f"^cannot be read as a {name[1:]} .*{message}.*; "
    ) as caught:
        run_file(run, tmp_path / name, tmp_path / f"out-{name}")
    assert "save it again" in str(caught.value)


def test_two_arrays_of_one_name(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.write(tmp_path / "x.npy", "x.npy")
    with pytest.raises(ValueError, match=r"holds 'x.npy' twice; save it again with `numpy.savez`"):
        run_file(complete_npz, tmp_path / "a.npz", tmp_path / "b.npz")


def test_an_array_of_python_2(tmp_path):
    """Read without NumPy's advice to save it again."""
    np.save(tmp_path / "old.npy", np.full((2, 3, 8, 8), 0.5, np.float32))
    content = (tmp_path / "old.npy").read_bytes()
    (tmp_path / "old.npy").write_bytes(content.replace(b"(2, 3, 8, 8), }", b"(2L, 3, 8, 8),}"))
    calls = Calls(lambda batch, index: batch, 0, lambda *_: None, threads=1)
    complete_npy(tmp_path / "old.npy", tmp_path / "new.npy", calls)
    assert np.array_equal(np.load(tmp_path / "new.npy"), np.full((2, 3, 8, 8), 0.5, np.float32))
