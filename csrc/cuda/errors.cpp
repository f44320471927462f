#include "errors.hpp"

#include <mutex>

namespace splic {
namespace {

std::mutex mutex;
std::string first; // what made CUDA unusable; empty: nothing has

bool lasting(cudaError_t status) {
  switch (status) {
  case cudaErrorIllegalAddress:
  case cudaErrorLaunchFailure:
  case cudaErrorLaunchTimeout:
  case cudaErrorHardwareStackError:
  case cudaErrorIllegalInstruction:
  case cudaErrorMisalignedAddress:
  case cudaErrorInvalidAddressSpace:
  case cudaErrorInvalidPc:
  case cudaErrorAssert:
  case cudaErrorECCUncorrectable:
  case cudaErrorNvlinkUncorrectable:
  case cudaErrorContained:
  case cudaErrorUnknown:
    return true;
  default:
    return false;
  }
}

std::string text_of(cudaError_t status) {
  return std::string(cudaGetErrorString(status)) + " (" + cudaGetErrorName(status) + ")";
}

[[noreturn]] void fail(cudaError_t status, const std::string &what) {
  cudaGetLastError(); // this call has told of it
  if (!lasting(status))
    throw CudaError(what);
  const std::lock_guard<std::mutex> lock(mutex);
  if (!first.empty())
    throw CudaError("CUDA cannot be used in this process since an earlier error; start it anew. " +
                    first);
  first = what;
  throw CudaError(what + "; CUDA cannot be used any more in this process: start it anew");
}

} // namespace

void check(cudaError_t status, const char *operation) {
  if (status != cudaSuccess)
    fail(status, "the CUDA operation " + std::string(operation) + " failed: " + text_of(status));
}

void check_before(cudaStream_t stream) {
  cudaGetLastError(); // what does not last concerns nobody now
  cudaStreamCaptureStatus capture;
  const cudaError_t status = cudaStreamIsCapturing(stream, &capture); // meets what lasts
  if (status == cudaErrorStreamCaptureImplicit) {
    cudaGetLastError();
    throw CudaError("the default stream cannot be used while another stream captures a CUDA graph; "
                    "call splic_ext before or after the capture, or for arrays of torch or CuPy "
                    "on a stream of their own");
  }
  if (status == cudaErrorInvalidResourceHandle) {
    cudaGetLastError();
    throw CudaError("the current stream of `batch` does not exist any more; make another one "
                    "current: " +
                    text_of(status));
  }
  if (status != cudaSuccess)
    fail(status, "a CUDA operation before this call of splic_ext has failed: " + text_of(status));
}

} // namespace splic
