#include "solver.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <new>

#include <cuda_runtime_api.h>

#include "kernels.hpp"

namespace splic {
namespace {

constexpr int kStreams = 2; // chunks in flight: one copies while the other computes
constexpr std::size_t kAlign = 256;
constexpr std::size_t kStagingBytes = std::size_t{32} << 20; // of pinned memory for a chunk

void check(cudaError_t status, const char *what) {
  if (status != cudaSuccess)
    throw CudaError("the CUDA operation " + std::string(what) + " failed: " +
                    cudaGetErrorString(status) + " (" + cudaGetErrorName(status) + ")");
}

// Makes a device current, and at the end the one before.
class DeviceGuard {
public:
  explicit DeviceGuard(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
  }
  DeviceGuard(const DeviceGuard &) = delete;
  DeviceGuard &operator=(const DeviceGuard &) = delete;
  ~DeviceGuard() { cudaSetDevice(before_); }

private:
  int before_ = 0;
};

struct StreamDelete {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDelete>;
struct DeviceFree {
  void operator()(unsigned char *p) const { cudaFree(p); }
};
using DeviceBuffer = std::unique_ptr<unsigned char[], DeviceFree>;
struct PinnedFree {
  void operator()(unsigned char *p) const { cudaFreeHost(p); }
};
using PinnedBuffer = std::unique_ptr<unsigned char[], PinnedFree>;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

int item_bytes_of(DType dtype) {
  switch (dtype) {
  case DType::u8:
    return 1;
  case DType::f16:
  case DType::bf16:
    return 2;
  case DType::f32:
    return 4;
  case DType::f64:
    return 8;
  }
  return 1;
}

// Copies an image between a strided view and packed memory.
template <class Byte, class F>
void each_row(const Problem &p, const View<Byte> &view, std::int64_t image, const F &f) {
  for (int c = 0; c < p.channels; ++c)
    for (int h = 0; h < p.height; ++h)
      f(view.at(image, c, h, 0), (static_cast<std::size_t>(c) * p.height + h) * p.width);
}

template <class To, class From>
void copy_row(To *to, std::ptrdiff_t to_stride, const From *from, std::ptrdiff_t from_stride,
              int count, int item) {
  if (to_stride == item && from_stride == item) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * item);
    return;
  }
  for (int w = 0; w < count; ++w)
    std::memcpy(to + w * to_stride, from + w * from_stride, static_cast<std::size_t>(item));
}

// The parts of the memory of one chunk, on the device and, up to `records_end`, mirrored on the
// host.
struct Layout {
  std::size_t images, mask, records, records_end, sums, workspace, end;
};

// One chunk in flight.
class Lane {
public:
  Lane(const Problem &problem, std::size_t shared_limit, std::int64_t images)
      : problem_(problem), images_(images), item_(item_bytes_of(problem.dtype)) {
    const std::size_t entries =
        static_cast<std::size_t>(problem.channels) * problem.height * problem.width;
    image_entries_ = entries;
    const int masks = problem.options.n_masks;
    items_ = static_cast<std::size_t>(images) * problem.planes() * masks;
    const std::size_t precision = problem.dtype == DType::f64 ? 8 : 4;
    layout_.images = 0;
    layout_.mask = aligned(images * entries * item_);
    layout_.records = layout_.mask + (problem.mask.data ? aligned(images * entries) : 0);
    layout_.records_end = layout_.records + aligned(items_ * sizeof(Record));
    layout_.sums = layout_.records_end;
    layout_.workspace =
        layout_.sums + (masks > 1 ? aligned(images * entries * masks * precision) : 0);
    workspace_ = fused_workspace_bytes(problem, shared_limit, static_cast<int>(items_));
    layout_.end = layout_.workspace + workspace_;
  }

  std::size_t device_bytes() const { return layout_.end; }
  std::size_t staging_bytes() const { return layout_.records_end; }

  // True unless the device is out of memory.
  bool allocate() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_.reset(stream);
    void *p = nullptr;
    const cudaError_t status = cudaMalloc(&p, layout_.end);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError(); // not sticky: forget it
      return false;
    }
    check(status, "cudaMalloc");
    device_.reset(static_cast<unsigned char *>(p));
    check(cudaMallocHost(&p, layout_.records_end), "cudaMallocHost");
    host_.reset(static_cast<unsigned char *>(p));
    return true;
  }

  void start(std::int64_t first, std::int64_t images, std::size_t shared_limit) {
    first_ = first;
    now_ = images;
    began_ = std::chrono::steady_clock::now();
    const int masks = problem_.options.n_masks;
    for (std::int64_t i = 0; i < images; ++i) {
      each_row(problem_, problem_.source, first + i, [&](const unsigned char *row, std::size_t at) {
        copy_row(host_.get() + (i * image_entries_ + at) * item_, item_, row,
                 problem_.source.stride[3], problem_.width, item_);
      });
      if (problem_.mask.data)
        each_row(problem_, problem_.mask, first + i, [&](const unsigned char *row, std::size_t at) {
          copy_row(host_.get() + layout_.mask + i * image_entries_ + at, 1, row,
                   problem_.mask.stride[3], problem_.width, 1);
        });
    }
    copy(0, layout_.records, cudaMemcpyHostToDevice);
    Problem p = problem_;
    p.count = images;
    p.first_index += static_cast<std::uint64_t>(first);
    p.source.data = p.target.data = device_.get();
    packed(p.source, item_);
    packed(p.target, item_);
    if (p.mask.data) {
      p.mask.data = device_.get() + layout_.mask;
      packed(p.mask, 1);
    }
    Launch launch;
    launch.count = static_cast<int>(images * problem_.planes() * masks);
    launch.streams = masks;
    launch.records = reinterpret_cast<Record *>(device_.get() + layout_.records);
    launch.sums = masks > 1 ? device_.get() + layout_.sums : nullptr;
    launch.workspace = workspace_ ? device_.get() + layout_.workspace : nullptr;
    check(launch_fused(p, launch, shared_limit, stream_.get()), "completion kernel");
    if (masks > 1)
      check(launch_mean(p, launch.sums, 0, images, stream_.get()), "mean kernel");
    copy(0, layout_.mask, cudaMemcpyDeviceToHost);
    copy(layout_.records, layout_.records_end, cudaMemcpyDeviceToHost);
  }

  // Waits for the chunk and hands it out.
  void finish() {
    if (now_ == 0)
      return;
    check(cudaStreamSynchronize(stream_.get()), "completion kernel");
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began_;
    for (std::int64_t i = 0; i < now_; ++i) {
      each_row(problem_, problem_.target, first_ + i, [&](unsigned char *row, std::size_t at) {
        copy_row(row, problem_.target.stride[3], host_.get() + (i * image_entries_ + at) * item_,
                 item_, problem_.width, item_);
      });
      if (problem_.seconds)
        problem_.seconds[first_ + i] += took.count() / static_cast<double>(now_);
    }
    const Record *records = reinterpret_cast<const Record *>(host_.get() + layout_.records);
    const std::int64_t per_image =
        static_cast<std::int64_t>(problem_.planes()) * problem_.options.n_masks;
    const int passes = problem_.passes();
    for (std::int64_t item = 0; item < now_ * per_image; ++item)
      for (int pass = 0; pass < passes; ++pass) {
        const std::int64_t at = (first_ + item / per_image) * passes + pass;
        if (problem_.iterations)
          problem_.iterations[at] =
              std::max(problem_.iterations[at], records[item].iterations[pass]);
        if (problem_.residual)
          problem_.residual[at] = std::max(problem_.residual[at], records[item].residual[pass]);
        if (problem_.delta)
          problem_.delta[at] = std::max(problem_.delta[at], records[item].delta[pass]);
      }
    now_ = 0;
  }

private:
  void copy(std::size_t from, std::size_t to, cudaMemcpyKind kind) {
    if (from == to)
      return;
    const bool up = kind == cudaMemcpyHostToDevice;
    check(cudaMemcpyAsync((up ? device_.get() : host_.get()) + from,
                          (up ? host_.get() : device_.get()) + from, to - from, kind,
                          stream_.get()),
          up ? "copy to the device" : "copy from the device");
  }
  template <class Byte> void packed(View<Byte> &view, int item) const {
    view.stride[3] = item;
    view.stride[2] = view.stride[3] * problem_.width;
    view.stride[1] = view.stride[2] * problem_.height;
    view.stride[0] = view.stride[1] * problem_.channels;
  }

  const Problem &problem_;
  std::int64_t images_;
  int item_;
  std::size_t image_entries_ = 0, items_ = 0, workspace_ = 0;
  Layout layout_ = {};
  Stream stream_;
  DeviceBuffer device_;
  PinnedBuffer host_;
  std::int64_t first_ = 0, now_ = 0;
  std::chrono::steady_clock::time_point began_;
};

} // namespace

CudaStatus cuda_status() {
  CudaStatus status;
  cudaRuntimeGetVersion(&status.runtime);
  cudaDriverGetVersion(&status.driver); // 0 without a driver
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) {
    cudaGetLastError();
    status.reason = status.driver == 0
                        ? "no NVIDIA driver is installed"
                        : std::string("no CUDA device: ") + cudaGetErrorString(error);
    return status;
  }
  for (int i = 0; i < count; ++i) {
    cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) {
      cudaGetLastError();
      continue;
    }
    status.devices.push_back({i, properties.name, properties.major, properties.minor,
                              properties.multiProcessorCount, properties.totalGlobalMem,
                              properties.sharedMemPerBlockOptin});
  }
  status.available = !status.devices.empty();
  if (!status.available)
    status.reason = "no CUDA device is visible";
  return status;
}

void solve_on_cuda(const Problem &problem, int device, std::size_t workspace) {
  const DeviceGuard guard(device);
  int limit = 0;
  check(cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "cudaDeviceGetAttribute");
  const auto shared_limit = static_cast<std::size_t>(limit);
  const Lane single(problem, shared_limit, 1);
  const std::size_t one = single.device_bytes();
  const std::size_t fitting =
      std::min(workspace / kStreams / one, kStagingBytes / single.staging_bytes());
  std::int64_t images = std::max<std::int64_t>(1, static_cast<std::int64_t>(fitting));
  // Two chunks at least, so that copies overlap with work.
  images = std::min(images, (problem.count + kStreams - 1) / kStreams);
  std::unique_ptr<Lane> lanes[kStreams];
  for (;;) {
    bool fits = true;
    for (auto &lane : lanes) {
      lane = std::make_unique<Lane>(problem, shared_limit, images);
      fits = fits && lane->allocate();
    }
    if (fits)
      break;
    for (auto &lane : lanes)
      lane.reset();
    if (images == 1)
      throw DeviceMemoryError(
          "the CUDA device has too little free memory: a chunk of one image needs " +
          std::to_string(kStreams * one) + " bytes; free some, or use smaller images or n_masks");
    images = (images + 1) / 2;
  }
  int turn = 0;
  for (std::int64_t first = 0; first < problem.count;
       first += images, turn = (turn + 1) % kStreams) {
    lanes[turn]->finish();
    lanes[turn]->start(first, std::min(images, problem.count - first), shared_limit);
  }
  for (int i = 0; i < kStreams; ++i)
    lanes[(turn + i) % kStreams]->finish();
}

} // namespace splic
