// The kernel of one warp a matrix, for the small matrices and the ranks that the presets ask for.
#include "team.cuh"
#include "team/warp_solver.hpp"

namespace splic {
namespace {

// The lanes of the warp that this thread is in, as team/warp_algebra.hpp wants them.
struct CudaWarp : Warps {
  static constexpr unsigned kAll = 0xffffffffu;

  __host__ __device__ int lane() const { return thread(); }
  __host__ __device__ int rank() const { return thread(); }
  __host__ __device__ void sync() const { warp_sync(); }
  __host__ __device__ float shuffle(float x, int from) const {
#if defined(__CUDA_ARCH__)
    x = __shfl_sync(kAll, x, from);
#endif
    return x;
  }
  __host__ __device__ std::uint32_t ballot(bool x) const {
#if defined(__CUDA_ARCH__)
    return __ballot_sync(kAll, x);
#else
    return x;
#endif
  }
  __host__ __device__ bool any(bool x) const { return warp_any(x); }
  __host__ __device__ float sum(float x) const { return warp_reduce(x, plain_sum<float>); }
  __host__ __device__ float maximum(float x) const {
    return warp_reduce(x, [](float a, float b) { return a > b ? a : b; });
  }
  // The lane, of which the compiler does not know that it is always the same: what is computed from
  // it does not stay in registers for ever.
  __host__ __device__ int hidden_lane() const {
    int lane = this->lane();
#if defined(__CUDACC__) && defined(__CUDA_ARCH__)
    asm volatile("mov.u32 %0, %0;" : "+r"(lane));
#endif
    return lane;
  }
  // For benchmarks/cuda_counts.py, with -DSPLIC_MARKS: an instruction that tells the place.
  template <int place, int k = 0, int q = 0> __host__ __device__ void mark() const {
#if defined(SPLIC_MARKS) && defined(__CUDA_ARCH__)
    asm volatile("pmevent.mask %0;" ::"n"(mark_number(place, k, q)));
#endif
  }
  static __host__ __device__ float inverse_root(float x) {
#if defined(__CUDACC__) && defined(__CUDA_ARCH__)
    asm("rsqrt.approx.ftz.f32 %0, %0;" : "+f"(x));
    return x;
#else
    return 1.0f / __builtin_sqrtf(x < 0x1p-126f ? 0.0f : x); // as the device does
#endif
  }
};

template <int Q, int R> using Solver = WarpSolver<Q, R, CudaWarp>;

// Warps that a multiprocessor of sm_90 shall have room for: as many as its shared memory can hold.
template <int Q, int R> constexpr int kResident = (228 << 10) / (Solver<Q, R>::kBytes + (1 << 10));

template <int Q, int R>
__global__ void __launch_bounds__(kWarp, kResident<Q, R>)
    warp_kernel(const __grid_constant__ Problem problem, const __grid_constant__ Launch launch,
                const __grid_constant__ WarpTables tables) {
  const std::int64_t place = blockIdx.x;
  Record *record = record_of(launch, place);
  const CudaWarp warp;
  if (record && warp.lane() == 0)
    *record = Record();
  warp.sync();
  Solver<Q, R> solver(problem, tables, warp, reinterpret_cast<float *>(launch_shared()));
  solver.run(item_of(problem, launch, place), record, sum_of<float>(problem, launch, place));
}

template <int Q, int R>
cudaError_t complete(const Problem &problem, const Launch &batch, cudaStream_t stream) {
  static const WarpTables tables;
  const cudaError_t status =
      allow_shared(reinterpret_cast<const void *>(warp_kernel<Q, R>), Solver<Q, R>::kBytes);
  if (status != cudaSuccess)
    return status;
  return splic::launch(warp_kernel<Q, R>, batch.count, kWarp, Solver<Q, R>::kBytes, stream, problem,
                       batch, tables);
}

} // namespace

bool warp_takes(const Problem &problem) {
  return Solver<3, 8>::takes(problem) || Solver<1, 8>::takes(problem) ||
         Solver<3, 12>::takes(problem) || Solver<1, 12>::takes(problem);
}

cudaError_t launch_warp(const Problem &problem, const Launch &batch, cudaStream_t stream) {
  const bool stacked = Solver<3, 8>::takes(problem) || Solver<3, 12>::takes(problem);
  const bool higher = problem.options.rank == 12;
  if (stacked)
    return higher ? complete<3, 12>(problem, batch, stream)
                  : complete<3, 8>(problem, batch, stream);
  return higher ? complete<1, 12>(problem, batch, stream) : complete<1, 8>(problem, batch, stream);
}

} // namespace splic
