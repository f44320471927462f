"""Print the compute capabilities of the CUDA GPUs here, as in "90 120"; or why there is none.

It asks the driver itself, which is what the module will need at run time.
"""

import ctypes
import sys

MAJOR, MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_...


def main() -> str:
    """Return the capabilities; exit with a reason where there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        sys.exit("there is no NVIDIA driver (libcuda.so.1)")
    status = driver.cuInit(0)
    if status:
        sys.exit(f"the NVIDIA driver finds no GPU (cuInit returned {status})")
    count, value = ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGetCount(ctypes.byref(count))
    found = set()
    for device in range(count.value):
        parts = []
        for attribute in (MAJOR, MINOR):
            if driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device):
                sys.exit("the NVIDIA driver does not tell the compute capability of the GPU")
            parts.append(value.value)
        found.add(10 * parts[0] + parts[1])
    if not found:
        sys.exit("the NVIDIA driver finds no GPU")
    return " ".join(map(str, sorted(found)))


print(main())
