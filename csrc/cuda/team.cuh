// Teams of CUDA threads, as team/team_algebra.hpp wants them.
#pragma once

#include <mutex>
#include <utility>

#include "kernels.hpp"
#include "team/iterate.hpp"

namespace splic {

constexpr int kMostThreads = 256; // of a block
constexpr std::size_t kScratchBytes = kMostThreads / 32 * sizeof(double);

// Puts a kernel on a stream, with so much shared memory for each block. (A function, and not
// <<<>>>, so that compilers without CUDA can read it: csrc/tests/cuda_on_host.)
template <class... P, class... A>
cudaError_t launch(void (*kernel)(P...), std::int64_t blocks, int threads, std::size_t shared,
                   cudaStream_t stream, A &&...arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared;
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...);
}

// Asks for as much shared memory for a kernel as a multiprocessor of the current device has, since
// blocks have to be many, and allows a block that much of it. The limit is one of the kernel, not
// of a launch: it only ever grows, or a thread with a small matrix would take from another what its
// launch is about to need. Both are asked for, not remembered, for a reset of the device takes them
// back; and set where they have to be alone: that may wait for copies that are under way.
inline cudaError_t allow_shared(const void *kernel, std::size_t shared) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  cudaFuncAttributes now;
  cudaError_t status = cudaFuncGetAttributes(&now, kernel);
  if (status == cudaSuccess && now.preferredShmemCarveout != cudaSharedmemCarveoutMaxShared)
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                  cudaSharedmemCarveoutMaxShared);
  if (status == cudaSuccess && shared > static_cast<std::size_t>(now.maxDynamicSharedSizeBytes))
    status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  static_cast<int>(shared));
  return status;
}

// The shared memory that the launch has asked for, aligned to 16 bytes.
__device__ inline unsigned char *launch_shared() {
#if defined(SPLIC_CUDA_ON_HOST)
  return cuda_on_host::shared_memory();
#else
  extern __shared__ __align__(16) unsigned char shared[];
  return shared;
#endif
}

// A sum that is never contracted with a product that one of its terms is: lanes that exchange their
// terms get the same bits.
template <class T> __host__ __device__ T plain_sum(T a, T b) {
#if defined(__CUDACC__) && defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == sizeof(float))
    return __fadd_rn(a, b);
  else
    return __dadd_rn(a, b);
#else
  return a + b;
#endif
}

// What teams of whole warps have in common.
struct Warps {
  static constexpr int kLanes = 32;
  static constexpr bool kTiles = false;

  // Within the block.
  __host__ __device__ int thread() const {
#if defined(__CUDA_ARCH__)
    return static_cast<int>(threadIdx.x);
#else
    return 0;
#endif
  }
  __host__ __device__ void warp_sync() const {
#if defined(__CUDA_ARCH__)
    __syncwarp();
#endif
  }
  __host__ __device__ bool warp_any(bool x) const {
#if defined(__CUDA_ARCH__)
    x = __any_sync(0xffffffffu, x) != 0;
#endif
    return x;
  }
  template <class T> __host__ __device__ T shuffle_xor(T x, int bits) const {
#if defined(__CUDA_ARCH__)
    x = __shfl_xor_sync(0xffffffffu, x, bits);
#endif
    return x;
  }
  template <class T, class F> __host__ __device__ T warp_reduce(T x, const F &f) const {
    for (int bits = kLanes / 2; bits > 0; bits /= 2)
      x = f(x, shuffle_xor(x, bits));
    return x;
  }
};

// All threads of a block. A single warp has no need of the barriers of a block.
template <int threads> struct Block : Warps {
  double *scratch = nullptr; // one for each warp

  __host__ __device__ int rank() const { return thread(); }
  __host__ __device__ int size() const { return threads; }
  __host__ __device__ int spread() const { return threads; }
  __host__ __device__ bool leads() const { return rank() < kLanes; }
  __host__ __device__ void sync() const {
#if defined(__CUDA_ARCH__)
    if constexpr (threads > kLanes)
      __syncthreads();
    else
      __syncwarp();
#endif
  }
  template <class T, class F> __host__ __device__ T reduce(T x, const F &f) const {
#if defined(__CUDA_ARCH__)
    x = warp_reduce(x, f);
    if constexpr (threads > kLanes) {
      if (threadIdx.x % 32 == 0)
        scratch[threadIdx.x / 32] = static_cast<double>(x);
      __syncthreads();
      x = static_cast<T>(scratch[0]);
      for (int i = 1; i < threads / kLanes; ++i)
        x = f(x, static_cast<T>(scratch[i]));
      __syncthreads();
    }
#endif
    return x;
  }
  template <class T> __host__ __device__ T sum(T x) const { return reduce(x, plain_sum<T>); }
  template <class T> __host__ __device__ T maximum(T x) const {
    return reduce(x, [](T a, T b) { return a > b ? a : b; });
  }
};
using BlockTeam = Block<kMostThreads>;

// The threads of several blocks that share a matrix, `first` of them before this block's. They
// cannot wait for each other.
struct GridTeam : Warps {
  int first = 0, count = 1;

  __host__ __device__ int rank() const { return first + thread(); }
  __host__ __device__ int size() const { return count; }
  __host__ __device__ int spread() const { return count; }
  __host__ __device__ void sync() const {}
};

// The threads of several blocks that share a matrix and have a tile of each product; a block waits
// within one alone.
constexpr std::size_t kTileScratchBytes = Tile::kThreads / 32 * sizeof(double);
struct TileTeam : Warps {
  static constexpr bool kTiles = true;
  int own = 0, count = 1; // the block's tile, and of how many

  __host__ __device__ int number() const { return own; }
  __host__ __device__ int rank() const { return own * Tile::kThreads + thread(); }
  __host__ __device__ int size() const { return count * Tile::kThreads; }
  __host__ __device__ void sync() const {}
  __host__ __device__ void barrier() const {
#if defined(__CUDA_ARCH__)
    __syncthreads();
#endif
  }
  // (Asked for where it is used: nvcc then knows that it is shared memory.)
  __host__ __device__ unsigned char *memory() const {
#if defined(__CUDA_ARCH__)
    return launch_shared() + kTileScratchBytes;
#else
    return nullptr;
#endif
  }
};

// What item `place` of a launch is.
__host__ __device__ inline MatrixItem item_of(const Problem &problem, const Launch &launch,
                                              std::int64_t place) {
  const std::int64_t plane = place / launch.streams;
  return {plane / problem.planes(), static_cast<int>(plane % problem.planes()),
          static_cast<std::uint32_t>(place % launch.streams)};
}
__host__ __device__ inline Record *record_of(const Launch &launch, std::int64_t place) {
  return launch.records ? launch.records + place : nullptr;
}
template <class T>
__host__ __device__ T *sum_of(const Problem &problem, const Launch &launch, std::int64_t place) {
  const Geometry g(problem);
  return launch.sums ? static_cast<T *>(launch.sums) + place * g.m * g.n : nullptr;
}

} // namespace splic
