// The defences beside the solver, on batches: spreads the work over threads.
#pragma once

#include "peers.hpp"
#include "watch.hpp"

namespace splic {

struct Kernels;

// Denoises the planes, or computes the gradient if there is a cotangent, on at most `threads`
// threads. `question` as for `solve_on_cpu`. Throws std::bad_alloc, and Stopped.
void denoise_tv(const Denoising &batch, const Kernels &kernels, int threads,
                Watch::Question question);

// The same for matrices, of any shape, by Soft-Impute or by the nuclear norm.
void estimate(const Estimation &batch, const Kernels &kernels, int threads,
              Watch::Question question);

} // namespace splic
