// What happens to a kept singular value in one step.
//
// Ops names the element, a number or a vector of them, and what is done with it, as in
// rotation.hpp: the CPU solver computes the factors of all lanes at once.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// The whole number at or below x, 0 <= x < 2^22: adding 2^23 (2^52) rounds to the nearest one.
template <class Ops, class E = typename Ops::Element> SPLIC_INLINE E whole_part(E x) {
  const E big = Ops::number(sizeof(typename Ops::Number) == 4 ? 8388608.0 : 4503599627370496.0);
  const E nearest = (x + big) - big;
  return Ops::select(nearest > x, nearest - Ops::number(1), nearest);
}

// exp(-x) for x >= 0, to about two units in the last place, from +, * and a power of two alone,
// so that every machine gives the same bits. Beyond the underflow threshold, and for NaN, it is 0.
template <class Ops, class E = typename Ops::Element> SPLIC_INLINE E exp_negative(E x) {
  const auto number = [](double value) { return Ops::number(value); };
  const E one = number(1);
  if constexpr (sizeof(typename Ops::Number) == 8) {
    const auto small = x < number(700);
    const E bounded = Ops::select(small, x, number(700));
    const E n = whole_part<Ops>(bounded * number(1.4426950408889634074) + number(0.5));
    // x - n ln 2 in two pieces, |f| <= ln(2) / 2.
    const E f =
        (bounded - n * number(6.93147180369123816490e-01)) - n * number(1.90821492927058770002e-10);
    E term = one, sum = one;
    for (int i = 1; i <= 13; ++i) {
      term = term * (-f / number(i));
      sum = sum + term;
    }
    return Ops::select(small, sum * Ops::half_to_the(n), number(0));
  } else {
    const auto small = x < number(87);
    const E bounded = Ops::select(small, x, number(87));
    const E n = whole_part<Ops>(bounded * number(1.44269504f) + number(0.5));
    const E f = (bounded - n * number(0.693359375)) - n * number(-2.12194440e-4f);
    E sum = one - f * number(1.0f / 7);
    for (int i = 6; i >= 1; --i)
      sum = one - f * sum * number(1.0f / static_cast<float>(i));
    return Ops::select(small, sum * Ops::half_to_the(n), number(0));
  }
}

// Factor of u v' sigma in X - mu k grad F: 1 - mu k exp(-sigma^2 / (2 delta^2)), where eq. (9) is
// scaled by delta^2 and k = 1 ("srf") or (range / delta)^2 ("literal", in units of the range).
template <class Ops, class E = typename Ops::Element>
SPLIC_INLINE E spectral_factor(E sigma_squared, E delta, E step_size, E range, bool literal) {
  const E weight = exp_negative<Ops>(sigma_squared / (Ops::number(2) * delta * delta));
  const E k = literal ? (range / delta) * (range / delta) : Ops::number(1);
  // A weight of 0 first: k may have overflowed, and where delta is 0 all of this is meaningless.
  const auto positive = sigma_squared > Ops::number(0), near = weight > Ops::number(0);
  return Ops::select(positive & near, Ops::number(1) - step_size * k * weight, Ops::number(1));
}

// Of g(sigma) = sigma * spectral_factor: g / sigma, and the derivatives of g by sigma and by delta.
template <class E> struct SpectralSlope {
  E factor, by_sigma, by_delta;
};
template <class Ops, class E = typename Ops::Element>
SPLIC_INLINE SpectralSlope<E> spectral_slope(E sigma_squared, E delta, E step_size, E range,
                                             bool literal) {
  const E zero = Ops::number(0), one = Ops::number(1);
  const E ratio = sigma_squared / (delta * delta);
  const E weight = exp_negative<Ops>(ratio / Ops::number(2));
  const auto near = weight > zero; // neither too far out, nor is delta 0
  const E k = literal ? (range / delta) * (range / delta) : one;
  const E step = step_size * k * weight, sigma = Ops::root(sigma_squared);
  const E by_delta = -step * sigma * (ratio - Ops::number(literal ? 2 : 0)) / delta;
  return {Ops::select(near, one - step, one), Ops::select(near, one - step * (one - ratio), one),
          Ops::select(near, by_delta, zero)};
}

// A smooth step from 0 to 1 around x = 0.
template <class Ops, class E = typename Ops::Element> SPLIC_INLINE E sigmoid(E x) {
  const E zero = Ops::number(0), one = Ops::number(1);
  const E tail = exp_negative<Ops>(Ops::select(x < zero, -x, x));
  return Ops::select(x < zero, tail, one) / (one + tail);
}

} // namespace splic
