// What happens to a kept singular value in one step.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// exp(-x) for x >= 0, to about two units in the last place, from +, * and a power of two alone,
// so that every machine gives the same bits. Beyond the underflow threshold, and for NaN, it is 0.
// Without branches, so that a loop over lanes becomes vector instructions.
SPLIC_HD double exp_negative(double x) {
  const double bounded = x < 700.0 ? x : 700.0;
  const int n = static_cast<int>(bounded * 1.4426950408889634074 + 0.5);
  // x - n ln 2 in two pieces, |f| <= ln(2) / 2.
  const double f = (bounded - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double term = 1.0, sum = 1.0;
  for (int i = 1; i <= 13; ++i) {
    term *= -f / i;
    sum += term;
  }
  // 2^-n by its exponent bits; n <= 1010.
  const double power = bit_copy<double>(static_cast<std::int64_t>(1023 - n) << 52);
  return x < 700.0 ? sum * power : 0.0;
}

SPLIC_HD float exp_negative(float x) {
  const float bounded = x < 87.0f ? x : 87.0f;
  const int n = static_cast<int>(bounded * 1.44269504f + 0.5f);
  const float f = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  float sum = 1.0f - f * (1.0f / 7.0f);
  for (int i = 6; i >= 1; --i)
    sum = 1.0f - f * sum * (1.0f / i);
  const float power = bit_copy<float>((127 - n) << 23);
  return x < 87.0f ? sum * power : 0.0f;
}

// Factor of u v' sigma in X - mu k grad F: 1 - mu k exp(-sigma^2 / (2 delta^2)), where eq. (9) is
// scaled by delta^2 and k = 1 ("srf") or (range / delta)^2 ("literal", in units of the range).
template <class T>
SPLIC_HD T spectral_factor(T sigma_squared, T delta, T step_size, T range, bool literal) {
  const T weight = exp_negative(sigma_squared / (T(2) * delta * delta));
  const T k = literal ? (range / delta) * (range / delta) : T(1);
  // A weight of 0 first: k may have overflowed, and where delta is 0 all of this is meaningless.
  return sigma_squared > T(0) && weight > T(0) ? T(1) - step_size * k * weight : T(1);
}

// Of g(sigma) = sigma * spectral_factor: g / sigma, and the derivatives of g by sigma and by delta.
template <class T> struct SpectralSlope {
  T factor, by_sigma, by_delta;
};
template <class T>
SPLIC_HD SpectralSlope<T> spectral_slope(T sigma_squared, T delta, T step_size, T range,
                                         bool literal) {
  const T ratio = sigma_squared / (delta * delta);
  const T weight = exp_negative(ratio / T(2));
  if (!(weight > T(0))) // too far out, or delta is 0
    return {T(1), T(1), T(0)};
  const T k = literal ? (range / delta) * (range / delta) : T(1);
  const T step = step_size * k * weight, sigma = static_cast<T>(__builtin_sqrt(sigma_squared));
  return {T(1) - step, T(1) - step * (T(1) - ratio),
          -step * sigma * (ratio - (literal ? T(2) : T(0))) / delta};
}

// A smooth step from 0 to 1 around x = 0.
template <class T> SPLIC_HD T sigmoid(T x) {
  const T tail = exp_negative(x < T(0) ? -x : x);
  return (x < T(0) ? tail : T(1)) / (T(1) + tail);
}

} // namespace splic
