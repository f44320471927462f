// SIMD lanes: vectors of the width of the instruction set, and scalars with the same operations.
//
// The kernels are templates over an element E: a vector, one matrix in each lane ("interleaved"),
// or a scalar, one matrix at a time ("dense"). Products are fused, or not, by the call of fma
// alone (the compiler is told not to contract), so that both give the same bits.
//
// This header is compiled once for each instruction set, in a namespace of its own, and uses no
// inline function of the standard library: the linker would merge those across the builds.
#pragma once

#include "splic/convert.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#ifndef SPLIC_ISA
#error "compile with -DSPLIC_ISA=<name of the instruction set>"
#endif

namespace splic {
namespace SPLIC_ISA {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif

template <class T, int bytes = kVectorBytes> struct VectorOf {
  typedef T type __attribute__((vector_size(bytes)));
};
template <class T> using Vector = typename VectorOf<T>::type;

using VecF = Vector<float>;
using VecD = Vector<double>;
// What a comparison gives: its 64-bit element is `long` for one compiler, `long long` for another.
using MaskF = decltype(VecF{} == VecF{});
using MaskD = decltype(VecD{} == VecD{});

// What is left of a row beyond its last vector, four or two entries at a time.
template <class T> using ShortVector = typename VectorOf<T, 16>::type;

// Scalar type, lane count and mask type of an element.
template <class E> struct Lanes;
template <> struct Lanes<float> {
  using Scalar = float;
  using Mask = bool;
  static constexpr int count = 1;
};
template <> struct Lanes<double> {
  using Scalar = double;
  using Mask = bool;
  static constexpr int count = 1;
};
template <> struct Lanes<VecF> {
  using Scalar = float;
  using Mask = MaskF;
  using Integer = std::int32_t;
  static constexpr int count = kVectorBytes / 4;
};
template <> struct Lanes<VecD> {
  using Scalar = double;
  using Mask = MaskD;
  using Integer = std::int64_t;
  static constexpr int count = kVectorBytes / 8;
};
#if defined(__AVX2__)
template <> struct Lanes<ShortVector<float>> {
  using Scalar = float;
  static constexpr int count = 4;
};
template <> struct Lanes<ShortVector<double>> {
  using Scalar = double;
  static constexpr int count = 2;
};
#endif
template <class E> using Scalar = typename Lanes<E>::Scalar;
template <class E> using Mask = typename Lanes<E>::Mask;

// (x + 0 would be an addition, because it turns -0 into 0.)
template <class E> SPLIC_INLINE E splat(Scalar<E> x) { return x - E{}; }
template <> SPLIC_INLINE float splat<float>(float x) { return x; }
template <> SPLIC_INLINE double splat<double>(double x) { return x; }

// Broadcast an element to a vector: the identity for a vector.
template <class P, class E> SPLIC_INLINE P broadcast(E x) {
  if constexpr (Lanes<E>::count == 1 && Lanes<P>::count > 1)
    return splat<P>(x);
  else
    return x;
}

// a * b + c, fused where the instruction set has it.
#if defined(__AVX512F__)
SPLIC_INLINE VecF fma(VecF a, VecF b, VecF c) { return (VecF)_mm512_fmadd_ps(a, b, c); }
SPLIC_INLINE VecD fma(VecD a, VecD b, VecD c) { return (VecD)_mm512_fmadd_pd(a, b, c); }
SPLIC_INLINE VecF sqrt(VecF a) { return (VecF)_mm512_maskz_sqrt_ps(0xffff, a); }
SPLIC_INLINE VecD sqrt(VecD a) { return (VecD)_mm512_maskz_sqrt_pd(0xff, a); }
#elif defined(__AVX2__)
SPLIC_INLINE VecF fma(VecF a, VecF b, VecF c) { return (VecF)_mm256_fmadd_ps(a, b, c); }
SPLIC_INLINE VecD fma(VecD a, VecD b, VecD c) { return (VecD)_mm256_fmadd_pd(a, b, c); }
SPLIC_INLINE VecF sqrt(VecF a) { return (VecF)_mm256_sqrt_ps(a); }
SPLIC_INLINE VecD sqrt(VecD a) { return (VecD)_mm256_sqrt_pd(a); }
#elif defined(__aarch64__)
SPLIC_INLINE VecF fma(VecF a, VecF b, VecF c) {
  return (VecF)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
SPLIC_INLINE VecD fma(VecD a, VecD b, VecD c) {
  return (VecD)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}
SPLIC_INLINE VecF sqrt(VecF a) { return (VecF)vsqrtq_f32((float32x4_t)a); }
SPLIC_INLINE VecD sqrt(VecD a) { return (VecD)vsqrtq_f64((float64x2_t)a); }
#else
SPLIC_INLINE VecF fma(VecF a, VecF b, VecF c) { return a * b + c; }
SPLIC_INLINE VecD fma(VecD a, VecD b, VecD c) { return a * b + c; }
#if defined(__SSE2__)
SPLIC_INLINE VecF sqrt(VecF a) { return (VecF)_mm_sqrt_ps(a); }
SPLIC_INLINE VecD sqrt(VecD a) { return (VecD)_mm_sqrt_pd(a); }
#else
SPLIC_INLINE VecF sqrt(VecF a) {
  for (int i = 0; i < Lanes<VecF>::count; ++i)
    a[i] = __builtin_sqrtf(a[i]);
  return a;
}
SPLIC_INLINE VecD sqrt(VecD a) {
  for (int i = 0; i < Lanes<VecD>::count; ++i)
    a[i] = __builtin_sqrt(a[i]);
  return a;
}
#endif
#endif
#if defined(__AVX2__)
SPLIC_INLINE ShortVector<float> fma(ShortVector<float> a, ShortVector<float> b,
                                    ShortVector<float> c) {
  return _mm_fmadd_ps(a, b, c);
}
SPLIC_INLINE ShortVector<double> fma(ShortVector<double> a, ShortVector<double> b,
                                     ShortVector<double> c) {
  return _mm_fmadd_pd(a, b, c);
}
#endif
#if defined(__FMA__) || defined(__aarch64__)
SPLIC_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SPLIC_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
SPLIC_INLINE float fma(float a, float b, float c) { return a * b + c; }
SPLIC_INLINE double fma(double a, double b, double c) { return a * b + c; }
#endif
SPLIC_INLINE float sqrt(float a) { return __builtin_sqrtf(a); }
SPLIC_INLINE double sqrt(double a) { return __builtin_sqrt(a); }

// 2^-n for a whole number n >= 0: adding 2^23 (2^52) moves it to where an exponent is shifted from.
SPLIC_INLINE VecF half_to_the(VecF n) { return (VecF)((127 - (MaskF)(n + 8388608.0f)) << 23); }
SPLIC_INLINE VecD half_to_the(VecD n) {
  return (VecD)((1023 - (MaskD)(n + 4503599627370496.0)) << 52);
}
SPLIC_INLINE float half_to_the(float n) { return splic::half_to_the(n); }
SPLIC_INLINE double half_to_the(double n) { return splic::half_to_the(n); }

SPLIC_INLINE VecF select(MaskF m, VecF a, VecF b) { return m ? a : b; }
SPLIC_INLINE VecD select(MaskD m, VecD a, VecD b) { return m ? a : b; }
SPLIC_INLINE float select(bool m, float a, float b) { return m ? a : b; }
SPLIC_INLINE double select(bool m, double a, double b) { return m ? a : b; }

template <class E> SPLIC_INLINE E maximum(E a, E b) { return select(a > b, a, b); }

SPLIC_INLINE bool any(bool m) { return m; }
SPLIC_INLINE bool any(MaskF m) {
#if defined(__AVX512F__)
  return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8((__m256i)m) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_epi8((__m128i)m) != 0;
#elif defined(__aarch64__)
  return vmaxvq_u32((uint32x4_t)m) != 0;
#else
  for (int i = 0; i < Lanes<VecF>::count; ++i)
    if (m[i])
      return true;
  return false;
#endif
}
SPLIC_INLINE bool any(MaskD m) { return any((MaskF)m); }

// Bit l of `bits` -> lane l of a mask. (The bits of the lanes as a table: a loop over a vector's
// lanes is a constant only for a compiler that finds out.)
template <class E> struct LaneBits {
  alignas(kVectorBytes) typename Lanes<E>::Integer bit[Lanes<E>::count] = {};
  constexpr LaneBits() {
    for (int l = 0; l < Lanes<E>::count; ++l)
      bit[l] = typename Lanes<E>::Integer(1) << l;
  }
};
template <class E> constexpr LaneBits<E> kLaneBits;
template <class E> SPLIC_INLINE Mask<E> from_bits(std::uint32_t bits) {
  if constexpr (Lanes<E>::count == 1) {
    return (bits & 1u) != 0;
  } else {
    const auto &lane_bit = *reinterpret_cast<const Mask<E> *>(kLaneBits<E>.bit);
    return ((Mask<E>{} + typename Lanes<E>::Integer(bits)) & lane_bit) != 0;
  }
}

template <class E> SPLIC_INLINE Scalar<E> get_lane(const E &x, int l) {
  Scalar<E> value;
  __builtin_memcpy(&value, reinterpret_cast<const char *>(&x) + l * sizeof(value), sizeof(value));
  return value;
}
template <class E> SPLIC_INLINE void set_lane(E &x, int l, Scalar<E> value) {
  // Through memory: x[l] = value would read and write the whole vector.
  __builtin_memcpy(reinterpret_cast<char *>(&x) + l * sizeof(value), &value, sizeof(value));
}
template <class E> SPLIC_INLINE std::uint32_t to_bits(Mask<E> m) {
  if constexpr (Lanes<E>::count == 1) {
    return m ? 1u : 0u;
  } else {
    std::uint32_t bits = 0;
    for (int l = 0; l < Lanes<E>::count; ++l)
      bits |= (m[l] ? 1u : 0u) << l;
    return bits;
  }
}

} // namespace SPLIC_ISA
} // namespace splic
