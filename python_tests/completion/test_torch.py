"""Torch tensors in and out of complete()."""

from __future__ import annotations

import numpy as np
import pytest

from splic_ext import SolverOptions

QUICK = SolverOptions(max_iterations=5)
SHAPE = (3, 2, 6, 5)


@pytest.fixture(params=["uint8", "float16", "bfloat16", "float32", "float64"])
def batch(request, torch):
    rng = np.random.default_rng(0)
    values = torch.from_numpy(rng.random(SHAPE))
    if request.param == "uint8":
        return (255 * values).round().to(torch.uint8)
    return values.to(getattr(torch, request.param))


def test_same_as_numpy(backend, torch, batch):
    before = batch.clone()
    result = backend.complete(batch, options=QUICK)
    assert type(result) is torch.Tensor
    assert (result.dtype, result.shape, result.device) == (batch.dtype, batch.shape, batch.device)
    assert not result.requires_grad
    assert torch.equal(batch, before), "the input was changed"
    if batch.dtype != torch.bfloat16:
        assert np.array_equal(result.numpy(), backend.complete(batch.numpy(), options=QUICK))


def test_memory_formats(backend, torch, batch):
    expected = backend.complete(batch, options=QUICK)
    channels_last = batch.to(memory_format=torch.channels_last)
    result = backend.complete(channels_last, options=QUICK)
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(result, expected)
    spaced = torch.zeros(3, 2, 12, 15, dtype=batch.dtype)[:, :, ::2, ::3]
    spaced.copy_(batch)
    transposed = batch.transpose(2, 3).contiguous().transpose(2, 3)
    for layout in (spaced, transposed):
        assert not layout.is_contiguous()
        assert torch.equal(backend.complete(layout, options=QUICK), expected)
    assert backend.complete(transposed, options=QUICK).stride() == transposed.stride()


def test_expanded_tensor(backend, torch, batch):
    expanded = batch[:1].expand(SHAPE)
    expected = backend.complete(expanded.contiguous(), options=QUICK)
    assert torch.equal(backend.complete(expanded, options=QUICK), expected)


def test_channel_axis(backend, torch, batch):
    expected = backend.complete(batch, options=QUICK)
    result = backend.complete(batch.permute(0, 2, 3, 1), options=QUICK, channel_axis=-1)
    assert torch.equal(result.permute(0, 3, 1, 2), expected)


def test_masks(backend, torch, batch):
    mask = np.random.default_rng(1).random(SHAPE) < 0.5
    expected = backend.complete(batch, mask, options=QUICK)
    assert torch.equal(backend.complete(batch, torch.from_numpy(mask), options=QUICK), expected)
    for wrong in (torch.ones(SHAPE), torch.ones(SHAPE, dtype=torch.int64)):
        with pytest.raises(TypeError, match=r"`mask` must be of bool .* with `mask > 0`"):
            backend.complete(batch, wrong)


def test_out(backend, torch, batch):
    expected = backend.complete(batch, options=QUICK)
    out = torch.zeros(3, 2, 12, 5, dtype=batch.dtype)[:, :, ::2]
    assert backend.complete(batch, options=QUICK, out=out) is out
    assert torch.equal(out, expected)
    assert backend.complete(batch, options=QUICK, out=batch) is batch
    assert torch.equal(batch, expected)


def test_out_that_backward_needs(backend, torch):
    """Torch notices that a saved tensor has changed, as after its own in-place operations."""
    batch = torch.rand(SHAPE)
    for out in (batch, torch.rand(SHAPE), torch.rand(2, *SHAPE)[1]):
        weight = torch.ones(1, requires_grad=True)
        loss = (weight * out).sum()
        backend.complete(batch, options=QUICK, out=out)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    weight = torch.ones(1, requires_grad=True)
    loss = (weight * batch).sum()
    backend.complete(batch, options=QUICK)
    loss.backward()  # nothing was changed


def test_out_of_the_wrong_kind(backend, torch):
    batch = torch.rand(SHAPE)
    for out, kind in (
        (np.zeros(SHAPE, np.float32), "ndarray of float32"),
        (torch.zeros(SHAPE, dtype=torch.int64), "Tensor of int64"),
        (torch.zeros(SHAPE, dtype=torch.bfloat16), "Tensor of bfloat16"),
    ):
        with pytest.raises(TypeError, match=f"`out` must be a Tensor of float32.*got a {kind}"):
            backend.complete(batch, out=out)
    with pytest.raises(ValueError, match="`out` must be on the device of `batch`, 'cpu', got"):
        backend.complete(batch, out=torch.empty(SHAPE, device="meta"))


def test_out_must_not_overlap_itself(backend, torch):
    batch = torch.rand(SHAPE)
    with pytest.raises(ValueError, match="`out`"):
        backend.complete(batch, options=QUICK, out=torch.zeros(1, 2, 6, 5).expand(SHAPE))


def test_negative_view_as_out(backend, torch):
    batch = torch.rand(SHAPE)
    out = torch.complex(torch.zeros(SHAPE), torch.zeros(SHAPE)).conj().imag
    assert out.is_neg()
    # Its memory holds the values with the sign turned: writing them as they are would be wrong.
    with pytest.raises((TypeError, ValueError), match="`out`"):
        backend.complete(batch, options=QUICK, out=out)


def test_negative_view_as_batch(backend, torch):
    values = torch.rand(SHAPE)
    batch = torch.complex(values, -values).conj().imag
    assert batch.is_neg()
    expected = backend.complete(values, options=QUICK)
    assert torch.equal(backend.complete(batch, options=QUICK), expected)


def test_gradients_are_refused(backend, torch):
    batch = torch.rand(SHAPE, requires_grad=True)
    with pytest.raises(TypeError, match=r"`batch` requires grad, .* pass batch.detach\(\)"):
        backend.complete(batch)
    expected = backend.complete(batch.detach(), options=QUICK)
    with torch.no_grad():
        result = backend.complete(batch, options=QUICK)
    assert not result.requires_grad
    assert torch.equal(result, expected)
    with pytest.raises(TypeError, match="`out` requires grad"):
        backend.complete(batch.detach(), out=batch)


def test_parameter(backend, torch):
    values = torch.rand(SHAPE)
    with torch.no_grad():
        result = backend.complete(torch.nn.Parameter(values), options=QUICK)
        out = torch.empty(SHAPE)
        assert backend.complete(torch.nn.Parameter(values), options=QUICK, out=out) is out
    assert torch.equal(result, backend.complete(values, options=QUICK))
    assert torch.equal(out, result)


def test_inference_mode(backend, torch):
    normal = torch.rand(SHAPE)
    expected = backend.complete(normal, options=QUICK)
    with torch.inference_mode():
        inference = normal.clone()
        results = [backend.complete(tensor, options=QUICK) for tensor in (normal, inference)]
        assert backend.complete(inference.clone(), options=QUICK, out=inference) is inference
    assert [tensor.is_inference() for tensor in results] == [False, True]
    assert all(torch.equal(tensor, expected) for tensor in (*results, inference))


def test_empty_batch(backend, torch, batch):
    result = backend.complete(batch[:0], options=QUICK)
    assert (result.shape, result.dtype) == ((0, *SHAPE[1:]), batch.dtype)


def test_tensors_that_cannot_be_completed(backend, torch):
    with pytest.raises(TypeError, match=r"`batch` must be a dense tensor.*; use .to_dense\(\)"):
        backend.complete(torch.rand(6, 5).to_sparse())
    with pytest.raises(TypeError, match=r"`batch` must be of uint8, .*, got int64; convert it"):
        backend.complete(torch.zeros(6, 5, dtype=torch.int64))
    with pytest.raises(TypeError, match=r"`batch` must be of uint8, .*, got complex64"):
        backend.complete(torch.zeros(6, 5, dtype=torch.complex64))
    with pytest.raises(ValueError, match="takes arrays on cpu, got one on 'meta'; move the batch"):
        backend.complete(torch.empty(6, 5, device="meta"))


def test_bfloat16_rounds_to_nearest(backend, torch):
    values = torch.rand(4, 1, 16, 16, dtype=torch.float64).to(torch.bfloat16)
    result = backend.complete(values, options=QUICK)
    expected = backend.complete(values.float(), options=QUICK).to(torch.bfloat16)
    # One ulp where the float result lies halfway; nowhere else.
    assert (result != expected).float().mean() < 0.01
    assert (result.double() - expected.double()).abs().max() <= 2.0**-8
