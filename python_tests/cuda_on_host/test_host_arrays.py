"""Arrays of the CPU through the CUDA back end, on the host: what comes out, and in what order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROWS
from helpers.cuda import wavy

import splic_ext
from splic_ext import SolverOptions
from splic_ext.masks import bernoulli_masks

CUDA_ROWS = [row for row in ROWS if row.name == "cuda"]
METHODS = ("fused", "tiled", "cusolver")
SHAPE = (2, 3, 8, 8)

#: Name -> shape, options. Both passes have two outer loops unless they say otherwise.
CASES = {
    "stacked": ((2, 3, 16, 16), {}),
    "separate": ((2, 3, 10, 10), {"channels": "separate"}),
    "wide": ((2, 1, 6, 20), {}),
    "tall": ((1, 2, 20, 5), {"rank": 3}),
    "full rank": ((1, 1, 6, 6), {"rank": 6}),
    "a row": ((1, 1, 1, 17), {}),
    "a column": ((1, 2, 9, 1), {}),
    "a pixel": ((2, 1, 1, 1), {}),
    "odd": ((1, 1, 21, 13), {"rank": 3}),
    "iterated": ((1, 1, 18, 22), {"rank": 4}),
    "several tiles": ((1, 2, 40, 36), {"rank": 6, "max_iterations": 5}),
    "no fast memory": ((1, 1, 150, 150), {"max_iterations": 1}),
    "literal": ((1, 1, 8, 8), {"gradient_step": "literal", "step_size": 0.01}),
    "forward": ((1, 1, 8, 8), {"tv_gradient": "forward"}),
    "no smoothing": ((1, 1, 8, 8), {"tv_weight": 0.0}),
    "one pass": ((1, 1, 8, 8), {"alternate": False}),
    "no anchor": ((2, 1, 8, 8), {"anchor_fraction": 0.0, "empty_value": 0.25}),
    "no target": ((2, 1, 8, 8), {"anchor_fraction": 1.0, "empty_value": 0.25}),
    "from the image": ((2, 3, 8, 8), {"start": "image", "first_delta": 0.1}),
    "small delta": ((1, 1, 8, 8), {"first_delta": 0.3}),
    "slow decay": ((1, 1, 8, 8), {"delta_decay": 0.9, "inner_iterations": 3}),
    "few anchors": ((1, 1, 16, 16), {"anchor_fraction": 0.2}),
    "early stop": ((2, 1, 8, 8), {"tolerance": 1e-2, "max_iterations": 28}),
    "part of a loop": ((1, 1, 8, 8), {"max_iterations": 3}),
    "several masks": ((2, 2, 8, 8), {"n_masks": 3}),
    "several masks, separate": ((1, 2, 8, 8), {"n_masks": 2, "channels": "separate"}),
}


def agrees(complete, reference, row, shape, options):
    images = wavy(shape, "float64")
    right = options.replace(algorithm="auto")
    expected, info = reference(images, options=right, seed=3, return_info=True)
    batch = images.astype(row.dtype)
    result, own = complete(batch, options=options, seed=3, return_info=True)
    row.check(result, expected)
    np.testing.assert_array_equal(own.iterations, info.iterations)
    np.testing.assert_allclose(own.delta, info.delta, rtol=1e-4)
    assert (own.seconds > 0).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_the_reference(complete, reference, name, method):
    shape, changes = CASES[name]
    options = SolverOptions(**{"max_iterations": 9, "algorithm": method, **changes})
    for row in CUDA_ROWS:
        agrees(complete, reference, row, shape, options)


#: The same for the kernel of one warp, which is for float32.
WARP_CASES = {
    "stacked": ((2, 3, 32, 32), {}),
    "separate": ((1, 3, 32, 32), {"channels": "separate"}),
    "rank 12": ((1, 3, 32, 32), {"rank": 12}),
    "rank 12, grey": ((2, 1, 32, 32), {"rank": 12}),
    "literal": ((1, 3, 32, 32), {"gradient_step": "literal", "step_size": 0.01}),
    "forward": ((1, 1, 32, 32), {"tv_gradient": "forward"}),
    "one pass": ((1, 3, 32, 32), {"alternate": False}),
    "no anchor": ((2, 3, 32, 32), {"anchor_fraction": 0.0, "empty_value": 0.25}),
    "no target": ((2, 1, 32, 32), {"anchor_fraction": 1.0, "empty_value": 0.25}),
    "few anchors": ((2, 3, 32, 32), {"anchor_fraction": 0.1, "max_iterations": 21}),
    "few anchors, separate": (
        (2, 3, 32, 32),
        {"anchor_fraction": 0.05, "channels": "separate", "max_iterations": 21},
    ),
    "early stop": ((2, 3, 32, 32), {"tolerance": 1e-2, "max_iterations": 28}),
    "several masks": ((1, 3, 32, 32), {"n_masks": 3, "channels": "separate"}),
}


@pytest.mark.parametrize("name", WARP_CASES)
def test_one_warp_agrees_with_the_reference(complete, reference, name):
    shape, changes = WARP_CASES[name]
    row = next(row for row in CUDA_ROWS if row.precision == "float32")
    agrees(complete, reference, row, shape, SolverOptions(**{"max_iterations": 9, **changes}))


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32"])
def test_types(complete, reference, dtype, kernel):
    images = wavy(kernel.shape(SHAPE), dtype)
    options = SolverOptions(max_iterations=9, algorithm=kernel.algorithm)
    result = complete(images, options=options)
    assert result.dtype == images.dtype
    data_range = 255 if dtype == "uint8" else 1
    expected = reference(images, options=options.replace(algorithm="auto"), data_range=data_range)
    step = {"uint8": 0.51, "float16": 2**-11}.get(dtype, 1e-4)
    assert np.abs(result.astype(float) - expected).max() <= step + 1e-4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("side", [8, 32])
def test_float64(complete, reference, side, method):
    images = wavy((2, 3, side, side), "float64")
    options = SolverOptions(max_iterations=9, algorithm=method)
    result = complete(images, options=options)
    assert result.dtype == images.dtype
    expected = reference(images, options=options.replace(algorithm="auto"))
    np.testing.assert_allclose(result, expected, atol=1e-10)


def test_bfloat16(complete, torch):
    images = torch.from_numpy(wavy(SHAPE)).bfloat16()
    result = complete(images)
    assert result.dtype == torch.bfloat16
    wide = complete(images.float())
    assert (result.float() - wide).abs().max() <= 2**-8


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "turned": lambda a: a[::-1, :, ::-1, ::-1],
    "repeated": lambda a: np.broadcast_to(a[:1], a.shape),
    "spaced": lambda a: np.repeat(np.repeat(a, 2, axis=3), 3, axis=2)[:, :, ::3, ::2],
    "channels last": lambda a: np.ascontiguousarray(a.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2),
    "unaligned": lambda a: (
        np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape)
        if a.dtype.itemsize == 1
        else np.ndarray(a.shape, a.dtype, bytearray(b"xyz" + a.tobytes()), 3)
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_layouts(complete, name, dtype):
    images = LAYOUTS[name](wavy(SHAPE, dtype))
    mask = LAYOUTS[name](np.random.default_rng(1).random(SHAPE) < 0.5)
    plain = np.ascontiguousarray(images)
    assert np.array_equal(complete(images), complete(plain))
    given = complete(plain, np.ascontiguousarray(mask))
    assert np.array_equal(complete(images, mask), given)


def test_in_place_and_out(complete, kernel):
    options = SolverOptions(max_iterations=5, algorithm=kernel.algorithm)
    images = wavy(kernel.shape(SHAPE))
    expected = complete(images, options=options)
    out = np.repeat(np.repeat(np.zeros_like(images), 2, axis=2), 2, axis=3)[:, :, ::2, ::2]
    assert complete(images, options=options, out=out) is out
    assert np.array_equal(out, expected)
    complete(images, options=options, out=images)
    assert np.array_equal(images, expected)


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize(
    ("seed", "first", "fraction"), [(0, 0, 0.5), (2**64 - 1, 2**64 - 2, 0.3), (2**40 + 7, 5, 0.9)]
)
@pytest.mark.parametrize("shape", [(3, 2, 7, 9), (3, 3, 32, 32), (3, 1, 32, 32)])
def test_masks_are_those_of_the_cpu(complete, shape, channels, seed, first, fraction):
    """To the bit: in one pass of one iteration the anchors stay, and all others change."""
    images = 0.2 + 0.6 * np.random.default_rng(seed % 100).random(shape)
    options = SolverOptions(
        max_iterations=1, alternate=False, channels=channels, anchor_fraction=fraction
    )
    for method in METHODS:
        for dtype in (np.float32, np.float64):
            batch = images.astype(dtype)
            result = complete(
                batch, options=options.replace(algorithm=method), seed=seed, first_index=first
            )
            drawn = {"anchor_fraction": fraction, "seed": seed, "channels": channels}
            expected = np.concatenate(
                [
                    bernoulli_masks((1, *shape[1:]), first_index=(first + i) % 2**64, **drawn)
                    for i in range(len(batch))
                ]
            )
            expected = np.broadcast_to(expected, shape)
            assert np.array_equal(result == batch, expected)


def test_the_order_of_threads_and_streams_changes_nothing(complete, runtime, kernel):
    images = wavy(kernel.shape((5, 1, 9, 9)))
    options = SolverOptions(max_iterations=5, n_masks=2, algorithm=kernel.algorithm)
    results = []
    for seed in range(4):
        runtime.seed(seed)
        results.append(complete(images, options=options))
    for result in results[1:]:
        assert np.array_equal(result, results[0])


def test_the_order_of_tiles_changes_nothing(complete, runtime):
    """Products of which several blocks have a part each, and parts of a batch."""
    images = wavy((3, 1, 70, 40))
    options = SolverOptions(max_iterations=2, rank=6, algorithm="tiled")
    whole = complete(images, options=options, seed=5)
    for seed in range(1, 4):
        runtime.seed(seed)
        assert np.array_equal(complete(images, options=options, seed=5), whole)
    last = complete(images[2:], options=options, seed=5, first_index=2)
    assert np.array_equal(last, whole[2:])


@pytest.mark.parametrize("n_masks", [1, 2])
def test_parts_are_the_whole(complete, n_masks, kernel):
    images = wavy(kernel.shape((7, 3, 8, 8)))
    options = SolverOptions(max_iterations=5, n_masks=n_masks, algorithm=kernel.algorithm)
    whole = complete(images, options=options, seed=5)
    for cut in (1, len(images) // 2 + 1):
        parts = [
            complete(images[:cut], options=options, seed=5),
            complete(images[cut:], options=options, seed=5, first_index=cut),
        ]
        assert np.array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("method", ["tiled", "cusolver"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_chunks(complete, monkeypatch, count, method):
    """Of any number of images, the last one smaller, and with records of each."""
    images = wavy((count, 1, 36, 36))
    options = SolverOptions(max_iterations=1, n_masks=2, algorithm=method)
    whole, info = complete(images, options=options, return_info=True)
    monkeypatch.setattr("splic_ext.backends.cuda.workspace_bytes", lambda: 2 * 90_000 * 3)
    chunked, own = complete(images, options=options, return_info=True)
    assert np.array_equal(chunked, whole)
    assert np.array_equal(own.residual, info.residual)


def test_an_empty_batch(complete, runtime):
    runtime.fail(1)
    assert complete(np.zeros((0, 3, 8, 8), np.float32)).shape == (0, 3, 8, 8)
    assert runtime.failed() == ""


@pytest.mark.parametrize("leading", [(2, 3), (2, 1), ()])
def test_given_masks(complete, reference, leading, kernel):
    images = wavy(kernel.shape(SHAPE))
    mask = np.random.default_rng(1).random((*leading, *images.shape[2:])) < 0.5
    options = SolverOptions(max_iterations=9)
    result = complete(images, mask, options=options.replace(algorithm=kernel.algorithm))
    assert np.abs(result - reference(images, mask, options=options)).max() < 1e-3


def test_hidden_pixels_may_be_anything(complete, kernel):
    images = wavy(kernel.shape(SHAPE))
    mask = np.random.default_rng(1).random(images.shape) < 0.5
    options = SolverOptions(max_iterations=5, alternate=False, algorithm=kernel.algorithm)
    expected = complete(images, mask, options=options)
    for bad in (np.nan, np.inf, -1.0, 1e30):
        hidden = np.where(mask, images, np.float32(bad))
        assert np.array_equal(complete(hidden, mask, options=options), expected)


def test_divergence(complete, kernel):
    wild = SolverOptions(step_size=50.0, tv_weight=5.0, algorithm=kernel.algorithm)
    with pytest.raises(ArithmeticError, match="the iteration diverged on image 0"):
        complete(wavy(kernel.shape(SHAPE)), options=wild)


def test_cusolver_that_fails_on_a_matrix(complete, runtime):
    runtime.fail_matrix(1, 7)
    options = SolverOptions(max_iterations=2, algorithm="cusolver")
    with pytest.raises(ArithmeticError, match=r"no eigenvectors for image 1 \(1 in all; info = 7"):
        complete(wavy((3, 1, 8, 8)), options=options, threads=1)


def test_the_algorithm_follows_the_memory_of_the_device(complete):
    """By another one, with other rounding, a matrix that does not fit would come out otherwise."""
    for shape, method in (((1, 3, 16, 16), "fused"), ((1, 1, 200, 200), "tiled")):
        images = wavy(shape)
        options = SolverOptions(max_iterations=1)
        chosen = complete(images, options=options)
        assert np.array_equal(chosen, complete(images, options=options.replace(algorithm=method)))


def test_threads_with_different_shapes(complete):
    batches = [wavy((2, *shape)) for shape in [(3, 24, 24), (1, 9, 9)]]
    options = SolverOptions(max_iterations=2)
    expected = [complete(batch, options=options) for batch in batches]

    def agrees(number):
        return np.array_equal(complete(batches[number], options=options), expected[number])

    with ThreadPoolExecutor(3) as pool:
        assert all(pool.map(agrees, [0, 1] * 6))


def test_says_what_it_is():
    info = splic_ext.backend_info()["cuda"]
    assert info.available
    assert [device["index"] for device in info.details["devices"]] == [0, 1]
    assert info.details["devices"][0]["shared_memory"] == 232448
