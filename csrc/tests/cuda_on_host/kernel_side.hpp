// What a kernel sees of CUDA, for a compiler of the host: included before all of a .cu file.
//
// The qualifiers mean nothing, the threads of a block are fibers (kernels.cpp), and warps exchange
// values when all their lanes have come. `__shared__` arrays of fixed size are not poisoned; the
// dynamic ones are.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <math.h>
#include <memory>
#include <tuple>
#include <type_traits>

#include <cuda_runtime.h>

#undef __global__
#undef __host__
#undef __device__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __align__
#define __global__
#define __host__
#define __device__
#define __shared__ thread_local
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
// (libstdc++ writes it as the name of an attribute.)
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

// The code of the device, not that of the host, in files that have both.
#define __CUDA_ARCH__ 900
#define SPLIC_CUDA_ON_HOST 1

extern uint3 threadIdx, blockIdx; // (set before a thread goes on)
extern dim3 blockDim, gridDim;

namespace cuda_on_host {

unsigned char *shared_memory();

enum class Meeting { block, warp, shuffle, vote };
// Waits for the threads of the block, or for the lanes of the mask. `site`: where this stands.
void meet(Meeting kind, unsigned mask, const void *site);
// Gives all lanes of the mask a value, and returns the one that lane `from` has given.
std::uint64_t exchange(Meeting kind, unsigned mask, std::uint64_t value, unsigned from,
                       const void *site);
// Of all lanes of the mask, as bits, who has given something else than 0.
unsigned vote(unsigned mask, bool value, const void *site);

cudaError_t enqueue_kernel(const cudaLaunchConfig_t &config, const void *kernel,
                           std::function<void()> body);

template <class... P, class... A>
cudaError_t launch_kernel(const cudaLaunchConfig_t *config, void (*kernel)(P...), A &&...args) {
  constexpr std::size_t kParameters = 4096; // bytes of them that every GPU takes
  using Held = std::tuple<std::remove_cv_t<P>...>;
  static_assert(sizeof(Held) <= kParameters, "too many parameters for a kernel");
  const auto held = std::make_shared<const Held>(std::forward<A>(args)...);
  return enqueue_kernel(*config, reinterpret_cast<const void *>(kernel),
                        [kernel, held] { std::apply(kernel, *held); });
}

template <class T> std::uint64_t bits_of(T x) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>, "a shuffle takes 8 bytes");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &x, sizeof x);
  return bits;
}
template <class T> T value_of(std::uint64_t bits) {
  T x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
inline unsigned lane() { return threadIdx.x % 32; }
template <class T> T shuffle(unsigned mask, T x, unsigned from, const void *site) {
  return value_of<T>(exchange(Meeting::shuffle, mask, bits_of(x), from, site));
}

} // namespace cuda_on_host

#define cudaLaunchKernelEx ::cuda_on_host::launch_kernel

// Each is called from one place in the source: never inlined, it knows that place by its return.
#define CUDA_ON_HOST_CALL inline __attribute__((noinline))
#define CUDA_ON_HOST_SITE __builtin_return_address(0)

CUDA_ON_HOST_CALL void __syncthreads() {
  cuda_on_host::meet(cuda_on_host::Meeting::block, 0, CUDA_ON_HOST_SITE);
}
CUDA_ON_HOST_CALL void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_on_host::meet(cuda_on_host::Meeting::warp, mask, CUDA_ON_HOST_SITE);
}
template <class T> CUDA_ON_HOST_CALL T __shfl_sync(unsigned mask, T x, int from, int width = 32) {
  const unsigned first = cuda_on_host::lane() / width * width;
  return cuda_on_host::shuffle(mask, x, first + static_cast<unsigned>(from) % width,
                               CUDA_ON_HOST_SITE);
}
template <class T>
CUDA_ON_HOST_CALL T __shfl_xor_sync(unsigned mask, T x, int bits, int width = 32) {
  const unsigned own = cuda_on_host::lane(), other = own ^ static_cast<unsigned>(bits);
  return cuda_on_host::shuffle(mask, x, other / width > own / width ? own : other,
                               CUDA_ON_HOST_SITE);
}
template <class T>
CUDA_ON_HOST_CALL T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32) {
  const unsigned own = cuda_on_host::lane();
  return cuda_on_host::shuffle(mask, x, own % width < by ? own : own - by, CUDA_ON_HOST_SITE);
}
template <class T>
CUDA_ON_HOST_CALL T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32) {
  const unsigned own = cuda_on_host::lane(), side = static_cast<unsigned>(width);
  return cuda_on_host::shuffle(mask, x, own % side + by < side ? own + by : own, CUDA_ON_HOST_SITE);
}
CUDA_ON_HOST_CALL unsigned __ballot_sync(unsigned mask, int x) {
  return cuda_on_host::vote(mask, x != 0, CUDA_ON_HOST_SITE);
}
CUDA_ON_HOST_CALL int __any_sync(unsigned mask, int x) {
  return cuda_on_host::vote(mask, x != 0, CUDA_ON_HOST_SITE) != 0;
}
CUDA_ON_HOST_CALL int __all_sync(unsigned mask, int x) {
  return cuda_on_host::vote(mask, x != 0, CUDA_ON_HOST_SITE) == mask;
}

inline float rsqrtf(float a) { return 1.0f / std::sqrt(a); }
inline double rsqrt(double a) { return 1.0 / std::sqrt(a); }
