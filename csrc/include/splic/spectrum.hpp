// What happens to a kept singular value in one step.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// exp(-x) for x >= 0, to about two units in the last place, from +, * and a power of two alone,
// so that every machine gives the same bits. Beyond the underflow threshold it is 0.
SPLIC_HD double exp_negative(double x) {
  if (!(x < 700.0))
    return 0.0;
  const double scaled = x * 1.4426950408889634074;
  const int n = static_cast<int>(scaled + 0.5);
  // x - n ln 2 in two pieces, |f| <= ln(2) / 2.
  const double f = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
  double term = 1.0, sum = 1.0;
  for (int i = 1; i <= 13; ++i) {
    term *= -f / i;
    sum += term;
  }
  // 2^-n by its exponent bits; n <= 1010.
  const std::uint64_t bits = static_cast<std::uint64_t>(1023 - n) << 52;
  union {
    std::uint64_t u;
    double d;
  } power = {bits};
  return sum * power.d;
}

SPLIC_HD float exp_negative(float x) {
  if (!(x < 87.0f))
    return 0.0f;
  const float scaled = x * 1.44269504f;
  const int n = static_cast<int>(scaled + 0.5f);
  const float f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float sum = 1.0f - f * (1.0f / 7.0f);
  for (int i = 6; i >= 1; --i)
    sum = 1.0f - f * sum * (1.0f / i);
  const std::uint32_t bits = static_cast<std::uint32_t>(127 - n) << 23;
  union {
    std::uint32_t u;
    float d;
  } power = {bits};
  return sum * power.d;
}

// Factor of u v' sigma in X - mu k grad F: 1 - mu k exp(-sigma^2 / (2 delta^2)), where eq. (9) is
// scaled by delta^2 and k = 1 ("srf") or (range / delta)^2 ("literal", in units of the range).
template <class T>
SPLIC_HD T spectral_factor(T sigma_squared, T delta, T step_size, T range, bool literal) {
  if (!(delta > T(0) && sigma_squared > T(0)))
    return T(1);
  const T weight = exp_negative(sigma_squared / (T(2) * delta * delta));
  if (!(weight > T(0))) // before a product with a k that may have overflowed
    return T(1);
  const T k = literal ? (range / delta) * (range / delta) : T(1);
  return T(1) - step_size * k * weight;
}

} // namespace splic
