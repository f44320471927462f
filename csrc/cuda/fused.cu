// The door to the fused kernel, and means over masks.
#include <algorithm>

#include "fused.cuh"

namespace splic {

extern template cudaError_t launch_blocks<double>(const Problem &, const Launch &, std::size_t,
                                                  cudaStream_t);

namespace {

template <class T>
__global__ void mean_kernel(const __grid_constant__ Problem problem, const T *sums, int masks,
                            std::int64_t count) {
  const int size = problem.stacked_channels() * problem.height * problem.width;
  for (std::int64_t e = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; e < count;
       e += std::int64_t{gridDim.x} * blockDim.x) {
    const std::int64_t plane = e / size;
    const int entry = static_cast<int>(e % size);
    T sum = T(0);
    for (int s = 0; s < masks; ++s)
      sum += sums[(plane * masks + s) * size + entry];
    const T mean = sum / static_cast<T>(masks), top = static_cast<T>(problem.largest);
    const int row = entry / problem.width;
    write_or_nan<T>(
        problem.target.at(plane / problem.planes(),
                          static_cast<int>(plane % problem.planes()) + row / problem.height,
                          row % problem.height, entry % problem.width),
        problem.dtype, mean > top ? top : mean);
  }
}

std::size_t state_bytes_of(const Problem &problem) {
  return problem.dtype == DType::f64 ? state_bytes<double>(problem) : state_bytes<float>(problem);
}

} // namespace

bool fused_fits(const Problem &problem, std::size_t shared_limit) {
  return warp_takes(problem) || state_bytes_of(problem) + kScratchBytes <= shared_limit;
}

std::size_t fused_workspace(const Problem &problem, std::size_t shared_limit, int count) {
  return fused_fits(problem, shared_limit)
             ? 0
             : state_bytes_of(problem) * static_cast<std::size_t>(count);
}

cudaError_t launch_fused(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                         cudaStream_t stream) {
  if (warp_takes(problem))
    return launch_warp(problem, launch, stream);
  return problem.dtype == DType::f64 ? launch_blocks<double>(problem, launch, shared_limit, stream)
                                     : launch_blocks<float>(problem, launch, shared_limit, stream);
}

cudaError_t launch_mean(const Problem &problem, const Launch &launch, cudaStream_t stream) {
  const Geometry g(problem);
  const std::int64_t count = launch.count / launch.streams * std::int64_t{g.m} * g.n;
  const std::int64_t blocks = std::min<std::int64_t>(count / 256 + 1, 65536);
  if (problem.dtype == DType::f64)
    return splic::launch(mean_kernel<double>, blocks, 256, 0, stream, problem,
                         static_cast<const double *>(launch.sums), launch.streams, count);
  return splic::launch(mean_kernel<float>, blocks, 256, 0, stream, problem,
                       static_cast<const float *>(launch.sums), launch.streams, count);
}

} // namespace splic
