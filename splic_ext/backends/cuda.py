"""The CUDA back end: ``splic_ext._cuda``: fused kernels, tiles, or kernels around cuSOLVER."""

from __future__ import annotations

import os
from functools import cache
from importlib import import_module
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from splic_ext.arrays.devices import Placement
from splic_ext.arrays.dtypes import rounding
from splic_ext.backends import cusolver
from splic_ext.backends.base import Backend, BackendInfo, Problem
from splic_ext.backends.cpu import cuda_reason, refused
from splic_ext.common.checks import out_of_range
from splic_ext.errors import BackendUnavailableError
from splic_ext.options import Algorithm

__all__ = ["BACKEND", "workspace_bytes"]

#: Device memory that chunks may take, in MB, unless SPLIC_CUDA_WORKSPACE_MB says otherwise.
DEFAULT_WORKSPACE_MB = 512
MAX_WORKSPACE_MB = 1 << 20

#: The line that builds the module wherever there is an nvcc.
BUILD = "SKBUILD_CMAKE_DEFINE=SPLIC_CUDA=ON pip install --no-cache-dir --force-reinstall ."

_cuda: Any = None
_REASON = ""
try:
    _cuda = import_module("splic_ext._cuda")
except ImportError as error:
    _REASON = (
        refused(error)
        or (
            f"the CUDA module was not built: {cuda_reason()}; build it"
            if isinstance(error, ModuleNotFoundError) and error.name == "splic_ext._cuda"
            else f"the CUDA module was built but cannot be loaded ({error}); build it again"
        )
        + f" with `{BUILD}`"
    )


def workspace_bytes() -> int:
    """Return the device memory that chunks may take, in bytes."""
    text = os.environ.get("SPLIC_CUDA_WORKSPACE_MB", "").strip() or str(DEFAULT_WORKSPACE_MB)
    value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= MAX_WORKSPACE_MB:
        raise ValueError(
            f"the environment variable SPLIC_CUDA_WORKSPACE_MB must be an integer in "
            f"[1, {MAX_WORKSPACE_MB}], got {text!r}; unset it to use {DEFAULT_WORKSPACE_MB}"
        )
    return value << 20


@cache
def _status() -> dict[str, Any]:
    return dict(_cuda.status())


class CUDABackend(Backend):
    """Completes arrays of a CUDA device where they are, and those of the CPU on the first one."""

    name = "cuda"

    def info(self) -> BackendInfo:
        """Describe the back end: devices, or why there is none."""
        details: dict[str, Any] = {}
        reason: str | None = _REASON
        if _cuda is not None:
            details = dict(_status())
            reason = details.pop("reason") or None
        return BackendInfo(
            self.name,
            reason is None,
            reason,
            ("cpu", "cuda"),
            ("float32", "float64"),
            details,
            get_args(Algorithm),
        )

    def solve(self, problem: Problem) -> None:
        """Complete the batch without the GIL; wait for the device if records are wanted."""
        count = len(problem.info.seconds)
        failed = np.zeros(count, np.int32)
        place = problem.placement
        algorithm = self._algorithm(problem, 0 if place is None else place.index)
        if place is None:
            _cuda.solve(
                **problem.native_arguments(),
                algorithm=algorithm,
                device=0,
                workspace=workspace_bytes(),
                failed=failed,
            )
        else:
            low, high = np.zeros(count), np.zeros(count)
            records = {**vars(problem.info), "failed": failed, "low": low, "high": high}
            batch = _cuda.DeviceBatch(
                problem.source,
                problem.target,
                mask=problem.mask,
                **problem.native_parameters(),
                algorithm=algorithm,
                device=place.index,
                stream=place.stream,
                info=records if place.reads else None,
            )
            _run(batch, place)
            if place.reads:
                _check_values(low, high, problem.dtype, problem.data_range)
        broken = np.flatnonzero(failed)
        if broken.size:
            raise ArithmeticError(
                f"cuSOLVER found no eigenvectors for image {broken[0]} ({broken.size} in all; "
                f"info = {failed[broken[0]]}); use `algorithm='fused'`"
            )

    def _algorithm(self, problem: Problem, device: int) -> str:
        """Return how to decompose; cuSOLVER, if it is that, is loaded."""
        wanted = problem.options.algorithm
        if wanted == "auto":
            found = [entry for entry in _status()["devices"] if entry["index"] == device]
            _, channels, height, width = problem.source.shape
            fits = _cuda.fits(
                dtype=problem.dtype,
                channels=channels,
                height=height,
                width=width,
                options=problem.options.to_dict(),
                shared=found[0]["shared_memory"] if found else 0,
            )
            wanted = "fused" if fits else "tiled"
        if wanted == "cusolver":
            try:
                cusolver.load(_cuda)
            except RuntimeError as error:
                _, channels, height, width = problem.source.shape
                raise BackendUnavailableError(
                    f"`algorithm={problem.options.algorithm!r}` needs cuSOLVER for {channels} "
                    f"channels of {height} x {width}, and it cannot be loaded: {error}; install "
                    'it with `pip install "splic-ext[cuda13]"` (cuda12 for CUDA 12), or use '
                    "`algorithm='auto'`, which needs no library"
                ) from None
        return wanted


def _run(batch: Any, place: Placement) -> None:
    """Complete a batch on a device in chunks that its memory allows."""
    images = batch.fitting(workspace_bytes())
    while True:
        size = batch.bytes(images)
        try:
            block, address = place.scratch(size) if size else (None, 0)
        except MemoryError:
            if images == 1:
                raise MemoryError(
                    f"the CUDA device has too little free memory: a chunk of one image needs "
                    f"{size} bytes; free some, or use smaller images or n_masks"
                ) from None
            images = (images + 1) // 2
            continue
        batch.run(address, images)
        del block  # whatever takes this memory next comes later on the stream
        return


def _check_values(
    low: npt.NDArray[np.float64], high: npt.NDArray[np.float64], dtype: str, data_range: float
) -> None:
    """Raise as complete() does for arrays of the CPU, from what the device has seen."""
    slack = rounding(dtype) * data_range
    wrong = np.flatnonzero(~((low >= -slack) & (high <= data_range + slack)))
    if wrong.size:
        raise out_of_range(int(wrong[0]), low[wrong[0]], high[wrong[0]], data_range)


BACKEND = CUDABackend()
