// cuSOLVER's batched eigensolver, from a library that is loaded at run time: neither its headers
// nor the library are needed to build this module, or to import it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

namespace splic {

// The part of the C interface that is used. Handles are pointers to structures that stay the
// library's; enumerations are passed as the int that they are.
struct CusolverApi {
  using Handle = struct cusolverDnContext *;
  using Params = struct cusolverDnParams *;
  int (*property)(int type, int *value) = nullptr;
  int (*create)(Handle *handle) = nullptr;
  int (*destroy)(Handle handle) = nullptr;
  int (*set_stream)(Handle handle, cudaStream_t stream) = nullptr;
  int (*create_params)(Params *params) = nullptr;
  int (*destroy_params)(Params params) = nullptr;
  int (*eigen_size)(Handle handle, Params params, int jobz, int uplo, std::int64_t n, int type_a,
                    const void *a, std::int64_t lda, int type_w, const void *w, int compute_type,
                    std::size_t *device_bytes, std::size_t *host_bytes,
                    std::int64_t batch) = nullptr;
  int (*eigen)(Handle handle, Params params, int jobz, int uplo, std::int64_t n, int type_a,
               void *a, std::int64_t lda, int type_w, void *w, int compute_type,
               void *device_buffer, std::size_t device_bytes, void *host_buffer,
               std::size_t host_bytes, int *info, std::int64_t batch) = nullptr;

  static constexpr int kVectors = 1, kLower = 0, kFloat64 = 1;
};

struct CusolverLibrary {
  std::string path;
  int version = 0; // 10000 major + 100 minor + patch, of the library itself
};

// Loads the first of the files (names or paths) that can be, once for the process. Throws
// CusolverError: it says of each why not.
CusolverLibrary load_cusolver(const std::vector<std::string> &files);

// Borrows a handle of the library for one stream, and gives it back when it is done with.
class EigenSolver {
public:
  EigenSolver(int device, cudaStream_t stream);
  // To ask for the workspace alone: no stream has anything to do with it.
  explicit EigenSolver(int device);
  ~EigenSolver();
  EigenSolver(const EigenSolver &) = delete;
  EigenSolver &operator=(const EigenSolver &) = delete;

  // Bytes of device memory for `count` matrices of n x n.
  std::size_t workspace(int n, int count) const;

  // Eigenvalues, rising, and eigenvectors, in place of the matrices. failed: 0 for each matrix, or
  // the number that the library has for what went wrong. Asynchronous on the stream.
  void decompose(int n, double *matrices, double *values, std::int32_t *failed, int count,
                 void *workspace, std::size_t bytes);

private:
  struct Entry;
  template <class F> void borrow(int device, const F &fits);
  bool works_ = true;
  std::shared_ptr<Entry> entry_;
  friend struct EigenSolverPool;
};

} // namespace splic
