"""Spectra that are hard to follow, by the block iteration of each kernel, with the CPU's bounds."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.on_host import smooth

from splic_ext import SolverOptions

#: Mean error, as the tests of the CPU solver have it for images that are enlarged, and float64's.
MEAN = {"float32": 5e-6, "float64": 1e-9}

#: A launch whose blocks have room for sums alone.
NO_STATE = "256 threads, 64 bytes of shared memory"

#: Name -> shape, options: of a warp, of a block, of large matrices with k x k problems for a warp
#: and for a block.
SHAPES = {
    "28": ((1, 1, 28, 28), {}),
    "32": ((1, 1, 32, 32), {"rank": 9}),
    "64": ((1, 1, 64, 64), {"max_iterations": 5}),
    "wide": ((1, 1, 66, 72), {"max_iterations": 9}),
    "wide, high rank": ((1, 1, 66, 72), {"rank": 30, "max_iterations": 3}),
}


def steep(shape):
    """Return an image of which all but the first singular value is small."""
    rng = np.random.default_rng(0)
    _, _, height, width = shape
    u, v = rng.random((height, 1)), rng.random((1, width))
    return (0.9 * u @ v + 2e-4 * rng.random((height, width))).reshape(shape)


KINDS = {
    "few anchors": (smooth, {"anchor_fraction": 0.15}),
    "steep": (steep, {"start": "image", "alternate": False}),
    "constant": (lambda shape: np.full(shape, 0.5), {}),
}


@pytest.mark.parametrize("algorithm", ["fused", "tiled"])
@pytest.mark.parametrize("dtype", MEAN)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SHAPES)
def test_hard_spectra(complete, reference, name, kind, dtype, algorithm):
    shape, changes = SHAPES[name]
    make, more = KINDS[kind]
    options = SolverOptions(**{"max_iterations": 14, **changes, **more})
    images = make(shape)
    expected = reference(images, options=options, seed=3)
    options = options.replace(algorithm=algorithm)
    result = complete(images.astype(dtype), options=options, seed=3)
    assert np.abs(result - expected).mean() <= MEAN[dtype]


@pytest.mark.parametrize("algorithm", ["fused", "tiled"])
@pytest.mark.parametrize("dtype", MEAN)
@pytest.mark.parametrize("kind", KINDS)
def test_little_shared_memory(complete, runtime, reference, kind, dtype, algorithm):
    """A state, or k x k problems, that have to lie in device memory."""
    make, more = KINDS[kind]
    options = SolverOptions(**{"rank": 9, "max_iterations": 9, "algorithm": algorithm, **more})
    images = make((1, 1, 22, 26))
    expected = reference(images, options=options.replace(algorithm="auto"), seed=3)
    found = []
    for limit in (0, 2048):
        runtime.limit_shared(limit)
        runtime.calls(NO_STATE)
        result = complete(images.astype(dtype), options=options, seed=3)
        assert np.abs(result - expected).mean() <= MEAN[dtype]
        found.append((result, runtime.calls(NO_STATE)))
    (usual, before), (little, after) = found
    assert after > before
    if algorithm == "tiled":  # the same team goes through the same sums
        np.testing.assert_array_equal(little, usual)


@pytest.mark.parametrize("algorithm", ["fused", "tiled"])
@pytest.mark.parametrize("name", ["28", "64"])
def test_results_do_not_depend_on_the_batch(complete, name, algorithm):
    shape, changes = SHAPES[name]
    options = SolverOptions(**{**changes, "max_iterations": 2, "algorithm": algorithm})
    images = smooth((3, *shape[1:])).astype(np.float32)
    together = complete(images, options=options, seed=3)
    np.testing.assert_array_equal(complete(images, options=options, seed=3), together)
    alone = complete(images[:1], options=options, seed=3)
    np.testing.assert_array_equal(alone, together[:1])
