// One completion, both passes, by a team of threads that share fast memory: a CUDA thread block, or
// (in tests) threads of the host. The block iteration of the CPU solver (csrc/cpu/triplets.hpp) on
// one matrix.
#pragma once

#include "team/iterate.hpp"

namespace splic {

template <class T, class Team> class Fused : Iterate<T, Team> {
  using Base = Iterate<T, Team>;
  using Algebra = TeamAlgebra<T, Team>;
  using Algebra::c_, Algebra::q_, Algebra::t_, Algebra::order_, Algebra::gram;
  using Algebra::cholesky, Algebra::counts_, Algebra::jacobi, Algebra::used_;
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
    scratch_ = this->template take<T>(2 * (static_cast<std::size_t>(k_) + n));
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
    refine(k, steps);
    T before = T(1e30);
    for (int repeat = 0;; ++repeat) {
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
      refine(k, kRepeatApplications);
    }
  }

  // v_ = orthonormal basis of the product of (X'X - shift) over the shifts, times start_.
  SPLIC_INLINE void refine(int k, int steps) {
    const int m = g_.m, n = g_.n;
    const bool steep = theta_[r_ - 1] < theta_[0] * static_cast<T>(Limits::steep);
    if (steps == 0) {
      if (!orthonormalise(k, n, start_, v_))
        each_entry(n, k, [&](int j, int p) { v_(j, p) = T(j == p ? 1 : 0); });
      return;
    }
    if (steep)
      orthonormalise_again(k, start_);
    const double pays = 0.5 * m * n * n + double(steps) * n * n * k;
    if (!steep && !gram_ready_ && pays < 2.0 * steps * m * n * k) {
      gram(m, n, x_, b_);
      gram_ready_ = true;
    }
    const T largest = theta_[k - 1];
    Grid<T> from = start_;
    for (int step = 0; step < steps; ++step) {
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
      orthonormalise(k, n, product_, v_);
      // Rounding in X V has brought the first vectors back, larger than what was to be found.
      if (steep)
        orthonormalise_again(k, v_);
      from = v_;
    }
  }

  // to = from T with orthonormal columns; whether all of them came out well.
  SPLIC_INLINE bool orthonormalise(int k, int rows, Grid<T> from, Grid<T> to) {
    gram(rows, k, from, c_);
    const bool well = cholesky(k);
    product(rows, k, k, from, t_, to);
    return well;
  }
  SPLIC_INLINE void orthonormalise_again(int k, Grid<T> v) {
    orthonormalise(k, g_.n, v, product_);
    each_entry(g_.n, k, [&](int j, int p) { v(j, p) = product_(j, p); });
  }

  SPLIC_INLINE void rayleigh_ritz(int k) {
    product(g_.m, k, g_.n, x_, v_, w_);
    gram(g_.m, k, w_, c_);
    T trace = T(0);
    for (int p = 0; p < k; ++p)
      trace += c_(p, p);
    const bool tame = trace < static_cast<T>(Limits::huge);
    team_.sync();
    if (!tame) // diverging: what comes out is NaN
      each_entry(k, k, [&](int i, int j) { c_(i, j) = T(0); });
    const T none = tame ? T(0) : static_cast<T>(__builtin_nan(""));
    jacobi(k, r_);
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    // U = W Q / sigma; directions without weight are dropped.
    each_entry(k, r_, [&](int i, int p) {
      const T theta = theta_[p];
      const T inverse = theta > least && theta > T(0) ? T(1) / square_root(theta) : T(0);
      t_(i, p) = multiply_add(q_(order_[p], i), inverse, none);
    });
    product(g_.m, r_, k, w_, t_, u_);
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    orthonormalise(r_, g_.m, u_, kept_);
    product(r_, g_.n, g_.m, kept_.transposed(), x_, right_);
  }

  // The error that the worse of the last two kept triplets leaves in U Z', squared.
  SPLIC_INLINE T missed(int k) {
    const int first = r_ > 2 ? r_ - 2 : 0, count = r_ - first, n = g_.n;
    T *const inside = scratch_, *const outside = scratch_ + 2 * k;
    each_entry(count, k, [&](int p, int q) {
      T sum = T(0);
      for (int j = 0; j < n; ++j)
        sum = multiply_add(right_(first + p, j), v_(j, q), sum);
      inside[p * k + q] = sum;
    });
    each_entry(count, n, [&](int p, int j) {
      T sum = T(0);
      for (int q = 0; q < k; ++q)
        sum = multiply_add(inside[p * k + q], v_(j, q), sum);
      const T rest = right_(first + p, j) - sum;
      outside[p * n + j] = rest * rest;
    });
    T worst = T(0);
    for (int p = 0; p < count; ++p) {
      T sum = T(0);
      for (int j = 0; j < n; ++j)
        sum += outside[p * n + j];
      const T error = missed_by<TeamOps<T>>(sum, theta_[first + p], theta_[k - 1], theta_[r_ - 1]);
      worst = error > worst ? error : worst;
    }
    team_.sync();
    return worst;
  }

  // The right vectors begin the next iteration: Z as it is for the kept ones, V Q for the others.
  // Dead ones are seeded afresh.
  SPLIC_INLINE void next_start(int k) {
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    each_entry(g_.n, k, [&](int j, int p) {
      T value = T(0);
      if (theta_[p] <= least)
        value = basis(j, p);
      else if (p < r_)
        value = right_(p, j);
      else
        for (int i = 0; i < k; ++i)
          value = multiply_add(v_(j, i), q_(order_[p], i), value);
      start_(j, p) = value;
    });
  }

  int k_, k_early_, k_late_;
  Grid<T> b_, start_, v_, product_, w_, u_;
  T *scratch_, *shares_;
  bool gram_ready_ = false;
};

} // namespace splic
