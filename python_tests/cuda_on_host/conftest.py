"""Fixtures of the tests that run the CUDA back end on the host: the runtime, and its checks."""

from __future__ import annotations

import gc
import sys
from typing import NamedTuple

import pytest
from helpers import cuda_on_host

import splic_ext
from splic_ext import SolverOptions

#: Few iterations, of both passes: two outer loops.
QUICK = SolverOptions(max_iterations=9)


class Kernel(NamedTuple):
    """A way to complete a matrix, what options.algorithm says to it, and images that take it."""

    name: str
    algorithm: str
    side: int
    dtypes: tuple[str, ...] = ("float32", "float64")

    def shape(self, shape):
        """Return the shape of a batch in that size; of large images, at most three."""
        count = min(shape[0], 3) if self.side > 16 else shape[0]
        return (count, *shape[1:-2], self.side, self.side)


KERNELS = (
    Kernel("block", "fused", 8),
    Kernel("warp", "fused", 32, ("float32",)),
    Kernel("tiled", "tiled", 8),
    Kernel("cusolver", "cusolver", 8),
)


@pytest.fixture(scope="session")
def _module():
    if cuda_on_host.folder() is None:
        pytest.skip("SPLIC_CUDA_ON_HOST does not name the folder of a build for the host")
    return cuda_on_host.install()


@pytest.fixture(autouse=True)
def runtime(_module):
    """The runtime; afterwards it must have seen nothing wrong, and nothing may be left over."""
    _module.seed(0)
    _module.violations()
    yield _module
    _module.fail(0)
    for place in range(cuda_on_host.DEVICES + 1):
        _module.limit(place, 0)
    _module.limit_shared(0)
    _module.fail_matrix(0, 0)
    assert _module.violations() == []
    gc.collect()
    for device in range(cuda_on_host.DEVICES):
        _module.set_device(device)
        _module.call("cudaDeviceSynchronize")
    _module.set_device(0)
    assert_nothing_left(_module)


def assert_nothing_left(runtime):
    """No memory, stream or event is left but what the module keeps for its next call."""
    left = runtime.living()
    handles, parameters = runtime.handles()
    assert left["device 0"] == left["device 1"] == left["streams"] == left["queued"] == 0, left
    assert left["events"] == handles == parameters, (left, handles, parameters)
    assert left["pinned"] <= 2, left
    assert cuda_on_host.exported() == 0


#: Bytes of shared memory of the kernel of one warp, for 32 x 32 and 96 x 32.
WARP_BYTES = (13_056, 22_272)


@pytest.fixture(params=KERNELS, ids=[kernel.name for kernel in KERNELS])
def kernel(request, runtime):
    """Each kernel in turn; that of one warp must have run where it is meant, and nowhere else."""

    def launches():
        names = [f"32 threads, {size} bytes of shared memory" for size in WARP_BYTES]
        return sum(runtime.calls(name) for name in names)

    launches()
    yield request.param
    assert (launches() > 0) == (request.param.name == "warp")


@pytest.fixture
def complete():
    """complete() of the CUDA back end, in a few iterations."""

    def run(batch, mask=None, **arguments):
        arguments = {"options": QUICK, "backend": "cuda", **arguments}
        return splic_ext.complete(batch, mask, **arguments)

    return run


@pytest.fixture
def cupy(runtime, monkeypatch):
    """A library like CuPy whose arrays lie on the devices of the runtime."""
    module = cuda_on_host.cupy_on_host(runtime)
    monkeypatch.setitem(sys.modules, "cupy", module)
    yield module
    module.pools.clear()
