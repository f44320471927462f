// A stand-in for cuSOLVER, opened by the project as the real library is: the functions that
// csrc/cuda/cusolver_api.hpp declares, with the limits of the real ones. Its handles have memory of
// their own, as real ones: two streams that work with one at a time are noted.
#include <climits>
#include <cstdint>
#include <cstring>
#include <map>

#include "../eigen.hpp"
#include "cuda/cusolver_api.hpp"
#include "runtime.hpp"

namespace splic {
struct cusolverDnContext {
  int device = 0;
  unsigned resets = 0; // of the device, when this was made
  cudaStream_t stream = nullptr;
  std::uint64_t works = 0; // number of the call that uses its memory
  int queued = 0;          // calls that are not done
};
struct cusolverDnParams {};
} // namespace splic

using splic::CusolverApi;

namespace {

using namespace cuda_on_host;

enum Status { success = 0, invalid = 3, failed = 6 };
constexpr std::int64_t kMostMatrices = 16384;
constexpr std::size_t kHostBytes = 64;

int version[3] = {12, 0, 4};
std::map<std::int64_t, std::int32_t> failing; // matrix of a batch -> what info says of it
std::size_t handles = 0, params_alive = 0;
std::uint64_t number_of_calls = 0;

int refused(const char *what) {
  violation(std::string("cuSOLVER is called with ") + what);
  return invalid;
}

constexpr const char *kStale = "a handle from before a reset of its device";
bool is_stale(CusolverApi::Handle handle) { return handle->resets != resets(handle->device); }

std::size_t bytes_for(std::int64_t n, std::int64_t batch) {
  return static_cast<std::size_t>(n * batch) * sizeof(double);
}
bool too_large(std::int64_t n, std::int64_t batch) {
  return batch > kMostMatrices || n * n * std::int64_t{sizeof(double)} * batch >= INT_MAX;
}

} // namespace

#define CUDA_ON_HOST_API extern "C" __attribute__((visibility("default")))

CUDA_ON_HOST_API int cusolverGetProperty(int type, int *value) {
  *value = version[type];
  return success;
}
CUDA_ON_HOST_API int cusolverDnCreate(CusolverApi::Handle *handle) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (fails_here("cusolverDnCreate"))
    return failed;
  *handle = new splic::cusolverDnContext;
  (*handle)->device = current_device();
  (*handle)->resets = resets(current_device());
  ++handles;
  return success;
}
CUDA_ON_HOST_API int cusolverDnDestroy(CusolverApi::Handle handle) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (is_stale(handle))
    return refused(kStale);
  --handles;
  if (handle->queued > 0) // (that work looks at it)
    return refused("a handle to destroy whose work is queued");
  delete handle;
  return fails_here("cusolverDnDestroy") ? failed : success;
}
CUDA_ON_HOST_API int cusolverDnSetStream(CusolverApi::Handle handle, cudaStream_t stream) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (fails_here("cusolverDnSetStream"))
    return failed;
  if (is_stale(handle))
    return refused(kStale);
  if (device_of(stream) != handle->device)
    return refused("a stream of another device than that of the handle");
  handle->stream = stream;
  return success;
}
CUDA_ON_HOST_API int cusolverDnCreateParams(CusolverApi::Params *params) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (fails_here("cusolverDnCreateParams"))
    return failed;
  *params = new splic::cusolverDnParams;
  ++params_alive;
  return success;
}
CUDA_ON_HOST_API int cusolverDnDestroyParams(CusolverApi::Params params) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  delete params;
  --params_alive;
  return fails_here("cusolverDnDestroyParams") ? failed : success;
}

CUDA_ON_HOST_API int cusolverDnXsyevBatched_bufferSize(
    CusolverApi::Handle handle, CusolverApi::Params, int vectors, int triangle, std::int64_t n,
    int type_a, const void *, std::int64_t lda, int type_w, const void *, int type,
    std::size_t *device_bytes, std::size_t *host_bytes, std::int64_t batch) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (fails_here("cusolverDnXsyevBatched_bufferSize"))
    return failed;
  if (is_stale(handle))
    return refused(kStale);
  if (vectors != CusolverApi::kVectors || triangle != CusolverApi::kLower || n < 1 || lda < n ||
      type_a != CusolverApi::kFloat64 || type_w != type_a || type != type_a || batch < 1)
    return refused("arguments that mean nothing");
  if (too_large(n, batch))
    return invalid;
  *device_bytes = bytes_for(n, batch);
  *host_bytes = kHostBytes;
  return success;
}

CUDA_ON_HOST_API int cusolverDnXsyevBatched(CusolverApi::Handle handle, CusolverApi::Params params,
                                            int vectors, int triangle, std::int64_t n, int type_a,
                                            void *a, std::int64_t lda, int type_w, void *w,
                                            int type, void *memory, std::size_t bytes,
                                            void *host_memory, std::size_t host_bytes, int *info,
                                            std::int64_t batch) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (fails_here("cusolverDnXsyevBatched"))
    return failed;
  if (!handle || !params || vectors != CusolverApi::kVectors || triangle != CusolverApi::kLower ||
      n < 1 || lda != n || type_a != CusolverApi::kFloat64 || type_w != type_a || type != type_a ||
      batch < 1)
    return refused("arguments that mean nothing");
  if (too_large(n, batch))
    return invalid;
  if (bytes < bytes_for(n, batch) || !host_memory || host_bytes < kHostBytes)
    return refused("too little workspace");
  const auto count = static_cast<std::size_t>(batch), side = static_cast<std::size_t>(n);
  const int device = handle->device;
  if (device != current_device() || !inside(device, a, count * side * side * sizeof(double)) ||
      !inside(device, w, count * side * sizeof(double)) || !inside(device, memory, bytes) ||
      !inside(device, info, count * sizeof(int)))
    return refused("memory that is not of its device");
  std::memset(host_memory, 0xff, kHostBytes);
  const std::uint64_t number = ++number_of_calls;
  const auto missing = failing;
  // In two parts, between which the work of other streams may come.
  Work begin, end;
  begin.name = end.name = "a call of cuSOLVER";
  begin.run = [=] {
    handle->works = number;
    for (std::size_t i = 0; i < count; ++i) {
      eigen_by_jacobi(static_cast<int>(n), static_cast<double *>(a) + i * side * side,
                      static_cast<double *>(w) + i * side);
      const auto found = missing.find(static_cast<std::int64_t>(i));
      info[i] = found == missing.end() ? 0 : found->second;
    }
    poison(memory, bytes);
    return cudaSuccess;
  };
  end.run = [=] {
    --handle->queued;
    if (handle->works != number)
      violation("two streams work with one handle of cuSOLVER at a time");
    return cudaSuccess;
  };
  ++handle->queued;
  const cudaError_t status = enqueue(handle->stream, begin);
  return status == cudaSuccess && enqueue(handle->stream, end) == cudaSuccess ? success : failed;
}

// ---- for tests ----

CUDA_ON_HOST_API void cusolver_on_host_version(int major, int minor, int patch) {
  version[0] = major;
  version[1] = minor;
  version[2] = patch;
}
// Makes it fail on a matrix of each batch; info 0: no more.
CUDA_ON_HOST_API void cusolver_on_host_fail(std::int64_t matrix, std::int32_t info) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  failing.clear();
  if (info != 0)
    failing[matrix] = info;
}
CUDA_ON_HOST_API void cusolver_on_host_living(std::size_t *counts) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  counts[0] = handles;
  counts[1] = params_alive;
}
