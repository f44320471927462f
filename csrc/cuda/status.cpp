#include "solver.hpp"

#include <cuda_runtime_api.h>

#include "errors.hpp"

namespace splic {

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

} // namespace splic
