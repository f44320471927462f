#include "cusolver_api.hpp"

#include <algorithm>
#include <climits>
#include <mutex>
#include <thread>

#include <dlfcn.h>

#include "errors.hpp"
#include "kernels.hpp"

namespace splic {
namespace {

// The library refuses larger batches, and those whose matrices take 2^31 bytes or more.
int most_matrices(int n) {
  constexpr int kMost = 16384;
  const std::int64_t bytes = std::int64_t{n} * n * std::int64_t{sizeof(double)};
  return static_cast<int>(std::min<std::int64_t>(kMost, (INT_MAX - 1) / bytes));
}

// 11.7.1 has the function but wants a cleared workspace, and gives wrong vectors without.
constexpr int kLeast = 110703, kBeyond = 130000;

std::mutex mutex; // of all below
CusolverApi api;
CusolverLibrary library;

const char *name_of(int status) {
  static constexpr const char *names[] = {
      "success",          "not initialized",       "allocation failed",
      "invalid value",    "architecture mismatch", "mapping error",
      "execution failed", "internal error",        "matrix type not supported",
      "not supported"};
  return status >= 0 && status < 10 ? names[status] : "unknown";
}

void check_solver(int status, const char *operation) {
  if (status != 0)
    throw CusolverError("the cuSOLVER operation " + std::string(operation) +
                        " failed: " + name_of(status) + " (status " + std::to_string(status) + ")");
}

template <class F> bool resolve(void *handle, const char *name, F &function) {
  function = reinterpret_cast<F>(dlsym(handle, name));
  return function != nullptr;
}

// Empty, or why this file does not serve.
std::string try_file(const std::string &file) {
  void *handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!handle) {
    const char *reason = dlerror();
    return reason ? reason : file + " cannot be loaded";
  }
  CusolverApi found;
  int version[3] = {0, 0, 0};
  std::string reason;
  if (!resolve(handle, "cusolverGetProperty", found.property))
    reason = "has no cusolverGetProperty";
  else
    for (int i = 0; i < 3; ++i)
      found.property(i, &version[i]);
  const int number = 10000 * version[0] + 100 * version[1] + version[2];
  const std::string shown = std::to_string(version[0]) + "." + std::to_string(version[1]) + "." +
                            std::to_string(version[2]);
  if (reason.empty() && (number < kLeast || number >= kBeyond))
    reason = "is version " + shown + ", and 11.7.3 or later, below 13, is needed";
  if (reason.empty() && !(resolve(handle, "cusolverDnCreate", found.create) &&
                          resolve(handle, "cusolverDnDestroy", found.destroy) &&
                          resolve(handle, "cusolverDnSetStream", found.set_stream) &&
                          resolve(handle, "cusolverDnCreateParams", found.create_params) &&
                          resolve(handle, "cusolverDnDestroyParams", found.destroy_params) &&
                          resolve(handle, "cusolverDnXsyevBatched_bufferSize", found.eigen_size) &&
                          resolve(handle, "cusolverDnXsyevBatched", found.eigen)))
    reason = "(version " + shown + ") lacks a function";
  if (!reason.empty()) {
    dlclose(handle);
    return file + " " + reason;
  }
  Dl_info place;
  const bool known = dladdr(reinterpret_cast<void *>(found.eigen), &place) != 0;
  api = found;
  library = {known && place.dli_fname ? place.dli_fname : file, number};
  return "";
}

} // namespace

CusolverLibrary load_cusolver(const std::vector<std::string> &files) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (api.eigen)
    return library;
  std::string reasons;
  for (const std::string &file : files) {
    const std::string reason = try_file(file);
    if (reason.empty())
      return library;
    reasons += (reasons.empty() ? "" : "; ") + reason;
  }
  throw CusolverError(reasons.empty() ? "no file was named" : reasons);
}

// A handle has memory of its own, which work on one stream alone may use at a time.
struct EigenSolver::Entry {
  int device = 0;
  cudaStream_t stream = nullptr; // that it was used on last
  std::thread::id thread;        // by which: one handle stands for the streams of all threads
  CusolverApi::Handle handle = nullptr;
  CusolverApi::Params params = nullptr;
  cudaEvent_t done = nullptr; // the end of that work
  std::vector<unsigned char> host;

  Entry() = default;
  Entry(const Entry &) = delete;
  Entry &operator=(const Entry &) = delete;
  // A reset of the device has taken it: nothing of it may be used again, not even to destroy it.
  void abandon() {
    done = nullptr;
    params = nullptr;
    handle = nullptr;
  }
  ~Entry() { // of one that could not be made, or whose work has failed
    if (done) {
      cudaEventSynchronize(done); // its last work looks at it
      cudaEventDestroy(done);
    }
    if (params)
      api.destroy_params(params);
    if (handle)
      api.destroy(handle);
  }
};

// Handles that nobody borrows. They are never destroyed: at exit the driver may be gone before.
struct EigenSolverPool {
  std::vector<std::shared_ptr<EigenSolver::Entry>> entries;
  static EigenSolverPool &get() {
    static auto *pool = new EigenSolverPool;
    return *pool;
  }
};

// A handle of the device for which fits(entry) holds, or a new one.
template <class F> void EigenSolver::borrow(int device, const F &fits) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (!api.eigen)
      throw CusolverError("cuSOLVER has not been loaded");
    auto &entries = EigenSolverPool::get().entries;
    bool fresh = false;
    check(mark_device(fresh), "cudaFuncSetAttribute");
    const auto lost = [&](const auto &entry) {
      if (!fresh || entry->device != device)
        return false;
      entry->abandon();
      return true;
    };
    entries.erase(std::remove_if(entries.begin(), entries.end(), lost), entries.end());
    const auto fit = std::find_if(entries.begin(), entries.end(), [&](const auto &entry) {
      return entry->device == device && fits(*entry);
    });
    cudaGetLastError(); // that an event is yet to come is no error
    if (fit != entries.end()) {
      entry_ = *fit;
      entries.erase(fit);
    }
  }
  if (!entry_) {
    const auto made = std::make_shared<Entry>();
    made->device = device;
    check_solver(api.create(&made->handle), "cusolverDnCreate");
    check_solver(api.create_params(&made->params), "cusolverDnCreateParams");
    check(cudaEventCreateWithFlags(&made->done, cudaEventDisableTiming), "cudaEventCreate");
    entry_ = made;
  }
}

EigenSolver::EigenSolver(int device, cudaStream_t stream) {
  const std::thread::id thread = std::this_thread::get_id();
  borrow(device, [&](const Entry &entry) {
    const bool same =
        entry.stream == stream && (stream != cudaStreamPerThread || entry.thread == thread);
    return same || cudaEventQuery(entry.done) == cudaSuccess;
  });
  entry_->stream = stream;
  entry_->thread = thread;
  // The address of a stream that is gone may be that of a new one, while its work goes on.
  check(cudaStreamWaitEvent(stream, entry_->done, 0), "cudaStreamWaitEvent");
  check_solver(api.set_stream(entry_->handle, stream), "cusolverDnSetStream");
}

EigenSolver::EigenSolver(int device) : works_(false) {
  borrow(device, [](const Entry &) { return true; });
}

EigenSolver::~EigenSolver() {
  if (works_ && cudaEventRecord(entry_->done, entry_->stream) != cudaSuccess) {
    cudaGetLastError(); // whoever waits for the work is told
    // Nobody gets this handle again: it is destroyed, and its work must be done before.
    cudaStreamSynchronize(entry_->stream);
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex);
  EigenSolverPool::get().entries.push_back(entry_);
}

std::size_t EigenSolver::workspace(int n, int count) const {
  std::size_t device = 0, host = 0;
  // (The arrays themselves are not looked at; they do not exist yet.)
  void *const somewhere = reinterpret_cast<void *>(std::uintptr_t{256});
  check_solver(api.eigen_size(entry_->handle, entry_->params, CusolverApi::kVectors,
                              CusolverApi::kLower, n, CusolverApi::kFloat64, somewhere, n,
                              CusolverApi::kFloat64, somewhere, CusolverApi::kFloat64, &device,
                              &host, std::min(count, most_matrices(n))),
               "cusolverDnXsyevBatched_bufferSize");
  if (works_)
    entry_->host.resize(std::max(entry_->host.size(), host));
  return device;
}

void EigenSolver::decompose(int n, double *matrices, double *values, std::int32_t *failed,
                            int count, void *workspace, std::size_t bytes) {
  const int most = most_matrices(n);
  for (int first = 0; first < count; first += most) {
    const std::size_t at = static_cast<std::size_t>(first), side = static_cast<std::size_t>(n);
    check_solver(api.eigen(entry_->handle, entry_->params, CusolverApi::kVectors,
                           CusolverApi::kLower, n, CusolverApi::kFloat64,
                           matrices + at * side * side, n, CusolverApi::kFloat64,
                           values + at * side, CusolverApi::kFloat64, workspace, bytes,
                           entry_->host.empty() ? nullptr : entry_->host.data(),
                           entry_->host.size(), failed + first, std::min(count - first, most)),
                 "cusolverDnXsyevBatched");
  }
}

} // namespace splic
