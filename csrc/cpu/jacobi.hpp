// The k x k problems inside an iteration: Cholesky with inverse, symmetric Jacobi eigenvalues.
#pragma once

#include "gemm.hpp"
#include "splic/effort.hpp"
#include "splic/rotation.hpp"

namespace splic {
namespace SPLIC_ISA {

// y += factor x
template <class E> SPLIC_INLINE void add_multiple(int count, E factor, const E *x, E *y) {
  each_piece<E, true>(count, [&](int j, auto kind) {
    using P = decltype(kind);
    put<P>(y + j, fma(broadcast<P>(factor), piece<P>(x + j), piece<P>(y + j)));
  });
}

// (x, y) <- (c x + s y, c y - s x)
template <class E> SPLIC_INLINE void rotate_rows(int count, E c, E s, E *x, E *y) {
  each_piece<E, true>(count, [&](int j, auto kind) {
    using P = decltype(kind);
    const P xj = piece<P>(x + j), yj = piece<P>(y + j);
    put<P>(x + j, fma(broadcast<P>(c), xj, broadcast<P>(s) * yj));
    put<P>(y + j, fma(broadcast<P>(c), yj, -(broadcast<P>(s) * xj)));
  });
}

// The two steps of inverse_cholesky: the least pivots, which wait on the diagonal of T, then T and,
// in place of G, the factor R of G = R'R (its row is zero where the pivot was too small).
template <class E> inline void set_floors(int k, Matrix<E> g, Matrix<E> t, Scalar<E> floor) {
  for (int j = 0; j < k; ++j)
    t(j, j) = g(j, j) * splat<E>(floor);
}
template <class E> inline Mask<E> factorise(int k, Matrix<E> g, Matrix<E> t) {
  Mask<E> well = E{} == E{};
  for (int l = 0; l < k; ++l) {
    const Mask<E> sound = g(l, l) > t(l, l);
    const E pivot = select(sound, g(l, l), t(l, l));
    const Mask<E> there = pivot > splat<E>(Scalar<E>(1e-34));
    // A pivot that has overflowed makes NaN, not 0: a lane that diverges must say so.
    const E inverse =
        select(there, splat<E>(1) / sqrt(select(there, pivot, splat<E>(1))), E{}) + (pivot - pivot);
    const E divisor = select(sound, inverse, E{});
    well = well & sound & there;
    E *gl = g.at(l, 0);
    each_piece<E>(k - l, [&](int j, auto kind) {
      using P = decltype(kind);
      put<P>(gl + l + j, piece<P>(gl + l + j) * broadcast<P>(divisor));
    });
    for (int i = l + 1; i < k; ++i)
      add_multiple(k - i, -gl[i], gl + i, g.at(i, i));
    t(l, l) = inverse;
    for (int i = 0; i < l; ++i)
      t(i, l) = -t(i, l) * inverse;
    for (int i = 0; i <= l; ++i)
      add_multiple(k - l - 1, t(i, l), gl + l + 1, t.at(i, l + 1));
  }
  return well;
}

// Upper triangular T, all zero before, with (V T)'(V T) = I, given the upper triangle of G = V'V,
// which is overwritten. A column that depends on those before, its pivot below floor * G(j, j),
// comes out short, and those after are not made orthogonal to what is rounding noise: without this
// the noise grows by 1 / sqrt(floor) with each such column. A column of (nearly) zero comes out
// zero. Returns the lanes in which all columns came out well.
template <class E>
inline Mask<E> inverse_cholesky(int k, Matrix<E> g, Matrix<E> t, Scalar<E> floor) {
  set_floors<E>(k, g, t, floor);
  return factorise<E>(k, g, t);
}

// The operations of a rotation on elements.
template <class E> struct ElementOps {
  using Element = E;
  using Number = Scalar<E>;
  using Mask = SPLIC_ISA::Mask<E>;
  static SPLIC_INLINE E select(Mask m, E a, E b) { return SPLIC_ISA::select(m, a, b); }
  static SPLIC_INLINE E root(E a) { return SPLIC_ISA::sqrt(a); }
  static SPLIC_INLINE E inverse_root(E a) { return splat<E>(Scalar<E>(1)) / SPLIC_ISA::sqrt(a); }
  static SPLIC_INLINE E multiply_add(E a, E b, E c) { return SPLIC_ISA::fma(a, b, c); }
  static SPLIC_INLINE E number(double x) { return splat<E>(static_cast<Scalar<E>>(x)); }
  static SPLIC_INLINE E half_to_the(E n) { return SPLIC_ISA::half_to_the(n); }
};

// Eigenvalues of a symmetric, positive semi-definite and usually graded k x k matrix by two-sided
// cyclic Jacobi rotations, in falling order. C: the upper triangle comes in, the diagonal goes out.
// Q: its rows are the eigenvectors. Lanes converge and stop each for itself.
template <class E>
inline void symmetric_jacobi(int k, int kept, Matrix<E> c, Matrix<E> q, Mask<E> active,
                             const JacobiLimits &limits) {
  using S = Scalar<E>;
  const E rotate = splat<E>(static_cast<S>(limits.rotate * limits.rotate));
  const E rotate_rest = rotate * splat<E>(kRestLooseness<S>);
  const E least = splat<E>(static_cast<S>(limits.least * limits.least));
  const E stop = splat<E>(static_cast<S>(limits.stop * limits.stop));
  for (int i = 0; i < k; ++i)
    for (int j = 0; j < k; ++j)
      q(i, j) = splat<E>(i == j ? S(1) : S(0));
  Mask<E> running = active;
  for (int sweep = 0; sweep < limits.sweeps && any(running); ++sweep) {
    Mask<E> again = {};
    E largest = c(0, 0);
    for (int i = 1; i < k; ++i)
      largest = maximum(largest, c(i, i));
    const E floor = largest * splat<E>(static_cast<S>(limits.floor));
    for (int a = 0; a + 1 < k; ++a) {
      for (int b = a + 1; b < k; ++b) {
        const E cab = c(a, b);
        const PairTest<ElementOps<E>> test(c(a, a), c(b, b), cab, running,
                                           a < kept ? rotate : rotate_rest, stop, least, floor);
        if (!any(test.turn))
          continue;
        again = again | test.again;
        E cs, sn;
        const Mask<E> go =
            ordering_rotation<ElementOps<E>>(c(a, a), c(b, b), cab, test.turn, cs, sn);
        c(a, b) = select(go, E{}, cab);
        for (int l = 0; l < a; ++l) {
          const E xa = c(l, a), xb = c(l, b);
          c(l, a) = fma(cs, xa, sn * xb);
          c(l, b) = fma(cs, xb, -(sn * xa));
        }
        for (int l = a + 1; l < b; ++l) {
          const E xa = c(a, l), xb = c(l, b);
          c(a, l) = fma(cs, xa, sn * xb);
          c(l, b) = fma(cs, xb, -(sn * xa));
        }
        rotate_rows(k - b - 1, cs, sn, c.at(a, b + 1), c.at(b, b + 1));
        rotate_rows(k, cs, sn, q.at(a, 0), q.at(b, 0));
      }
    }
    running = again;
  }
}

} // namespace SPLIC_ISA
} // namespace splic
