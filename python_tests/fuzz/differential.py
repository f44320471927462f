"""The native solver against the reference on random problems.

``PYTHONPATH=python_tests python -m fuzz.differential [CASES]`` tries so many, by default 2000, in
float32 and float64; SPLIC_FUZZ_SEED is the number of the first. The exit code is 1 if one is wrong.

A result is wrong if it is further from the reference than 2e-5 and than four times what LAPACK's
float32 makes of the same formulas, where the problem is well conditioned: the reference moves by
less than 1e-4 if the pixels move by 1e-6, and if the transposed matrices are decomposed instead.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from unittest import mock

import numpy as np

import splic_ext
from splic_ext import SolverOptions
from splic_ext.backends.reference import complete_matrices
from splic_ext.masks import bernoulli_masks

__all__ = ["KINDS", "Case", "Verdict", "judge", "make_case"]

LEAST, MOVED, FACTOR = 2e-5, 1e-4, 4.0
KINDS = ("noise", "sparse", "constant", "rank 1", "low contrast", "steps", "photograph")
SVD = np.linalg.svd


@dataclass(frozen=True)
class Case:
    """A problem: an image of shape (1, C, H, W), its mask, options."""

    kind: str
    image: np.ndarray
    mask: np.ndarray
    options: SolverOptions


@dataclass(frozen=True)
class Verdict:
    """How far results are from the reference: ours, LAPACK's float32, perturbed references."""

    error: float
    lapack: float
    moved: float

    @property
    def counts(self) -> bool:
        """Whether the problem is well conditioned."""
        return self.moved < MOVED

    @property
    def wrong(self) -> bool:
        """Whether the result is further off than it may be."""
        return self.counts and not self.error <= max(LEAST, FACTOR * self.lapack)


def make_image(kind: str, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    _, c, h, w = shape
    if kind == "noise":
        x = rng.random(shape)
    elif kind == "sparse":
        x = rng.random(shape) * (rng.random(shape) < rng.choice([0.02, 0.1, 0.3]))
    elif kind == "constant":
        x = np.full(shape, rng.random())
    elif kind == "rank 1":
        x = rng.random((1, c, h, 1)) * rng.random((1, c, 1, w))
    elif kind == "low contrast":
        x = 0.5 + rng.choice([1e-3, 1e-2]) * rng.standard_normal(shape)
    elif kind == "steps":
        x = 0.5 * ((rng.random((1, c, h, 1)) < 0.5) * 1 + (rng.random((1, c, 1, w)) < 0.5))
    else:  # the spectrum of photographs, and a little noise
        y, z = np.mgrid[:h, :w] / max(h, w)
        x = rng.normal(0, 0.01, shape)
        for fy, fx in rng.normal(0, 6, (12, 2)):
            size = rng.normal(0, 1 / (1 + np.hypot(fy, fx)), (1, c, 1, 1))
            x = x + size * np.cos(2 * np.pi * (fy * y + fx * z) + rng.uniform(0, 6.3))
        x = (x - x.min()) / max(np.ptp(x), 1e-9)
    return (np.clip(x, 0, 1) * 0.999).astype(np.float32)


def make_mask(options: SolverOptions, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Pixels at random; or all but blocks, or all but bands, hidden or shown."""
    rng = np.random.default_rng([seed, 1])
    fraction = options.anchor_fraction
    if rng.random() < 0.75:
        return bernoulli_masks(
            shape,
            anchor_fraction=fraction,
            seed=seed,
            first_index=0,
            stream=0,
            channels=options.channels,
        )
    _, _, h, w = shape
    mask = np.ones((1, 1, h, w), np.bool_)
    for _ in range(rng.integers(1, 3)):
        high, wide = rng.integers(1, h + 1), rng.integers(1, w + 1)
        top, left = rng.integers(0, h - high + 1), rng.integers(0, w - wide + 1)
        mask[..., top : top + high, left : left + wide] = False
    return mask if rng.random() < 0.7 else ~mask


def make_case(seed: int) -> Case:
    """Return the case of that number."""
    rng = np.random.default_rng(seed)
    shape = (1, int(rng.integers(1, 5)), *(int(n) for n in rng.integers(1, 71, 2)))
    least, most = rng.choice([(0.01, 0.1), (0.9, 0.99), (0.01, 0.99)])
    kind = str(rng.choice(KINDS))
    image = make_image(kind, shape, rng)
    near = rng.random() < 0.3
    options = SolverOptions(
        rank=int(rng.integers(1, min(shape[2:]) + 1)) if rng.random() < 0.5 else None,
        tv_weight=float(rng.choice([0, 0.02, 0.02, 0.1, 0.4])),
        delta_decay=float(rng.choice([0.45, 0.45, 0.3, 0.8])),
        step_size=float(rng.choice([0.5, 0.5, 0.3, 0.9])),
        inner_iterations=int(rng.choice([7, 7, 1, 3])),
        max_iterations=int(rng.choice([70, 70, 18, 35])),
        tolerance=float(rng.choice([1e-6, 1e-6, 0, 1e-4])),
        anchor_fraction=float(rng.uniform(least, most)),
        alternate=bool(rng.random() < 0.6),
        channels="stacked" if rng.random() < 0.5 else "separate",
        tv_gradient="exact" if rng.random() < 0.7 else "forward",
        empty_value=rng.choice([None, None, 0.0, 0.3]),
        start="image" if near else "zero",
        first_delta=float(rng.choice([1.0, 0.3, 0.05])) if near or rng.random() < 0.1 else 1.0,
    )
    return Case(kind, image, make_mask(options, shape, seed), options)


def transposed_svd(matrices, full_matrices=True, compute_uv=True):
    """What numpy.linalg.svd returns, by way of the transposed matrices."""
    if not compute_uv:
        return SVD(matrices, compute_uv=False)
    u, s, vt = SVD(np.ascontiguousarray(matrices.swapaxes(-1, -2)), full_matrices=full_matrices)
    return vt.swapaxes(-1, -2), s, u.swapaxes(-1, -2)


def reference(case: Case, image: np.ndarray) -> np.ndarray:
    """Algorithm 1 as the reference back end has it, in the precision of the image."""
    _, c, h, w = image.shape
    options = case.options.replace(rank=case.options.rank or max(1, min(h, w) // 4))
    rows = h if options.channels == "separate" else c * h
    x = image.reshape(-1, rows, w)
    mask = np.broadcast_to(case.mask, image.shape).reshape(x.shape)
    with np.errstate(all="ignore"):
        for anchors in (mask, ~mask) if options.alternate else (mask,):
            x = complete_matrices(x, anchors, options, h, empty=options.empty_value)[0]
    return np.clip(x.reshape(image.shape), 0, 1)


def judge(case: Case, seed: int, dtypes: tuple[str, ...] = ("float32", "float64")) -> list[Verdict]:
    """Complete a case in each precision and compare."""
    image = case.image.astype(np.float64)
    true = reference(case, image)
    with mock.patch.object(np.linalg, "svd", transposed_svd):
        moved = abs(reference(case, image) - true).max()
    rng = np.random.default_rng([seed, 2])
    for _ in range(3):
        near = np.abs(image + 1e-6 * rng.choice([-1.0, 1.0], image.shape))
        moved = max(moved, abs(reference(case, near) - true).max())
    lapack = abs(reference(case, case.image) - true).max()
    verdicts = []
    for dtype in dtypes:
        ours = splic_ext.complete(
            case.image.astype(dtype), case.mask, options=case.options, backend="cpu"
        )
        verdicts.append(Verdict(abs(ours - true).max(), lapack, moved))
    return verdicts


def main() -> int:
    """Try the cases, and print those that are wrong and the counts."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    first = int(os.environ.get("SPLIC_FUZZ_SEED", "0"))
    counted = diverged = wrong = 0
    worst = [0.0, 0.0]
    for seed in range(first, first + count):
        case = make_case(seed)
        try:
            verdicts = judge(case, seed)
        except (ArithmeticError, np.linalg.LinAlgError):
            diverged += 1
            continue
        counted += verdicts[0].counts
        for i, verdict in enumerate(verdicts):
            if verdict.counts:
                worst[i] = max(worst[i], verdict.error)
            if verdict.wrong:
                wrong += 1
                print(
                    f"{seed}: {case.kind} {case.image.shape}, {case.options}: {verdict}", flush=True
                )
    print(
        f"{count} cases, {diverged} diverged, {counted} well conditioned; largest error "
        f"{worst[0]:.2g} in float32, {worst[1]:.2g} in float64; {wrong} wrong"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
