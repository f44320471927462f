// The door between the CUDA kernels (compiled by nvcc, without pybind11) and the rest.
#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

#include "splic/geometry.hpp"

namespace splic {

// What one launch completes: items `first` to `first + count - 1`, numbered as in the CPU solver,
// (image * planes + plane) * streams + stream - first_stream.
struct Launch {
  std::int64_t first = 0;
  int count = 0;
  int first_stream = 0, streams = 1;
  Record *records = nullptr; // one for each item, on the device
  void *sums = nullptr;      // result of item i at sums + i * m * n, or null: into the target
  void *workspace = nullptr; // fused_workspace() bytes, or null where that is 0
};

// Shared memory of a completion in bytes, and the device memory that a launch of `count` items
// needs where that is more than a block of this device can have (0: it fits).
std::size_t fused_shared_bytes(const Problem &problem);
std::size_t fused_workspace_bytes(const Problem &problem, std::size_t shared_limit, int count);

// All pointers of the problem are of the device. Asynchronous on the stream.
cudaError_t launch_fused(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                         cudaStream_t stream);

// target = mean over `streams` results of each plane of images [first_image, + images), from sums.
cudaError_t launch_mean(const Problem &problem, const void *sums, std::int64_t first_image,
                        std::int64_t images, cudaStream_t stream);

} // namespace splic
