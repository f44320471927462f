// What tests ask of the runtime, as C functions (python_tests/helpers/cuda_on_host.py).
#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>

#include "runtime.hpp"

namespace cuda_on_host {
namespace {

std::string violations, failed;
std::uint64_t random_state = 1;
long calls = 0, fail_at = 0;
std::map<std::string, long> calls_of;
int (*question)() = nullptr; // asked at each cudaFree
int answers = 0;
std::size_t shared_now = kShared;
cudaError_t fail_with = cudaErrorInvalidValue;

} // namespace

void violation(const std::string &what) {
  constexpr std::size_t kMost = 4000; // of what is kept
  if (violations.size() < kMost)
    violations += what + "\n";
}

unsigned draw(unsigned count) { // xorshift64* (Vigna 2016)
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return static_cast<unsigned>((random_state * 2685821657736338717ull >> 33) % count);
}

void count(const char *what) { ++calls_of[what]; }
bool fails_here(const char *name) {
  count(name);
  if (++calls != fail_at)
    return false;
  failed = name;
  return true;
}
void ask_at_free() { answers += question ? question() : 0; }
cudaError_t chosen_error() { return fail_with; }
std::size_t most_shared() { return shared_now; }

} // namespace cuda_on_host

using namespace cuda_on_host;

#define CUDA_ON_HOST_API extern "C" __attribute__((visibility("default")))

namespace {
void hand_out(const std::string &text, char *to, std::size_t size) {
  const std::size_t count = std::min(text.size(), size - 1);
  std::memcpy(to, text.data(), count);
  to[count] = 0;
}
} // namespace

// Orders are drawn anew, from this.
CUDA_ON_HOST_API void cuda_on_host_seed(std::uint64_t seed) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  random_state = seed * 2654435769u + 1;
  for (int i = 0; i < 8; ++i)
    draw(2);
}
// What was wrong since this was asked last; empty: nothing.
CUDA_ON_HOST_API void cuda_on_host_violations(char *text, std::size_t size) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  hand_out(violations, text, size);
  violations.clear();
}
// Makes the call of that number, from now on, fail; 0: none. Returns how many have been made.
CUDA_ON_HOST_API long cuda_on_host_fail(long at, int status) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const long made = calls;
  calls = 0;
  fail_at = at;
  fail_with = static_cast<cudaError_t>(status);
  failed.clear();
  return made;
}
// The call that was made to fail; empty: there were not so many.
CUDA_ON_HOST_API void cuda_on_host_failed(char *text, std::size_t size) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  hand_out(failed, text, size);
}
// How often a function has been called, or something else was counted, since this was asked last.
CUDA_ON_HOST_API long cuda_on_host_calls(const char *name) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  const long made = calls_of[name];
  calls_of[name] = 0;
  return made;
}
// Asks this at each cudaFree from now on (null: nothing); the sum of what it has said before.
CUDA_ON_HOST_API int cuda_on_host_ask_at_free(int (*ask)()) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  question = ask;
  return std::exchange(answers, 0);
}
// Leaves a device in an error that lasts.
CUDA_ON_HOST_API void cuda_on_host_break(int device, int status) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  lasting_error(device) = static_cast<cudaError_t>(status);
}
// Bytes that a device has, or, after the last one, the host for pinned memory; 0: enough.
CUDA_ON_HOST_API void cuda_on_host_limit_shared(std::size_t bytes) {
  shared_now = bytes > 0 ? std::min(bytes, kShared) : kShared;
}
CUDA_ON_HOST_API void cuda_on_host_limit(int device, std::size_t bytes) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  limit_memory(device, bytes);
}
// Allocations of the devices and pinned ones, bytes of each, streams, events, work in queues.
CUDA_ON_HOST_API void cuda_on_host_living(std::size_t *counts) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  for (int device = 0; device <= kHost; ++device)
    counts[2 * device] = living(device, &counts[2 * device + 1]);
  const Counts streams = living_streams();
  counts[2 * kHost + 2] = streams.streams;
  counts[2 * kHost + 3] = streams.events;
  counts[2 * kHost + 4] = streams.queued;
}
