// The door between the CUDA kernels (compiled by nvcc, without pybind11) and the rest.
#pragma once

#include <cstddef>

#include <cuda_runtime_api.h>

#include "splic/geometry.hpp"

namespace splic {

class EigenSolver;

// Where the parts of a workspace begin: at multiples of this.
constexpr std::size_t kAlign = 256;
inline std::size_t aligned(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

// What one launch completes: items 0 to `count - 1`, numbered as in the CPU solver,
// (image * planes + plane) * streams + stream.
struct Launch {
  int count = 0;
  int streams = 1;
  Record *records = nullptr; // one for each item, on the device; null: nobody wants them
  void *sums = nullptr;      // result of item i at sums + i * m * n, or null: into the target
  unsigned char *workspace = nullptr;
};

// ---- warp.cu: one warp completes a matrix ----

// Whether it is of a size, a precision and a rank that this kernel was made for.
bool warp_takes(const Problem &problem);
cudaError_t launch_warp(const Problem &problem, const Launch &launch, cudaStream_t stream);

// ---- fused.cu: one thread block completes a matrix, where a warp does not ----

// Whether the state of a matrix fits the shared memory that a block can have.
bool fused_fits(const Problem &problem, std::size_t shared_limit);
// Device memory for `count` matrices, 0 where they fit.
std::size_t fused_workspace(const Problem &problem, std::size_t shared_limit, int count);

// All pointers of the problem are of the device. Asynchronous on the stream.
cudaError_t launch_fused(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                         cudaStream_t stream);

// ---- tiled.cu: many blocks complete a matrix, in steps ----

// Device memory for `count` matrices; blocks of a step to a matrix, at most.
std::size_t tiled_workspace(const Problem &problem, std::size_t shared_limit, int count);
int tiled_blocks(const Problem &problem);

// Throws CudaError. Asynchronous on the stream.
void launch_tiled(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                  cudaStream_t stream);

// ---- fused.cu as well ----

// target = mean over `streams` results of each plane, from sums.
cudaError_t launch_mean(const Problem &problem, const Launch &launch, cudaStream_t stream);

// ---- cusolver.cu: kernels around a batched eigensolver ----

// Marks the current device. fresh: the mark was not there; since the last time, if there was one,
// the device has been reset, and what was created on it is gone.
cudaError_t mark_device(bool &fresh);

std::size_t steps_workspace(const Problem &problem, const EigenSolver &solver, int count);

// Throws CudaError, CusolverError. Asynchronous on the stream.
void launch_steps(const Problem &problem, const Launch &launch, EigenSolver &solver,
                  cudaStream_t stream);

} // namespace splic
