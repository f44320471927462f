// The rotations of a whole matrix.
#pragma once

#include "jacobi.hpp"

namespace splic {
namespace SPLIC_ISA {

// A dot product in as many sums as a packet has entries: the same bits interleaved and dense. What
// lies beyond the end of a dense row is zero.
template <class E> inline E dot_in_classes(int count, const E *x, const E *y) {
  constexpr int classes = kVectorBytes / static_cast<int>(sizeof(Scalar<E>));
  E sums[classes];
  if constexpr (Engine<E>::width > 1) {
    Packet<E> sum = {};
    for (int i = 0; i < count; i += classes)
      sum = fma(load(x + i), load(y + i), sum);
    __builtin_memcpy(sums, &sum, sizeof sum);
  } else {
    for (int l = 0; l < classes; ++l)
      sums[l] = E{};
    for (int i = 0; i < count; i += classes)
      for (int l = 0; l < classes && i + l < count; ++l)
        sums[l] = fma(x[i + l], y[i + l], sums[l]);
  }
  E total = E{};
  for (int l = 0; l < classes; ++l)
    total = total + sums[l];
  return total;
}

// Rotates the pairs of n rows of m entries until all are orthogonal (Hestenes 1958), and in falling
// order of theta, the squares of their lengths. Small ones come out as accurate as large ones, and
// rows without a common column are never mixed: zeros stay zeros. Lanes converge and stop each for
// itself.
template <class E>
inline void orthogonalise_rows(int n, int m, Matrix<E> rows, E *theta, Mask<E> active) {
  constexpr JacobiLimits limits = {1e-15, 1e-8, 4e-16, 1e-26, 30};
  const auto square = [](double x) { return splat<E>(static_cast<Scalar<E>>(x * x)); };
  const E rotate = square(limits.rotate), stop = square(limits.stop), least = square(limits.least);
  Mask<E> running = active;
  for (int sweep = 0; sweep < limits.sweeps && any(running); ++sweep) {
    if (n >= kLongSide / 4)
      look();
    E largest = E{};
    for (int a = 0; a < n; ++a) {
      theta[a] = select(running, dot_in_classes(m, rows.at(a, 0), rows.at(a, 0)), theta[a]);
      largest = maximum(theta[a], largest);
    }
    const E floor = largest * splat<E>(static_cast<Scalar<E>>(limits.floor));
    Mask<E> again = {};
    for (int a = 0; a + 1 < n; ++a) {
      for (int b = a + 1; b < n; ++b) {
        E *x = rows.at(a, 0), *y = rows.at(b, 0);
        const E common = dot_in_classes(m, x, y);
        const PairTest<ElementOps<E>> test(theta[a], theta[b], common, running, rotate, stop, least,
                                           floor);
        if (!any(test.turn))
          continue;
        again = again | test.again;
        E cs, sn;
        ordering_rotation<ElementOps<E>>(theta[a], theta[b], common, test.turn, cs, sn);
        rotate_rows(m, cs, sn, x, y);
      }
    }
    running = again;
  }
}

} // namespace SPLIC_ISA
} // namespace splic
