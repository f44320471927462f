// Soft-Impute (Mazumder, Hastie & Tibshirani 2010) and nuclear-norm minimisation by accelerated
// proximal gradient steps (Beck & Teboulle 2009), and their derivatives: what splic_ext.defenses
// computes in torch. One matrix in each lane, in float64.
//
// Both shrink the singular values of an iterate X, of m <= n rows: U max(S - tau, 0) V' = P X, P a
// function of X X'. Its basis Q is that of the iterate before, turned by Jacobi rotations until
// C = Q X X' Q' is nearly diagonal; what is left beside the diagonal counts to first order.
#pragma once

#include "peers.hpp"
#include "triplets.hpp"

namespace splic {
namespace SPLIC_ISA {

template <class E> class Estimator {
  static_assert(sizeof(Scalar<E>) == 8, "squares of singular values need float64");

public:
  static std::size_t workspace_bytes(const Estimation &batch, int iterations) {
    Arena counter(nullptr);
    Estimator(batch, iterations).lay_out(counter);
    return counter.used();
  }

  // `iterations`: the most of a matrix of the group.
  Estimator(const Estimation &batch, int iterations)
      : batch_(batch), m_(batch.height), n_(batch.width), last_(iterations) {}

  void run(const PeerJob &job) {
    Arena arena(static_cast<unsigned char *>(job.workspace));
    lay_out(arena);
    first_ = job.item;
    count_ = job.count;
    clear(x_, m_);
    clear(y_, m_);
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e)
      seen_[e] = 0;
    each_entry([&](int l, int i, int j) {
      if (*batch_.mask.at(first_ + l, 0, i, j) == 0)
        return;
      seen_[i * x_.row + j] = static_cast<std::uint16_t>(seen_[i * x_.row + j] | 1u << l);
      set_lane(x_(i, j), l, value_at(batch_.source, l, i, j));
    });
    for (int i = 0; i < m_; ++i)
      for (int j = 0; j < m_; ++j)
        q_(i, j) = number(i == j ? 1 : 0);
    tau_ = number(batch_.amount);
    inertia_ = number(1);
    if (batch_.nuclear) {
      copy(x_, point_, m_);
      copy(x_, old_, m_);
    }
    Mask<E> active = from_bits<E>((1u << count_) - 1);
    int t = 0;
    for (; t < last_; ++t) {
      job.look(job.watch);
      if (back())
        active = lasting(t);
      if (!any(active))
        break;
      if (back() && t > 0) // the next place on the tape
        p_.p += m_ * p_.row;
      shrink(t == 0, active);
      const Mask<E> moved = batch_.nuclear ? step_nuclear(t, active) : step_soft(t, active);
      if (back())
        continue;
      const std::uint32_t bits = to_bits<E>(active);
      for (int l = 0; l < count_; ++l)
        if (bits >> l & 1u)
          batch_.done[first_ + l] = t + 1;
      active = active & moved;
    }
    if (back())
      go_back(t, job);
    else
      write(batch_.nuclear ? old_ : x_);
  }

private:
  bool back() const { return batch_.cotangent.data != nullptr; }
  static SPLIC_INLINE E number(double x) { return splat<E>(x); }

  void lay_out(Arena &arena) {
    const int slots = back() ? last_ : 1;
    Matrix<E> *const square[] = {&gram_, &work_, &c_, &f_, &q_};
    for (Matrix<E> *a : square)
      *a = arena.take_matrix<E>(m_, m_);
    Matrix<E> *const whole[] = {&x_, &y_, &point_, &old_};
    for (int i = 0; i < (batch_.nuclear ? 4 : 2); ++i)
      *whole[i] = arena.take_matrix<E>(m_, n_);
    seen_ = arena.take<std::uint16_t>(m_ * x_.row);
    scale_ = arena.take<E>(m_);
    p_ = q_;
    p_.p = arena.take<E>(m_ * q_.row, slots);
    tape_sigma_ = sigma_ = arena.take<E>(m_, slots);
    if (!back())
      return;
    Matrix<E> *const duals[] = {&dual_, &total_, &by_known_, &by_point_};
    for (int i = 0; i < (batch_.nuclear ? 4 : 3); ++i)
      *duals[i] = arena.take_matrix<E>(m_, n_);
    tape_x_ = x_.p = arena.take<E>(m_ * x_.row, std::size_t(slots) + 1);
    tape_q_ = arena.take<E>(m_ * q_.row, slots);
    tape_momentum_ = arena.take<E>(1, slots);
  }

  // Lanes whose matrix takes more than t iterations, when its gradient is computed.
  Mask<E> lasting(int t) const {
    std::uint32_t bits = 0;
    for (int l = 0; l < count_; ++l)
      bits |= (batch_.done[first_ + l] > t ? 1u : 0u) << l;
    return from_bits<E>(bits);
  }

  // Calls f(lane, row, column) for all entries of all matrices.
  template <class F> void each_entry(const F &f) const {
    for (int l = 0; l < count_; ++l)
      for (int i = 0; i < m_; ++i)
        for (int j = 0; j < n_; ++j)
          f(l, i, j);
  }
  double value_at(const ConstView &view, int l, int i, int j) const {
    const unsigned char *const at = view.at(first_ + l, 0, i, j);
    double wide;
    float narrow;
    if (batch_.wide)
      return __builtin_memcpy(&wide, at, sizeof wide), wide;
    return __builtin_memcpy(&narrow, at, sizeof narrow), narrow;
  }
  void write(Matrix<E> from) const {
    each_entry([&](int l, int i, int j) {
      unsigned char *const at = batch_.target.at(first_ + l, 0, i, j);
      const double wide = get_lane(from(i, j), l);
      const float narrow = static_cast<float>(wide);
      if (batch_.wide)
        __builtin_memcpy(at, &wide, sizeof wide);
      else
        __builtin_memcpy(at, &narrow, sizeof narrow);
    });
  }
  SPLIC_INLINE Mask<E> seen(std::ptrdiff_t e) const { return from_bits<E>(seen_[e]); }

  // Mirrors what is above the diagonal.
  void mirror(Matrix<E> a) const {
    for (int i = 1; i < m_; ++i)
      for (int j = 0; j < i; ++j)
        a(i, j) = a(j, i);
  }

  // y_ = P X; P in p_, the singular values in sigma_. At first tau is found too.
  void shrink(bool first, Mask<E> active) {
    multiply<E>(m_, m_, n_, x_, x_.transposed(), Store<E>{gram_}, Part::upper_result);
    mirror(gram_);
    to_basis(gram_, c_, Part::upper_result);
    const bool finds = first && !batch_.nuclear;
    E trace = E{};
    for (int i = 0; i < m_; ++i)
      trace = trace + c_(i, i);
    // The first singular value is at least the root mean square of all.
    const E least = finds ? tau_ * sqrt(trace * number(1.0 / m_)) : tau_;
    diagonalise(least, active);
    E top = E{};
    for (int i = 0; i < m_; ++i) {
      sigma_[i] = sqrt(maximum(c_(i, i), E{}));
      top = maximum(sigma_[i], top);
    }
    if (finds)
      tau_ = tau_ * top;
    const Mask<E> none = tau_ <= E{}; // nothing is shrunk, and P is the identity
    for (int i = 0; i < m_; ++i) {
      const Mask<E> kept = (sigma_[i] > tau_) & (sigma_[i] > E{});
      const E share = number(1) - tau_ / select(kept, sigma_[i], number(1));
      f_(i, i) = select(kept, share, select(none, number(1), E{}));
      for (int j = 0; j < i; ++j)
        f_(i, j) = f_(j, i) = quotient(sigma_[i], sigma_[j]) * c_(j, i);
    }
    from_basis(f_, p_, q_);
    multiply<E>(m_, n_, m_, p_, x_, Store<E>{y_});
    if (back()) {
      Matrix<E> kept = q_;
      kept.p = tape_q_ + (sigma_ - tape_sigma_) / stride() * m_ * q_.row;
      copy(q_, kept, m_);
    }
  }
  // Of the singular values of an iteration on the tape: whole cache lines.
  std::ptrdiff_t stride() const {
    return (m_ * static_cast<std::ptrdiff_t>(sizeof(E)) + 63) / 64 * 64 /
           static_cast<std::ptrdiff_t>(sizeof(E));
  }

  // to = Q A Q' and, of the upper triangle alone, to = Q'A Q; A is symmetric.
  void to_basis(Matrix<E> a, Matrix<E> to, Part part) {
    multiply<E>(m_, m_, m_, q_, a, Store<E>{work_});
    multiply<E>(m_, m_, m_, work_, q_.transposed(), Store<E>{to}, part);
  }
  void from_basis(Matrix<E> a, Matrix<E> to, Matrix<E> q) {
    multiply<E>(m_, m_, m_, a, q, Store<E>{work_});
    multiply<E>(m_, m_, m_, q.transposed(), work_, Store<E>{to}, Part::upper_result);
    mirror(to);
  }

  // (phi(a^2) - phi(b^2)) / (a^2 - b^2) for phi(s^2) = max(1 - tau / s, 0), without cancellation:
  // finite where singular values tie or vanish.
  SPLIC_INLINE E quotient(E a, E b) const {
    const E high = maximum(a, b), low = select(a > b, b, a), sum = a + b;
    const Mask<E> any_kept = (high > tau_) & (tau_ > E{}), both = any_kept & (low > tau_);
    const E over = select(both, tau_, high - tau_);
    const E under = high * sum * select(both, low, high - low);
    return select(any_kept, over, E{}) / select(any_kept, under, number(1));
  }

  // Turns Q until an entry of C beside the diagonal is small against the roots of the diagonal
  // entries, or of what is far below tau. Lanes do so each for itself.
  void diagonalise(E tau, Mask<E> active) {
    const double limit = batch_.wide ? back() ? 1e-10 : 1e-7 : back() ? 1e-5 : 3e-4;
    const E floor = tau * tau * number(0.25);
    Mask<E> running = active & (tau > E{});
    for (int sweep = 0; sweep < 40; ++sweep) {
      for (int i = 0; i < m_; ++i)
        scale_[i] = maximum(c_(i, i), floor);
      Mask<E> poor = {};
      for (int a = 0; a + 1 < m_; ++a) {
        const E bound = scale_[a] * number(limit * limit);
        for (int b = a + 1; b < m_; ++b)
          poor = poor | (c_(a, b) * c_(a, b) > bound * scale_[b]);
      }
      running = running & poor;
      if (!any(running))
        return;
      const E turn = number(limit * limit * 1e-2);
      for (int a = 0; a + 1 < m_; ++a)
        for (int b = a + 1; b < m_; ++b) {
          const E cab = c_(a, b), scale = maximum(c_(a, a), floor) * maximum(c_(b, b), floor);
          const Mask<E> go = running & (cab * cab > turn * scale);
          if (any(go))
            rotate(a, b, go);
        }
    }
  }

  void rotate(int a, int b, Mask<E> go) {
    const E caa = c_(a, a), cbb = c_(b, b), cab = c_(a, b);
    const E h = (caa - cbb) * number(0.5), rho = sqrt(fma(h, h, cab * cab));
    const E x = select(h < E{}, -h, h) + rho, y = select(h < E{}, -cab, cab);
    const E norm = fma(x, x, y * y);
    const E inverse = number(1) / sqrt(select(go, norm, number(1)));
    const E cs = select(go, x * inverse, number(1)), sn = select(go, y * inverse, E{});
    const E cross = (cs * sn) * (cab + cab), cc = cs * cs, ss = sn * sn;
    c_(a, a) = fma(cc, caa, fma(ss, cbb, cross));
    c_(b, b) = fma(cc, cbb, fma(ss, caa, -cross));
    c_(a, b) = select(go, E{}, cab);
    for (int l = 0; l < a; ++l)
      turn(cs, sn, c_(l, a), c_(l, b));
    for (int l = a + 1; l < b; ++l)
      turn(cs, sn, c_(a, l), c_(l, b));
    rotate_rows(m_ - b - 1, cs, sn, c_.at(a, b + 1), c_.at(b, b + 1));
    rotate_rows(m_, cs, sn, q_.at(a, 0), q_.at(b, 0));
  }
  static SPLIC_INLINE void turn(E cs, E sn, E &x, E &y) {
    const E a = x, b = y;
    x = fma(cs, a, sn * b);
    y = fma(cs, b, -(sn * a));
  }

  // The place of the next iterate: the next one on the tape, if there is one.
  E *next_x() {
    if (!back())
      return x_.p;
    sigma_ += stride();
    return x_.p + m_ * x_.row;
  }

  // Hidden entries are those of P X. Returns the lanes that have not converged.
  Mask<E> step_soft(int, Mask<E> active) {
    E change = E{}, norm = E{};
    E *const next = next_x();
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e) {
      const Mask<E> hidden = ~seen(e);
      const E x = x_.p[e], d = select(hidden, y_.p[e] - x, E{}), h = select(hidden, x, E{});
      change = fma(d, d, change);
      norm = fma(h, h, norm);
      next[e] = select(active & hidden, y_.p[e], x);
    }
    x_.p = next;
    return ~(sqrt(change) < number(batch_.tolerance) * sqrt(norm));
  }

  Mask<E> step_nuclear(int t, Mask<E> active) {
    E along = E{}, change = E{}, norm = E{};
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e) {
      const E y = y_.p[e], old = old_.p[e], d = y - old;
      along = fma(point_.p[e] - y, d, along);
      change = fma(d, d, change);
      norm = fma(old, old, norm);
    }
    // Where the step goes against the way just taken, the inertia starts afresh.
    const Mask<E> against = along > E{};
    const E before = select(against, number(1), inertia_);
    inertia_ = (number(1) + sqrt(number(1) + number(4) * before * before)) * number(0.5);
    const E momentum = select(against, E{}, (before - number(1)) / inertia_);
    if (back())
      tape_momentum_[t * kMomentum] = momentum;
    E *const next = next_x();
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e) {
      const E y = y_.p[e], point = fma(momentum, y - old_.p[e], y);
      point_.p[e] = point;
      old_.p[e] = select(active, y, old_.p[e]);
      next[e] = select(active & ~seen(e), point, x_.p[e]);
    }
    x_.p = next;
    return ~(sqrt(change) <= number(batch_.tolerance) * sqrt(norm));
  }

  // The cotangent of the result in dual_ becomes that of the matrices.
  void go_back(int iterations, const PeerJob &job) {
    clear(dual_, m_);
    clear(by_known_, m_);
    each_entry([&](int l, int i, int j) {
      set_lane(dual_(i, j), l, value_at(batch_.cotangent, l, i, j));
    });
    if (batch_.nuclear)
      clear(by_point_, m_);
    E by_tau = E{};
    for (int t = iterations; t-- > 0; p_.p -= m_ * p_.row) {
      job.look(job.watch);
      x_.p = tape_x_ + t * m_ * x_.row;
      q_.p = tape_q_ + t * m_ * q_.row;
      sigma_ = tape_sigma_ + t * stride();
      const Mask<E> active = lasting(t);
      if (batch_.nuclear)
        back_nuclear(tape_momentum_[t * kMomentum], active);
      else
        back_soft(active, by_tau);
    }
    if (batch_.nuclear)
      for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e)
        dual_.p[e] = dual_.p[e] + by_point_.p[e];
    else
      add_largest(by_tau);
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e)
      by_known_.p[e] = select(seen(e), by_known_.p[e] + dual_.p[e], E{});
    write(by_known_);
  }

  void back_soft(Mask<E> active, E &by_tau) {
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e) {
      const E dual = dual_.p[e];
      total_.p[e] = select(seen(e), E{}, dual);
      by_known_.p[e] = by_known_.p[e] + select(active & seen(e), dual, E{});
    }
    const E drop = pull_back();
    by_tau = by_tau - select(active, drop, E{});
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e)
      dual_.p[e] = select(active, y_.p[e], dual_.p[e]);
  }

  void back_nuclear(E momentum, Mask<E> active) {
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e) {
      const E by_point = by_point_.p[e];
      total_.p[e] = dual_.p[e] + (number(1) + momentum) * by_point;
      dual_.p[e] = select(active, -(momentum * by_point), dual_.p[e]);
    }
    pull_back();
    for (std::ptrdiff_t e = 0; e < m_ * x_.row; ++e) {
      by_known_.p[e] = by_known_.p[e] + select(active & seen(e), y_.p[e], E{});
      by_point_.p[e] = select(active, select(seen(e), E{}, y_.p[e]), by_point_.p[e]);
    }
  }

  // y_ = the cotangent of X, total_ that of P X: P G + Q'(K * (Q (G X' + X G') Q')) Q X, K the
  // quotients. Returns the sum of u'G v over what is kept: minus the cotangent of tau.
  E pull_back() {
    multiply<E>(m_, m_, n_, total_, x_.transposed(), Store<E>{gram_});
    for (int i = 0; i < m_; ++i)
      for (int j = 0; j <= i; ++j)
        gram_(i, j) = gram_(j, i) = gram_(i, j) + gram_(j, i);
    to_basis(gram_, c_, Part::upper_result);
    E kept_sum = E{};
    for (int i = 0; i < m_; ++i) {
      const Mask<E> kept = (sigma_[i] > tau_) & (sigma_[i] > E{});
      const E half = c_(i, i) * number(0.5) / select(kept, sigma_[i], number(1));
      kept_sum = kept_sum + select(kept, half, E{});
      for (int j = 0; j <= i; ++j)
        f_(i, j) = f_(j, i) = quotient(sigma_[i], sigma_[j]) * c_(j, i);
    }
    from_basis(f_, c_, q_);
    multiply<E>(m_, n_, m_, p_, total_, Store<E>{y_});
    multiply<E>(m_, n_, m_, c_, x_, add_to<E>(y_));
    return kept_sum;
  }

  // tau = amount sigma_1 of the known entries, whose derivative is u v'. (x_, q_, sigma_: at
  // first.)
  void add_largest(E by_tau) {
    E top = E{}, *const u = scale_;
    for (int i = 0; i < m_; ++i) {
      const Mask<E> larger = sigma_[i] > top;
      top = select(larger, sigma_[i], top);
      for (int j = 0; j < m_; ++j)
        u[j] = select(larger, q_(i, j), i == 0 ? E{} : u[j]);
    }
    const E factor = by_tau * number(batch_.amount) / select(top > E{}, top, number(1));
    for (int j = 0; j < n_; ++j) {
      E v = E{};
      for (int i = 0; i < m_; ++i)
        v = fma(u[i], x_(i, j), v);
      for (int i = 0; i < m_; ++i)
        by_known_(i, j) = fma(factor * u[i], v, by_known_(i, j));
    }
  }

  static constexpr std::ptrdiff_t kMomentum = 64 / sizeof(E) > 0 ? 64 / sizeof(E) : 1;

  const Estimation &batch_;
  int m_, n_, last_, count_ = 0;
  std::int64_t first_ = 0;
  Matrix<E> x_, y_, point_, old_, dual_, total_, by_known_, by_point_; // m x n
  Matrix<E> gram_, work_, c_, f_, q_, p_;                              // m x m
  E *sigma_ = nullptr, *scale_ = nullptr, tau_ = {}, inertia_ = {};
  E *tape_x_ = nullptr, *tape_q_ = nullptr, *tape_sigma_ = nullptr, *tape_momentum_ = nullptr;
  std::uint16_t *seen_ = nullptr;
};

} // namespace SPLIC_ISA
} // namespace splic
