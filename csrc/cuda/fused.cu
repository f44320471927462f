// The fused kernel: a thread block completes a matrix, from the first load to the last store.
#include "kernels.hpp"
#include "splic/fused.hpp"

namespace splic {
namespace {

constexpr int kSmallTeam = 128, kLargeTeam = 512; // threads: state in shared, in device memory

struct BlockTeam {
  double *scratch = nullptr; // one for each warp

  __host__ __device__ int rank() const {
#if defined(__CUDA_ARCH__)
    return static_cast<int>(threadIdx.x);
#else
    return 0;
#endif
  }
  __host__ __device__ int size() const {
#if defined(__CUDA_ARCH__)
    return static_cast<int>(blockDim.x);
#else
    return 1;
#endif
  }
  __host__ __device__ void sync() const {
#if defined(__CUDA_ARCH__)
    __syncthreads();
#endif
  }
  template <class T, class F> __host__ __device__ T reduce(T x, const F &f) const {
#if defined(__CUDA_ARCH__)
    for (int step = 16; step > 0; step /= 2)
      x = f(x, __shfl_xor_sync(0xffffffffu, x, step));
    if (threadIdx.x % 32 == 0)
      scratch[threadIdx.x / 32] = static_cast<double>(x);
    __syncthreads();
    x = static_cast<T>(scratch[0]);
    for (int i = 1; i < static_cast<int>(blockDim.x) / 32; ++i)
      x = f(x, static_cast<T>(scratch[i]));
    __syncthreads();
#endif
    return x;
  }
  template <class T> __host__ __device__ T sum(T x) const {
    return reduce(x, [](T a, T b) { return a + b; });
  }
  template <class T> __host__ __device__ T maximum(T x) const {
    return reduce(x, [](T a, T b) { return a > b ? a : b; });
  }
};

constexpr std::size_t kScratchBytes = kLargeTeam / 32 * sizeof(double);

template <class T>
__global__ void __launch_bounds__(kLargeTeam)
    complete_kernel(const __grid_constant__ Problem problem, const __grid_constant__ Launch launch,
                    std::size_t stride) {
  extern __shared__ __align__(16) unsigned char shared[];
  const std::int64_t place = blockIdx.x, number = launch.first + place;
  const std::int64_t plane = number / launch.streams;
  const FusedItem item = {
      plane / problem.planes(), static_cast<int>(plane % problem.planes()),
      static_cast<std::uint32_t>(launch.first_stream + number % launch.streams)};
  unsigned char *memory = shared + kScratchBytes;
  if (launch.workspace)
    memory = static_cast<unsigned char *>(launch.workspace) + place * stride;
  const Geometry g(problem);
  T *sum = launch.sums ? static_cast<T *>(launch.sums) + place * g.m * g.n : nullptr;
  Fused<T, BlockTeam> fused(problem, BlockTeam{reinterpret_cast<double *>(shared)});
  if (threadIdx.x == 0)
    launch.records[place] = Record();
  __syncthreads();
  fused.run(memory, item, launch.records + place, sum);
}

template <class T>
__global__ void mean_kernel(const __grid_constant__ Problem problem, const T *sums,
                            std::int64_t first_image, std::int64_t count) {
  const int size = problem.stacked_channels() * problem.height * problem.width;
  const int masks = problem.options.n_masks;
  for (std::int64_t e = blockIdx.x * std::int64_t{blockDim.x} + threadIdx.x; e < count;
       e += std::int64_t{gridDim.x} * blockDim.x) {
    const std::int64_t plane = e / size;
    const int entry = static_cast<int>(e % size);
    T sum = T(0);
    for (int s = 0; s < masks; ++s)
      sum += sums[(plane * masks + s) * size + entry];
    const T mean = sum / static_cast<T>(masks), top = static_cast<T>(problem.largest);
    const int row = entry / problem.width;
    write<T>(problem.target.at(first_image + plane / problem.planes(),
                               static_cast<int>(plane % problem.planes()) + row / problem.height,
                               row % problem.height, entry % problem.width),
             problem.dtype, mean < top ? mean : top);
  }
}

template <class T>
cudaError_t launch_team(const Problem &problem, const Launch &launch, int threads,
                        std::size_t shared, std::size_t stride, cudaStream_t stream) {
  const auto kernel = complete_kernel<T>;
  const cudaError_t status =
      cudaFuncSetAttribute(reinterpret_cast<const void *>(kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (status != cudaSuccess)
    return status;
  kernel<<<static_cast<unsigned>(launch.count), threads, shared, stream>>>(problem, launch, stride);
  return cudaGetLastError();
}

template <class T> std::size_t state_bytes(const Problem &problem) {
  return (Fused<T, BlockTeam>::bytes(problem) + 255) / 256 * 256;
}

template <class T>
cudaError_t launch_precision(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                             cudaStream_t stream) {
  const std::size_t stride = state_bytes<T>(problem);
  if (stride + kScratchBytes <= shared_limit)
    return launch_team<T>(problem, launch, kSmallTeam, stride + kScratchBytes, 0, stream);
  return launch_team<T>(problem, launch, kLargeTeam, kScratchBytes, stride, stream);
}

} // namespace

std::size_t fused_shared_bytes(const Problem &problem) {
  return kScratchBytes +
         (problem.dtype == DType::f64 ? state_bytes<double>(problem) : state_bytes<float>(problem));
}

std::size_t fused_workspace_bytes(const Problem &problem, std::size_t shared_limit, int count) {
  const std::size_t bytes = fused_shared_bytes(problem);
  return bytes <= shared_limit ? 0 : (bytes - kScratchBytes) * static_cast<std::size_t>(count);
}

cudaError_t launch_fused(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                         cudaStream_t stream) {
  return problem.dtype == DType::f64
             ? launch_precision<double>(problem, launch, shared_limit, stream)
             : launch_precision<float>(problem, launch, shared_limit, stream);
}

cudaError_t launch_mean(const Problem &problem, const void *sums, std::int64_t first_image,
                        std::int64_t images, cudaStream_t stream) {
  const std::int64_t count = images * problem.planes() * problem.stacked_channels() *
                             static_cast<std::int64_t>(problem.height) * problem.width;
  const unsigned blocks = static_cast<unsigned>(count / 256 + 1 < 65536 ? count / 256 + 1 : 65536);
  if (problem.dtype == DType::f64)
    mean_kernel<double><<<blocks, 256, 0, stream>>>(problem, static_cast<const double *>(sums),
                                                    first_image, count);
  else
    mean_kernel<float>
        <<<blocks, 256, 0, stream>>>(problem, static_cast<const float *>(sums), first_image, count);
  return cudaGetLastError();
}

} // namespace splic
