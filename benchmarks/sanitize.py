"""Small completions that reach all CUDA kernels, to be run under compute-sanitizer.

compute-sanitizer --tool memcheck python benchmarks/sanitize.py [quick] [fused] [tiled] [cusolver]

It fails where a result is far from that of the reference.
"""

from __future__ import annotations

import sys

import numpy as np

import splic_ext
from splic_ext import SolverOptions

#: (N, C, H, W), dtype, options. The first four have the kernel of one warp a matrix; the last shape
#: does not fit the fast memory of a multiprocessor.
CASES = (
    ((2, 3, 32, 32), "float32", {}),
    ((2, 3, 32, 32), "float16", {"channels": "separate"}),
    ((1, 3, 32, 32), "uint8", {"rank": 12, "n_masks": 2}),
    ((1, 1, 32, 32), "float32", {"rank": 12}),
    ((3, 3, 16, 16), "float32", {}),
    ((2, 1, 12, 9), "float64", {"n_masks": 2}),
    ((2, 3, 8, 16), "uint8", {"channels": "separate", "tv_gradient": "forward"}),
    ((2, 1, 5, 40), "float16", {"alternate": False, "tv_weight": 0.0}),
    ((1, 3, 96, 100), "float32", {"max_iterations": 2}),
)
#: Largest mean difference, pixels in [0, 1]: rounding to the dtype, and rank cuts of noise.
FAR = 1e-3


def main(words: list[str]) -> int:
    """Complete every case with every algorithm, and compare with the reference."""
    far, quick = 0, "quick" in words
    algorithms = [word for word in words if word != "quick"]
    rng = np.random.default_rng(0)
    for algorithm in algorithms or ["fused", "tiled", "cusolver"]:
        for shape, dtype, changes in CASES[:6:4] if quick else CASES:
            values = rng.random(shape)
            batch = (255 * values if dtype == "uint8" else values).astype(dtype)
            options = SolverOptions(**{"max_iterations": 2 if quick else 8, **changes})
            result = splic_ext.complete(
                batch, options=options.replace(algorithm=algorithm), backend="cuda"
            )
            expected = splic_ext.complete(batch, options=options, backend="numpy")
            error = np.abs(result.astype(float) - expected.astype(float)).mean()
            error /= 255 if dtype == "uint8" else 1
            far += not error <= FAR
            print(f"{algorithm:9} {dtype:8} {shape}: mean difference {error:.2g}")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
