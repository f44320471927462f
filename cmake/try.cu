// What the CUDA module needs of a compiler and its runtime: C++17, a kernel, shared memory.
#include <cuda_runtime.h>

template <class T> __global__ void scale(T *x, T factor) {
  extern __shared__ unsigned char memory[];
  T *const shared = reinterpret_cast<T *>(memory);
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  if constexpr (sizeof(T) == 4)
    x[threadIdx.x] = factor * shared[blockDim.x - 1 - threadIdx.x];
}

int main() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess && count > 1000)
    scale<float><<<1, 32, 128>>>(nullptr, 2.0f);
  return 0;
}
