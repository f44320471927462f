// What csrc/cuda/errors.cpp says, with the CUDA runtime played by the functions below.
#include <cstdio>

#include "cuda/errors.hpp"

namespace {
cudaError_t pending = cudaSuccess; // what the next call that asks the device meets
}

cudaError_t cudaGetLastError() { return cudaSuccess; }
const char *cudaGetErrorName(cudaError_t status) {
  return status == cudaErrorIllegalAddress ? "cudaErrorIllegalAddress" : "cudaErrorInvalidValue";
}
const char *cudaGetErrorString(cudaError_t) { return "as it says"; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus *status) {
  *status = cudaStreamCaptureStatusNone;
  return pending;
}

template <class F> void tell(const F &f) {
  try {
    f();
    std::puts("nothing");
  } catch (const splic::CudaError &error) {
    std::puts(error.what());
  }
}

int main() {
  tell([] { splic::check(cudaSuccess, "copy"); });
  tell([] { splic::check(cudaErrorInvalidValue, "copy"); });
  tell([] { splic::check_before(nullptr); });
  pending = cudaErrorIllegalAddress;
  tell([] { splic::check_before(nullptr); });
  tell([] { splic::check(cudaErrorIllegalAddress, "copy"); });
  tell([] { splic::check(cudaErrorInvalidValue, "copy"); });
}
