// What a solver is handed: options, views of the batch, records to fill in.
#pragma once

#include <cstddef>
#include <cstdint>

// The formulas are shared by the CPU and CUDA solvers. `static`, because they are compiled once for
// each instruction set: the linker must not merge the copies.
#if defined(__CUDACC__)
#define SPLIC_HD static __host__ __device__ inline
#define SPLIC_INLINE __host__ __device__ __forceinline__
#else
#define SPLIC_HD static inline
#define SPLIC_INLINE inline __attribute__((always_inline))
#endif
#define SPLIC_ALWAYS_INLINE __attribute__((always_inline)) // of a lambda
#define SPLIC_NOINLINE __attribute__((noinline))           // compiled once, wherever it is called

namespace splic {

template <class To, class From> SPLIC_INLINE To bit_copy(From x) {
  static_assert(sizeof(To) == sizeof(From), "same size");
  To y;
  __builtin_memcpy(&y, &x, sizeof y);
  return y;
}

// A residual beyond this, in units of the data range, or none at all: the iteration diverges.
constexpr double kDiverged = 1e6;

// Element types of a batch; the order is that of kDTypeNames in the bindings.
enum class DType : int { u8, f16, bf16, f32, f64 };

// Options of Algorithm 1 (Zhao et al. 2021), validated by the caller.
struct Options {
  int rank = 1;              // r, 1 <= r <= min(H, W)
  int inner_iterations = 7;  // iterations between two changes of delta
  int max_iterations = 70;   // of one pass
  int n_masks = 1;           // completions averaged
  double tv_weight = 0.02;   // lambda
  double first_delta = 1.0;  // in units of the first singular value
  double delta_decay = 0.45; // rho
  double step_size = 0.5;    // mu
  double tolerance = 1e-6;   // epsilon, in units of the data range
  bool from_image = false;   // the targets start at their values, not at 0
  bool alternate = true;     // second pass with the complementary mask
  bool stacked = true;       // channels stacked into one matrix
  bool literal = false;      // gradient step 1 / delta^2 as printed
  bool forward = false;      // TV gradient of eq. (10) as printed
};

// A 4-axis array (N, C, H, W); strides in bytes, of any sign, 0 allowed for inputs.
template <class Byte> struct View {
  Byte *data = nullptr;
  std::ptrdiff_t stride[4] = {0, 0, 0, 0};
  SPLIC_INLINE Byte *at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    return data + n * stride[0] + c * stride[1] + h * stride[2] + w * stride[3];
  }
};
using ConstView = View<const unsigned char>;
using MutableView = View<unsigned char>;

// How a matrix is completed: in its own precision; in float64 as closely as float32 can show; in
// float64 with all vectors; or in float64 with a decomposition of the whole matrix in each step,
// which keeps the zeros of sparse ones.
enum class Care : unsigned char { usual, close, wide, whole };
constexpr int kCares = 4;

// A batch to complete; the output may be the input.
struct Problem {
  std::int64_t count = 0; // N
  int channels = 1, height = 1, width = 1;
  DType dtype = DType::f32;
  ConstView source;
  MutableView target;
  ConstView mask; // one byte for each entry; data == nullptr: draw it
  // Of a loss by the result, float32 or float64 like the batch: the target then takes the gradient
  // by the source. data == nullptr: complete.
  ConstView cotangent;
  // 0, or on the way back the rank cut is a sigmoid of this width, in units of the middle between
  // the singular values that it separates.
  double cut_width = 0.0;
  Care care = Care::usual;
  std::uint64_t seed = 0, first_index = 0;
  std::uint64_t anchor_threshold = 0; // a random word below it makes an anchor
  double data_range = 1.0;
  double largest = 1.0; // the result is clipped to [0, largest]
  // Of all pixels of a matrix without an anchor in a pass, in [0, largest]; below 0: they stay.
  double empty = -1.0;
  Options options;

  // Records (N, passes) and (N,), or null.
  std::int32_t *iterations = nullptr;
  double *residual = nullptr, *delta = nullptr, *seconds = nullptr;
  // Of the CUDA solvers, (N,) or null: the least and the largest value of an image, NaN where one
  // is no finite number; and what a library that failed on it says, or 0.
  double *low = nullptr, *high = nullptr;
  std::int32_t *failed = nullptr;

  SPLIC_INLINE int passes() const { return options.alternate ? 2 : 1; }
  SPLIC_INLINE bool fills() const { return empty >= 0; }
  // Whether the pixels that a given mask hides are never seen, and may be anything.
  SPLIC_INLINE bool hides() const { return mask.data && !options.alternate && !options.from_image; }
  // Matrices of one image, and channels in each of them.
  SPLIC_INLINE int planes() const { return options.stacked ? 1 : channels; }
  SPLIC_INLINE int stacked_channels() const { return options.stacked ? channels : 1; }
};

} // namespace splic
