// The derivative of a step whose rank cut is a sigmoid in the singular values: all triplets count.
#pragma once

#include "triplets.hpp"

namespace splic {
namespace SPLIC_ISA {

// Of g(s) = s share(s), with the given slopes, at two singular values: (g_i - g_j) / (s_i - s_j),
// the mean slope where they tie, and (g_i + g_j) / (s_i + s_j).
template <class E>
SPLIC_INLINE void divided_differences(E si, E sj, E share_i, E share_j, E slope_i, E slope_j,
                                      E &even, E &odd) {
  using S = Scalar<E>;
  const E gap = si - sj, sum = si + sj, one = splat<E>(S(1));
  const E gi = si * share_i, gj = sj * share_j;
  const E mean = splat<E>(S(0.5)) * (slope_i + slope_j);
  const Mask<E> tied = maximum(gap, -gap) <= splat<E>(static_cast<S>(Effort<S>::tie)) * sum;
  even = select(tied, mean, (gi - gj) / select(tied, one, gap));
  odd = select(sum > E{}, (gi + gj) / select(sum > E{}, sum, one), mean);
}

// F(X) = U g(S) V' with g = c s f, and the cut c s that the TV gradient sees: dL/dX from the
// gradients by both, with divided differences for all pairs (Daleckii-Krein; Noferini 2017).
template <class E> class Surrogate {
  using S = Scalar<E>;
  static constexpr int kLanes = Lanes<E>::count;

public:
  void lay_out(const Geometry &geometry, Arena &arena) {
    g_ = geometry;
    Matrix<E> *const squares[] = {&v_, &e_, &core_, &back_, &c_, &q_};
    for (Matrix<E> *a : squares)
      *a = arena.take_matrix<E>(g_.n, g_.n);
    Matrix<E> *const images[] = {&u_, &product_, &left_};
    for (Matrix<E> *a : images)
      *a = arena.take_matrix<E>(g_.m, g_.n);
    E **const weights[] = {&sigma_, &inverse_, &cut_, &cut_slope_, &share_, &slope_, &by_delta_of_};
    for (E **array : weights)
      *array = arena.take<E>(g_.n);
  }

  // All triplets of X, of which those of the r largest singular values are known: V' (r x n),
  // sigma, and the square of the rest, B'B.
  void decompose(Matrix<E> x, int r, Matrix<E> vt, const E *sigma, Matrix<E> rest_squared,
                 Mask<E> active) {
    r_ = r;
    // The known ones come first by more than the largest eigenvalue of B'B. Known ones without a
    // singular value are none, and the next ones take their place.
    E lift = sigma[0] * sigma[0] * splat<E>(static_cast<S>(Effort<S>::weak));
    for (int i = 0; i < g_.n; ++i)
      lift = fma(splat<E>(S(2)), rest_squared(i, i), lift);
    for (int i = 0; i < g_.n; ++i)
      for (int j = i; j < g_.n; ++j)
        c_(i, j) = rest_squared(i, j);
    for (int p = 0; p < r; ++p)
      for (int i = 0; i < g_.n; ++i)
        for (int j = i; j < g_.n; ++j)
          c_(i, j) = fma(lift * vt(p, i), vt(p, j), c_(i, j));
    symmetric_jacobi<E>(g_.n, g_.n, c_, q_, active, Effort<S>::jacobi);
    clear(back_, g_.n);
    for (int p = 0; p < g_.n; ++p) {
      const Mask<E> known = p < r ? sigma[p] > E{} : Mask<E>{};
      for (int j = 0; j < g_.n; ++j)
        back_(p, j) = v_(j, p) = p < r ? select(known, vt(p, j), q_(p, j)) : q_(p, j);
      sigma_[p] = E{};
    }
    multiply_apart<E>(g_.m, g_.n, g_.n, x, v_, Store<E>{u_});
    for (int i = 0; i < g_.m; ++i)
      for (int p = 0; p < g_.n; ++p)
        sigma_[p] = fma(u_(i, p), u_(i, p), sigma_[p]);
    for (int p = 0; p < g_.n; ++p) {
      const E norm = sqrt(sigma_[p]);
      sigma_[p] = p < r ? select(sigma[p] > E{}, sigma[p], norm) : norm;
      const Mask<E> there = sigma_[p] > sigma[0] * splat<E>(static_cast<S>(Effort<S>::dropped));
      inverse_[p] = select(there, splat<E>(S(1)) / select(there, sigma_[p], splat<E>(S(1))), E{});
    }
    for (int i = 0; i < g_.m; ++i)
      for (int p = 0; p < g_.n; ++p)
        u_(i, p) = u_(i, p) * inverse_[p];
  }

  void weigh(const Problem &problem, E delta, E range) {
    using Ops = ElementOps<E>;
    const Options &o = problem.options;
    const E one = Ops::number(1);
    const E middle = Ops::number(0.5) * (sigma_[r_ - 1] + sigma_[r_]);
    const E width = Ops::number(problem.cut_width) * middle;
    const Mask<E> wide = width > E{};
    for (int p = 0; p < g_.n; ++p) {
      const E s = sigma_[p];
      const E smooth = sigmoid<Ops>((s - middle) / width);
      const E cut = select(wide, smooth, Ops::number(p < r_ ? 1 : 0));
      const E steep = select(wide, cut * (one - cut) / width, E{});
      const SpectralSlope<E> f =
          spectral_slope<Ops>(s * s, delta, Ops::number(o.step_size), range, o.literal);
      cut_[p] = cut;
      cut_slope_[p] = cut + steep * s;
      share_[p] = cut * f.factor;
      slope_[p] = cut * f.by_sigma + steep * s * f.factor;
      by_delta_of_[p] = cut * f.by_delta;
    }
  }

  // What is left of a step: [left factor (m x n), right factor (n x n)] of dL/dX. Returns the
  // gradient by delta.
  E factors(Matrix<E> by_step, Matrix<E> by_cut, bool smooth, Matrix<E> &left, Matrix<E> &right) {
    clear(left_, g_.m);
    clear(core_, g_.n);
    add_function(by_step, share_, slope_);
    E by_delta = E{};
    for (int p = 0; p < g_.n; ++p)
      by_delta = fma(by_delta_of_[p], e_(p, p), by_delta);
    if (smooth)
      add_function(by_cut, cut_, cut_slope_);
    multiply_apart<E>(g_.m, g_.n, g_.n, u_, core_, add_to<E>(left_));
    left = left_;
    right = back_;
    return by_delta;
  }

private:
  // Of one spectral function with the gradient G: core_ += its coefficients times E, less E g / s,
  // and left_ += G V g / s, where E = U'G V.
  void add_function(Matrix<E> by_result, const E *share, const E *slope) {
    multiply_apart<E>(g_.m, g_.n, g_.n, by_result, v_, Store<E>{product_});
    multiply_apart<E>(g_.n, g_.n, g_.m, u_.transposed(), product_, Store<E>{e_});
    const E half = splat<E>(S(0.5));
    for (int i = 0; i < g_.n; ++i)
      for (int j = 0; j < g_.n; ++j) {
        E even, odd;
        divided_differences<E>(sigma_[i], sigma_[j], share[i], share[j], slope[i], slope[j], even,
                               odd);
        const E e = e_(i, j), et = e_(j, i);
        core_(i, j) = core_(i, j) + half * (even * (e + et) + odd * (e - et)) - e * share[j];
      }
    for (int i = 0; i < g_.m; ++i)
      for (int p = 0; p < g_.n; ++p)
        left_(i, p) = fma(share[p], product_(i, p), left_(i, p));
  }

  Geometry g_;
  int r_ = 1;
  Matrix<E> v_, e_, core_, back_, c_, q_, u_, product_, left_;
  E *sigma_ = nullptr, *inverse_ = nullptr, *cut_ = nullptr, *cut_slope_ = nullptr,
    *share_ = nullptr, *slope_ = nullptr, *by_delta_of_ = nullptr;
};

} // namespace SPLIC_ISA
} // namespace splic
