// The leading singular triplets of a matrix that changes little from one iteration to the next.
//
// A block iteration starts at the triplets of the iteration before: a few shifted applications of
// X'X with Cholesky orthonormalisation, a Rayleigh-Ritz step by Jacobi rotations, Cholesky once
// more for the kept left vectors. A residual test repeats it for the lanes that need it.
#pragma once

#include <new>

#include "whole.hpp"
#include "wide.hpp"

namespace splic {
namespace SPLIC_ISA {

// Hands out pieces of a workspace, or, without one, counts what it would take.
class Arena {
public:
  explicit Arena(unsigned char *base) : base_(base) {}
  std::size_t used() const { return used_; }

  template <class T> T *take(std::size_t count, std::size_t times = 1) {
    T *p = base_ ? reinterpret_cast<T *>(base_ + used_) : nullptr;
    std::size_t bytes = count * sizeof(T) + 63, all = 0;
    if (__builtin_mul_overflow(bytes / 64 * 64, times, &bytes) ||
        __builtin_add_overflow(used_, bytes, &all))
      throw std::bad_alloc();
    used_ = all;
    return p;
  }
  template <class E> SPLIC_NOINLINE Matrix<E> take_matrix(int rows, int columns) {
    // An odd number of cache lines in a row: those of a column then lie in different sets.
    int row = padded<E>(columns);
    while (row * sizeof(E) / 64 % 2 == 0 && columns > Engine<E>::width)
      row += Engine<E>::width;
    return {take<E>(static_cast<std::size_t>(rows) * row), row, 1};
  }

private:
  unsigned char *base_;
  std::size_t used_ = 0;
};

template <class E> class Triplets {
  using S = Scalar<E>;
  using Limits = Effort<S>;
  static constexpr int kWidth = Engine<E>::width;

public:
  // X, to be filled and changed by the owner.
  Matrix<E> x_;
  // What `find` leaves: U (m x r), Z' = U'X (rows 0 to r - 1 of at least 2 r), and sigma squared.
  Matrix<E> kept_, right_;
  E *theta_ = nullptr;

  void lay_out(const Problem &problem, const double *basis, Arena &arena) {
    g_ = Geometry(problem);
    r_ = problem.options.rank;
    whole_ = problem.care == Care::whole;
    close_ = problem.care == Care::close && sizeof(S) == sizeof(double);
    basis_ = basis;
    const int extra = extra_vectors(r_, wide());
    const int step = g_.interleaves() ? 4 : kVectorBytes / static_cast<int>(sizeof(S));
    k_late_ = block_size((r_ + extra + step - 1) / step * step, g_.n);
    k_early_ =
        g_.interleaves() ? block_size((r_ + 2 * extra + step - 1) / step * step, g_.n) : k_late_;
    near_ = close_ && problem.options.from_image;
    if (near_)
      k_early_ = k_late_;
    if (problem.care == Care::wide)
      k_early_ = k_late_ = g_.n;
    const int k = k_early_ > k_late_ ? k_early_ : k_late_;
    x_ = arena.take_matrix<E>(g_.m, g_.n);
    kept_ = arena.take_matrix<E>(g_.m, r_);
    right_ = arena.take_matrix<E>(2 * r_, g_.n);
    if (whole_) {
      columns_ = arena.take_matrix<E>(g_.n, g_.m);
      w_ = arena.take_matrix<E>(g_.n, g_.m);
      c_ = arena.take_matrix<E>(g_.n, g_.n);
      q_ = arena.take_matrix<E>(g_.n, g_.n);
      t_ = arena.take_matrix<E>(g_.n, g_.n);
      u_ = arena.take_matrix<E>(g_.m, r_);
      theta_ = arena.take<E>(g_.n);
      return;
    }
    b_ = arena.take_matrix<E>(g_.n, g_.n);
    Matrix<E> *const right_bases[] = {&start_, &v_, &v2_, &product_, &product2_};
    for (Matrix<E> *a : right_bases)
      *a = arena.take_matrix<E>(g_.n, k);
    w_ = arena.take_matrix<E>(g_.m, k);
    u_ = arena.take_matrix<E>(g_.m, r_);
    c_ = arena.take_matrix<E>(k, k);
    q_ = arena.take_matrix<E>(k, k);
    t_ = arena.take_matrix<E>(k, k);
    if (wide())
      factor_ = arena.take_matrix<E>(k, k);
    theta_ = arena.take<E>(k);
    scratch_ = arena.take<E>(wide() ? wide_scratch<E>(k) : static_cast<std::size_t>(k));
  }

  // Leaves U in kept_, Z' = U'X in right_, sigma^2 in theta_, and the start of
  // the next iteration in start_.
  void find(const Moment &moment, Mask<E> active) {
    active_ = active;
    if constexpr (sizeof(S) == sizeof(double))
      if (whole_)
        return find_whole();
    const bool cold = moment.cold();
    const int k = block(moment);
    const double rest = near_    ? NearEffort::residual
                        : close_ ? CloseEffort::residual
                                 : Limits::residual;
    const S residual = static_cast<S>(rest * looseness(moment));
    const E limit = splat<E>(residual * residual * static_cast<S>(g_.m) * static_cast<S>(g_.n));
    int steps = cold ? kColdApplications : warm_applications(moment, wide());
    if (near_)
      steps = cold || steps < NearEffort::applications ? steps : NearEffort::applications;
    if (cold) {
      for (int j = 0; j < g_.n; ++j)
        for (int p = 0; p < start_.row; ++p)
          start_(j, p) = p >= k ? E{} : k < g_.n ? basis(j, p) : splat<E>(S(j == p ? 1 : 0));
      for (int p = 0; p < k; ++p)
        theta_[p] = E{};
    }
    if (wide() && !near_)
      steps = applications(moment, k, steps, limit);
    gram_pays_ = gram_ready_ = false;
    if (k == g_.n)
      steps = 0;
    refine(k, steps, start_, v_);
    E before = splat<E>(S(1e30));
    for (int repeat = 0;; ++repeat) {
      rayleigh_ritz(k);
      Mask<E> poor = {};
      if (k < g_.n) {
        const E now = missed(k);
        poor = active_ & (now > limit);
        if (repeat == 0) {
          left_ = now;
          left_after_ = cold ? 0 : steps;
        }
        if (cold && repeat == 0 && !near_)
          poor = active_;
        // Where rounding sets the limit, or singular values tie, repetition stops helping.
        poor = poor & (now < splat<E>(S(0.9)) * before);
        before = select(poor, now, before);
      }
      next_start(k);
      if (!any(poor) || repeat == Limits::repeats)
        break;
      refine(k, kRepeatApplications, start_, v2_);
      for (int j = 0; j < g_.n; ++j)
        for (int p = 0; p < k; ++p)
          v_(j, p) = select(poor, v2_(j, p), v_(j, p));
    }
  }

private:
  // How many vectors. Of a large matrix fewer will do once the last ones are far below the kept
  // ones.
  int block(const Moment &moment) {
    if (!wide() || moment.cold())
      return block_ = moment.outer < kEarlyLoops ? k_early_ : k_late_;
    if constexpr (kWidth > 1)
      if (moment.inner == 0 && block_ < g_.n)
        while (block_ - kWidth >= r_ + kLeastExtra &&
               theta_[block_ - kWidth - 1] * static_cast<S>(kFarBelow) < theta_[r_ - 1])
          block_ -= kWidth;
    return block_;
  }

  // Applications of X'X for a large matrix, which decides for itself: as many as its last step
  // says, where it can. One more divides the error by what the Chebyshev polynomial of the next
  // degree is larger by at theta_r.
  int applications(const Moment &moment, int k, int scheduled, E limit) const {
    if constexpr (kWidth > 1) {
      if (moment.cold() || left_after_ == 0)
        return scheduled;
      const S tail = maximum(theta_[k - 1], theta_[r_ - 1] * S(1e-3));
      const S x = S(2) * theta_[r_ - 1] / tail - S(1);
      const S more = x > S(1) ? x + sqrt(x * x - S(1)) : S(1);
      const S fewer = more < S(kSureGain) ? more : S(kSureGain); // rounding may have set the error
      // The first step with another delta moves the matrix further than the others.
      S expected = left_ * (moment.inner == 1 ? S(kJump) : S(1));
      int steps = left_after_;
      while (steps > 1 && expected * fewer * fewer < S(kAimedAt) * limit) {
        expected = expected * fewer * fewer;
        --steps;
      }
      while (steps <= scheduled && expected > S(kAimedAt) * limit && more > S(1.5)) {
        expected = expected / (more * more);
        ++steps;
      }
      return steps;
    } else {
      return scheduled;
    }
  }

  void find_whole() {
    // The eigenvectors of X'X, which is small, bring the columns near to orthogonal.
    multiply<E>(g_.n, g_.n, g_.m, x_.transposed(), x_, Store<E>{c_}, Part::upper_result);
    const E none = not_tame(g_.n);
    symmetric_jacobi<E>(g_.n, g_.n, c_, q_, active_, Limits::jacobi);
    clear(w_, g_.n);
    for (int j = 0; j < g_.n; ++j)
      for (int i = 0; i < g_.m; ++i)
        w_(j, i) = x_(i, j);
    multiply<E>(g_.n, g_.m, g_.n, q_, w_, Store<E>{columns_});
    orthogonalise_rows<E>(g_.n, g_.m, columns_, theta_, active_);
    clear(u_, g_.m);
    for (int p = 0; p < r_; ++p) {
      const E inverse = inverse_sigma(p);
      for (int i = 0; i < g_.m; ++i)
        u_(i, p) = fma(columns_(p, i), inverse, none);
    }
    orthonormalise(r_, g_.m, u_, kept_); // rounding in weak columns
    multiply<E>(r_, g_.n, g_.m, kept_.transposed(), x_, Store<E>{right_});
  }

  // 1 / sigma; 0 for directions without weight, which are dropped.
  E inverse_sigma(int p) const {
    const E least = theta_[0] * splat<E>(static_cast<S>(Limits::dropped * Limits::dropped));
    const Mask<E> kept = (theta_[p] > least) & (theta_[p] > E{});
    return select(kept, splat<E>(S(1)) / sqrt(select(kept, theta_[p], splat<E>(S(1)))), E{});
  }

  // Whether the k x k problems are those of a large matrix.
  SPLIC_INLINE bool wide() const { return !g_.interleaves(); }

  SPLIC_INLINE E basis(int j, int p) const {
    return splat<E>(static_cast<S>(basis_[static_cast<std::size_t>(p) * g_.n + j]));
  }

  // to = orthonormal basis of the product of (X'X - shift) over the shifts, times from.
  void refine(int k, int steps, Matrix<E> from, Matrix<E> to) {
    // X'X squares the singular values: where the kept ones are far below the first, its rounding
    // drowns them, and X'(X V) takes its place. (Lanes choose each for itself, so that the result
    // of one does not depend on the others.)
    const Mask<E> steep =
        active_ & (theta_[r_ - 1] < theta_[0] * splat<E>(static_cast<S>(Limits::steep)));
    const bool only_direct = kWidth > 1 && any(steep);
    // What the start still holds of the first vector would grow by theta_1 / theta_k.
    if (steps > 0)
      orthonormalise_again(k, from, steep);
    // Decided by the sizes alone, and for good: a dense matrix that was steep before must find what
    // its lane would have found.
    const double gram = 0.5 * g_.m * g_.n * g_.n + double(steps) * g_.n * g_.n * k;
    gram_pays_ = gram_pays_ || (steps > 0 && gram < 2.0 * steps * g_.m * g_.n * k);
    if (gram_pays_ && !only_direct)
      make_gram();
    for (int step = 0; step < steps; ++step) {
      // Chebyshev nodes on [0, theta_k]: what lies there is damped the most, evenly.
      const double node = 0.5 + 0.5 * chebyshev_node(step, steps);
      const E shift = theta_[k - 1] * splat<E>(static_cast<S>(node));
      const bool direct = only_direct || !gram_ready_;
      if (direct || any(steep)) {
        multiply<E>(g_.m, k, g_.n, x_, from, Store<E>{w_});
        multiply<E>(g_.n, k, g_.m, x_.transposed(), w_, combination<E>(product_, -shift, from, 1));
      }
      if (!direct) {
        const Matrix<E> squared = any(steep) ? product2_ : product_;
        multiply<E>(g_.n, k, g_.n, b_, from, combination<E>(squared, -shift, from, 1));
        if (any(steep))
          for (std::ptrdiff_t e = 0; e < g_.n * product_.row; ++e)
            product_.p[e] = select(steep, product_.p[e], product2_.p[e]);
      }
      orthonormalise(k, g_.n, product_, to);
      // Rounding in X V has brought the first vectors back, larger than what was to be found.
      orthonormalise_again(k, to, steep);
      from = to;
    }
    if (steps == 0) {
      // V is a basis of the whole space. Any orthonormal one will do; this one keeps the zeros of
      // sparse matrices, whose iteration may be an unstable equilibrium.
      const Mask<E> well = orthonormalise(k, g_.n, from, to);
      for (int j = 0; j < g_.n; ++j)
        for (int p = 0; p < k; ++p)
          to(j, p) = select(well, to(j, p), splat<E>(S(j == p ? 1 : 0)));
    }
  }

  // X'X, in b_.
  void make_gram() {
    if (gram_ready_)
      return;
    multiply<E>(g_.n, g_.n, g_.m, x_.transposed(), x_, Store<E>{b_}, Part::upper_result);
    for (int i = 1; i < g_.n; ++i)
      for (int j = 0; j < i; ++j)
        b_(i, j) = b_(j, i);
    gram_ready_ = true;
  }

  // to = from T with orthonormal columns, k of them with `rows` entries; true where it worked.
  Mask<E> orthonormalise(int k, int rows, Matrix<E> from, Matrix<E> to) {
    multiply<E>(k, k, rows, from.transposed(), from, Store<E>{c_}, Part::upper_result);
    clear(t_, k);
    const Mask<E> well = cholesky(k);
    multiply<E>(rows, k, k, from, t_, Store<E>{to}, Part::upper_factor);
    return well;
  }

  // The columns of V that are orthonormal but for rounding, where `chosen` asks for it.
  void orthonormalise_again(int k, Matrix<E> v, Mask<E> chosen) {
    if (!any(chosen))
      return;
    orthonormalise(k, g_.n, v, product_);
    for (std::ptrdiff_t e = 0; e < g_.n * v.row; ++e)
      v.p[e] = select(chosen, product_.p[e], v.p[e]);
  }

  // Of c_, into t_ (and factor_).
  SPLIC_INLINE Mask<E> cholesky(int k) {
    const S floor = static_cast<S>(Limits::pivot_floor);
    if constexpr (kWidth > 1)
      if (wide() && !whole_)
        return wide_cholesky<E>(k, c_, factor_, t_, scratch_, floor);
    return inverse_cholesky<E>(k, c_, t_, floor);
  }

  // Rotations leave the other lanes alone only as long as nothing overflows: what is beyond that in
  // c_, diverging, becomes 0, and its result NaN, whatever its neighbours.
  E not_tame(int k) {
    E trace = c_(0, 0);
    for (int p = 1; p < k; ++p)
      trace = trace + c_(p, p);
    const Mask<E> tame = trace < splat<E>(static_cast<S>(Limits::huge));
    const E none = select(tame, E{}, splat<E>(static_cast<S>(__builtin_nan(""))));
    if (any(none != none))
      for (int i = 0; i < k; ++i)
        for (int j = i; j < k; ++j)
          c_(i, j) = select(tame, c_(i, j), E{});
    return none;
  }

  // Eigenvalues of c_, which is overwritten, into theta_, eigenvectors into the rows of q_.
  SPLIC_INLINE void diagonalise(int k) {
    if constexpr (kWidth > 1) {
      if (wide()) {
        clear(t_, k);
        cholesky(k);
        clear(c_, k);
        for (int j = 0; j < k; ++j)
          for (int l = 0; l <= j; ++l)
            c_(j, l) = factor_(l, j);
        OneSidedJacobi<E>(k, r_, c_, q_, theta_, scratch_, Limits::one_sided).run();
        return;
      }
    }
    symmetric_jacobi<E>(k, r_, c_, q_, active_,
                        near_    ? NearEffort::jacobi
                        : close_ ? CloseEffort::jacobi
                                 : Limits::jacobi);
    for (int p = 0; p < k; ++p)
      theta_[p] = maximum(c_(p, p), E{});
  }

  void rayleigh_ritz(int k) {
    if (near_) { // X'X is there, and float64 has digits to spare
      make_gram();
      multiply<E>(g_.n, k, g_.n, b_, v_, Store<E>{product_});
      multiply<E>(k, k, g_.n, v_.transposed(), product_, Store<E>{c_}, Part::upper_result);
    } else {
      multiply<E>(g_.m, k, g_.n, x_, v_, Store<E>{w_});
      multiply<E>(k, k, g_.m, w_.transposed(), w_, Store<E>{c_}, Part::upper_result);
    }
    const E none = not_tame(k);
    diagonalise(k);
    // U = W Q / sigma
    clear(t_, k);
    for (int p = 0; p < r_; ++p) {
      const E inverse = inverse_sigma(p);
      for (int i = 0; i < k; ++i)
        t_(i, p) = fma(q_(p, i), inverse, none);
    }
    if (near_) {
      multiply<E>(g_.n, r_, k, v_, t_, Store<E>{product_});
      multiply<E>(g_.m, r_, g_.n, x_, product_, Store<E>{u_});
    } else {
      multiply<E>(g_.m, r_, k, w_, t_, Store<E>{u_});
    }
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    orthonormalise(r_, g_.m, u_, kept_);
    multiply<E>(r_, g_.n, g_.m, kept_.transposed(), x_, Store<E>{right_});
  }

  // The error that the worse of the last two kept triplets leaves in U Z', squared.
  E missed(int k) {
    E worst = E{};
    for (int p = r_ > 2 ? r_ - 2 : 0; p < r_; ++p) {
      const E *z = right_.at(p, 0);
      E sum = E{};
      for (int q = 0; q < k; ++q)
        scratch_[q] = E{};
      for (int j = 0; j < g_.n; ++j)
        add_multiple(k, z[j], v_.at(j, 0), scratch_);
      for (int j = 0; j < g_.n; ++j) {
        const E *v = v_.at(j, 0);
        const E rest = z[j] - dot(k, scratch_, v);
        sum = fma(rest, rest, sum);
      }
      worst =
          maximum(worst, missed_by<ElementOps<E>>(sum, theta_[p], theta_[k - 1], theta_[r_ - 1]));
    }
    return worst;
  }

  SPLIC_INLINE E dot(int k, const E *x, const E *y) const {
    if constexpr (kWidth > 1)
      if (wide())
        return wide_dot(k, x, y);
    E sum = E{};
    for (int q = 0; q < k; ++q)
      sum = fma(x[q], y[q], sum);
    return sum;
  }

  // The right vectors begin the next iteration: Z as it is for the kept ones, V Q for the others.
  // Dead ones are seeded afresh.
  void next_start(int k) {
    const int first = r_ / kWidth * kWidth; // the packet that column r begins in, or is in
    Matrix<const E> rotation = {q_.at(first, 0), 1, q_.row};
    if constexpr (kWidth > 1) { // packets lie along rows
      for (int i = 0; i < k; ++i)
        for (int p = first; p < t_.row; ++p)
          t_(i, p) = p < k ? q_(p, i) : E{};
      rotation = {t_.at(0, first), t_.row, 1};
    }
    multiply<E>(g_.n, k - first, k, v_, rotation, Store<E>{{start_.at(0, first), start_.row, 1}});
    const E least = theta_[0] * splat<E>(static_cast<S>(Limits::dropped * Limits::dropped));
    for (int p = 0; p < r_; ++p) {
      const E *z = right_.at(p, 0);
      for (int j = 0; j < g_.n; ++j)
        start_(j, p) = z[j];
    }
    for (int p = 0; p < k; ++p) {
      const Mask<E> dead = theta_[p] <= least;
      if (any(dead))
        for (int j = 0; j < g_.n; ++j)
          start_(j, p) = select(dead, basis(j, p), start_(j, p));
    }
  }

  Geometry g_;
  int r_ = 1, k_early_ = 1, k_late_ = 1;
  bool whole_ = false; // each step decomposes the whole matrix
  bool close_ = false; // as closely as float32 can show
  bool near_ = false;  // and from an image that is near the end of the iteration
  const double *basis_ = nullptr;
  Matrix<E> columns_; // of the whole matrix
  Matrix<E> b_, start_, v_, v2_, product_, product2_, w_, u_, c_, q_, t_, factor_;
  E *scratch_ = nullptr;
  Mask<E> active_ = {};
  int block_ = 1;      // vectors in use
  E left_ = E{};       // the error of the last step, squared, before it was repeated,
  int left_after_ = 0; // after this number of applications; 0: not known
  bool gram_pays_ = false, gram_ready_ = false; // X'X: worth its cost, and in b_
};

} // namespace SPLIC_ISA
} // namespace splic
