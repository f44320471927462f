"""Total-variation inpainting: the minimum, what it keeps, native code and NumPy, threads."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
fills = pytest.importorskip("splic_ext.fills")

from helpers.fills import images_of, masks_of  # noqa: E402

from splic_ext.backends.cpu import native_module  # noqa: E402
from splic_ext.fills import tv  # noqa: E402
from splic_ext.fills.tv import inpaint_tv  # noqa: E402


@pytest.fixture
def core(native_cpu):
    return native_module()


def terms(images, epsilon):
    """The terms of the sum that is minimised, one for each pixel."""
    down, across = torch.zeros_like(images), torch.zeros_like(images)
    down[..., :-1, :] = images.diff(dim=2)
    across[..., :-1] = images.diff(dim=3)
    return (down**2 + across**2 + epsilon**2).sqrt()


def energy(images, mask, epsilon):
    """The part of the sum that hidden pixels take part in, of each image and channel."""
    hidden = ~mask.expand(images.shape)
    taking = hidden.clone()
    taking[..., :-1, :] |= hidden[..., 1:, :]
    taking[..., :-1] |= hidden[..., 1:]
    return (terms(images, epsilon) * taking).sum(dim=(2, 3))


def holes(kind):
    mask = torch.ones(4, 1, 32, 32, dtype=torch.bool)
    if kind == "two of 9 x 9":
        for row, place in enumerate(((3, 4), (0, 14), (23, 23), (9, 9))):
            mask[row, :, place[0] : place[0] + 9, place[1] : place[1] + 9] = False
            mask[row, :, 14 : 14 + 9, 12 : 12 + 9] = False
    elif kind == "22 x 22":
        for row, (top, left) in enumerate(((5, 5), (0, 0), (10, 3), (4, 10))):
            mask[row, :, top : top + 22, left : left + 22] = False
    else:
        mask = torch.from_numpy(np.random.default_rng(2).random((4, 1, 32, 32)) < 0.1)
    return mask


def scenes(kind):
    """Images (4, 3, 32, 32) in float64: noise, or blobs with edges."""
    noise = torch.from_numpy(np.random.default_rng(3).random((4, 3, 32, 32)))
    if kind == "noise":
        return noise
    smooth = torch.nn.functional.avg_pool2d(noise, 7, stride=1, padding=3)
    return torch.where(smooth > smooth.mean(), smooth, smooth / 3).clamp(0, 1)


@pytest.mark.parametrize("scene", ["noise", "edges"])
@pytest.mark.parametrize("kind", ["two of 9 x 9", "22 x 22", "a tenth is visible"])
def test_the_default_comes_near_to_the_minimum(scene, kind, core):
    images, mask = scenes(scene), holes(kind)
    best = fills.TVInpainting(iterations=4000)(images, mask).requires_grad_()
    total = energy(best, mask, 0.1)
    (gradient,) = torch.autograd.grad(total.sum(), best)
    assert gradient[~mask.expand(images.shape)].abs().max() < 1e-12, "the sum is convex"
    least = total.detach()
    for dtype in (torch.float32, torch.float64):
        result = fills.TVInpainting()(images.to(dtype), mask).double()
        assert (energy(result, mask, 0.1) <= 1.001 * least).all()


def test_no_iteration_makes_the_sum_larger():
    images, mask = scenes("edges"), holes("two of 9 x 9")
    for epsilon in (0.01, 0.1, 1.0):
        sums = [
            energy(fills.TVInpainting(epsilon, count)(images, mask), mask, epsilon)
            for count in range(1, 40)
        ]
        for before, after in itertools.pairwise(sums):
            assert (after <= before * (1 + 1e-12)).all()


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_is_restored(value):
    images, masks = torch.full((7, 3, 9, 8), value), masks_of(9, 8)
    torch.testing.assert_close(
        fills.TVInpainting()(images, masks)[:6], images[:6], rtol=0, atol=1e-6
    )


def test_a_ramp_is_restored_inside():
    """Its gradient is constant, so all weights are equal: the discrete Laplacian is 0."""
    across, down = torch.linspace(0, 0.4, 20), torch.linspace(0, 0.6, 24)
    images = (across + down[:, None]).expand(1, 2, 24, 20)
    mask = torch.ones(24, 20, dtype=torch.bool)
    mask[5:14, 6:15] = False
    mask[17, 3:9] = False
    result = fills.TVInpainting()(images, mask)
    torch.testing.assert_close(result, images, rtol=0, atol=1e-5)


def test_a_ramp_is_restored_along_the_border_and_not_towards_it():
    """No difference is taken across the border: values go on there as they are."""
    mask = torch.ones(20, 20, dtype=torch.bool)
    mask[14:, 5:12] = False
    ramp = torch.linspace(0, 1, 20)
    along = ramp.expand(1, 1, 20, 20)
    towards = along.mT
    fill = fills.TVInpainting(iterations=300)
    torch.testing.assert_close(fill(along, mask), along, rtol=0, atol=1e-5)
    assert (fill(towards, mask)[0, 0, 19, 5:12] < 0.95).all()


def test_an_edge_stays_where_epsilon_is_small():
    """A step is continued straight through a narrow hole; heat would blur it."""
    images = torch.zeros(1, 1, 24, 24)
    images[..., 12:] = 1.0
    mask = torch.ones(24, 24, dtype=torch.bool)
    mask[8:14, 8:16] = False
    sharp = fills.TVInpainting(epsilon=0.003, iterations=5000)(images, mask)
    heat = fills.TVInpainting(epsilon=1e3, iterations=2000)(images, mask)
    assert (sharp - images).abs().max() < 0.1
    assert (heat - images).abs().max() > 0.25


def test_results_keep_to_the_range_of_what_is_visible():
    images, mask = 0.25 + 0.5 * scenes("noise"), holes("two of 9 x 9")
    result = fills.TVInpainting()(images, mask)
    assert result.min() >= images.min() - 1e-6
    assert result.max() <= images.max() + 1e-6


def batch(case):
    rng = np.random.default_rng(case)
    dtype = (np.float32, np.float64)[case % 2]
    shape = (rng.integers(1, 4), rng.integers(1, 7), *rng.integers(1, 20, 2))
    mask = rng.random((shape[0], 1, *shape[2:])) < rng.random()
    return rng.random(shape).astype(dtype), mask


@pytest.mark.parametrize("case", range(60))
def test_native_code_and_numpy_give_the_same_bits(core, case):
    images, mask = batch(case)
    epsilon, iterations = (0.1, 0.003, 2.0)[case % 3], 1 + case % 23
    result = np.full_like(images, np.nan)
    core.inpaint_tv(images, result, mask, epsilon=epsilon, iterations=iterations, threads=1)
    for image, shown, row in zip(images, mask[:, 0], result, strict=True):
        some = shown.any() and not shown.all()
        expected = inpaint_tv(image, shown, epsilon, iterations) if some else image
        assert np.array_equal(row, expected)
        assert np.array_equal(row[:, shown], image[:, shown])


def test_without_native_code_the_fill_is_the_same(core, monkeypatch):
    images, masks = images_of((7, 3, 9, 8)), masks_of(9, 8)
    expected = fills.TVInpainting()(images, masks)
    monkeypatch.setattr(tv, "native_module", lambda: None)
    assert torch.equal(fills.TVInpainting()(images, masks), expected)


@pytest.mark.parametrize("threads", [2, 3, 7, 2**31 - 1])
def test_threads_change_no_bit(core, threads):
    rng = np.random.default_rng(0)
    images, mask = rng.random((5, 3, 11, 9), np.float32), rng.random((5, 1, 11, 9)) < 0.5
    results = np.empty((2, *images.shape), np.float32)
    for result, count in zip(results, (1, threads), strict=True):
        core.inpaint_tv(images, result, mask, epsilon=0.1, iterations=30, threads=count)
    assert np.array_equal(results[0], results[1])


def test_strides_of_any_kind(core):
    rng = np.random.default_rng(0)
    images, mask = rng.random((4, 3, 11, 9)), rng.random((4, 1, 11, 9)) < 0.5
    expected = np.empty_like(images)
    given = {"epsilon": 0.1, "iterations": 9, "threads": 1}
    core.inpaint_tv(images, expected, mask, **given)
    last = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    wide = np.full((4, 3, 22, 27), np.nan)
    core.inpaint_tv(last, wide[:, :, ::-2, ::3], mask, **given)
    assert np.array_equal(wide[:, :, ::-2, ::3], expected)
    assert np.isnan(wide[:, :, ::2]).all(), "beside the output nothing is written"
    one = np.broadcast_to(mask[:1], mask.shape)
    core.inpaint_tv(np.broadcast_to(images[:1], images.shape), expected, one, **given)
    assert np.array_equal(expected, np.broadcast_to(expected[:1], images.shape))
    core.inpaint_tv(images, images, mask, **given)
    assert np.array_equal(images, wide[:, :, ::-2, ::3])


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"images": np.zeros((2, 3, 4, 5), np.float16)}, TypeError),
        ({"images": np.zeros((2, 3, 4, 5), np.int32)}, TypeError),
        ({"images": np.zeros((3, 4, 5))}, ValueError),
        ({"out": np.zeros((2, 3, 4, 5), np.float32)}, ValueError),
        ({"out": np.zeros((2, 3, 4, 6))}, ValueError),
        ({"out": np.zeros((1, 3, 4, 5))}, ValueError),
        ({"out": np.broadcast_to(0.0, (2, 3, 4, 5))}, ValueError),
        ({"mask": np.zeros((2, 3, 4, 5), bool)}, ValueError),
        ({"mask": np.zeros((4, 5), bool)}, ValueError),
        ({"mask": np.zeros((1, 1, 4, 5), bool)}, ValueError),
    ],
)
def test_arrays_that_do_not_fit_are_refused(core, change, kind):
    given = {
        "images": np.zeros((2, 3, 4, 5)),
        "out": np.zeros((2, 3, 4, 5)),
        "mask": np.zeros((2, 1, 4, 5), bool),
    }
    with pytest.raises(kind):
        core.inpaint_tv(**{**given, **change}, epsilon=0.1, iterations=1, threads=1)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5), (2, 3, 4, 0)])
def test_nothing_to_do(core, shape):
    images = np.zeros(shape)
    mask = np.zeros((shape[0], 1, *shape[2:]), bool)
    core.inpaint_tv(images, images.copy(), mask, epsilon=0.1, iterations=1, threads=4)


INTERRUPT = """
import os, signal, threading, time
import numpy as np
from splic_ext import _core
shape, threads = {problem}
rng = np.random.default_rng(0)
images, mask = rng.random(shape, np.float32), rng.random((shape[0], 1, *shape[2:])) < 0.5
sent = []
def interrupt():
    time.sleep(0.5)
    sent.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    _core.inpaint_tv(
        images, np.empty_like(images), mask, epsilon=0.1, iterations=2**31 - 1, threads=threads
    )
except KeyboardInterrupt:
    print(time.perf_counter() - sent[0])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no signals to itself")
@pytest.mark.parametrize("problem", [((1, 1, 8, 8), 1), ((5, 3, 500, 500), 2)], ids=str)
def test_an_interrupt_ends_a_call_at_once(core, run_python, problem):
    """Within 0.2 s on an idle machine; others may work on this one."""
    code = INTERRUPT.format(problem=problem)
    assert min(float(run_python(code)) for _ in range(2)) < 0.4


def test_other_python_threads_run_meanwhile(core, run_python):
    code = """
import threading, time
import numpy as np
from splic_ext import _core
images, mask = np.zeros((1, 3, 400, 400), np.float32), np.zeros((1, 1, 400, 400), bool)
mask[..., 0] = True
work = threading.Thread(target=_core.inpaint_tv, args=(images, images.copy(), mask),
    kwargs=dict(epsilon=0.1, iterations=150, threads=1))
work.start()
count = 0
while work.is_alive():
    time.sleep(0.001)
    count += 1
print(count)
"""
    assert int(run_python(code)) > 20
