// Numbers and matrices in the memory of a team.
#pragma once

#include "splic/rotation.hpp"

namespace splic {

#if defined(SPLIC_COUNT)
inline std::uint64_t multiply_adds = 0; // of one thread of the host: benchmarks/cuda_counts.py
#endif

template <class T> SPLIC_HD T multiply_add(T a, T b, T c) {
#if defined(SPLIC_COUNT)
  ++multiply_adds;
#endif
#if defined(__CUDA_ARCH__)
  return ::fma(a, b, c);
#else
  return a * b + c;
#endif
}
SPLIC_HD float square_root(float a) { return __builtin_sqrtf(a); }
SPLIC_HD double square_root(double a) { return __builtin_sqrt(a); }
// Good to two units in the last place.
SPLIC_HD float inverse_square_root(float a) {
#if defined(__CUDA_ARCH__)
  return ::rsqrtf(a);
#else
  return 1.0f / square_root(a);
#endif
}
SPLIC_HD double inverse_square_root(double a) {
#if defined(__CUDA_ARCH__)
  return ::rsqrt(a);
#else
  return 1.0 / square_root(a);
#endif
}

// A matrix in memory: entry (i, j) at p[i * row + j * col].
template <class T> struct Grid {
  T *p;
  int row, col;
  SPLIC_INLINE T &operator()(int i, int j) const { return p[i * row + j * col]; }
  SPLIC_INLINE Grid transposed() const { return {p, col, row}; }
  SPLIC_INLINE Grid from(int i, int j) const { return {&(*this)(i, j), row, col}; }
};

// The operations of a rotation on numbers.
template <class T> struct TeamOps {
  using Element = T;
  using Number = T;
  using Mask = bool;
  static SPLIC_INLINE T select(bool m, T a, T b) { return m ? a : b; }
  static SPLIC_INLINE T root(T a) { return square_root(a); }
  static SPLIC_INLINE T inverse_root(T a) { return inverse_square_root(a); }
  static SPLIC_INLINE T multiply_add(T a, T b, T c) { return splic::multiply_add(a, b, c); }
  static SPLIC_INLINE T number(double x) { return static_cast<T>(x); }
  static SPLIC_INLINE T half_to_the(T n) { return splic::half_to_the(n); }
};

} // namespace splic
