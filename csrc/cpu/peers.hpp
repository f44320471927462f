// The defences beside the solver: what they are handed, and the door to the builds of their kernels
// for each instruction set.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// Planes to denoise by total variation; the output may be the input.
struct Denoising {
  std::int64_t count = 0; // N
  int channels = 1, height = 1, width = 1;
  bool wide = false; // float64, else float32
  ConstView source;
  MutableView target;
  // Of a loss by the result: the target then takes the gradient by the source. Null: denoise.
  ConstView cotangent;
  double weight = 0.1;
  int iterations = 0;
};

// Matrices to estimate from some of their entries, of shape (N, 1, H, W) with H <= W.
struct Estimation {
  std::int64_t count = 0; // N
  int channels = 1, height = 1, width = 1;
  bool wide = false; // float64, else float32
  ConstView source;
  MutableView target;
  ConstView mask; // one byte for each entry: 0 is hidden
  // Of a loss by the result: the target then takes the gradient by the source. Null: estimate.
  ConstView cotangent;
  bool nuclear = false; // minimise the nuclear norm, else Soft-Impute
  double amount = 0.0;  // tau, or with Soft-Impute its share of the first singular value
  double tolerance = 0.0;
  int iterations = 0;           // at most
  std::int32_t *done = nullptr; // (N,): those taken; what a gradient takes, too
};

// One item of a batch, or `count` of them from `item` on.
struct PeerJob {
  std::int64_t item = 0;
  int count = 1;
  void *workspace = nullptr; // aligned to 64 bytes
  // Called now and then, with `watch`; throws where the work is to end.
  void (*look)(void *watch) = nullptr;
  void *watch = nullptr;
};

// One build, by precision (float, double).
struct PeerKernels {
  // Bytes of workspace; 0: more than there can be.
  std::size_t (*denoise_workspace[2])(const Denoising &);
  void (*denoise[2])(const Denoising &, const PeerJob &); // plane image * channels + channel
  // Matrices of a job, and bytes for a job of at most that many iterations.
  int lanes;
  std::size_t (*estimate_workspace)(const Estimation &, int iterations);
  void (*estimate)(const Estimation &, const PeerJob &);
};

} // namespace splic
