// What goes wrong on a device, as exceptions.
#pragma once

#include <stdexcept>
#include <string>

#include <cuda_runtime_api.h>

namespace splic {

// A CUDA call that failed: which, and why.
class CudaError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};
// A cuSOLVER call that failed, or the library cannot be loaded.
class CusolverError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};
// The device has too little memory for even the smallest chunk.
class DeviceMemoryError : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

// Throws unless the status is cudaSuccess. An error that makes CUDA unusable in this process, such
// as an illegal access, is told of with the operation that met it first, also by later calls, which
// only meet it again.
void check(cudaError_t status, const char *operation);

// Throws if CUDA is in error already, so that an error of others is not taken for one of ours.
void check_before(cudaStream_t stream);

} // namespace splic
