// A CUDA runtime on the host, for tests: what its parts share.
//
// It runs the project's own kernels and host code on a CPU and checks what they do: threads of a
// block meet the same barriers, warps the same shuffles, every access stays inside memory of the
// right device that is still allocated, nothing is read before it was written (it would read NaN),
// pinned memory outlives the copies that use it, streams order what they must. Work runs as late as
// CUDA allows, in an order drawn from a seed. Every call can be made to fail.
//
// It models no time, no caches, no races between warps beyond their order, no registers, and of
// CUDA only the functions in api.cpp; anything else does not link.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>

#include <cuda_runtime_api.h>

namespace cuda_on_host {

constexpr int kDevices = 2;
constexpr int kWarp = 32;
constexpr std::size_t kShared = 232448,
                      kSharedUnasked = 48 << 10; // of a block: at most, by default

// NaN as float, double and half, and as an index far out of every array.
constexpr std::uint32_t kPoison = 0xfff5fff5u;
void poison(void *from, std::size_t bytes);

// Held by every call, and while work runs.
extern std::recursive_mutex mutex;

// Notes what no correct program does. Tests demand that there is none.
void violation(const std::string &what);

// A number below `count`, from the seed of the test.
unsigned draw(unsigned count);

// ---- kernels.cpp: blocks of threads ----

struct Kernel {
  unsigned blocks = 1, threads = 1;
  std::size_t shared = 0;
  std::function<void()> body; // of one thread
};
// Runs all blocks, one after the other.
cudaError_t run_kernel(const Kernel &kernel);
// Whether this thread of the host runs a kernel.
bool in_kernel();
// Takes the signal of an access to what is not there, once more if others have taken it since.
void watch_faults();
// Ends that kernel, with what went wrong.
[[noreturn]] void end_kernel(cudaError_t status, const std::string &why);

// ---- memory.cpp: devices and pinned memory ----

constexpr int kHost = kDevices; // the "device" of pinned memory

// Null where there is no memory left.
void *allocate(int device, std::size_t bytes);
// False where this is no living allocation of the device.
bool release(int device, void *p);
void release_all(int device);
// Whether the bytes lie inside one living allocation of the device.
bool inside(int device, const void *p, std::size_t bytes);
// The device whose memory an address is of, kHost, or -1.
int owner(const void *p);
// Says of an address what is there.
std::string describe(const void *p);
// Lets this thread reach the memory of one device; without, nobody does.
class Open {
public:
  explicit Open(int device);
  ~Open();
  Open(const Open &) = delete;
  Open &operator=(const Open &) = delete;

private:
  int device_;
};
// What was asked for at this address; 0 if it is none that was handed out.
std::size_t bytes_of(int device, const void *p);
std::size_t living(int device, std::size_t *bytes);
void limit_memory(int device, std::size_t bytes);
// The shared memory that a block can have: kShared, or less where a test has said so.
std::size_t most_shared();

// ---- streams.cpp: queues, events, capture ----

struct Work {
  const char *name = "";
  std::function<cudaError_t()> run;
  const void *pinned = nullptr; // that it uses until it is done
  std::size_t pinned_bytes = 0;
};
cudaError_t enqueue(cudaStream_t stream, Work work);
int device_of(cudaStream_t stream);
// For the calls of api.cpp, which hold the mutex:
cudaError_t stream_create(cudaStream_t *stream, bool blocking);
cudaError_t stream_destroy(cudaStream_t stream);
cudaError_t stream_synchronize(cudaStream_t stream);
cudaError_t stream_wait(cudaStream_t stream, cudaEvent_t event);
cudaError_t stream_capturing(cudaStream_t stream, cudaStreamCaptureStatus *status);
cudaError_t capture_begin(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t capture_end(cudaStream_t stream, cudaGraph_t *graph);
// What a capture does not allow, such as allocations; it is broken then.
cudaError_t capture_forbids();
cudaError_t graph_launch(cudaGraph_t graph, cudaStream_t stream);
// How much a capture forbids this thread; as cudaThreadExchangeStreamCaptureMode.
void capture_exchange(cudaStreamCaptureMode *mode);
void graph_destroy(cudaGraph_t graph);
cudaError_t event_create(cudaEvent_t *event);
cudaError_t event_record(cudaEvent_t event, cudaStream_t stream);
cudaError_t event_query(cudaEvent_t event);
cudaError_t event_synchronize(cudaEvent_t event);
cudaError_t event_destroy(cudaEvent_t event);
void finish_device(int device);
// The first work in the queues that uses such pinned memory, or null.
const char *uses_pinned(const void *p, std::size_t bytes);
void forget_streams(int device);
struct Counts {
  std::size_t streams, events, queued;
};
Counts living_streams();

// ---- api.cpp ----

int current_device();
// How often a device has been reset: what is left from before is not to be used.
unsigned resets(int device);
// The error that work on a device has left behind, which every later call meets.
cudaError_t &lasting_error(int device);
// Counts a call, also of a library; true where it is the one that has been made to fail.
bool fails_here(const char *name);
void count(const char *what);
// That one's error.
cudaError_t chosen_error();
// Asks what tests want to know whenever memory is freed.
void ask_at_free();

} // namespace cuda_on_host
