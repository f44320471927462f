"""What complete() refuses, and the words it uses: the parameter, what came, how to mend it."""

from __future__ import annotations

import copy
import importlib.util
import pickle

import numpy as np
import pytest

import splic_ext
from splic_ext import BackendUnavailableError, MissingExtraError, ShapeError, complete
from splic_ext.options import MAX_SIDE, SolverOptions

BATCH = np.full((2, 3, 6, 5), 0.5)
MASK = np.ones(BATCH.shape, dtype=bool)


def changed(index, value):
    batch = BATCH.copy()
    batch[index] = value
    return batch


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([[0.5]], "`batch` must be a NumPy array, .* got list; convert it with numpy.asarray"),
        (None, "`batch` must be a NumPy array, .* got NoneType"),
        (0.5, "`batch` must be a NumPy array, .* got float"),
        (BATCH.astype(int), "`batch` must be of uint8, .*, got int64; convert it"),
        (MASK, "`batch` must be of uint8, .*, got bool"),
        (BATCH.astype(complex), "`batch` must be of uint8, .*, got complex128"),
        (BATCH.astype(object), "`batch` must be of uint8, .*, got object"),
        (
            BATCH.astype(BATCH.dtype.newbyteorder()),
            r"`batch` must be in the byte order .* convert it with batch.astype\('float64'\)",
        ),
    ],
)
def test_batch_of_the_wrong_kind(batch, message):
    with pytest.raises(TypeError, match=message):
        complete(batch)


@pytest.mark.parametrize(
    "shape",
    [(), (5,), (1, 2, 3, 6, 5), (0, 5), (2, 0, 6, 5), (2, 3, 6, 0), (MAX_SIDE + 1, 5), (5, 600)],
)
def test_batch_of_the_wrong_shape(shape):
    with pytest.raises(ShapeError, match=r"`batch` must have .*, got .*; ") as caught:
        complete(np.zeros(shape))
    assert isinstance(caught.value, ValueError)
    assert caught.value.actual_shape == shape
    assert caught.value.expected_shape in str(caught.value)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_batch_that_is_not_finite(dtype, value):
    batch = changed((1, 2, 3, 4), value).astype(dtype)
    with pytest.raises(ValueError, match="`batch` must be finite, got NaN or infinity in image 1;"):
        complete(batch)


@pytest.mark.parametrize(("value", "said"), [(1.5, "maximum 1.5"), (-0.25, "minimum -0.25")])
def test_batch_out_of_range(value, said):
    with pytest.raises(
        ValueError,
        match=rf"`batch` must lie in \[0, data_range\] = \[0, 1\], got .*{said}.* in image 1; "
        "rescale it or pass the right `data_range=`",
    ):
        complete(changed((1, 0, 0, 0), value))


def test_out_of_range_names_the_first_image_of_many():
    batch = np.zeros((3000, 1, 28, 28), np.float32)
    batch[[2345, 2999]] = 2
    with pytest.raises(ValueError, match="in image 2345;"):
        complete(batch)


def test_data_range_decides_what_is_out_of_range(backend):
    batch = (100 * BATCH).astype(backend.dtype)
    options = SolverOptions(max_iterations=1)
    assert backend.complete(batch, options=options, data_range=50).shape == batch.shape
    with pytest.raises(ValueError, match=r"\[0, 49\], got minimum 50"):
        backend.complete(batch, data_range=49)
    dark = np.full((6, 5), 100, np.uint8)
    assert backend.complete(dark, options=options, data_range=100).max() <= 100
    with pytest.raises(ValueError, match=r"\[0, 99\], got minimum 100"):
        backend.complete(dark, data_range=99)


def rounded_up(dtype, steps):
    """Images of a 0 and a 1 that are so many roundings out of range."""
    batch = np.full((2, 1, 8, 8), 0.5, dtype)
    excess = steps * np.finfo(dtype).eps
    batch[1, 0, 0, :2] = 1 + excess, -excess
    return batch


@pytest.mark.parametrize(("dtype", "steps"), [("float32", 4), ("float64", 4), ("float16", 1)])
def test_an_excess_of_a_few_roundings_is_clipped(dtype, steps):
    batch = rounded_up(dtype, steps)
    before = batch.copy()
    clipped = np.clip(batch, 0, 1)
    assert not np.array_equal(batch, clipped)
    options = SolverOptions(max_iterations=2)
    np.testing.assert_array_equal(
        complete(batch, options=options), complete(clipped, options=options)
    )
    np.testing.assert_array_equal(batch, before)
    out = complete(batch, options=options, out=batch)
    assert out is batch
    np.testing.assert_array_equal(batch, complete(clipped, options=options))


@pytest.mark.parametrize(
    ("dtype", "steps", "said"),
    [
        ("float32", 5, "minimum -5.96046e-07 and maximum 1.00000059"),
        ("float64", 5, "maximum 1.000000000000001"),
        ("float16", 2, "maximum 1.00195"),
    ],
)
def test_a_larger_excess_is_told_with_all_digits(dtype, steps, said):
    with pytest.raises(ValueError, match=rf"= \[0, 1\], got .*{said}\d* in image 1;"):
        complete(rounded_up(dtype, steps))


@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_data_range_out_of_range(value):
    with pytest.raises(ValueError, match="`data_range` must be finite and > 0, got"):
        complete(BATCH, data_range=value)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"seed": -1}, ValueError, r"`seed` must be an integer in \[0, 18446744073709551615\]"),
        ({"seed": 2**64}, ValueError, "`seed`"),
        ({"seed": 1.0}, TypeError, "`seed` must be an integer, got 1.0 of float"),
        ({"seed": None}, TypeError, "`seed`"),
        ({"first_index": -1}, ValueError, "`first_index` must be an integer in"),
        ({"first_index": True}, TypeError, "`first_index`"),
        ({"threads": 0}, ValueError, r"`threads` must be an integer in \[1, "),
        ({"threads": 2**31}, ValueError, r"`threads` must be an integer in \[1, 2147483647\]"),
        ({"threads": "2"}, TypeError, "`threads`"),
        ({"data_range": "1"}, TypeError, "`data_range` must be a number, got '1' of str"),
        ({"channel_axis": 2}, ValueError, "`channel_axis` must be -3 .* or -1 .*, got 2 for an"),
        ({"channel_axis": 4}, ValueError, "`channel_axis`"),
        ({"channel_axis": -4}, ValueError, "`channel_axis`"),
        ({"channel_axis": "last"}, TypeError, "`channel_axis` must be an integer, got 'last'"),
        ({"channel_axis": True}, TypeError, "`channel_axis`"),
        ({"backend": "gpu"}, ValueError, "`backend` must be one of 'auto', .*, got 'gpu'"),
        ({"backend": None}, TypeError, "`backend` must be a string, got NoneType"),
        ({"options": {"rank": 2}}, TypeError, "`options` must be a SolverOptions or .* got dict"),
        ({"options": "fast"}, ValueError, "must be one of 'paper', 'recommended', .*, got 'fast'"),
        ({"options": SolverOptions(rank=6)}, ValueError, r"`rank` must be at most .* = 5 for"),
    ],
)
def test_parameter_out_of_range_or_of_the_wrong_kind(arguments, error, message):
    with pytest.raises(error, match=message):
        complete(BATCH, **arguments)


def test_parameters_after_the_mask_are_keywords():
    with pytest.raises(TypeError, match="positional"):
        complete(BATCH, MASK, SolverOptions())


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (MASK.tolist(), "`mask` must be a NumPy array, .* got list"),
        (MASK.astype(np.uint8), "`mask` must be of bool .*, got uint8; convert it with `mask > 0`"),
        (0.5, "`mask` must be a NumPy array, .* got float"),
    ],
)
def test_mask_of_the_wrong_kind(mask, message):
    with pytest.raises(TypeError, match=message):
        complete(BATCH, mask)


@pytest.mark.parametrize(
    ("batch", "shape", "axis", "said"),
    [
        (BATCH, (2, 6, 5), -3, "; add an axis with `mask[:, None]`"),
        (BATCH.transpose(0, 2, 3, 1), (2, 6, 5), -1, "; use `mask[..., None]`"),
        (BATCH, (5, 6), -3, "(6, 5) or (2, 1, 6, 5) or (2, 3, 6, 5)"),
        (BATCH, (2, 2, 6, 5), -3, "got (2, 2, 6, 5)"),
        (BATCH, (1, 3, 6, 5), -3, "got (1, 3, 6, 5)"),
        (BATCH, (3, 6, 5), -3, "got (3, 6, 5)"),
        (BATCH.transpose(0, 2, 3, 1), (2, 3, 6, 5), -1, "(6, 5) or (2, 6, 5, 1) or (2, 6, 5, 3)"),
        (BATCH[0], (2, 6, 5), -3, "(6, 5) or (1, 6, 5) or (3, 6, 5)"),
        (BATCH[0, 0], (1, 6, 5), -3, "must have shape (6, 5) for a batch of shape (6, 5)"),
        (BATCH[:0], (2, 3, 6, 5), -3, "got (2, 3, 6, 5)"),
    ],
)
def test_mask_of_the_wrong_shape(batch, shape, axis, said):
    with pytest.raises(ShapeError) as caught:
        complete(batch, np.ones(shape, bool), channel_axis=axis)
    assert str(caught.value).startswith("`mask` must have shape ")
    assert said in str(caught.value)
    assert caught.value.actual_shape == shape
    assert caught.value.expected_shape in str(caught.value)


def test_several_masks_and_a_given_one():
    with pytest.raises(ValueError, match="`n_masks` must be 1 with a given `mask`, got 4: "):
        complete(BATCH, MASK, options="recommended")


def test_out_that_cannot_hold_the_result():
    with pytest.raises(TypeError, match=r"`out` must be a ndarray of float64 .* of float32"):
        complete(BATCH, out=np.zeros(BATCH.shape, np.float32))
    with pytest.raises(TypeError, match=r"`out` must be a NumPy array, .* got list"):
        complete(BATCH, out=[])
    with pytest.raises(ShapeError, match=r"`out` must have the shape of `batch`, \(2, 3, 6, 5\)"):
        complete(BATCH, out=np.zeros((2, 3, 5, 6)))
    frozen = np.zeros(BATCH.shape)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="`out` must be writable, got a read-only array; pass a"):
        complete(BATCH, out=frozen)
    assert not frozen.any()


@pytest.mark.parametrize("name", sorted(splic_ext.backend_info()))
def test_absent_backend_says_why(name):
    info = splic_ext.backend_info()[name]
    assert (info.reason is None) == info.available
    assert (name in splic_ext.available_backends()) == info.available
    if not info.available:
        with pytest.raises(BackendUnavailableError) as caught:
            complete(BATCH, backend=name)
        assert info.reason in str(caught.value)
        assert f"back end {name!r} cannot run here" in str(caught.value)


def test_masked_arrays_are_refused():
    masked = np.ma.masked_array(BATCH, mask=MASK)
    for arguments in ((masked,), (BATCH, np.ma.masked_array(MASK))):
        with pytest.raises(TypeError, match=r"` must be a plain array, got a MaskedArray, .*fill"):
            complete(*arguments)
    with pytest.raises(TypeError, match="`out` must be a plain array"):
        complete(BATCH, out=masked)


@pytest.mark.parametrize(
    "error",
    [
        ShapeError("wrong", (1, 2), "(2, 1)"),
        MissingExtraError("this", "that", "cli"),
        BackendUnavailableError("absent"),
    ],
)
def test_errors_survive_a_process_boundary(error):
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(other) is type(error)
        assert str(other) == str(error)
        assert {**vars(other)} == {**vars(error)}


def test_a_native_module_that_cannot_be_loaded(run_python):
    code = """
import importlib
load = importlib.import_module
def refuse(name, *rest):
    if name == "splic_ext._core":
        raise {error}
    return load(name, *rest)
importlib.import_module = refuse
import splic_ext
print(splic_ext.backend_info()["cpu"].reason)
"""
    broken = run_python(code.format(error="ImportError('libfoo.so: cannot open')"))
    assert broken.startswith("the native module was built but cannot be loaded (libfoo.so: cannot")
    assert "compiler" not in broken
    absent = "ModuleNotFoundError('No module', name='splic_ext._core')"
    assert run_python(code.format(error=absent)).startswith("the native module was not built (No")


def test_a_subinterpreter_takes_the_numpy_back_end(run_python):
    """pybind11 would hang there for ever. The main interpreter keeps off: NumPy loads but once."""
    names = ("_interpreters", "_xxsubinterpreters")
    interpreters = next((name for name in names if importlib.util.find_spec(name)), None)
    if interpreters is None or importlib.util.find_spec("splic_ext._core") is None:
        pytest.skip("no subinterpreters, or no native module")
    inner = """
import warnings
warnings.simplefilter("ignore")
import numpy as np, splic_ext
assert splic_ext.complete(np.ones((8, 8))).mean() > 0.9
print(splic_ext.backend_info()["cpu"].reason)
try:
    import splic_ext._core
except ImportError as error:
    print(error, flush=True)
"""
    code = f"""
import {interpreters} as interpreters
failed = interpreters.run_string(interpreters.create(), {inner!r})
assert failed is None, failed
"""
    reason, error = run_python(code, timeout=60).splitlines()
    assert reason == error
    assert reason.startswith("a subinterpreter cannot load a native module; use the main")


def test_missing_extra_names_the_extra():
    error = MissingExtraError("the command line", "typer", "cli")
    assert isinstance(error, ImportError)
    assert error.extra == "cli"
    assert str(error) == (
        "the command line needs the package 'typer', which is not installed; "
        'install it with `pip install "splic-ext[cli]"`'
    )
