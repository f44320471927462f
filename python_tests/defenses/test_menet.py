"""ME-Net's three against NumPy: other algorithms, or the same written another way."""

from __future__ import annotations

import numpy as np
import pytest

import splic_ext

torch = pytest.importorskip("torch", reason="torch is not installed")
defenses = pytest.importorskip("splic_ext.defenses")
spectral = pytest.importorskip("splic_ext.autograd.spectral")

SEED = 11


@pytest.fixture(scope="module")
def images(request):
    """Six real images where there are any, else smooth ones with noise; float64."""
    try:
        pixels = request.getfixturevalue("cifar10")[0][:6] / 255
    except pytest.skip.Exception:
        clean = request.getfixturevalue("smooth")((6, 3, 32, 32))
        noise = np.random.default_rng(0).normal(0, 0.05, clean.shape)
        pixels = (clean + noise).clip(0, 1)
    return np.ascontiguousarray(pixels, dtype=np.float64)


def matrices(images):
    """Yield the H x 3W matrix of each image in [-1, 1], and its mask."""
    masks = splic_ext.masks.bernoulli_masks(images.shape, seed=SEED)
    for image, mask in zip(images, masks, strict=True):
        yield np.hstack(2 * image - 1), np.hstack(mask)


def picture(matrix, channels=3):
    return (np.stack(np.hsplit(matrix.clip(-1, 1), channels)) + 1) / 2


def compare(defense, images, expected, double, single):
    """Bounds of the largest differences in float64 and in float32."""
    batch = torch.from_numpy(images)
    assert np.abs(defense(batch).numpy() - expected).max() < double
    assert np.abs(defense(batch.float()).numpy() - expected).max() < single


def usvt(matrix, mask, keep):
    """Project on the leading eigenvectors of the Gram matrix."""
    masked = np.where(mask, matrix, 0.0)
    _, vectors = np.linalg.eigh(masked @ masked.T)  # ascending
    leading = vectors[:, len(vectors) - int(keep * len(matrix)) :]
    return leading @ (leading.T @ masked) * (mask.size / mask.sum())


@pytest.mark.parametrize("keep", [0.8, 0.25, 0.0, 1.0])
def test_usvt(images, keep):
    expected = np.stack([picture(usvt(*pair, keep)) for pair in matrices(images)])
    compare(defenses.USVT(keep, seed=SEED), images, expected, 1e-12, 2e-5)


def soft_impute(matrix, mask, shrinkage, iterations, tolerance):
    """One matrix, on the vector of its missing entries."""
    tau = shrinkage * np.linalg.norm(np.where(mask, matrix, 0.0), 2)
    missing = np.zeros(np.count_nonzero(~mask))
    for _ in range(iterations):
        work = matrix.copy()
        work[~mask] = missing
        values, vectors = np.linalg.eigh(work @ work.T)
        scale = np.array([max(1 - tau / np.sqrt(v), 0.0) if v > 0 else 0.0 for v in values])
        found = ((vectors * scale) @ vectors.T @ work)[~mask]
        norm, change = np.linalg.norm(missing), np.linalg.norm(found - missing)
        missing = found
        if norm > 0 and change / norm < tolerance:
            break
    work = matrix.copy()
    work[~mask] = missing
    return work


@pytest.mark.parametrize(
    ("shrinkage", "iterations", "tolerance"),
    [(1 / 50, 100, 1e-3), (0.1, 7, 0.0), (0.05, 100, 0.05)],
)
def test_soft_impute(images, shrinkage, iterations, tolerance):
    arguments = shrinkage, iterations, tolerance
    expected = np.stack([picture(soft_impute(*pair, *arguments)) for pair in matrices(images)])
    compare(defenses.SoftImpute(*arguments, seed=SEED), images, expected, 1e-11, 2e-5)


def test_soft_impute_keeps_what_is_observed(images):
    masks = splic_ext.masks.bernoulli_masks(images.shape, seed=SEED)
    result = defenses.SoftImpute(seed=SEED)(torch.from_numpy(images)).numpy()
    assert np.abs(result - images)[masks].max() < 1e-12
    assert np.abs(result - images)[~masks].max() > 0.1


def nuclear_norm(matrix, mask, weight, iterations=2500, penalty=0.5):
    """ADMM on min weight ||Z||_* + ||M (W - A)||^2 with W = Z."""
    z = np.zeros_like(matrix)
    dual = np.zeros_like(matrix)
    for _ in range(iterations):
        w = (2 * mask * matrix + penalty * (z - dual)) / (2 * mask + penalty)
        u, s, vh = np.linalg.svd(w + dual, full_matrices=False)
        z = (u * np.maximum(s - weight / penalty, 0)) @ vh
        dual += w - z
    assert np.abs(w - z).max() < 1e-9
    return z


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_nuclear_norm(images, weight):
    few = images[:1]
    expected = np.stack([picture(nuclear_norm(*pair, weight)) for pair in matrices(few)])
    compare(defenses.NuclearNorm(weight, seed=SEED), few, expected, 5e-4, 5e-4)
    exact = defenses.NuclearNorm(weight, iterations=1000, tolerance=1e-12, seed=SEED)
    compare(exact, few, expected, 1e-9, 2e-5)


def test_nuclear_norm_optimality(images):
    """2 M (A - W) / mu is a subgradient of the nuclear norm: U V' plus a part of norm <= 1."""
    defense = defenses.NuclearNorm(iterations=1000, tolerance=1e-12, seed=SEED)
    pairs = list(matrices(images))
    a, m = (np.stack([pair[i] for pair in pairs]).astype(np.float64) for i in (0, 1))
    w = defense.estimate(torch.from_numpy(a), torch.from_numpy(m)).numpy()
    for subgradient, matrix in zip(2 * m * (a - w), w, strict=True):
        assert np.linalg.norm(subgradient, 2) < 1 + 1e-8
        total = np.linalg.norm(matrix, "nuc")
        assert abs((subgradient * matrix).sum() - total) < 1e-8 * total


@pytest.mark.parametrize("name", ["USVT", "SoftImpute", "NuclearNorm"])
def test_all_and_nothing_observed(images, name):
    batch = torch.from_numpy(images)
    nothing = getattr(defenses, name)(anchor_fraction=0.0, seed=0)(batch)
    assert torch.equal(nothing, torch.full_like(batch, 0.5))
    everything = getattr(defenses, name)(anchor_fraction=1.0, seed=0)(batch)
    assert (everything - batch).abs().max() < 0.3
    if name == "SoftImpute":
        assert (everything - batch).abs().max() < 1e-12


def test_soft_impute_does_not_depend_on_the_batch(images):
    """Each matrix stops by itself."""
    batch = torch.from_numpy(images[:3])
    defense = defenses.SoftImpute(seed=SEED)
    parts = torch.cat([defense(batch[i : i + 1], index=i) for i in range(len(batch))])
    torch.testing.assert_close(defense(batch), parts, rtol=0, atol=1e-12)


# The spectral map and its derivative


@pytest.mark.parametrize("shape", [(2, 4, 6), (2, 6, 4), (1, 5, 5), (1, 1, 3)])
@pytest.mark.parametrize("rank", [None, 2])
def test_shrink_spectrum(shape, rank):
    rng = np.random.default_rng(4)
    values = torch.from_numpy(rng.normal(size=shape)).requires_grad_()
    threshold = torch.from_numpy(rng.uniform(0.1, 0.6, shape[0])).requires_grad_()
    result = spectral.shrink_spectrum(values, threshold, rank).detach().numpy()
    for matrix, tau, found in zip(
        values.detach().numpy(), threshold.detach().numpy(), result, strict=True
    ):
        u, s, vh = np.linalg.svd(matrix, full_matrices=False)
        s = np.maximum(s - tau, 0)
        s[len(s) if rank is None else rank :] = 0
        np.testing.assert_allclose(found, u @ np.diag(s) @ vh, atol=1e-12)
    assert torch.autograd.gradcheck(
        lambda v, t: spectral.shrink_spectrum(v, t, rank), (values, threshold)
    )


@pytest.mark.parametrize("shape", [(3, 3), (3, 5), (5, 3)])
def test_derivative_where_singular_values_are_equal(shape):
    """Autograd through the decomposition itself gives NaN there."""
    values = (2 * torch.eye(*shape, dtype=torch.float64))[None].requires_grad_()
    threshold = torch.tensor([0.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda v: spectral.shrink_spectrum(v, threshold), (values,))


def test_derivative_at_zero():
    values = torch.zeros(1, 3, 4, dtype=torch.float64, requires_grad=True)
    spectral.shrink_spectrum(values, torch.tensor([0.5], dtype=torch.float64)).sum().backward()
    assert torch.equal(values.grad, torch.zeros_like(values))
