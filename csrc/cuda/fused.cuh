// The fused kernel: a thread block completes a matrix, from the first load to the last store.
// Compiled by fused.cu in float32 and by fused_double.cu in float64: each takes minutes.
#pragma once

#include "team.cuh"
#include "team/fused.hpp"

namespace splic {

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
  Record *record = record_of(launch, place);
  using Team = Block<Size::kThreads>;
  const Team team{{}, reinterpret_cast<double *>(shared)};
  Fused<T, Team> fused(problem, team);
  if (record && threadIdx.x == 0)
    *record = Record();
  team.sync();
  fused.run(memory, item_of(problem, launch, place), record, sum_of<T>(problem, launch, place));
}

template <class T> std::size_t state_bytes(const Problem &problem) {
  return aligned(Fused<T, BlockTeam>::bytes(problem));
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

// Launches it in the precision T.
template <class T>
cudaError_t launch_blocks(const Problem &problem, const Launch &launch, std::size_t shared_limit,
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

} // namespace splic
