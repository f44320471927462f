// Batches of a device.
#include <algorithm>
#include <chrono>
#include <vector>

#include "errors.hpp"
#include "solver.hpp"

namespace splic {
namespace {

Method method_on(const Problem &problem, Algorithm algorithm, int device) {
  const DeviceGuard guard(device);
  return Method(problem, algorithm, device);
}

template <class Byte> void advance(View<Byte> &view, std::int64_t images) {
  if (view.data)
    view.data += images * view.stride[0];
}

} // namespace

bool is_capturing(int device, cudaStream_t stream) {
  const DeviceGuard guard(device);
  check_before(stream);
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &capture), "cudaStreamIsCapturing");
  return capture != cudaStreamCaptureStatusNone;
}

DeviceBatch::DeviceBatch(const Problem &problem, Algorithm algorithm, int device,
                         cudaStream_t stream, bool records)
    : problem_(problem), device_(device), stream_(stream), records_(records),
      method_(method_on(problem, algorithm, device)) {
  // (Before anything else: asking cuSOLVER for its workspace could break the capture.)
  const bool captured = is_capturing(device, stream);
  if (captured && records)
    throw CudaError("a CUDA graph cannot take in a call that waits for the device; leave out "
                    "`return_info`");
  if (captured && algorithm == Algorithm::cusolver)
    throw CudaError(
        "a CUDA graph can take in no call of cuSOLVER; use `algorithm='fused'` or 'tiled'");
}

std::size_t DeviceBatch::records_bytes() const {
  const std::size_t bytes =
      static_cast<std::size_t>(method_.items(problem_.count)) * sizeof(Record);
  return records_ ? (bytes + 255) / 256 * 256 : 0;
}

std::size_t DeviceBatch::bytes(std::int64_t images) const {
  const DeviceGuard guard(device_);
  return records_bytes() + method_.workspace(images);
}

std::int64_t DeviceBatch::fitting(std::size_t limit) const {
  return Method::fitting(limit, std::min(problem_.count, method_.most_images()),
                         [&](std::int64_t images) { return bytes(images); });
}

void DeviceBatch::run(unsigned char *workspace, std::int64_t images) const {
  const auto began = std::chrono::steady_clock::now();
  const DeviceGuard guard(device_);
  Record *const records = records_ ? reinterpret_cast<Record *>(workspace) : nullptr;
  unsigned char *const rest = workspace + records_bytes();
  for (std::int64_t first = 0; first < problem_.count; first += images) {
    Problem chunk = problem_;
    chunk.count = std::min(images, problem_.count - first);
    chunk.first_index += static_cast<std::uint64_t>(first);
    advance(chunk.source, first);
    advance(chunk.target, first);
    advance(chunk.mask, first);
    method_.run(chunk, records ? records + method_.items(first) : nullptr, rest, stream_);
  }
  if (!records)
    return;
  std::vector<Record> host(static_cast<std::size_t>(method_.items(problem_.count)));
  check(cudaMemcpyAsync(host.data(), records, host.size() * sizeof(Record), cudaMemcpyDeviceToHost,
                        stream_),
        "copy of the records");
  check(cudaStreamSynchronize(stream_), "completion kernel");
  collect(problem_, host.data(), 0, problem_.count);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  if (problem_.seconds)
    for (std::int64_t i = 0; i < problem_.count; ++i)
      problem_.seconds[i] += took.count() / static_cast<double>(problem_.count);
}

} // namespace splic
