"""Containers in and out of complete(): NumPy, torch, DLPack; layouts, `out`."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext import SolverOptions, complete

QUICK = SolverOptions(max_iterations=5)
SHAPE = (3, 2, 6, 5)


@pytest.fixture(params=["uint8", "float16", "float32", "float64"])
def dtype(request):
    return request.param


def images(shape=SHAPE, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "uint8":
        return rng.integers(0, 256, shape, dtype=np.uint8)
    return rng.random(shape).astype(dtype)


def strides_order(array):
    """Axes longer than 1, from the widest stride to the narrowest."""
    strides = array.stride() if hasattr(array, "stride") else array.strides
    axes = [axis for axis, size in enumerate(array.shape) if size > 1]
    return sorted(axes, key=lambda axis: -abs(strides[axis]))


def fortran(values):
    return np.asfortranarray(values)


def channel_last(values):
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(values, 1, -1)), -1, 1)


def every_other(values):
    spaced = np.full(tuple(2 * size for size in values.shape), 1, values.dtype)
    view = spaced[tuple(slice(None, None, 2) for _ in values.shape)]
    view[...] = values
    return view


def backwards(values):
    return values[:, ::-1, ::-1, ::-1].copy()[:, ::-1, ::-1, ::-1]


def read_only(values):
    values = values.copy()
    values.flags.writeable = False
    return values


def unaligned(values):
    raw = np.empty(values.nbytes + 1, np.uint8)
    view = raw[1:].view(values.dtype).reshape(values.shape)
    view[...] = values
    return view


LAYOUTS = [fortran, channel_last, every_other, backwards, read_only, unaligned]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_layout_changes_nothing(backend, dtype, layout):
    plain = images(dtype=dtype)
    batch = layout(plain)
    expected = backend.complete(plain, options=QUICK)
    result = backend.complete(batch, options=QUICK)
    assert type(result) is np.ndarray
    assert result.dtype == batch.dtype
    assert np.array_equal(result, expected)
    assert np.array_equal(batch, plain), "the input was changed"
    assert result.flags.writeable
    if layout in (fortran, channel_last):
        assert strides_order(result) == strides_order(batch)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_out_and_mask_of_any_layout(backend, layout):
    batch = images(dtype=backend.dtype)
    mask = images(seed=1) < 0.5
    expected = backend.complete(batch, mask, options=QUICK)
    assert np.array_equal(backend.complete(batch, layout(mask), options=QUICK), expected)
    if layout is not read_only:
        out = layout(np.zeros_like(batch))
        assert backend.complete(batch, mask, options=QUICK, out=out) is out
        assert np.array_equal(out, expected)


def test_broadcast_batch_and_mask(backend):
    one = images((1, *SHAPE[1:]), backend.dtype)
    batch = np.broadcast_to(one, SHAPE)
    mask = np.broadcast_to(images(SHAPE[-2:]) < 0.5, (3, 1, *SHAPE[-2:]))
    expected = backend.complete(batch.copy(), mask.copy(), options=QUICK)
    assert np.array_equal(backend.complete(batch, mask, options=QUICK), expected)


def test_memory_map(backend, tmp_path):
    plain = images(dtype=backend.dtype)
    plain.tofile(tmp_path / "batch.bin")
    batch = np.memmap(tmp_path / "batch.bin", plain.dtype, "r", shape=plain.shape)
    expected = backend.complete(plain, options=QUICK)
    result = backend.complete(batch, options=QUICK)
    assert type(result) is np.ndarray
    assert np.array_equal(result, expected)
    # Out of core: from one file into another.
    out = np.memmap(tmp_path / "out.bin", plain.dtype, "w+", shape=plain.shape)
    backend.complete(batch, options=QUICK, out=out)
    out.flush()
    stored = np.fromfile(tmp_path / "out.bin", plain.dtype).reshape(plain.shape)
    assert np.array_equal(stored, expected)
    # A plain array holds what a memory map holds, and the other way round.
    assert np.array_equal(
        backend.complete(batch, options=QUICK, out=np.empty_like(plain)), expected
    )
    assert np.array_equal(backend.complete(plain, options=QUICK, out=out), expected)


def test_channel_axis(backend):
    batch = images(dtype=backend.dtype)
    mask = images(seed=1) < 0.5
    expected = backend.complete(batch, mask, options=QUICK)
    for axis in (1, -3, np.int64(-3)):
        assert np.array_equal(
            backend.complete(batch, mask, options=QUICK, channel_axis=axis), expected
        )
    last, mask_last = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (batch, mask))
    for axis in (3, -1):
        result = backend.complete(last, mask_last, options=QUICK, channel_axis=axis)
        assert np.array_equal(np.moveaxis(result, -1, 1), expected)
    out = np.empty_like(last)
    backend.complete(last, mask_last, options=QUICK, channel_axis=-1, out=out)
    assert np.array_equal(np.moveaxis(out, -1, 1), expected)
    one = backend.complete(last[0], mask_last[0], options=QUICK, channel_axis=2)
    assert np.array_equal(np.moveaxis(one, -1, 0), expected[0])


def test_images_without_batch_axis_are_batches_of_one(backend):
    batch = images(dtype=backend.dtype)
    mask = images(seed=1) < 0.5
    colour = backend.complete(batch[:1], mask[:1], options=QUICK)
    assert np.array_equal(backend.complete(batch[0], mask[0], options=QUICK), colour[0])
    gray = backend.complete(batch[:1, :1], mask[:1, :1], options=QUICK)
    result = backend.complete(batch[0, 0], mask[0, 0], options=QUICK, channel_axis=-1)
    assert np.array_equal(result, gray[0, 0])


@pytest.mark.parametrize("channels", ["stacked", "separate"])
def test_mask_shapes_that_mean_the_same(backend, channels):
    batch = images(dtype=backend.dtype)
    options = QUICK.replace(channels=channels)
    plane = images(SHAPE[-2:], seed=1) < 0.5
    full = np.broadcast_to(plane, SHAPE).copy()
    expected = backend.complete(batch, full, options=options)
    for mask in (plane, full[:, :1]):
        assert np.array_equal(backend.complete(batch, mask, options=options), expected)
    last = np.moveaxis(batch, 1, -1)
    for mask in (plane, full[:, 0, :, :, None], np.moveaxis(full, 1, -1)):
        result = backend.complete(last, mask, options=options, channel_axis=-1)
        assert np.array_equal(np.moveaxis(result, -1, 1), expected)
    assert np.array_equal(backend.complete(batch[0], full[0, :1], options=options), expected[0])


@pytest.mark.parametrize("changes", [{}, {"n_masks": 3}, {"channels": "separate"}])
@pytest.mark.parametrize("layout", [np.copy, fortran, every_other, backwards])
def test_in_place(backend, dtype, changes, layout):
    options = QUICK.replace(**changes)
    batch = layout(images(dtype=dtype))
    expected = backend.complete(batch, options=options)
    assert backend.complete(batch, options=options, out=batch) is batch
    assert np.array_equal(batch, expected)


def test_out_that_overlaps_the_batch(backend):
    memory = images((5, *SHAPE[1:]), backend.dtype)
    expected = backend.complete(memory[:3], options=QUICK)
    for shift in (1, 2):
        copy = memory.copy()
        backend.complete(copy[:3], options=QUICK, out=copy[shift : shift + 3])
        assert np.array_equal(copy[shift : shift + 3], expected)
        assert np.array_equal(copy[:shift], memory[:shift])
    copy = memory.copy()
    backend.complete(copy[:3], options=QUICK, out=copy[2::-1])
    assert np.array_equal(copy[2::-1], expected)
    square = images((2, 6, 6), backend.dtype)
    expected = backend.complete(square, options=QUICK)
    backend.complete(square, options=QUICK, out=square.transpose(0, 2, 1))
    assert np.array_equal(square.transpose(0, 2, 1), expected)


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("for_all", [True, False])
def test_mask_in_the_memory_of_out(backend, in_place, for_all):
    """The mask must not change while images are completed."""
    bits = np.random.default_rng(0).random((64, 1, 16, 16)) < 0.5
    work = bits.view(np.uint8).copy()
    mask = work.view(bool)
    mask = mask[0, 0] if for_all else mask
    batch = work if in_place else work.copy()
    expected = backend.complete(work.copy(), mask.copy(), options=QUICK)
    assert backend.complete(batch, mask, options=QUICK, out=work) is work
    assert np.array_equal(work, expected)


@pytest.mark.parametrize("shape", [(2, 8, 9, 3), (5, 8, 4)])
def test_a_batch_that_looks_channel_last_is_warned_of_once(shape):
    for axis in (-3, len(shape) - 3):
        with pytest.warns(UserWarning, match="looks channel last; pass channel_axis=-1") as told:
            complete(np.zeros(shape), options=QUICK, channel_axis=axis)
        assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize("shape", [(2, 4, 9, 3), (4, 8, 4), (5, 8, 2), (5, 8, 5), (9, 3)])
def test_a_batch_that_does_not_look_channel_last(shape):
    assert complete(np.zeros(shape), options=QUICK).shape == shape
    if len(shape) > 2:
        assert complete(np.zeros(shape), options=QUICK, channel_axis=-1).shape == shape


def test_out_leaves_its_neighbours_alone(backend):
    frame = np.full((3, 4, 8, 9), 7, backend.dtype)
    batch = images(dtype=backend.dtype)
    backend.complete(batch, options=QUICK, out=frame[:, 1:3, 1:7, 2:7])
    frame[:, 1:3, 1:7, 2:7] = 7
    assert (frame == 7).all()


def test_return_info_with_out(backend):
    out = np.empty(SHAPE, backend.dtype)
    result, info = backend.complete(
        images(dtype=backend.dtype), options=QUICK, out=out, return_info=True
    )
    assert result is out
    assert info.iterations.tolist() == [[5, 5]] * 3


class Plain:
    """An array known by the array API and DLPack alone."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **arguments):
        return self.values.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __array_namespace__(self, api_version=None):
        return self

    @staticmethod
    def from_dlpack(other):
        return Plain(np.from_dlpack(other))


class Capsule:
    """As Plain, without a namespace to come back as, and on a device of choice."""

    __dlpack__ = Plain.__dlpack__
    dtype = "float32"

    def __init__(self, kind=1):
        self.values = images(dtype="float32")
        self.kind = kind

    def __dlpack_device__(self):
        return self.kind, 0


def test_dlpack_array(backend, dtype):
    values = images(dtype=dtype)
    result = backend.complete(Plain(values), options=QUICK)
    assert type(result) is Plain
    assert result.values.dtype == values.dtype
    assert np.array_equal(result.values, backend.complete(values, options=QUICK))
    mask = images(seed=1) < 0.5
    result = backend.complete(Plain(values), Plain(mask), options=QUICK)
    assert np.array_equal(result.values, backend.complete(values, mask, options=QUICK))
    empty = backend.complete(Plain(values[:0]), options=QUICK)
    assert empty.values.shape == (0, *SHAPE[1:])


def test_dlpack_array_without_a_way_back():
    with pytest.raises(TypeError, match=r"`batch` is a Capsule, .*; convert it with num"):
        complete(Capsule())


@pytest.mark.parametrize(("kind", "device"), [(2, "cuda"), (10, "rocm"), (8, "dlpack:8")])
def test_dlpack_array_on_another_device(kind, device):
    array = Capsule(kind)
    array.__array_namespace__ = Plain  # what comes from a GPU needs a way back
    with pytest.raises(ValueError, match=f"'numpy' takes arrays on cpu, got one on '{device}'"):
        complete(array, backend="numpy")
