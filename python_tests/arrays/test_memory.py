"""Memory of the CPU and of devices, described alike."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from splic_ext.arrays.memory import Memory
from splic_ext.arrays.views import channel_first

VALUES = np.arange(2 * 5 * 4 * 3, dtype=np.float32).reshape(2, 5, 4, 3)


@pytest.mark.parametrize("layout", [np.copy, np.asfortranarray, lambda a: a[::-1, ::2, ::-1]])
def test_axes_move_as_numpy_moves_them(layout):
    array = layout(VALUES)
    found = channel_first("batch", Memory.of(array), -1).numpy()
    assert np.array_equal(found, np.moveaxis(array, -1, 1))
    found[...] = 7
    assert (array == 7).all(), "it is a copy"
    plane = channel_first("batch", Memory.of(array[0, 0]), -1)
    assert plane.shape == (1, 1, *array[0, 0].shape)


def test_a_view_keeps_its_memory():
    mask = Memory.of(np.full((2, 1, 300, 300), 5.0)).broadcast_to((2, 3, 300, 300)).numpy()
    gc.collect()
    np.full((2, 1, 300, 300), 6.0)
    assert (mask == 5).all()
    assert not mask.flags.writeable


@pytest.mark.parametrize("step", [1, -1])
def test_extents(step):
    array = np.zeros(12, np.uint16)
    memory = Memory.of(array[::step])
    start = array.ctypes.data
    assert memory.extent() == (start, start + 24)
    halves = Memory.of(array[:6][::step]), Memory.of(array[6:][::step])
    assert memory.may_overlap(halves[0])
    assert not halves[0].may_overlap(halves[1])
    assert not memory.overlaps_itself()
    assert Memory.of(np.broadcast_to(array[:1], 4)).overlaps_itself()


def test_memory_of_a_device_is_never_read_here():
    memory = Memory(4096, (2, 3), (12, 4), 4, device=1, owner=np.zeros((9, 9)))
    assert memory.exported() is memory
    with pytest.raises(TypeError, match="an array on 'cuda:1' has no NumPy view"):
        np.asarray(memory)
