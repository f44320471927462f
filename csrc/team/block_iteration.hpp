// The block iteration of the CPU solver (csrc/cpu/triplets.hpp) on one matrix: its phases, and
// their order.
//
// Each phase is a product, or a small problem. A team of threads that share fast memory goes
// through them in turn (search()); or each is a kernel of its own, in which many blocks have a tile
// of the product each (team/tiled.hpp).
#pragma once

#include "team/iterate.hpp"

namespace splic {

// Vectors that the iteration works with, and how often X'X is applied to them.
struct BlockSizes {
  Geometry g;
  int early, late; // vectors in the first outer loops, and in the others

  SPLIC_INLINE explicit BlockSizes(const Problem &problem) : g(problem) {
    const int r = problem.options.rank, extra = extra_vectors(r, wide());
    late = block_size((r + extra + 3) / 4 * 4, g.n);
    early = wide() ? late : block_size((r + 2 * extra + 3) / 4 * 4, g.n);
  }
  // Large matrices are treated as on the CPU: more vectors, for flatter spectra.
  SPLIC_INLINE bool wide() const { return !g.interleaves(); }
  SPLIC_INLINE int most() const { return early > late ? early : late; }
  SPLIC_INLINE int vectors(const Moment &moment) const {
    return moment.outer < kEarlyLoops ? early : late;
  }
  SPLIC_INLINE int applications(const Moment &moment) const {
    if (vectors(moment) == g.n)
      return 0;
    return moment.cold() ? kColdApplications : warm_applications(moment, wide());
  }
  // Whether it takes less to sum up X'X than to do without.
  SPLIC_INLINE bool square_pays(int k, int steps) const {
    const double m = g.m, n = g.n, with = 0.5 * m * n * n + double(steps) * n * n * k;
    return steps > 0 && with < 2.0 * steps * m * n * k;
  }
};

// Of what follows, a way takes each step when it is called: at once, or by a kernel.
#if defined(__CUDACC__)
#pragma nv_exec_check_disable
#endif
template <class Way> SPLIC_INLINE void refine(Way &&way, int k, int steps) {
  way.square(k, steps);
#pragma unroll 1
  for (int step = way.first_step(steps); step < steps; ++step) {
    if (step >= 0)
      way.apply(k, step, steps);
#pragma unroll 1
    for (int time = 0; time < way.times(step); ++time)
      way.orthonormalise(k, step, time, steps);
  }
}
#if defined(__CUDACC__)
#pragma nv_exec_check_disable
#endif
template <class Way> SPLIC_INLINE void rayleigh_ritz(Way &&way, int k) {
  way.project(k);
  way.square_projected(k);
  way.diagonalise(k);
  way.turn_left(k);
  way.turn_rest(k);
  way.orthonormalise_left();
  way.right();
}

template <class T, class Team> class BlockIteration : protected Iterate<T, Team> {
  using Base = Iterate<T, Team>;
  using Algebra = TeamAlgebra<T, Team>;
  using Limits = Effort<T>;

protected:
  using Algebra::c_, Algebra::t_, Algebra::order_, Algebra::gram, Algebra::theta_;
  using Algebra::cholesky, Algebra::counts_, Algebra::used_, Algebra::team_;
  using Base::problem_, Base::g_, Base::r_, Base::x_, Base::left_, Base::kept_, Base::right_;
  using Base::take_grid, Base::each, Base::each_entry, Base::product, Base::bits_;

  SPLIC_INLINE BlockIteration(const Problem &problem, const Team &team)
      : Base(problem, team), sizes_(problem) {}

  // ---- memory ----

  SPLIC_INLINE std::size_t lay_out(unsigned char *memory) {
    const int m = g_.m, n = g_.n, k = sizes_.most();
    Algebra::lay_out(memory, k);
    x_ = take_grid(m, n);
    b_ = take_grid(n, n);
    start_ = take_grid(n, k);
    v_ = take_grid(n, k);
    product_ = take_grid(n, k);
    // [U' U | U] is made when W and the raw U are no longer needed: it lies over them.
    const int left = this->row_of(2 * r_), w = this->row_of(k), u = this->row_of(r_);
    T *const area =
        this->template take<T>(static_cast<std::size_t>(m) * (w + u > left ? w + u : left));
    w_ = {area, w, 1};
    u_ = {counts_ ? nullptr : area + static_cast<std::size_t>(m) * w, u, 1};
    left_ = {area, left, 1};
    kept_ = take_grid(m, r_);
    right_ = take_grid(2 * r_, n);
    inside_ = take_grid(2, k);
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

  // ---- phases: a start, and a basis of what X'X makes of it ----

  SPLIC_INLINE T basis(int j, int p) const { return static_cast<T>(cosine_basis(j, p, g_.n)); }

  SPLIC_INLINE void start_cold(int k) {
    each_entry(g_.n, k,
               [&](int j, int p) { start_(j, p) = k < g_.n ? basis(j, p) : T(j == p ? 1 : 0); });
    each(k, [&](int p) { theta_[p] = T(0); });
  }

  // What a steep start still holds of the first vector would grow by theta_1 / theta_k, and
  // rounding in X V brings it back, larger than what was to be found: such bases are made
  // orthonormal before the first step, and twice after each. X'X is too coarse for them.
  SPLIC_INLINE bool steep() const {
    return theta_[r_ - 1] < theta_[0] * static_cast<T>(Limits::steep);
  }
  // Whether orthonormalise() has something to do the `time`-th time after a step, or (-1) before
  // the first one; from where to where.
  SPLIC_INLINE bool needs_basis(int step, int time, int steps, bool steep) const {
    return step < 0 ? steep || steps == 0 : time == 0 || steep;
  }
  SPLIC_INLINE Grid<T> raw_basis(int step, int time) const {
    return step < 0 || time > 0 ? start_ : product_;
  }
  SPLIC_INLINE Grid<T> new_basis(int step, int time, bool steep) const {
    return step >= 0 && time == 0 && steep ? start_ : v_;
  }
  SPLIC_INLINE Grid<T> basis_before(int step, bool steep) const {
    return step == 0 && !steep ? start_ : v_;
  }

  SPLIC_INLINE void square_matrix() { gram(g_.m, g_.n, x_, b_); }
  SPLIC_INLINE void apply_matrix(int k, Grid<T> from) { product(g_.m, k, g_.n, x_, from, w_); }
  // product_ = (X'X - shift) from, by X'X or from W = X from.
  SPLIC_INLINE void apply_square(int k, int step, int steps, Grid<T> from, bool by_square) {
    const T shift = theta_[k - 1] * shares_[steps * kColdApplications + step];
    const auto shifted = [&](int j, int p, T sum) {
      product_(j, p) = multiply_add(-shift, from(j, p), sum);
    };
    if (by_square)
      product(g_.n, k, g_.n, b_, from, shifted);
    else
      product(g_.n, k, g_.m, x_.transposed(), w_, shifted);
  }
  // to = from T; or the whole space, if any basis of it will do and this one has not come out well.
  SPLIC_INLINE void multiply_basis(int k, Grid<T> from, Grid<T> to, bool keep) {
    product(g_.n, k, k, from, t_,
            [&](int j, int p, T sum) { to(j, p) = keep ? sum : T(j == p ? 1 : 0); });
  }

  // ---- phases: Rayleigh and Ritz ----

  SPLIC_INLINE void project_basis(int k) { product(g_.m, k, g_.n, x_, v_, w_); }
  // The eigenvectors of W'W into T, those that are kept over sigma squared, the others over sigma;
  // directions without weight are dropped.
  SPLIC_INLINE void solve_small(int k) {
    const bool tame = this->jacobi(k, r_); // if not, it diverges, and what comes out is NaN
    const T none = tame ? T(0) : static_cast<T>(__builtin_nan(""));
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    each_entry(k, k, [&](int i, int p) {
      const T theta = theta_[p];
      const T inverse = theta > least && theta > T(0) ? inverse_square_root(theta) : T(0);
      const T scale = p < r_ ? inverse * inverse : inverse;
      t_(i, p) = multiply_add(c_(order_[p], i), scale, none);
    });
  }
  // U = W Q / sigma
  SPLIC_INLINE void multiply_left(int k) { product(g_.m, r_, k, w_, t_, u_); }
  // The right vectors begin the next iteration: Z as it is for the kept ones (see next_start()),
  // V Q for the others.
  SPLIC_INLINE void multiply_rest(int k) {
    product(g_.n, k - r_, k, v_, t_.from(0, r_),
            [&](int j, int p, T sum) { start_(j, r_ + p) = sum; });
  }
  SPLIC_INLINE void multiply_kept() { product(g_.m, r_, r_, u_, t_, kept_); }
  SPLIC_INLINE void multiply_right() { product(r_, g_.n, g_.m, kept_.transposed(), x_, right_); }

  // ---- phases: the test ----

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

  // Makes the next start; whether what was found is not good enough. `before`: what was missed the
  // last time.
  SPLIC_INLINE bool judge(const Moment &moment, int k, int repeat, T &before) {
    bool poor = false;
    if (k < g_.n) {
      const T residual = static_cast<T>(Limits::residual * looseness(moment));
      const T limit = residual * residual * static_cast<T>(g_.m) * static_cast<T>(g_.n);
      const T now = missed(k);
      poor = now > limit || (moment.cold() && repeat == 0);
      // Where rounding sets the limit, or singular values tie, repetition stops helping.
      poor = poor && now < T(0.9) * before;
      before = now;
    }
    next_start(k);
    return poor && repeat < Limits::repeats;
  }
  static constexpr T kNothingBefore = T(1e30);

  // ---- all of them in turn, by a team that can wait ----

  // Leaves U in kept_, Z' = U'X in right_, sigma^2 in theta_, the next start in start_. `repeat`:
  // how often that was done before.
  SPLIC_INLINE void search(const Moment &moment, int repeat, T before) {
    const int k = sizes_.vectors(moment);
    int steps = repeat == 0 ? sizes_.applications(moment) : kRepeatApplications;
#pragma unroll 1
    for (;; ++repeat) {
      refine(Direct{*this}, k, steps);
      rayleigh_ritz(Direct{*this}, k);
      if (!judge(moment, k, repeat, before))
        break;
      steps = kRepeatApplications;
    }
  }

  struct Direct {
    BlockIteration &of;

    SPLIC_INLINE void square(int k, int steps) {
      is_steep = of.steep();
      if (is_steep || of.squared_ || !of.sizes_.square_pays(k, steps))
        return;
      of.square_matrix();
      of.squared_ = true;
    }
    SPLIC_INLINE int first_step(int steps) const { return is_steep || steps == 0 ? -1 : 0; }
    SPLIC_INLINE int times(int step) const { return is_steep && step >= 0 ? 2 : 1; }
    SPLIC_INLINE void apply(int k, int step, int steps) const {
      const Grid<T> from = of.basis_before(step, is_steep);
      const bool by_square = of.squared_ && !is_steep;
      if (!by_square)
        of.apply_matrix(k, from);
      of.apply_square(k, step, steps, from, by_square);
    }
    SPLIC_INLINE void orthonormalise(int k, int step, int time, int steps) const {
      const Grid<T> from = of.raw_basis(step, time);
      of.gram(of.g_.n, k, from, of.c_);
      const bool well = of.cholesky(k);
      of.multiply_basis(k, from, of.new_basis(step, time, is_steep), well || steps > 0);
    }
    SPLIC_INLINE void project(int k) const { of.project_basis(k); }
    SPLIC_INLINE void square_projected(int k) const { of.gram(of.g_.m, k, of.w_, of.c_); }
    SPLIC_INLINE void diagonalise(int k) const { of.solve_small(k); }
    SPLIC_INLINE void turn_left(int k) const { of.multiply_left(k); }
    SPLIC_INLINE void turn_rest(int k) const { of.multiply_rest(k); }
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    SPLIC_INLINE void orthonormalise_left() const {
      of.gram(of.g_.m, of.r_, of.u_, of.c_);
      of.cholesky(of.r_);
      of.multiply_kept();
    }
    SPLIC_INLINE void right() const { of.multiply_right(); }

    bool is_steep = false; // before this refinement
  };

  BlockSizes sizes_;
  Grid<T> b_, start_, v_, product_, w_, u_;
  Grid<T> inside_, outside_;
  T *shares_;
  bool squared_ = false; // b_ is X'X
};

} // namespace splic
