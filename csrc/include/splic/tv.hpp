// The total-variation gradient along one axis; the two-dimensional one is the sum of both axes.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// Derivative at x of half the sum of squared forward differences (eq. (6)), with neighbours where
// they exist. forward: only the neighbour ahead, eq. (10) as printed.
template <class E>
SPLIC_HD E tv_difference(E before, E x, E after, bool has_before, bool has_after, bool forward) {
  E sum = x - x;
  if (has_after)
    sum = sum + (x - after);
  if (has_before && !forward)
    sum = sum + (x - before);
  return sum;
}

// The transpose of that linear map: they differ for eq. (10) as printed.
template <class E>
SPLIC_HD E tv_transposed(E before, E x, E after, bool has_before, bool has_after, bool forward) {
  if (!forward)
    return tv_difference(before, x, after, has_before, has_after, false);
  const E none = x - x;
  return (has_after ? x : none) - (has_before ? before : none);
}

} // namespace splic
