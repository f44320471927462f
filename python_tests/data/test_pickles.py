"""Pickles of data sets: plain values come back, hostile ones are refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from helpers.data import Malicious, write_tar

from splic_ext.data import load_dataset
from splic_ext.data.pickles import load_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_malicious_batch_is_refused(cifar, tmp_path, protocol):
    values = {"labels": [1], "data": Malicious(tmp_path / "run")}
    (cifar / "test_batch").write_bytes(pickle.dumps(values, protocol=protocol))
    with pytest.raises(ValueError, match=r"test_batch' .*asks for `\w+.\w+`, which is no part"):
        load_dataset(cifar)
    assert not (tmp_path / "run").exists()


def test_a_malicious_batch_in_an_archive_is_refused(cifar, tmp_path):
    (cifar / "test_batch").write_bytes(pickle.dumps(Malicious(tmp_path / "run"), protocol=2))
    archive = write_tar(cifar, tmp_path / "cifar.tar.gz")
    with pytest.raises(ValueError, match=r"test_batch' .*asks for `\w+.mkdir`"):
        load_dataset(archive)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name",
    [
        *("os system", "builtins eval", "builtins getattr", "__builtin__ eval"),
        *("numpy load", "numpy loads", "numpy.core.multiarray scalar", "_codecs decode"),
        *("numpy.core.multiarray _reconstruct.__globals__", "splic_ext.data.pickles pickle"),
    ],
)
def test_names_that_are_refused(name):
    module, _, attribute = name.partition(" ")
    with pytest.raises(pickle.UnpicklingError, match=f"asks for `{module}.{attribute}`"):
        load_pickle(f"c{module}\n{attribute}\n.".encode())
    strings = b"".join(b"\x8c%c%b" % (len(t), t.encode()) for t in (module, attribute))
    with pytest.raises(pickle.UnpicklingError, match=f"asks for `{module}.{attribute}`"):
        load_pickle(b"\x80\x04" + strings + b"\x93.")


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"c_codecs\nencode\n(Vtext\nVrot13\ntR.", "bytes encoded as 'rot13'"),
        (b"c_codecs\nencode\n(K\x01Vlatin1\ntR.", "bytes encoded as"),
        (b"cnumpy\ndtype\n(Vobject\ntR.", "an array of type 'object'"),
        (b"cnumpy\ndtype\n(VO8\ntR.", "an array of type 'O8'"),
        (b"cnumpy\nndarray\n(K\x03tR.", "an array made without NumPy's function"),
        (b"c_codecs\nencode\n}Vx\nK\x01sb.", "a function with a state"),
        (b"Pname\n.", "a reference to an outside object"),
        (b"c_codecs\nencode\n(tR.", "the pickle is damaged: TypeError"),
        (b"cnumpy\ndtype\n)\x81.", "NEWOBJ"),
    ],
)
def test_allowed_names_do_nothing_else(opcodes, message):
    with pytest.raises(pickle.UnpicklingError, match=message):
        load_pickle(opcodes)


def test_arrays_that_lie_about_their_size():
    """Nothing is allocated for a shape without its bytes."""
    content = pickle.dumps(np.zeros((2, 3), np.uint8), protocol=2)
    shape = b"K\x02K\x03\x86"
    assert shape in content
    for other in (b"J\xff\xff\xff\x7fK\x03\x86", b"K\x01K\x03\x86", b"J\xff\xff\xff\xffK\x03\x86"):
        with pytest.raises(pickle.UnpicklingError, match="the pickle holds"):
            load_pickle(content.replace(shape, other))


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">i4", "<u8", "int64"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(3))
def test_arrays_come_back(dtype, order, protocol):
    array = np.asarray(np.arange(12).reshape(3, 4), dtype=dtype, order=order)
    loaded = load_pickle(pickle.dumps([array, b"", b"\xff"], protocol=protocol))
    assert np.array_equal(loaded[0].array(), array)
    assert loaded[0].array().dtype == array.dtype
    assert loaded[1:] == [b"", b"\xff"]


TUPLES = b")" + b"\x85" * 200_000
SHARED = b")" + b"2\x86" * 30


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"}" + TUPLES + b"K\x01s.", "containers nested more than 32 deep"),
        (b"}" + SHARED + b"K\x01s.", "a key of type tuple"),
        (b"(" + SHARED + b"K\x01d.", "a key of type tuple"),
        (b"}(" + SHARED + b"K\x01u.", "a key of type tuple"),
        (b"cnumpy\ndtype\n(" + SHARED + b"tR.", "an array of type"),
        (SHARED + b"Q", "a reference to an outside object"),
        (b"]" * 200_000 + b"a" * 199_999 + b".", "containers nested more than 32 deep"),
        (b"K\x01r\x00\x00\x00\x20.", "a memo of the index 536870912"),
        (b"K\x01p536870912\n.", "a memo of the index 536870912"),
        (b"K\x01p-1\n.", "a memo of the index -1"),
        (b"B\xff\xff\xff\x7fabc.", "damaged: EOFError"),
        (b"\x8e" + b"\xff" * 8 + b"abc.", "damaged: EOFError"),
        (b"\x8d" + b"\xff" * 7 + b"\x7fabc.", "damaged: EOFError"),
        (b"T\xff\xff\xff\xffabc.", "damaged: EOFError"),
        (b"\x95" + b"\xff" * 7 + b"\x7fK\x01.", "damaged: EOFError"),
        (b"\x8b\xff\xff\xff\x7fabc.", "an integer of 2147483647 bytes"),
        (b"\x8b\x00\x10\x00\x00" + bytes(4096) + b".", "an integer of 4096 bytes"),
        (b"I" + b"9" * 5000 + b"\n.", "a number of 5000 digits"),
        (b"]" * 2**19 + b".", "more than 524,288 values"),
        (b"\x8f(K\x01\x90.", "the opcode EMPTY_SET"),
        (b"\x96" + b"\xff" * 7 + b"\x7f.", "the opcode BYTEARRAY8"),
        (
            b"c_codecs\nencode\np1\nX\xff\x00\x00\x00" + b"x" * 255 + b"p2\n"
            b"0" + b"g1\n(g2\ntR" * 99 + b".",
            "encoded again and again",
        ),
        (b"K\x01}b.", "a int with a state"),
        (b"(K\x01\x85.", None),
        (b"((\x85.", "damaged: ValueError"),
        (b"\x85.", "damaged: IndexError"),
    ],
    ids=range(26),
)
def test_pickles_that_would_take_the_stack_or_the_memory(cifar, opcodes, message):
    if message is None:
        assert load_pickle(opcodes) == (1,)
        return
    with pytest.raises(pickle.UnpicklingError, match=message):
        load_pickle(b"\x80\x02" + opcodes)
    (cifar / "test_batch").write_bytes(b"\x80\x02" + opcodes)
    with pytest.raises(ValueError, match=f"test_batch' is no batch of CIFAR-10: .*{message}"):
        load_dataset(cifar)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_come_back(protocol):
    same = ["a", 2.5, "\N{SNOWMAN}\n\\"]
    values = {
        "none": [None, True, False, 0, -1, 255, 256, 65536, -(2**31), 2**40, -(2**70), 1.5],
        1: [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), {}, [], [[same], same], "x" * 300],
        b"bytes": [b"", b"\xff\x00", bytes(300), {"a": same, None: {2.0: same}}],
    }
    assert load_pickle(pickle.dumps(values, protocol)) == values
