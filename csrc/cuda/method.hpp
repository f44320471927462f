// How a chunk of images is completed on a device, and the memory that it takes.
#pragma once

#include "kernels.hpp"

namespace splic {

enum class Algorithm { fused, tiled, cusolver };

// Makes a device current, and at the end the one before.
class DeviceGuard {
public:
  explicit DeviceGuard(int device);
  DeviceGuard(const DeviceGuard &) = delete;
  DeviceGuard &operator=(const DeviceGuard &) = delete;
  ~DeviceGuard();

private:
  int before_ = 0, device_ = 0;
};

// While it lives, a capture of a CUDA graph by others does not forbid this thread what is no part
// of it, such as to free memory, nor is it broken by that.
class OutsideCaptures {
public:
  OutsideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }
  OutsideCaptures(const OutsideCaptures &) = delete;
  OutsideCaptures &operator=(const OutsideCaptures &) = delete;
  ~OutsideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode_); }

private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

// Of the current device, for problems of the shape and the options of one.
class Method {
public:
  Method(const Problem &problem, Algorithm algorithm, int device);

  // Matrices to complete in that many images.
  std::int64_t items(std::int64_t images) const { return images * matrices_ * masks_; }
  // Device memory for that many images, besides the records: 0, or a multiple of 256.
  std::size_t workspace(std::int64_t images) const;
  // Most images for which bytes(images) is within the limit, from 1 to `count`.
  template <class F>
  static std::int64_t fitting(std::size_t limit, std::int64_t count, const F &bytes) {
    std::int64_t low = 1, high = count > 1 ? count : 1;
    while (low < high) {
      const std::int64_t middle = low + (high - low + 1) / 2;
      if (bytes(middle) <= limit)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
  // Most images that a launch takes, whatever their memory.
  std::int64_t most_images() const;

  // Completes a whole problem whose pointers are of the device. records: of each matrix, or null.
  // Asynchronous on the stream.
  void run(const Problem &problem, Record *records, unsigned char *workspace,
           cudaStream_t stream) const;

private:
  std::size_t sums_bytes(std::int64_t images) const;

  Problem shape_; // without its arrays
  Algorithm algorithm_;
  int device_;
  std::size_t shared_limit_ = 0;
  std::int64_t matrices_, masks_;
};

// Shared memory that a block of the device can have.
std::size_t shared_limit_of(int device);

// Enters the records of the matrices of `images` images, from image `first` on, into those of the
// problem.
void collect(const Problem &problem, const Record *records, std::int64_t first,
             std::int64_t images);

} // namespace splic
