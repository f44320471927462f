"""Compiled CUDA solver; private, use :func:`splic_ext.complete`."""

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
    iterations: npt.NDArray[np.int32],
    residual: npt.NDArray[np.float64],
    delta: npt.NDArray[np.float64],
    seconds: npt.NDArray[np.float64],
    algorithm: str,
    device: int,
    workspace: int,
    failed: npt.NDArray[np.int32],
) -> None: ...
def status() -> dict[str, Any]: ...
def fits(
    dtype: str, channels: int, height: int, width: int, options: dict[str, Any], shared: int
) -> bool: ...
def is_capturing(device: int, stream: int) -> bool: ...
def load_cusolver(files: list[str]) -> dict[str, str]: ...

class DeviceBatch:
    def __init__(
        self,
        source: Any,
        target: Any,
        dtype: str,
        mask: Any,
        *,
        seed: int,
        first_index: int,
        anchor_threshold: int,
        options: dict[str, Any],
        data_range: float,
        largest: float,
        empty: float,
        algorithm: str,
        device: int,
        stream: int,
        info: dict[str, Any] | None,
    ) -> None: ...
    def fitting(self, limit: int) -> int: ...
    def bytes(self, images: int) -> int: ...
    def run(self, workspace: int, images: int) -> None: ...

class Shared:
    def __init__(self, capsule: Any) -> None: ...
    @property
    def pointer(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def strides(self) -> list[int]: ...
    @property
    def itemsize(self) -> int: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def device(self) -> tuple[int, int]: ...

class DeviceArray:
    def __init__(self, shape: list[int], dtype: str, itemsize: int, device: int) -> None: ...
    @property
    def pointer(self) -> int: ...
    def __dlpack__(self, **kwargs: Any) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
