// The functions of the CUDA runtime that the project calls.
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "kernel_side.hpp"
#include "runtime.hpp"

#undef cudaLaunchKernelEx

namespace cuda_on_host {
namespace {

thread_local int device_now = 0;
thread_local cudaError_t last_error = cudaSuccess;
cudaError_t lasting[kDevices];
unsigned resets_of[kDevices];
// Shared memory of a kernel on a device: what it may have, and what it prefers.
std::map<std::pair<int, const void *>, int> allowed, preferred;

enum Kind : unsigned {
  kAsks = 1,     // tells of no error of earlier work
  kForbidden = 2 // while a stream is captured
};

cudaError_t noted(cudaError_t status) {
  if (status != cudaSuccess)
    last_error = status;
  return status;
}

// Runs a call, unless it is made to fail, or something that lasts or a capture keeps it from it.
template <class F> cudaError_t call(const char *name, unsigned kind, const F &f) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (fails_here(name))
    return noted(chosen_error());
  if (!(kind & kAsks) && lasting[device_now] != cudaSuccess)
    return noted(lasting[device_now]);
  if (kind & kForbidden) {
    const cudaError_t status = capture_forbids();
    if (status != cudaSuccess)
      return noted(status);
  }
  return noted(f());
}
// What gives something back does so even when it is made to fail: it tells of the error of others.
template <class F> cudaError_t give_back(const char *name, const F &f) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const bool fails = fails_here(name);
  const cudaError_t status = f();
  return noted(fails ? chosen_error() : status);
}

cudaError_t refused(const std::string &what) {
  violation(what);
  return cudaErrorInvalidValue;
}

template <class P> cudaError_t allocated(int device, P **p, std::size_t bytes) {
  *p = nullptr;
  if (bytes == 0)
    return cudaSuccess;
  *p = static_cast<P *>(allocate(device, bytes));
  return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}

struct Name {
  cudaError_t status;
  const char *name, *text;
};
constexpr Name kNames[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorIllegalState, "cudaErrorIllegalState",
     "the operation cannot be performed in this state"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchTimeout, "cudaErrorLaunchTimeout", "the launch timed out and was terminated"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNvlinkUncorrectable, "cudaErrorNvlinkUncorrectable",
     "uncorrectable NVLink error detected during the execution"},
    {cudaErrorStreamCaptureUnsupported, "cudaErrorStreamCaptureUnsupported",
     "operation not permitted when stream is capturing"},
    {cudaErrorStreamCaptureInvalidated, "cudaErrorStreamCaptureInvalidated",
     "operation failed due to a previous error during capture"},
    {cudaErrorStreamCaptureIsolation, "cudaErrorStreamCaptureIsolation",
     "dependency created on uncaptured work in another stream"},
    {cudaErrorStreamCaptureImplicit, "cudaErrorStreamCaptureImplicit",
     "operation would make the legacy stream depend on a capturing blocking stream"},
    {cudaErrorCapturedEvent, "cudaErrorCapturedEvent",
     "operation not permitted on an event last recorded in a capturing stream"},
    {cudaErrorUnknown, "cudaErrorUnknown", "unknown error"}};
const Name &name_of(cudaError_t status) {
  static constexpr Name other = {cudaErrorUnknown, "unrecognized error code",
                                 "unrecognized error code"};
  for (const Name &known : kNames)
    if (known.status == status)
      return known;
  return other;
}

// Whether a copy or a filling of that memory, on that stream, is sound.
bool on_device(cudaStream_t stream, const void *p, std::size_t bytes, const char *what) {
  const int device = device_of(stream);
  if (device >= 0 && inside(device, p, bytes))
    return true;
  violation(std::string(what) + " of " + std::to_string(bytes) + " bytes reaches " + describe(p) +
            ", on a stream of device " + std::to_string(device));
  return false;
}

cudaError_t copy(void *to, const void *from, std::size_t bytes, cudaMemcpyKind kind,
                 cudaStream_t stream) {
  const bool up = kind == cudaMemcpyHostToDevice, down = kind == cudaMemcpyDeviceToHost;
  if (bytes == 0)
    return cudaSuccess;
  if (!up && !down && kind != cudaMemcpyDeviceToDevice)
    return refused("a copy of a kind that is not modelled");
  if (!on_device(stream, up ? to : from, bytes, "a copy") ||
      (!up && !down && !on_device(stream, to, bytes, "a copy")))
    return cudaErrorInvalidValue;
  const void *const host = up ? from : down ? to : nullptr;
  if (host && owner(host) >= 0 && owner(host) != kHost)
    return refused("a copy takes memory of a device for memory of the host");
  const bool pinned = host && owner(host) == kHost;
  if (pinned && !inside(kHost, host, bytes))
    return refused("a copy of " + std::to_string(bytes) + " bytes reaches " + describe(host));
  Work work;
  work.name = "a copy";
  work.pinned = pinned ? host : nullptr;
  work.pinned_bytes = bytes;
  if (up && !pinned) { // it is read at once
    const std::string kept(static_cast<const char *>(from), bytes);
    work.run = [=] {
      std::memcpy(to, kept.data(), bytes);
      return cudaSuccess;
    };
  } else {
    work.run = [=] {
      std::memcpy(to, from, bytes);
      return cudaSuccess;
    };
  }
  if (host && !pinned) {
    cudaStreamCaptureStatus captured = cudaStreamCaptureStatusNone;
    stream_capturing(stream, &captured);
    if (captured != cudaStreamCaptureStatusNone)
      return stream_synchronize(stream); // breaks the capture
  }
  const cudaError_t status = enqueue(stream, std::move(work));
  return status == cudaSuccess && down && !pinned ? stream_synchronize(stream) : status;
}

} // namespace

std::recursive_mutex mutex;
int current_device() { return device_now; }
cudaError_t &lasting_error(int device) { return lasting[device]; }
unsigned resets(int device) { return resets_of[device]; }

cudaError_t enqueue_kernel(const cudaLaunchConfig_t &config, const void *kernel,
                           std::function<void()> body) {
  return call("cudaLaunchKernelExC", 0, [&]() -> cudaError_t {
    const unsigned blocks = config.gridDim.x, threads = config.blockDim.x;
    const bool flat = config.gridDim.y == 1 && config.gridDim.z == 1 && config.blockDim.y == 1 &&
                      config.blockDim.z == 1 && config.numAttrs == 0;
    if (!flat)
      return refused("a launch of a kind that is not modelled");
    if (blocks < 1 || blocks > 0x7fffffffu || threads < 1 || threads > 1024)
      return cudaErrorInvalidConfiguration;
    const auto found = allowed.find({device_now, kernel});
    const std::size_t most =
        found == allowed.end() ? kSharedUnasked : static_cast<std::size_t>(found->second);
    if (config.dynamicSmemBytes > most)
      return cudaErrorInvalidValue;
    if (device_of(config.stream) != device_now)
      return cudaErrorInvalidResourceHandle;
    count((std::to_string(threads) + " threads, " + std::to_string(config.dynamicSmemBytes) +
           " bytes of shared memory")
              .c_str());
    Kernel launch;
    launch.blocks = blocks;
    launch.threads = threads;
    launch.shared = config.dynamicSmemBytes;
    launch.body = std::move(body);
    Work work;
    work.name = "a kernel";
    work.run = [launch] { return run_kernel(launch); };
    return enqueue(config.stream, std::move(work));
  });
}

} // namespace cuda_on_host

using namespace cuda_on_host;

#define CUDA_ON_HOST_API extern "C" __attribute__((visibility("default")))

// ---- devices ----

CUDA_ON_HOST_API cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
CUDA_ON_HOST_API cudaError_t cudaDriverGetVersion(int *version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
CUDA_ON_HOST_API cudaError_t cudaGetDeviceCount(int *count) {
  *count = kDevices;
  return call("cudaGetDeviceCount", kAsks, [] { return cudaSuccess; });
}
CUDA_ON_HOST_API cudaError_t cudaGetDevice(int *device) {
  *device = device_now;
  return call("cudaGetDevice", kAsks, [] { return cudaSuccess; });
}
CUDA_ON_HOST_API cudaError_t cudaSetDevice(int device) {
  return call("cudaSetDevice", kAsks, [&] {
    if (device < 0 || device >= kDevices)
      return cudaErrorInvalidDevice;
    device_now = device;
    return cudaSuccess;
  });
}
CUDA_ON_HOST_API cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device) {
  return call("cudaGetDeviceProperties", kAsks, [&] {
    if (device < 0 || device >= kDevices)
      return cudaErrorInvalidDevice;
    *properties = cudaDeviceProp();
    std::strcpy(properties->name, "CUDA on the host");
    properties->major = 9;
    properties->multiProcessorCount = 4;
    properties->totalGlobalMem = std::size_t{8} << 30;
    properties->sharedMemPerBlockOptin = most_shared();
    return cudaSuccess;
  });
}
CUDA_ON_HOST_API cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr what, int device) {
  return call("cudaDeviceGetAttribute", 0, [&] {
    if (device < 0 || device >= kDevices)
      return cudaErrorInvalidDevice;
    if (what != cudaDevAttrMaxSharedMemoryPerBlockOptin)
      return refused("an attribute of the device that is not modelled");
    *value = static_cast<int>(most_shared());
    return cudaSuccess;
  });
}
CUDA_ON_HOST_API cudaError_t cudaDeviceSynchronize() {
  return call("cudaDeviceSynchronize", kForbidden, [] {
    finish_device(device_now);
    return lasting[device_now];
  });
}
CUDA_ON_HOST_API cudaError_t cudaDeviceReset() {
  return give_back("cudaDeviceReset", [] {
    finish_device(device_now);
    release_all(device_now);
    release_all(kHost); // (in CUDA, what was pinned while this device was current)
    forget_streams(device_now);
    lasting[device_now] = cudaSuccess;
    ++resets_of[device_now];
    for (auto *attributes : {&allowed, &preferred})
      for (auto one = attributes->begin(); one != attributes->end();)
        one = one->first.first == device_now ? attributes->erase(one) : std::next(one);
    return cudaSuccess;
  });
}

// ---- errors ----

CUDA_ON_HOST_API cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
CUDA_ON_HOST_API const char *cudaGetErrorName(cudaError_t status) { return name_of(status).name; }
CUDA_ON_HOST_API const char *cudaGetErrorString(cudaError_t status) { return name_of(status).text; }

// ---- kernels ----

CUDA_ON_HOST_API cudaError_t cudaFuncSetAttribute(const void *kernel, cudaFuncAttribute what,
                                                  int value) {
  return call("cudaFuncSetAttribute", 0, [&] {
    if (what == cudaFuncAttributePreferredSharedMemoryCarveout) {
      if (value < -1 || value > 100)
        return cudaErrorInvalidValue;
      preferred[{device_now, kernel}] = value;
      return cudaSuccess;
    }
    if (what != cudaFuncAttributeMaxDynamicSharedMemorySize)
      return refused("an attribute of a kernel that is not modelled");
    if (value < 0 || static_cast<std::size_t>(value) > most_shared())
      return cudaErrorInvalidValue;
    allowed[{device_now, kernel}] = value;
    return cudaSuccess;
  });
}
CUDA_ON_HOST_API cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes,
                                                   const void *kernel) {
  return call("cudaFuncGetAttributes", 0, [&] {
    *attributes = cudaFuncAttributes();
    const auto found = allowed.find({device_now, kernel});
    attributes->maxDynamicSharedSizeBytes =
        found == allowed.end() ? static_cast<int>(kSharedUnasked) : found->second;
    const auto share = preferred.find({device_now, kernel});
    attributes->preferredShmemCarveout =
        share == preferred.end() ? int{cudaSharedmemCarveoutDefault} : share->second;
    attributes->maxThreadsPerBlock = 1024;
    return cudaSuccess;
  });
}

// ---- memory ----

CUDA_ON_HOST_API cudaError_t cudaMalloc(void **p, std::size_t bytes) {
  return call("cudaMalloc", kForbidden, [&] { return allocated(device_now, p, bytes); });
}
CUDA_ON_HOST_API cudaError_t cudaFree(void *p) {
  return give_back("cudaFree", [&]() -> cudaError_t {
    if (!p)
      return cudaSuccess;
    const cudaError_t status = capture_forbids();
    if (status != cudaSuccess)
      return status;
    ask_at_free();
    const int device = owner(p);
    if (device < 0 || device == kHost)
      return refused("cudaFree of " + describe(p));
    finish_device(device);
    return release(device, p) ? lasting[device] : refused("cudaFree of " + describe(p));
  });
}
CUDA_ON_HOST_API cudaError_t cudaMallocHost(void **p, std::size_t bytes) {
  return call("cudaMallocHost", kForbidden, [&] { return allocated(kHost, p, bytes); });
}
CUDA_ON_HOST_API cudaError_t cudaFreeHost(void *p) {
  return give_back("cudaFreeHost", [&]() -> cudaError_t {
    if (!p)
      return cudaSuccess;
    if (owner(p) != kHost)
      return refused("cudaFreeHost of " + describe(p));
    if (const char *const user = uses_pinned(p, bytes_of(kHost, p)))
      violation(std::string("pinned memory is freed while ") + user + " that uses it is queued");
    return release(kHost, p) ? cudaSuccess : refused("cudaFreeHost of " + describe(p));
  });
}
CUDA_ON_HOST_API cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes,
                                                      const void *p) {
  return call("cudaPointerGetAttributes", 0, [&] {
    const int device = owner(p);
    const bool known = device >= 0 && inside(device, p, 1);
    *attributes = cudaPointerAttributes();
    attributes->type = !known            ? cudaMemoryTypeUnregistered
                       : device == kHost ? cudaMemoryTypeHost
                                         : cudaMemoryTypeDevice;
    attributes->device = device == kHost ? device_now : device;
    return cudaSuccess;
  });
}
CUDA_ON_HOST_API cudaError_t cudaMemcpyAsync(void *to, const void *from, std::size_t bytes,
                                             cudaMemcpyKind kind, cudaStream_t stream) {
  return call("cudaMemcpyAsync", 0, [&] { return copy(to, from, bytes, kind, stream); });
}
CUDA_ON_HOST_API cudaError_t cudaMemsetAsync(void *p, int value, std::size_t bytes,
                                             cudaStream_t stream) {
  return call("cudaMemsetAsync", 0, [&]() -> cudaError_t {
    if (bytes == 0)
      return cudaSuccess;
    if (!on_device(stream, p, bytes, "a filling"))
      return cudaErrorInvalidValue;
    Work work;
    work.name = "a filling";
    work.run = [=] {
      std::memset(p, value, bytes);
      return cudaSuccess;
    };
    return enqueue(stream, std::move(work));
  });
}

// ---- streams and events ----

CUDA_ON_HOST_API cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags) {
  return call("cudaStreamCreateWithFlags", 0,
              [&] { return stream_create(stream, flags != cudaStreamNonBlocking); });
}
CUDA_ON_HOST_API cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  return give_back("cudaStreamDestroy", [&] { return stream_destroy(stream); });
}
CUDA_ON_HOST_API cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return call("cudaStreamSynchronize", 0, [&] { return stream_synchronize(stream); });
}
CUDA_ON_HOST_API cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  return call("cudaStreamWaitEvent", 0, [&] { return stream_wait(stream, event); });
}
CUDA_ON_HOST_API cudaError_t cudaStreamIsCapturing(cudaStream_t stream,
                                                   cudaStreamCaptureStatus *status) {
  return call("cudaStreamIsCapturing", 0, [&] { return stream_capturing(stream, status); });
}
CUDA_ON_HOST_API cudaError_t cudaStreamBeginCapture(cudaStream_t stream,
                                                    cudaStreamCaptureMode mode) {
  return call("cudaStreamBeginCapture", 0, [&] { return capture_begin(stream, mode); });
}
CUDA_ON_HOST_API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  return call("cudaStreamEndCapture", 0, [&] { return capture_end(stream, graph); });
}
CUDA_ON_HOST_API cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
  return give_back("cudaThreadExchangeStreamCaptureMode", [&] {
    capture_exchange(mode);
    return cudaSuccess;
  });
}
// (A graph is launched as it is: instantiation is not modelled.)
CUDA_ON_HOST_API cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream) {
  return call("cudaGraphLaunch", 0,
              [&] { return graph_launch(reinterpret_cast<cudaGraph_t>(graph), stream); });
}
CUDA_ON_HOST_API cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  return give_back("cudaGraphDestroy", [&] {
    graph_destroy(graph);
    return cudaSuccess;
  });
}
CUDA_ON_HOST_API cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) {
  return call("cudaEventCreateWithFlags", 0, [&] { return event_create(event); });
}
CUDA_ON_HOST_API cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return call("cudaEventRecord", 0, [&] { return event_record(event, stream); });
}
CUDA_ON_HOST_API cudaError_t cudaEventQuery(cudaEvent_t event) {
  return call("cudaEventQuery", 0, [&] { return event_query(event); });
}
CUDA_ON_HOST_API cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return call("cudaEventSynchronize", 0, [&] { return event_synchronize(event); });
}
CUDA_ON_HOST_API cudaError_t cudaEventDestroy(cudaEvent_t event) {
  return give_back("cudaEventDestroy", [&] { return event_destroy(event); });
}
