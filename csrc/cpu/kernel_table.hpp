// The door between the dispatcher and the builds of the kernel for each instruction set.
#pragma once

#include "peers.hpp"
#include "splic/geometry.hpp"

namespace splic {

// Completions of some matrices of one batch, which are numbered image * planes + plane: items
// `first` to `first + count - 1`, where item place * streams + stream - first_stream is one
// completion of matrices[place].
struct Job {
  const Problem *problem = nullptr;
  const double *basis = nullptr; // (n, n) discrete cosine basis, column p at basis + p * n
  const std::int64_t *matrices = nullptr;
  std::int64_t first = 0;
  int count = 1;
  int first_stream = 0, streams = 1;
  Record *records = nullptr; // one for each item of the job
  void *sums = nullptr;      // result of an item at sums + i * m * n, or null: into the target
  void *workspace = nullptr; // aligned to 64 bytes
  // Called now and then, with `watch`; throws where the work is to end.
  void (*look)(void *watch) = nullptr;
  void *watch = nullptr;
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
  const PeerKernels *peers;
};

namespace baseline {
extern const Kernels kKernels;
}
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}

} // namespace splic
