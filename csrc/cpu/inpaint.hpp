// Total-variation inpainting (Chan & Shen 2001): hidden pixels alone are computed.
#pragma once

#include "splic/problem.hpp"
#include "watch.hpp"

namespace splic {

// A batch to inpaint; the output may be the input.
struct Inpainting {
  std::int64_t count = 0; // N
  int channels = 1, height = 1, width = 1;
  bool wide = false; // float64, else float32
  ConstView source;
  MutableView target;
  ConstView mask; // of shape (N, 1, H, W), one byte for each pixel: 0 is hidden
  double epsilon = 0.1;
  int iterations = 0;
};

// Inpaints the batch on at most `threads` threads. An image of which nothing is visible is copied.
// `question` as for `solve_on_cpu`. Throws std::bad_alloc, and Stopped.
void inpaint_tv(const Inpainting &batch, int threads, Watch::Question question);

} // namespace splic
