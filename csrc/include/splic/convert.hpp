// Elements of a batch in and out of the precision of the solver.
#pragma once

#include "splic/problem.hpp"

namespace splic {

SPLIC_HD float half_to_float(std::uint16_t h) {
  const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16;
  const std::uint32_t magnitude = h & 0x7fffu;
  // Infinity and NaN have the largest exponent in both types.
  if (magnitude >= 0x7c00u)
    return bit_copy<float>(sign | 0x7f800000u | magnitude << 13);
  // Move exponent and fraction into place and let a multiplication repair the bias: exact, also
  // for subnormal numbers.
  const float value = bit_copy<float>(magnitude << 13) * 5.192296858534828e+33f; // 2^112
  return bit_copy<float>(bit_copy<std::uint32_t>(value) | sign);
}

// Nearest half, ties to even; the value is finite and not beyond the largest half.
SPLIC_HD std::uint16_t float_to_half(float x) {
  const std::uint32_t sign = (bit_copy<std::uint32_t>(x) >> 16) & 0x8000u;
  const float magnitude = x < 0 ? -x : x;
  if (magnitude < 6.103515625e-05f) { // below 2^-14: subnormal, a multiple of 2^-24
    // 2^-1 in float has steps of 2^-24: the addition rounds.
    const std::uint32_t rounded = bit_copy<std::uint32_t>(magnitude + 0.5f) - 0x3f000000u;
    return static_cast<std::uint16_t>(sign | rounded);
  }
  const std::uint32_t bits = bit_copy<std::uint32_t>(magnitude) - (112u << 23);
  return static_cast<std::uint16_t>(sign | ((bits + 0x0fffu + ((bits >> 13) & 1u)) >> 13));
}

template <class T> SPLIC_HD T read(const unsigned char *p, DType dtype) {
  switch (dtype) {
  case DType::u8:
    return static_cast<T>(*p);
  case DType::f16: {
    std::uint16_t h;
    __builtin_memcpy(&h, p, sizeof h);
    return static_cast<T>(half_to_float(h));
  }
  case DType::bf16: {
    std::uint16_t h;
    __builtin_memcpy(&h, p, sizeof h);
    return static_cast<T>(bit_copy<float>(static_cast<std::uint32_t>(h) << 16));
  }
  case DType::f32: {
    float x;
    __builtin_memcpy(&x, p, sizeof x);
    return static_cast<T>(x);
  }
  case DType::f64: {
    double x;
    __builtin_memcpy(&x, p, sizeof x);
    return static_cast<T>(x);
  }
  }
  return T(0);
}

template <class T> SPLIC_HD void write(unsigned char *p, DType dtype, T x) {
  switch (dtype) {
  case DType::u8: {
    // Adding 2^23 (2^52) rounds to the nearest integer, ties to even.
    const T big = sizeof(T) == 4 ? T(8388608) : T(4503599627370496);
    *p = static_cast<unsigned char>((x + big) - big);
    break;
  }
  case DType::f16: {
    const std::uint16_t h = float_to_half(static_cast<float>(x));
    __builtin_memcpy(p, &h, sizeof h);
    break;
  }
  case DType::bf16: {
    const std::uint32_t bits = bit_copy<std::uint32_t>(static_cast<float>(x));
    const std::uint16_t h =
        static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    __builtin_memcpy(p, &h, sizeof h);
    break;
  }
  case DType::f32: {
    const float y = static_cast<float>(x);
    __builtin_memcpy(p, &y, sizeof y);
    break;
  }
  case DType::f64: {
    const double y = static_cast<double>(x);
    __builtin_memcpy(p, &y, sizeof y);
    break;
  }
  }
}

// As write(), and for NaN that of the type, or 0 where it has none.
template <class T> SPLIC_HD void write_or_nan(unsigned char *p, DType dtype, T x) {
  if (x == x || dtype == DType::f32 || dtype == DType::f64) {
    write<T>(p, dtype, x);
    return;
  }
  const std::uint16_t bits = dtype == DType::f16 ? 0x7e00 : 0x7fc0;
  if (dtype == DType::u8)
    *p = 0;
  else
    __builtin_memcpy(p, &bits, sizeof bits);
}

// 2^-n for a whole number 0 <= n <= 126 (1010), by the bits of the exponent.
SPLIC_HD float half_to_the(float n) {
  return bit_copy<float>((127u - static_cast<std::uint32_t>(n)) << 23);
}
SPLIC_HD double half_to_the(double n) {
  return bit_copy<double>((1023ull - static_cast<std::uint64_t>(n)) << 52);
}

// The power of two 2^e <= x < 2^(e+1) that a matrix is divided by, which is exact; bounded so that
// it and its inverse are normal numbers.
template <class T> SPLIC_HD double unit_of(double x) {
  const int exponent = static_cast<int>((bit_copy<std::uint64_t>(x) >> 52) & 0x7ff) - 1023;
  const int least = sizeof(T) == 4 ? -100 : -1000, most = sizeof(T) == 4 ? 126 : 1022;
  const int e = exponent < least ? least : exponent > most ? most : exponent;
  return bit_copy<double>(static_cast<std::uint64_t>(e + 1023) << 52);
}

} // namespace splic
