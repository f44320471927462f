// Jacobi rotations of a pair: when, by what angle, and which pairs can turn at the same time; and
// when the vectors that they leave are good enough.
//
// Ops names the element, a number or a vector of them, and what is done with it: Element, Number,
// Mask, select(mask, a, b), root(a), inverse_root(a), multiply_add(a, b, c), number(x), the
// element of a constant, and half_to_the(n), 2^-n for a whole number n.
#pragma once

#include "splic/problem.hpp"

namespace splic {

// What to do with the pair (caa, cab; cab, cbb), given the squares of the limits and the floor.
template <class Ops> struct PairTest {
  using E = typename Ops::Element;
  using Mask = typename Ops::Mask;
  Mask turn;  // rotate it
  Mask again; // and sweep once more
  SPLIC_INLINE PairTest(E caa, E cbb, E cab, Mask running, E rotate, E stop, E least, E floor) {
    const E size = cab * cab, scale = caa * cbb;
    const E gap = caa - cbb, gap_squared = gap * gap;
    const E bound = Ops::select(scale < gap_squared, scale, gap_squared);
    const Mask mixed = running & (Ops::select(caa < cbb, caa, cbb) > floor) &
                       (size > rotate * bound) & (size > least * scale);
    const Mask swapped = running & (caa < cbb);
    turn = mixed | swapped;
    // A swap moves entries to where this sweep has been already, or has yet to come.
    again = (mixed & (size > stop * bound)) | (swapped & (cbb > floor));
  }
};

// The rotation that makes (caa, cab; cab, cbb) diagonal with the larger eigenvalue first, where
// `turn` asks for it; returns where it does anything. caa and cbb become the eigenvalues.
template <class Ops, class E = typename Ops::Element, class Mask = typename Ops::Mask>
SPLIC_INLINE Mask ordering_rotation(E &caa, E &cbb, E cab, Mask turn, E &cs, E &sn) {
  const E zero = Ops::number(0), one = Ops::number(1);
  // The eigenvector of the larger one is (h + rho, cab), or (cab, rho - h) without cancellation.
  const E h = (caa - cbb) * Ops::number(0.5);
  const E rho = Ops::root(Ops::multiply_add(h, h, cab * cab));
  const E wide = Ops::select(h < zero, -h, h) + rho;
  const Mask ordered = h >= zero;
  const E x = Ops::select(ordered, wide, Ops::select(cab < zero, -cab, cab));
  const E y = Ops::select(ordered, cab, Ops::select(cab < zero, -wide, wide));
  const E norm = Ops::multiply_add(x, x, y * y);
  const Mask go = turn & (norm > zero);
  const E scale = Ops::inverse_root(Ops::select(go, norm, one));
  cs = Ops::select(go, x * scale, one);
  sn = Ops::select(go, y * scale, zero);
  const E a = caa, b = cbb, cc = cs * cs, ss = sn * sn, cross = (cs * sn) * (cab + cab);
  caa = Ops::multiply_add(cc, a, Ops::multiply_add(ss, b, cross));
  cbb = Ops::multiply_add(cc, b, Ops::multiply_add(ss, a, -cross));
  return go;
}

// The residual test of the block iteration: the error that a kept triplet leaves in U Z', squared.
// `outside` is the square of what Z' holds outside of V, the sine of the angle to V times sigma:
// times sigma_k, over the relative gap between theta and theta_k (which is not trusted to be much
// smaller than theta_r: V may have lost a vector).
template <class Ops, class E = typename Ops::Element>
SPLIC_INLINE E missed_by(E outside, E theta, E theta_k, E theta_r) {
  const E zero = Ops::number(0), least = theta_r * Ops::number(0.0625);
  const E tail = Ops::select(theta_k > least, theta_k, least), gap = theta - tail;
  const auto apart = gap > zero;
  return Ops::select(apart, outside * tail * theta / Ops::select(apart, gap * gap, Ops::number(1)),
                     zero);
}

// Pair i of a round of a tournament in which all of an even number of players meet all, first <
// second. The players / 2 pairs of each of the players - 1 rounds are disjoint.
SPLIC_HD void tournament_pair(int i, int players, int round, int &first, int &second) {
  const int others = players - 1, up = round + i, down = round - i;
  const int a = i == 0 ? others : up < others ? up : up - others;
  const int b = down >= 0 ? down : down + others;
  first = a < b ? a : b;
  second = a < b ? b : a;
}

} // namespace splic
