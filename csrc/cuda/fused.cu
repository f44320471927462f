// The fused kernel: a thread block completes a matrix, from the first load to the last store.
#include <algorithm>

#include "team.cuh"
#include "team/fused.hpp"

namespace splic {
namespace {

// Teams, and how many of them the registers of a multiprocessor have to do for; with more of them
// values are spilled. Small matrices have a warp each, of which many fit; others more threads, for
// few fit.
struct Small {
  static constexpr int kThreads = 32, kBlocks = 12;
};
struct Middle {
  static constexpr int kThreads = 128, kBlocks = 4;
};
struct Large { // the state lies in device memory
  static constexpr int kThreads = kMostThreads, kBlocks = 1;
};
constexpr std::size_t kSmallState = 24 << 10; // bytes of a matrix that is left to a warp

template <class T, class Size>
__global__ void __launch_bounds__(Size::kThreads, Size::kBlocks)
    complete_kernel(const __grid_constant__ Problem problem, const __grid_constant__ Launch launch,
                    std::size_t stride) {
  unsigned char *const shared = launch_shared();
  const std::int64_t place = blockIdx.x;
  // Chosen when this is compiled: the state then is reached as the memory that it lies in, not by
  // addresses that may be of either.
  unsigned char *memory;
  if constexpr (Size::kThreads == kMostThreads)
    memory = launch.workspace + place * stride;
  else
    memory = shared + kScratchBytes;
  Record *record = launch.records ? launch.records + place : nullptr;
  using Team = Block<Size::kThreads>;
  const Team team{{}, reinterpret_cast<double *>(shared)};
  Fused<T, Team> fused(problem, team);
  if (record && threadIdx.x == 0)
    *record = Record();
  team.sync();
  fused.run(memory, item_of(problem, launch, place), record, sum_of<T>(problem, launch, place));
}

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

template <class T, class Size>
cudaError_t launch_team(const Problem &problem, const Launch &launch, std::size_t shared,
                        std::size_t stride, cudaStream_t stream) {
  const cudaError_t status =
      allow_shared(reinterpret_cast<const void *>(complete_kernel<T, Size>), shared);
  if (status != cudaSuccess)
    return status;
  return splic::launch(complete_kernel<T, Size>, launch.count, Size::kThreads, shared, stream,
                       problem, launch, stride);
}

template <class T> std::size_t state_bytes(const Problem &problem) {
  return (Fused<T, BlockTeam>::bytes(problem) + 255) / 256 * 256;
}
std::size_t state_bytes_of(const Problem &problem) {
  return problem.dtype == DType::f64 ? state_bytes<double>(problem) : state_bytes<float>(problem);
}

template <class T>
cudaError_t launch_precision(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                             cudaStream_t stream) {
  const std::size_t stride = state_bytes<T>(problem);
  if (!fused_fits(problem, shared_limit))
    return launch_team<T, Large>(problem, launch, kScratchBytes, stride, stream);
  Launch without = launch;
  without.workspace = nullptr;
  const std::size_t shared = stride + kScratchBytes;
  return stride <= kSmallState ? launch_team<T, Small>(problem, without, shared, 0, stream)
                               : launch_team<T, Middle>(problem, without, shared, 0, stream);
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
  return problem.dtype == DType::f64
             ? launch_precision<double>(problem, launch, shared_limit, stream)
             : launch_precision<float>(problem, launch, shared_limit, stream);
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
