// Kernels with a fault each, and their sound counterparts: what the runtime must find, and what it
// must not. A test asks for one by its number.
#include <cuda_runtime.h>

namespace {

constexpr int kThreads = 64;

// Each is handed `out`, kThreads floats of device 0, and `other`, the same of device 1.
using Kernel = void (*)(float *out, float *other);

__device__ float *shared() { return reinterpret_cast<float *>(cuda_on_host::shared_memory()); }

// ---- sound ones ----

__global__ void reverse(float *out, float *) {
  const unsigned t = threadIdx.x;
  shared()[t] = static_cast<float>(t);
  __syncthreads();
  out[t] = shared()[kThreads - 1 - t];
}
__global__ void add_up(float *out, float *) {
  float sum = static_cast<float>(threadIdx.x);
  for (int step = 16; step > 0; step /= 2)
    sum += __shfl_xor_sync(0xffffffffu, sum, step);
  out[threadIdx.x] = sum;
}
__global__ void by_lanes(float *out, float *) {
  const unsigned lane = threadIdx.x % 32;
  float x = static_cast<float>(lane);
  x += __shfl_up_sync(0xffffffffu, x, 1);                        // lane 0: 0 + 0
  x += __shfl_down_sync(0xffffffffu, x, 1);                      // lane 31: twice
  x += __shfl_sync(0xffffffffu, static_cast<float>(lane), 5, 8); // lane 5 of each eight
  const unsigned odd = __ballot_sync(0xffffffffu, lane % 2);
  x += odd == 0xaaaaaaaau && __any_sync(0xffffffffu, lane == 3) &&
               !__all_sync(0xffffffffu, lane == 3)
           ? 1000.0f
           : 0.0f;
  out[threadIdx.x] = x;
}
// The lanes of one half of each warp alone.
__global__ void by_halves(float *out, float *) {
  const unsigned lane = threadIdx.x % 32, mask = lane < 16 ? 0xffffu : 0xffff0000u;
  float x = static_cast<float>(lane);
  if (lane < 16)
    x = __shfl_xor_sync(mask, x, 1);
  else
    x = -__shfl_xor_sync(mask, x, 1);
  __syncwarp(mask);
  out[threadIdx.x] = x;
}

// ---- faulty ones ----

__global__ void some_miss_the_barrier(float *out, float *) {
  if (threadIdx.x < 40)
    __syncthreads();
  out[threadIdx.x] = 0;
}
__global__ void two_barriers_are_no_one(float *out, float *) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  out[threadIdx.x] = 0;
}
__global__ void ends_before_the_barrier(float *out, float *) {
  if (threadIdx.x == 7)
    return;
  __syncthreads();
  out[threadIdx.x] = 0;
}
__global__ void shuffle_without_a_lane(float *out, float *) {
  if (threadIdx.x % 32 != 9)
    out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
__global__ void shuffle_outside_its_mask(float *out, float *) {
  out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 1);
}
__global__ void shuffle_reads_beside_its_mask(float *out, float *) {
  if (threadIdx.x % 32 < 16)
    out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1.0f, 16);
}
__global__ void reads_what_nobody_wrote(float *out, float *) { out[threadIdx.x] = shared()[0]; }
__global__ void reads_what_the_last_block_wrote(float *out, float *) {
  if (blockIdx.x == 0)
    shared()[threadIdx.x] = 1.0f;
  else
    out[threadIdx.x] = shared()[threadIdx.x];
}
__global__ void lacks_a_barrier(float *out, float *) {
  shared()[threadIdx.x] = 1.0f;
  out[threadIdx.x] = shared()[kThreads - 1 - threadIdx.x];
}
__global__ void lacks_a_warp_barrier(float *out, float *) {
  shared()[threadIdx.x] = 1.0f;
  out[threadIdx.x] = shared()[threadIdx.x ^ 1];
}
__global__ void beyond_shared(float *out, float *) {
  shared()[kThreads + threadIdx.x] = 1.0f;
  out[threadIdx.x] = 0;
}
__global__ void before_shared(float *out, float *) {
  *(shared() - 1) = 1.0f;
  out[threadIdx.x] = 0;
}
__global__ void beyond(float *out, float *) { out[1 + threadIdx.x] = 0; }
__global__ void far_beyond(float *out, float *) { out[4096 + threadIdx.x] = 0; }
__global__ void before(float *out, float *) { out[-1] = 0; }
__global__ void of_another_device(float *, float *other) { other[threadIdx.x] = 0; }

constexpr Kernel kKernels[] = {reverse,
                               add_up,
                               by_lanes,
                               by_halves,
                               some_miss_the_barrier,
                               two_barriers_are_no_one,
                               ends_before_the_barrier,
                               shuffle_without_a_lane,
                               shuffle_outside_its_mask,
                               shuffle_reads_beside_its_mask,
                               reads_what_nobody_wrote,
                               reads_what_the_last_block_wrote,
                               lacks_a_barrier,
                               lacks_a_warp_barrier,
                               beyond_shared,
                               before_shared,
                               beyond,
                               far_beyond,
                               before,
                               of_another_device};

} // namespace

// Runs one on a stream, in two blocks; what the launch returns.
extern "C" __attribute__((visibility("default"))) int probe(int number, float *out, float *other,
                                                            cudaStream_t stream) {
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(2);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kThreads * sizeof(float);
  config.stream = stream;
  return cudaLaunchKernelEx(&config, kKernels[number], out, other);
}
