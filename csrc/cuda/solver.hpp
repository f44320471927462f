// The CUDA solver: devices, memory, chunks and copies around the kernels.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "splic/problem.hpp"

namespace splic {

// A CUDA call that failed: which, and why.
class CudaError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};
// The device has too little memory for even the smallest chunk.
class DeviceMemoryError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

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

// Completes a batch whose views are of the host, through pinned memory, in chunks that overlap
// copies with work, of at most `workspace` bytes of device memory or so. Throws CudaError,
// DeviceMemoryError, std::bad_alloc.
void solve_on_cuda(const Problem &problem, int device, std::size_t workspace);

} // namespace splic
