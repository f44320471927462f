// Batches of the host, through pinned memory.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "errors.hpp"
#include "method.hpp"
#include "solver.hpp"

namespace splic {
namespace {

constexpr int kStreams = 2; // chunks in flight: one copies while the other computes
constexpr std::size_t kStagingBytes = std::size_t{32} << 20; // of pinned memory for a chunk

struct StreamDelete {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
using Stream = std::unique_ptr<std::remove_pointer_t<cudaStream_t>, StreamDelete>;
struct DeviceFree {
  void operator()(unsigned char *p) const { cudaFree(p); }
};
using DeviceBuffer = std::unique_ptr<unsigned char[], DeviceFree>;

// Pinned memory, which takes longer to get than many a batch to complete: as many buffers as a call
// needs are kept for later ones. They are never freed: at exit the driver may be gone before.
class PinnedBuffer {
public:
  PinnedBuffer() = default;
  PinnedBuffer(const PinnedBuffer &) = delete;
  PinnedBuffer &operator=(const PinnedBuffer &) = delete;
  ~PinnedBuffer() {
    if (!data_)
      return;
    const std::lock_guard<std::mutex> lock(mutex());
    auto &kept = all();
    const auto least = std::min_element(
        kept.begin(), kept.end(), [](const Kept &a, const Kept &b) { return a.bytes < b.bytes; });
    if (bytes_ > kStagingBytes) {
      cudaFreeHost(data_);
    } else if (kept.size() < kStreams) {
      kept.push_back({data_, bytes_});
    } else if (least->bytes < bytes_) {
      cudaFreeHost(least->data);
      *least = {data_, bytes_};
    } else {
      cudaFreeHost(data_);
    }
  }

  cudaError_t allocate(std::size_t bytes) {
    {
      const std::lock_guard<std::mutex> lock(mutex());
      auto &kept = all();
      // A reset of the device has freed what was kept.
      const auto gone = [](const Kept &one) { return one.type() == cudaMemoryTypeUnregistered; };
      kept.erase(std::remove_if(kept.begin(), kept.end(), gone), kept.end());
      for (auto one = kept.begin(); one != kept.end(); ++one)
        if (one->bytes >= bytes && one->type() == cudaMemoryTypeHost) {
          data_ = one->data;
          bytes_ = one->bytes;
          kept.erase(one);
          return cudaSuccess;
        }
    }
    void *p = nullptr;
    const cudaError_t status = cudaMallocHost(&p, bytes);
    if (status == cudaSuccess) {
      data_ = static_cast<unsigned char *>(p);
      bytes_ = bytes;
    }
    return status;
  }
  unsigned char *get() const { return data_; }

  // Frees what is kept: where memory is short, it is in the way.
  static void free_kept() {
    const std::lock_guard<std::mutex> lock(mutex());
    for (const Kept &one : all())
      cudaFreeHost(one.data);
    all().clear();
  }

private:
  struct Kept {
    unsigned char *data;
    std::size_t bytes;
    // Where it cannot be told, it is kept and not used.
    cudaMemoryType type() const {
      cudaPointerAttributes found = {};
      if (cudaPointerGetAttributes(&found, data) == cudaSuccess)
        return found.type;
      cudaGetLastError();
      return cudaMemoryTypeManaged;
    }
  };
  static std::mutex &mutex() {
    static auto *it = new std::mutex;
    return *it;
  }
  static std::vector<Kept> &all() {
    static auto *it = [] {
      auto *kept = new std::vector<Kept>;
      kept->reserve(kStreams); // a destructor adds to it
      return kept;
    }();
    return *it;
  }
  unsigned char *data_ = nullptr;
  std::size_t bytes_ = 0;
};

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
  std::size_t images, mask, records, records_end, end;
};

// One chunk in flight.
class Lane {
public:
  Lane(const Problem &problem, const Method &method, std::int64_t images)
      : problem_(problem), method_(method), item_(item_bytes_of(problem.dtype)) {
    image_entries_ = static_cast<std::size_t>(problem.channels) * problem.height * problem.width;
    const auto count = static_cast<std::size_t>(images);
    layout_.images = 0;
    layout_.mask = aligned(count * image_entries_ * item_);
    layout_.records = layout_.mask + (problem.mask.data ? aligned(count * image_entries_) : 0);
    layout_.records_end =
        layout_.records + aligned(static_cast<std::size_t>(method.items(images)) * sizeof(Record));
    layout_.end = layout_.records_end + method.workspace(images);
  }

  std::size_t device_bytes() const { return layout_.end; }
  std::size_t staging_bytes() const { return layout_.records_end; }

  Lane(const Lane &) = delete;
  Lane &operator=(const Lane &) = delete;
  ~Lane() { // where something has failed, its work may go on, and uses the memory
    if (now_ > 0)
      cudaStreamSynchronize(stream_.get());
  }

  enum class Memory { enough, too_little, too_little_pinned };
  Memory allocate() {
    cudaStream_t stream = nullptr;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_.reset(stream);
    void *p = nullptr;
    const cudaError_t status = cudaMalloc(&p, layout_.end);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError(); // it does not last: forget it
      return Memory::too_little;
    }
    check(status, "cudaMalloc");
    device_.reset(static_cast<unsigned char *>(p));
    const cudaError_t pinned = host_.allocate(layout_.records_end);
    if (pinned == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      return Memory::too_little_pinned;
    }
    check(pinned, "cudaMallocHost");
    return Memory::enough;
  }

  void start(std::int64_t first, std::int64_t images) {
    first_ = first;
    now_ = images;
    began_ = std::chrono::steady_clock::now();
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
    method_.run(p, reinterpret_cast<Record *>(device_.get() + layout_.records),
                device_.get() + layout_.records_end, stream_.get());
    copy(0, layout_.mask, cudaMemcpyDeviceToHost);
    copy(layout_.records,
         layout_.records + static_cast<std::size_t>(method_.items(images)) * sizeof(Record),
         cudaMemcpyDeviceToHost);
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
    collect(problem_, reinterpret_cast<const Record *>(host_.get() + layout_.records), first_,
            now_);
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
  const Method &method_;
  int item_;
  std::size_t image_entries_ = 0;
  Layout layout_ = {};
  Stream stream_;
  DeviceBuffer device_;
  PinnedBuffer host_;
  std::int64_t first_ = 0, now_ = 0;
  std::chrono::steady_clock::time_point began_;
};

} // namespace

void solve_host_batch(const Problem &problem, Algorithm algorithm, int device,
                      std::size_t workspace) {
  const DeviceGuard guard(device);
  const OutsideCaptures apart; // memory and streams of its own are no part of a capture
  check_before(cudaStreamPerThread);
  const Method method(problem, algorithm, device);
  const auto bytes = [&](std::int64_t images) {
    return kStreams * Lane(problem, method, images).device_bytes();
  };
  // Two chunks at least, so that copies overlap with work.
  std::int64_t images = std::min((problem.count + kStreams - 1) / kStreams, method.most_images());
  images = Method::fitting(workspace, images, bytes);
  images = Method::fitting(kStagingBytes, images, [&](std::int64_t count) {
    return Lane(problem, method, count).staging_bytes();
  });
  std::unique_ptr<Lane> lanes[kStreams];
  for (bool freed = false;;) {
    auto memory = Lane::Memory::enough;
    for (auto &lane : lanes) {
      lane = std::make_unique<Lane>(problem, method, images);
      if (memory == Lane::Memory::enough)
        memory = lane->allocate();
    }
    if (memory == Lane::Memory::enough)
      break;
    for (auto &lane : lanes)
      lane.reset();
    if (memory == Lane::Memory::too_little_pinned) {
      PinnedBuffer::free_kept();
      if (!std::exchange(freed, true))
        continue; // there may be enough now
    }
    if (images == 1 && memory == Lane::Memory::too_little_pinned)
      throw DeviceMemoryError(
          "the host has too little memory that CUDA can pin: a chunk of one image needs " +
          std::to_string(kStreams * Lane(problem, method, 1).staging_bytes()) +
          " bytes; free some, or use smaller images");
    if (images == 1)
      throw DeviceMemoryError(
          "the CUDA device has too little free memory: a chunk of one image needs " +
          std::to_string(bytes(1)) + " bytes; free some, or use smaller images or n_masks");
    images = (images + 1) / 2;
  }
  int turn = 0;
  for (std::int64_t first = 0; first < problem.count;
       first += images, turn = (turn + 1) % kStreams) {
    lanes[turn]->finish();
    lanes[turn]->start(first, std::min(images, problem.count - first));
  }
  for (int i = 0; i < kStreams; ++i)
    lanes[(turn + i) % kStreams]->finish();
}

} // namespace splic
