// The k x k problems inside an iteration: Cholesky with inverse, symmetric Jacobi eigenvalues.
#pragma once

#include "gemm.hpp"

namespace splic {
namespace SPLIC_ISA {

// Upper triangular T with (V T)'(V T) = I, given the upper triangle of G = V'V, which is
// overwritten. A pivot below floor * G(j, j) is raised to it: a column that depends on those
// before comes out short instead of infinite. A zero column stays zero.
template <class E> inline void inverse_cholesky(int k, Matrix<E> g, Matrix<E> t, Scalar<E> floor) {
  for (int i = 0; i < k; ++i)
    for (int j = 0; j < k; ++j)
      t(i, j) = E{};
  for (int j = 0; j < k; ++j)
    t(j, j) = g(j, j) * splat<E>(floor); // the floors wait on the diagonal of T
  for (int l = 0; l < k; ++l) {
    const E pivot = maximum(g(l, l), t(l, l));
    const E inverse =
        select(pivot > E{}, splat<E>(1) / sqrt(maximum(pivot, splat<E>(Scalar<E>(1e-37)))), E{});
    for (int j = l + 1; j < k; ++j)
      g(l, j) = g(l, j) * inverse; // row l of R
    for (int i = l + 1; i < k; ++i) {
      const E factor = -g(l, i);
      for (int j = i; j < k; ++j)
        g(i, j) = fma(factor, g(l, j), g(i, j));
    }
    t(l, l) = inverse;
    for (int i = 0; i < l; ++i)
      t(i, l) = -t(i, l) * inverse;
    for (int i = 0; i <= l; ++i) {
      const E factor = t(i, l);
      for (int j = l + 1; j < k; ++j)
        t(i, j) = fma(factor, g(l, j), t(i, j));
    }
  }
}

struct JacobiLimits {
  double rotate; // pairs with a smaller relative off-diagonal entry are left alone
  double stop;   // a sweep that met no larger one is the last
  double floor;  // diagonal entries below this share of the largest count as zero
  int sweeps;    // at most
};

// Eigenvalues of a symmetric, positive semi-definite and usually graded k x k matrix by two-sided
// cyclic Jacobi rotations, in falling order. C: the upper triangle comes in, the diagonal goes out.
// Q: its rows are the eigenvectors. Lanes converge and stop each for itself.
template <class E>
inline void symmetric_jacobi(int k, Matrix<E> c, Matrix<E> q, Mask<E> active,
                             const JacobiLimits &limits) {
  using S = Scalar<E>;
  const E rotate = splat<E>(static_cast<S>(limits.rotate * limits.rotate));
  const E stop = splat<E>(static_cast<S>(limits.stop * limits.stop));
  const E zero = E{}, one = splat<E>(S(1)), half = splat<E>(S(0.5));
  for (int i = 0; i < k; ++i)
    for (int j = 0; j < k; ++j)
      q(i, j) = splat<E>(i == j ? S(1) : S(0));
  Mask<E> running = active;
  for (int sweep = 0; sweep < limits.sweeps && any(running); ++sweep) {
    Mask<E> again = running & (zero > one);
    E largest = c(0, 0);
    for (int i = 1; i < k; ++i)
      largest = maximum(largest, c(i, i));
    const E floor = largest * splat<E>(static_cast<S>(limits.floor));
    for (int a = 0; a + 1 < k; ++a) {
      for (int b = a + 1; b < k; ++b) {
        const E caa = c(a, a), cbb = c(b, b), cab = c(a, b);
        const E size = cab * cab, scale = caa * cbb;
        const Mask<E> alive = running & (minimum(caa, cbb) > floor);
        const Mask<E> turn = (alive & (size > rotate * scale)) | (running & (caa < cbb));
        if (!any(turn))
          continue;
        again = again | (alive & (size > stop * scale));
        // The larger eigenvalue goes to a: its eigenvector is (h + rho, cab), h = (caa - cbb) / 2.
        const E h = (caa - cbb) * half;
        const E rho = sqrt(fma(h, h, size));
        const E wide = absolute(h) + rho;
        const Mask<E> ordered = h >= zero;
        const E x = select(ordered, wide, absolute(cab));
        const E y = select(ordered, cab, select(cab < zero, -wide, wide));
        const E norm = fma(x, x, y * y);
        const Mask<E> go = turn & (norm > zero);
        const E scale_xy = one / sqrt(select(go, norm, one));
        const E cs = select(go, x * scale_xy, one), sn = select(go, y * scale_xy, zero);
        const E cc = cs * cs, ss = sn * sn, cross = (cs * sn) * (cab + cab);
        c(a, a) = fma(cc, caa, fma(ss, cbb, cross));
        c(b, b) = fma(cc, cbb, fma(ss, caa, -cross));
        c(a, b) = select(go, zero, cab);
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
        for (int l = b + 1; l < k; ++l) {
          const E xa = c(a, l), xb = c(b, l);
          c(a, l) = fma(cs, xa, sn * xb);
          c(b, l) = fma(cs, xb, -(sn * xa));
        }
        for (int l = 0; l < k; ++l) {
          const E xa = q(a, l), xb = q(b, l);
          q(a, l) = fma(cs, xa, sn * xb);
          q(b, l) = fma(cs, xb, -(sn * xa));
        }
      }
    }
    running = again;
  }
}

} // namespace SPLIC_ISA
} // namespace splic
