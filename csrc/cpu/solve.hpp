// The door between the dispatcher and the builds of the kernel for each instruction set.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// The matrix that the solver works on: the stacked image, transposed where it is wider than high.
struct Geometry {
  int m = 1, n = 1; // m >= n
  bool transposed = false;
  int row_block = 1, column_block = 1; // the TV term couples entries of one block alone

  Geometry() = default;
  SPLIC_INLINE explicit Geometry(const Problem &p) {
    const int rows = p.stacked_channels() * p.height;
    transposed = rows < p.width;
    m = transposed ? p.width : rows;
    n = transposed ? rows : p.width;
    row_block = transposed ? p.width : p.height;
    column_block = transposed ? p.height : p.width;
  }

  // Small matrices are interleaved, one in each lane; larger ones would not fit the caches.
  SPLIC_INLINE bool interleaves() const { return n <= 64 && m * n <= (1 << 14); }
};

// How a matrix comes out: iterations, residual and delta of each pass.
struct Record {
  std::int32_t iterations[2] = {0, 0};
  double residual[2] = {0, 0};
  double delta[2] = {0, 0};
};

// Some completions of one batch: items `first` to `first + count - 1`, where item
// (image * planes + plane) * streams + stream - first_stream is one completion of one matrix.
struct Job {
  const Problem *problem = nullptr;
  const double *basis = nullptr; // (n, n) discrete cosine basis, column p at basis + p * n
  std::int64_t first = 0;
  int count = 1;
  int first_stream = 0, streams = 1;
  Record *records = nullptr; // one for each item of the job
  void *sums = nullptr;      // result of an item at sums + i * m * n, or null: into the target
  void *workspace = nullptr; // aligned to 64 bytes
};

// One build of the kernels.
struct Kernels {
  const char *name;
  // Matrices that one call of `interleaved` completes, by precision (float, double).
  int lanes[2];
  std::size_t (*interleaved_workspace[2])(const Problem &);
  void (*interleaved[2])(const Job &);
  // One matrix at a time.
  std::size_t (*dense_workspace[2])(const Problem &);
  void (*dense[2])(const Job &);
};

extern const Kernels kBaselineKernels, kAvx2Kernels, kAvx512Kernels;

} // namespace splic
