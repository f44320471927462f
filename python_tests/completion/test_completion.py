"""complete() against Algorithm 1 written out entry by entry: every option, masks, records."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splic_ext import CompletionInfo, SolverOptions
from splic_ext.masks import bernoulli_masks

SHAPE = (2, 3, 9, 7)
SHORT = SolverOptions(max_iterations=16)

# Every option away from its default, alone and together.
VARIANTS = [
    {},
    {"rank": 2},
    {"rank": 3},
    {"rank": 7},
    {"tv_weight": 0.0},
    {"tv_weight": 0.3},
    {"delta_decay": 0.8},
    {"delta_decay": 1.0},
    {"step_size": 0.0},
    {"step_size": 1.0},
    {"inner_iterations": 1},
    {"inner_iterations": 5},
    {"inner_iterations": 100},
    {"max_iterations": 1},
    {"max_iterations": 10},
    {"tolerance": 3e-4},
    {"anchor_fraction": 0.3},
    {"anchor_fraction": 0.8},
    {"alternate": False},
    {"channels": "separate"},
    {"channels": "separate", "tv_weight": 0.3, "rank": 3},
    {"channels": "separate", "gradient_step": "literal"},
    {"gradient_step": "literal"},
    {"tv_gradient": "forward", "tv_weight": 0.3},
    {"tv_gradient": "forward", "gradient_step": "literal", "channels": "separate"},
]


def textbook_tv(R, height, kind):
    """Gradient of half the sum of squared differences between neighbours in one channel."""
    m, n = R.shape
    T = np.zeros((m, n))
    forward = [(1, 0), (0, 1)]
    steps = forward if kind == "forward" else [*forward, (-1, 0), (0, -1)]
    for i in range(m):
        for j in range(n):
            for down, right in steps:
                row, column = i + down, j + right
                inside = 0 <= row < m and 0 <= column < n
                if inside and row // height == i // height:
                    T[i, j] += R[i, j] - R[row, column]
    return T


def textbook_pass(X, M, options, rank, height):
    """One pass over one matrix in [0, 1]: the matrix, iterations, residual and delta."""
    if not M.any():
        return X, 0, 0.0, 0.0
    A = X * M
    X_t = A
    delta = np.linalg.norm(A, 2)
    t = 0
    while True:
        for _ in range(options.inner_iterations):
            U, s, Vt = np.linalg.svd(X_t)
            R, G = np.zeros_like(A), np.zeros_like(A)
            k = 1 / delta**2 if options.gradient_step == "literal" else 1
            for p in range(rank):
                R += s[p] * np.outer(U[:, p], Vt[p])
                weight = s[p] * math.exp(-(s[p] ** 2) / (2 * delta**2))
                G += weight * np.outer(U[:, p], Vt[p])
            T = textbook_tv(R, height, options.tv_gradient)
            Y = R - options.step_size * (k * G + options.tv_weight * T)
            X_next = (1 - M) * Y + A
            residual = np.linalg.norm(X_next - X_t) / X.size
            X_t = X_next
            t += 1
            if t == options.max_iterations:
                return X_t, t, residual, delta
        if residual <= options.tolerance:
            return X_t, t, residual, delta
        delta *= options.delta_decay


def textbook(batch, masks, options):
    """Complete a batch in [0, 1] image by image; records as in CompletionInfo."""
    count, channels, height, width = batch.shape
    result = np.empty(batch.shape)
    passes = 2 if options.alternate else 1
    records = np.zeros((3, count, passes))
    rows = height if options.channels == "separate" else channels * height
    rank = options.rank or max(1, min(height, width) // 4)
    for i in range(count):
        X = batch[i].reshape(-1, rows, width)
        M = np.broadcast_to(masks[i], batch[i].shape).reshape(X.shape)
        for p in range(passes):
            M_p = ~M if p else M
            ends = [
                textbook_pass(X_c, M_c, options, rank, height)
                for X_c, M_c in zip(X, M_p, strict=True)
            ]
            X = np.stack([end[0] for end in ends])
            records[:, i, p] = np.max([end[1:] for end in ends], axis=0)
        result[i] = np.clip(X, 0, 1).reshape(batch[i].shape)
    return result, records


@pytest.fixture(scope="module")
def batches(smooth):
    noise = np.random.default_rng(3).random(SHAPE)
    return {"smooth": smooth(SHAPE, seed=3), "noise": noise}


@pytest.mark.parametrize("kind", ["smooth", "noise"])
@pytest.mark.parametrize("changes", VARIANTS, ids=repr)
def test_every_option_follows_the_formulas(backend, batches, changes, kind):
    options = SHORT.replace(**changes)
    batch = batches[kind].astype(backend.dtype)
    masks = bernoulli_masks(
        SHAPE, anchor_fraction=options.anchor_fraction, seed=5, channels=options.channels
    )
    expected, (iterations, residual, delta) = textbook(batch.astype(float), masks, options)
    result, info = backend.complete(batch, options=options, seed=5, return_info=True)
    backend.check(result, expected)
    assert info.iterations.tolist() == iterations.tolist()
    assert info.residual == pytest.approx(residual, rel=1e-3, abs=2**6 * backend.eps)
    assert info.delta == pytest.approx(delta, rel=2**10 * backend.eps)


def test_options_matter(backend, batches):
    """No two of the variants give the same images: none of the options is ignored."""
    batch = batches["noise"].astype(backend.dtype)
    # In 16 iterations, one long inner loop is a delta that does not decay.
    variants = [changes for changes in VARIANTS if changes != {"inner_iterations": 100}]
    results = [backend.complete(batch, options=SHORT.replace(**changes)) for changes in variants]
    for i, first in enumerate(results):
        for j, second in enumerate(results[:i]):
            assert np.abs(first - second).max() > 1e-4, (variants[i], variants[j])


@pytest.mark.parametrize("channels", ["stacked", "separate"])
@pytest.mark.parametrize("draw", [(0, 0), (2**64 - 1, 2**64 - 2), (2**32, 2**32 - 1)])
@pytest.mark.parametrize("fraction", [0.5, 0.3])
def test_drawn_masks_are_those_of_the_generator(backend, batches, channels, draw, fraction):
    batch = batches["noise"][:, :, :, :6].astype(backend.dtype)
    batch = np.concatenate([batch, batch[:1]])
    options = SHORT.replace(channels=channels, anchor_fraction=fraction)
    seed, first = draw
    masks = bernoulli_masks(
        batch.shape, anchor_fraction=fraction, seed=seed, first_index=first, channels=channels
    )
    drawn = backend.complete(batch, options=options, seed=seed, first_index=first)
    assert np.array_equal(drawn, backend.complete(batch, masks, options=options))


@pytest.mark.parametrize("channels", ["stacked", "separate"])
def test_several_masks_give_the_mean(backend, batches, channels):
    batch = batches["noise"].astype(backend.dtype)
    options = SHORT.replace(channels=channels)
    results = []
    for stream in range(3):
        masks = bernoulli_masks(SHAPE, seed=9, first_index=4, stream=stream, channels=channels)
        results.append(backend.complete(batch, masks, options=options, return_info=True))
    mean = np.mean([result for result, _ in results], axis=0, dtype=np.float64)
    result, info = backend.complete(
        batch, options=options.replace(n_masks=3), seed=9, first_index=4, return_info=True
    )
    # Each completion is rounded once here and not at all there.
    assert np.abs(result - mean).max() <= 4 * backend.eps
    for name in ("iterations", "residual", "delta"):
        largest = np.max([getattr(record, name) for _, record in results], axis=0)
        assert np.array_equal(getattr(info, name), largest)


def test_preset_by_name(backend, batches):
    batch = batches["noise"][:1].astype(backend.dtype)
    for name in ("paper", "recommended"):
        by_name = backend.complete(batch, options=name)
        assert np.array_equal(by_name, backend.complete(batch, options=SolverOptions.preset(name)))
    assert np.array_equal(backend.complete(batch), backend.complete(batch, options="paper"))


@pytest.mark.parametrize("channels", ["stacked", "separate"])
def test_alternation_is_two_passes(backend, smooth, channels):
    batch = smooth((2, 3, 16, 16)).astype(backend.dtype)
    mask = np.random.default_rng(5).random((16, 16)) < 0.5
    options = SHORT.replace(max_iterations=21, channels=channels)
    once = options.replace(alternate=False)
    first, first_info = backend.complete(batch, mask, options=once, return_info=True)
    assert first.min() > 0.2, "the first pass must not leave the range, it would be clipped"
    assert first.max() < 0.8
    second, second_info = backend.complete(first, ~mask, options=once, return_info=True)
    result, info = backend.complete(batch, mask, options=options, return_info=True)
    backend.check(result, second)
    assert info.iterations[:, :1].tolist() == first_info.iterations.tolist()
    assert info.iterations[:, 1:].tolist() == second_info.iterations.tolist()
    assert np.array_equal(info.delta[:, :1], first_info.delta)


def test_info(backend, batches):
    batch = batches["noise"].astype(backend.dtype)
    for alternate, passes in ((True, 2), (False, 1)):
        options = SHORT.replace(alternate=alternate)
        plain = backend.complete(batch, options=options)
        result, info = backend.complete(batch, options=options, return_info=True)
        assert np.array_equal(result, plain)
        assert isinstance(info, CompletionInfo)
        for array, dtype in (
            (info.iterations, np.int32),
            (info.residual, np.float64),
            (info.delta, np.float64),
        ):
            assert (array.shape, array.dtype) == ((2, passes), dtype)
            assert (array > 0).all()
        assert (info.seconds.shape, info.seconds.dtype) == ((2,), np.float64)
        assert (info.seconds > 0).all()
        assert info.seconds.sum() < 60


def test_records_have_an_identity(backend):
    """Comparing arrays field by field would raise."""
    run = {"options": SolverOptions(max_iterations=1), "return_info": True}
    _, first = backend.complete(np.zeros((2, 4, 4)), **run)
    _, second = backend.complete(np.zeros((2, 4, 4)), **run)
    assert first == first
    assert first != second
    assert len({first, second}) == 2


def test_residual_is_the_last_step(backend, smooth):
    batch = smooth((16, 16)).astype(backend.dtype)
    mask = np.random.default_rng(5).random((16, 16)) < 0.5
    options = SolverOptions(alternate=False, tolerance=0, max_iterations=7)
    last, info = backend.complete(batch, mask, options=options, return_info=True)
    previous = backend.complete(batch, mask, options=options.replace(max_iterations=6))
    step = np.linalg.norm(last.astype(float) - previous) / 256
    assert info.residual[0, 0] == pytest.approx(step, rel=2**10 * backend.eps)


@pytest.mark.parametrize(
    ("most", "inner", "decays"),
    [(7, 7, 0), (8, 7, 1), (10, 7, 1), (14, 7, 1), (15, 7, 2), (5, 1, 4), (5, 9, 0)],
)
def test_delta_is_the_last_one_used(backend, batches, most, inner, decays):
    batch = batches["noise"].astype(backend.dtype)
    mask = bernoulli_masks(SHAPE)
    options = SolverOptions(
        alternate=False, tolerance=0, max_iterations=most, inner_iterations=inner
    )
    _, info = backend.complete(batch, mask, options=options, return_info=True)
    largest = [np.linalg.norm((X * M).reshape(-1, 7), 2) for X, M in zip(batch, mask, strict=True)]
    assert (info.iterations == most).all()
    expected = np.array(largest) * 0.45**decays
    assert info.delta[:, 0] == pytest.approx(expected, rel=2**10 * backend.eps)


def test_matrices_stop_one_by_one(backend, smooth):
    shape = (5, 1, 12, 12)
    batch = smooth(shape) * np.geomspace(1, 1e-4, 5).reshape(5, 1, 1, 1)
    batch[3] = np.random.default_rng(0).random(shape[1:])
    batch = batch.astype(backend.dtype)
    masks = bernoulli_masks(shape, seed=2)
    options = SolverOptions(max_iterations=700, tolerance=1e-4)
    result, info = backend.complete(batch, masks, options=options, return_info=True)
    ends = info.iterations
    assert ((ends % 7 == 0) & (ends >= 7) & (ends < 700)).all()
    assert (info.residual <= 1e-4).all()
    assert len(set(ends[:, 0].tolist())) > 1
    for i in range(5):
        alone, alone_info = backend.complete(
            batch[i : i + 1], masks[i : i + 1], options=options, return_info=True
        )
        assert np.array_equal(alone[0], result[i])
        assert np.array_equal(alone_info.iterations[0], ends[i])
        # Fewer outer loops do not reach the tolerance: it stops as soon as it may.
        for end in {7 * k for k in range(1, ends[i, 0] // 7)}:
            cut = options.replace(max_iterations=end, alternate=False)
            _, early = backend.complete(batch[i], masks[i], options=cut, return_info=True)
            assert early.residual[0, 0] > 1e-4


@pytest.mark.parametrize(
    ("dtype", "step_size"),
    [("uint8", 100), ("uint8", 1e38), ("float32", 1e38), ("float64", 1e160), ("float64", 1e308)],
)
def test_divergence_names_the_first_image(backend, dtype, step_size):
    """However soon it overflows; images of zeros do not diverge."""
    batch = np.zeros((5, 1, 8, 8), dtype)
    batch[[2, 4]] = np.random.default_rng(0).random((2, 1, 8, 8)) < 0.5
    options = SolverOptions(step_size=step_size, n_masks=2)
    with pytest.raises(ArithmeticError, match=r"diverged on image 2 \(2 in all\) with `step_size="):
        backend.complete(batch, options=options)


def test_tolerance_zero_stops_at_a_fixed_point_alone(backend):
    noise = np.random.default_rng(0).random((6, 5))
    options = SolverOptions(tolerance=0, max_iterations=30)
    for batch, expected in ((noise, [[30, 30]]), (np.zeros((6, 5)), [[7, 7]])):
        _, info = backend.complete(batch.astype(backend.dtype), options=options, return_info=True)
        assert info.iterations.tolist() == expected
