"""Compiled CPU solver; private, use :func:`splic_ext.complete`."""

from typing import Any

import numpy as np
import numpy.typing as npt

def solve(
    source: npt.NDArray[Any],
    target: npt.NDArray[Any],
    dtype: str,
    mask: npt.NDArray[np.bool_] | None,
    *,
    seed: int,
    first_index: int,
    anchor_threshold: int,
    options: dict[str, Any],
    data_range: float,
    largest: float,
    empty: float,
    threads: int,
    iterations: npt.NDArray[np.int32],
    residual: npt.NDArray[np.float64],
    delta: npt.NDArray[np.float64],
    seconds: npt.NDArray[np.float64],
    cotangent: npt.NDArray[Any] | None = None,
    cut_width: float = 0.0,
) -> None: ...
def inpaint_tv(
    images: npt.NDArray[Any],
    out: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_],
    *,
    epsilon: float,
    iterations: int,
    threads: int,
) -> None: ...
def denoise_tv(
    images: npt.NDArray[Any],
    out: npt.NDArray[Any],
    *,
    weight: float,
    iterations: int,
    threads: int,
    cotangent: npt.NDArray[Any] | None = None,
) -> None: ...
def estimate(
    matrices: npt.NDArray[Any],
    out: npt.NDArray[Any],
    mask: npt.NDArray[np.bool_],
    done: npt.NDArray[np.int32],
    *,
    nuclear: bool,
    amount: float,
    tolerance: float,
    iterations: int,
    threads: int,
    cotangent: npt.NDArray[Any] | None = None,
) -> None: ...
def build_info() -> dict[str, Any]: ...

cuda_reason: str
