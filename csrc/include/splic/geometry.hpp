// The matrix that a solver works on, and what is recorded of it.
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

  SPLIC_INLINE std::int64_t entries() const { return static_cast<std::int64_t>(m) * n; }

  // Larger ones take too long to find all of their vectors.
  SPLIC_INLINE bool opens() const { return entries() <= (1 << 15); }
  // Small matrices are interleaved on the CPU, one in each lane; larger ones would not fit the
  // caches.
  SPLIC_INLINE bool interleaves() const { return n <= 64 && entries() <= (1 << 14); }
};

// How a matrix comes out: iterations, residual and delta of each pass; the least and the largest
// value that it had; and, where a library has failed on it, that library's number for it.
struct Record {
  std::int32_t iterations[2] = {0, 0};
  double residual[2] = {0, 0};
  double delta[2] = {0, 0};
  double low = 0, high = 0;
  std::int32_t failed = 0;
  std::int32_t doubt = 0; // not 0: it needs more care, and nothing has been stored
};

} // namespace splic
