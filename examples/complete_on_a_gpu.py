"""Complete CuPy arrays where they lie, on the GPU; ends with code 77 where that cannot be."""

import sys

import splic_ext

try:
    import cupy
except ImportError:
    print('CuPy is not installed; install it with pip install "splic-ext[cuda13]", or cuda12')
    sys.exit(77)
if "cuda" not in splic_ext.available_backends():
    print("the CUDA back end cannot run:", splic_ext.backend_info()["cuda"].reason)
    sys.exit(77)

images = cupy.random.default_rng(0).random((256, 3, 32, 32), dtype=cupy.float32)
completed = splic_ext.complete(images, options="recommended")  # on CuPy's current stream
print(type(completed).__module__, completed.shape, "on device", completed.device.id)

expected = splic_ext.complete(images.get(), options="recommended", backend="cpu")
difference = abs(completed.get() - expected)
print(f"beside the CPU: mean difference {difference.mean():.1e}, largest {difference.max():.1e}")
