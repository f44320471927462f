// One completion, both passes, by a team of threads that share fast memory: a CUDA thread block, or
// (in tests) threads of the host. The block iteration of the CPU solver (csrc/cpu/triplets.hpp) on
// one matrix.
#pragma once

#include "team/iterate.hpp"

namespace splic {

template <class T, class Team> class Fused : Iterate<T, Team> {
  using Base = Iterate<T, Team>;
  using Algebra = TeamAlgebra<T, Team>;
  using Algebra::c_, Algebra::t_, Algebra::order_, Algebra::gram;
  using Algebra::cholesky, Algebra::counts_, Algebra::used_;
  using Base::problem_, Base::g_, Base::r_, Base::x_, Base::left_, Base::kept_, Base::right_;
  using Base::take_grid, Base::each, Base::each_entry, Base::product;
  using Base::team_, Base::theta_, Base::bits_;
  using Limits = Effort<T>;

public:
  // Bytes of shared memory.
  SPLIC_INLINE static std::size_t bytes(const Problem &problem) {
    Fused fused(problem, Team());
    fused.counts_ = true;
    return fused.lay_out(nullptr);
  }

  SPLIC_INLINE Fused(const Problem &problem, const Team &team) : Base(problem, team) {
    const int extra = extra_vectors(r_, wide());
    k_late_ = block_size((r_ + extra + 3) / 4 * 4, g_.n);
    k_early_ = wide() ? k_late_ : block_size((r_ + 2 * extra + 3) / 4 * 4, g_.n);
    k_ = k_early_ > k_late_ ? k_early_ : k_late_;
  }

  // Completes the item. `memory`: bytes() of it, aligned to 16. `record`: may be null. `sum`: the
  // result goes there, or, if it is null, into the target.
  SPLIC_INLINE void run(unsigned char *memory, const MatrixItem &item, Record *record, T *sum) {
    lay_out(memory);
    tabulate();
    bool sound = this->load_image(item, record);
    for (int pass = 0; sound && pass < problem_.passes(); ++pass)
      if (this->start_pass(pass))
        sound = complete_pass(record, pass);
    this->store_image(item, sound, sum);
  }

private:
  // Large matrices are treated as on the CPU: more vectors, for flatter spectra.
  SPLIC_INLINE bool wide() const { return !g_.interleaves(); }

  // ---- memory ----

  SPLIC_INLINE std::size_t lay_out(unsigned char *memory) {
    Algebra::lay_out(memory, k_);
    const int m = g_.m, n = g_.n;
    x_ = take_grid(m, n);
    b_ = take_grid(n, n);
    start_ = take_grid(n, k_);
    v_ = take_grid(n, k_);
    product_ = take_grid(n, k_);
    // [U' U | U] is made when W and the raw U are no longer needed: it lies over them.
    const int left = 2 * r_ | 1, w = k_ | 1, u = r_ | 1;
    T *const area =
        this->template take<T>(static_cast<std::size_t>(m) * (w + u > left ? w + u : left));
    w_ = {area, w, 1};
    u_ = {counts_ ? nullptr : area + static_cast<std::size_t>(m) * w, u, 1};
    left_ = {area, left, 1};
    kept_ = take_grid(m, r_);
    right_ = take_grid(2 * r_, n);
    inside_ = take_grid(2, k_);
    outside_ = take_grid(2, n);
    shares_ = this->template take<T>((kColdApplications + 1) * kColdApplications);
    bits_ = this->template take<unsigned char>(static_cast<std::size_t>(m) * n);
    return used_;
  }

  // Chebyshev nodes on [0, theta_k], of which what lies there is damped the most, evenly: shares of
  // theta_k. (Each takes 13 divisions in double precision.)
  SPLIC_INLINE void tabulate() {
    each_entry(kColdApplications, kColdApplications, [&](int last, int i) {
      if (i <= last)
        shares_[(last + 1) * kColdApplications + i] =
            static_cast<T>(0.5 + 0.5 * chebyshev_node(i, last + 1));
    });
  }

  // ---- Algorithm 1 ----

  // False where it diverges.
  SPLIC_INLINE bool complete_pass(Record *record, int pass) {
    const Options &o = problem_.options;
    T delta = T(0);
    bool diverged = false;
    int t = 0;
    for (int outer = 0; t < o.max_iterations; ++outer) {
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      T change = T(0);
      for (int i = 0; i < inner; ++i, ++t) {
        find({outer, i, inner, left - i});
        if (t == 0)
          delta = this->first_delta(theta_[0]);
        this->weigh(delta);
        this->make_sides();
        change = this->apply();
      }
      if (!this->goes_on(record, pass, t, team_.sum(change), delta, diverged))
        break;
    }
    return !diverged;
  }

  // ---- the leading triplets ----

  SPLIC_INLINE T basis(int j, int p) const { return static_cast<T>(cosine_basis(j, p, g_.n)); }

  // Leaves U in kept_, Z' = U'X in right_, sigma^2 in theta_, the next start in start_.
  SPLIC_INLINE void find(const Moment &moment) {
    const bool cold = moment.cold();
    const int k = moment.outer < kEarlyLoops ? k_early_ : k_late_;
    const T residual = static_cast<T>(Limits::residual * looseness(moment));
    const T limit = residual * residual * static_cast<T>(g_.m) * static_cast<T>(g_.n);
    int steps = cold ? kColdApplications : warm_applications(moment, wide());
    if (cold) {
      each_entry(g_.n, k,
                 [&](int j, int p) { start_(j, p) = k < g_.n ? basis(j, p) : T(j == p ? 1 : 0); });
      each(k, [&](int p) { theta_[p] = T(0); });
    }
    gram_ready_ = false;
    if (k == g_.n)
      steps = 0;
    T before = T(1e30);
#pragma unroll 1
    for (int repeat = 0;; ++repeat) {
      refine(k, steps);
      rayleigh_ritz(k);
      bool poor = false;
      if (k < g_.n) {
        const T now = missed(k);
        poor = now > limit || (cold && repeat == 0);
        // Where rounding sets the limit, or singular values tie, repetition stops helping.
        poor = poor && now < T(0.9) * before;
        before = now;
      }
      next_start(k);
      if (!poor || repeat == Limits::repeats)
        break;
      steps = kRepeatApplications;
    }
  }

  // v_ = orthonormal basis of the product of (X'X - shift) over the shifts, times start_.
  SPLIC_INLINE void refine(int k, int steps) {
    const int m = g_.m, n = g_.n;
    const bool steep = theta_[r_ - 1] < theta_[0] * static_cast<T>(Limits::steep);
    const double pays = 0.5 * m * n * n + double(steps) * n * n * k;
    if (steps > 0 && !steep && !gram_ready_ && pays < 2.0 * steps * m * n * k) {
      gram(m, n, x_, b_);
      gram_ready_ = true;
    }
    const T largest = theta_[k - 1];
    // What a steep start still holds of the first vector would grow by theta_1 / theta_k, and
    // rounding in X V brings it back, larger than what was to be found: such bases are made
    // orthonormal before the first step, and twice after each.
#pragma unroll 1
    for (int step = steep || steps == 0 ? -1 : 0; step < steps; ++step) {
      const bool first = step == (steep ? -1 : 0);
      const Grid<T> from = first ? start_ : v_;
      if (step >= 0) {
        const T shift = largest * shares_[steps * kColdApplications + step];
        const auto shifted = [&](int j, int p, T sum) {
          product_(j, p) = multiply_add(-shift, from(j, p), sum);
        };
        if (gram_ready_ && !steep) {
          product(n, k, n, b_, from, shifted);
        } else {
          product(m, k, n, x_, from, w_);
          product(n, k, m, x_.transposed(), w_, shifted);
        }
      }
      bool well = false;
#pragma unroll 1
      for (int times = steep && step >= 0 ? 2 : 1; times > 0; --times) {
        well = orthonormalise(k, n, step < 0 ? start_ : product_, v_);
        if (times > 1)
          each_entry(n, k, [&](int j, int p) { product_(j, p) = v_(j, p); });
      }
      if (steps == 0 && !well)
        each_entry(n, k, [&](int j, int p) { v_(j, p) = T(j == p ? 1 : 0); });
    }
  }

  // to = from T with orthonormal columns; whether all of them came out well.
  SPLIC_INLINE bool orthonormalise(int k, int rows, Grid<T> from, Grid<T> to) {
    gram(rows, k, from, c_);
    const bool well = cholesky(k);
    product(rows, k, k, from, t_, to);
    return well;
  }

  SPLIC_INLINE void rayleigh_ritz(int k) {
    const int m = g_.m, n = g_.n;
    product(m, k, n, x_, v_, w_);
    gram(m, k, w_, c_);
    const bool tame = this->jacobi(k, r_); // if not, it diverges, and what comes out is NaN
    const T none = tame ? T(0) : static_cast<T>(__builtin_nan(""));
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    // The eigenvectors, those that are kept over sigma; directions without weight are dropped.
    each_entry(k, k, [&](int i, int p) {
      const T theta = theta_[p];
      const T inverse = theta > least && theta > T(0) ? inverse_square_root(theta) : T(0);
      const T scale = p < r_ ? inverse * inverse : inverse;
      t_(i, p) = multiply_add(c_(order_[p], i), scale, none);
    });
    product(m, r_, k, w_, t_, u_); // U = W Q / sigma
    // The right vectors begin the next iteration: Z as it is for the kept ones (see next_start()),
    // V Q for the others.
    product(n, k - r_, k, v_, t_.from(0, r_),
            [&](int j, int p, T sum) { start_(j, r_ + p) = sum; });
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    orthonormalise(r_, m, u_, kept_);
    product(r_, n, m, kept_.transposed(), x_, right_);
  }

  // The error that the worse of the last two kept triplets leaves in U Z', squared.
  SPLIC_INLINE T missed(int k) {
    const int first = r_ > 2 ? r_ - 2 : 0, count = r_ - first, n = g_.n;
    const Grid<T> z = right_.from(first, 0);
    product(count, k, n, z, v_, inside_);
    product(count, n, k, inside_, v_.transposed(), [&](int p, int j, T sum) {
      const T rest = z(p, j) - sum;
      outside_(p, j) = rest * rest;
    });
    T worst = T(0);
    for (int p = 0; p < count; ++p) {
      T sum = T(0);
#pragma unroll 4
      for (int j = 0; j < n; ++j)
        sum += outside_(p, j);
      const T error = missed_by<TeamOps<T>>(sum, theta_[first + p], theta_[k - 1], theta_[r_ - 1]);
      worst = error > worst ? error : worst;
    }
    team_.sync();
    return worst;
  }

  // Dead vectors are seeded afresh.
  SPLIC_INLINE void next_start(int k) {
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    each_entry(g_.n, k, [&](int j, int p) {
      if (theta_[p] <= least)
        start_(j, p) = basis(j, p);
      else if (p < r_)
        start_(j, p) = right_(p, j);
    });
  }

  int k_, k_early_, k_late_;
  Grid<T> b_, start_, v_, product_, w_, u_;
  Grid<T> inside_, outside_;
  T *shares_;
  bool gram_ready_ = false;
};

} // namespace splic
