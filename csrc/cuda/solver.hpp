// The CUDA solver: devices, memory, chunks and copies around the kernels.
#pragma once

#include <string>
#include <vector>

#include "cuda/method.hpp"
#include "splic/problem.hpp"

namespace splic {

struct CudaDevice {
  int index = 0;
  std::string name;
  int major = 0, minor = 0; // compute capability
  int multiprocessors = 0;
  std::size_t memory = 0, shared = 0; // bytes: of the device, of a block at most
};

struct CudaStatus {
  bool available = false;
  std::string reason;          // why not
  int driver = 0, runtime = 0; // versions, 1000 major + 10 minor; 0: no driver
  std::vector<CudaDevice> devices;
};

// Never throws: without a driver or a device it says so.
CudaStatus cuda_status();

// Whether what is put on a stream of the device becomes part of a CUDA graph. Throws CudaError.
bool is_capturing(int device, cudaStream_t stream);

// Completes a batch whose views are of the host, through pinned memory, in chunks that overlap
// copies with work, of at most `workspace` bytes of device memory or so. Throws CudaError,
// CusolverError, DeviceMemoryError, std::bad_alloc.
void solve_host_batch(const Problem &problem, Algorithm algorithm, int device,
                      std::size_t workspace);

// Completes a batch whose views are of a device, on a stream of the caller's, in memory that the
// caller has allocated in the order of that stream: nothing is allocated here, and nothing waits
// unless records are wanted. So the caller's allocator sees all memory, and without cuSOLVER the
// call can be part of a CUDA graph. All throw CudaError and CusolverError.
class DeviceBatch {
public:
  // records: whether those of the problem shall be filled in.
  DeviceBatch(const Problem &problem, Algorithm algorithm, int device, cudaStream_t stream,
              bool records);

  // Most images in a chunk, from 1 on, for at most that many bytes, and the bytes that it takes.
  std::int64_t fitting(std::size_t limit) const;
  std::size_t bytes(std::int64_t images) const;

  void run(unsigned char *workspace, std::int64_t images) const;

private:
  std::size_t records_bytes() const;

  Problem problem_;
  int device_;
  cudaStream_t stream_;
  bool records_;
  Method method_;
};

} // namespace splic
