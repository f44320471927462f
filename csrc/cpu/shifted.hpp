// Systems (sigma_p^2 - B) a_p = c_p for one symmetric matrix B and many shifts above its spectrum.
#pragma once

#include "triplets.hpp"

namespace splic {
namespace SPLIC_ISA {

// B = Q T Q' by Householder reflections, T tridiagonal; each shift then costs a few operations for
// each row. Golub, Van Loan, Matrix Computations (2013), sections 8.3.1 and 4.3.6.
template <class E> class ShiftedSystems {
  using S = Scalar<E>;
  static constexpr int w = Engine<E>::width;

public:
  Matrix<E> b_; // B, n x n, all of it; overwritten by `reduce`

  void lay_out(int n, int shifts, Arena &arena) {
    n_ = n;
    shifts_ = shifts;
    b_ = arena.take_matrix<E>(n, n);
    reflectors_ = arena.take_matrix<E>(n, n);
    pivots_ = arena.take_matrix<E>(n, shifts);
    E **const arrays[] = {&diagonal_, &off_, &scale_};
    for (E **array : arrays)
      *array = arena.take<E>(n);
    for (E *&product : products_)
      product = arena.take<E>(b_.row);
    row_ = arena.take<E>(pivots_.row);
  }

  void reduce() {
    clear(reflectors_, n_);
    E *w_before = products_[0], *w_now = products_[1];
    for (std::ptrdiff_t i = 0; i < b_.row; ++i)
      w_before[i] = E{};
    const E *v_before = reflectors_.at(n_ - 1, 0); // all zero
    for (int j = 0; j + 2 < n_; ++j) {
      if (n_ >= kLongSide && j % 16 == 0)
        look();
      E *b = b_.at(j, 0), *v = reflectors_.at(j, 0);
      update<1, false>(j, j / w * w, v_before, w_before, nullptr, nullptr);
      // The reflection that leaves of column j, by symmetry of row j, what is next to the diagonal.
      for (int i = j + 1; i < n_; ++i)
        v[i] = b[i];
      const int begin = (j + 1) / w * w;
      const E square = dot(begin, v, v), length = sqrt(square), first = v[j + 1];
      const Mask<E> negative = first < E{};
      const E alpha = select(negative, length, -length);
      const E half = fma(select(negative, -first, first), length, square); // v'v / 2
      const Mask<E> there = half > splat<E>(S(1e-36));
      scale_[j] = select(there, splat<E>(S(1)) / select(there, half, splat<E>(S(1))), E{});
      v[j + 1] = first - alpha;
      diagonal_[j] = b[j];
      off_[j] = select(there, alpha, first);
      // B - v w' - w v' with w = p - (v'p / v'v) v, p = 2 B v / v'v: the next step does it, row by
      // row, where it reads the row anyhow.
      for (std::ptrdiff_t i = begin; i < b_.row; ++i)
        w_now[i] = E{};
      int i = j + 1;
      for (; i + 4 <= n_; i += 4)
        update<4, true>(i, begin, v_before, w_before, v, w_now);
      for (; i < n_; ++i)
        update<1, true>(i, begin, v_before, w_before, v, w_now);
      for (std::ptrdiff_t l = begin; l < b_.row; ++l)
        w_now[l] = w_now[l] * scale_[j];
      add(begin, b_.row, splat<E>(S(-0.5)) * scale_[j] * dot(begin, w_now, v), v, w_now);
      v_before = v;
      E *const swapped = w_before;
      w_before = w_now;
      w_now = swapped;
    }
    for (int j = n_ > 2 ? n_ - 2 : 0; j < n_; ++j) {
      update<1, false>(j, j / w * w, v_before, w_before, nullptr, nullptr);
      diagonal_[j] = b_(j, j);
      off_[j] = j + 1 < n_ ? b_(j, j + 1) : E{};
    }
  }

  // Overwrites the columns of C (n x shifts) by the solutions. A shift that rounding has pushed
  // into the spectrum gets pivots of rounding size: the solution is large, and finite.
  void solve(const E *shifts, Matrix<E> c) {
    const E least = splat<E>(static_cast<S>(64 * Limits::epsilon));
    const E tiny = splat<E>(S(1e-30));
    for (int j = 0; j + 2 < n_; ++j)
      reflect(j, c);
    for (int i = 0; i < n_; ++i) {
      E *d = pivots_.at(i, 0), *y = c.at(i, 0);
      const E *d_before = d - pivots_.row, *y_before = y - c.row;
      each_piece<E>(shifts_, [&](int p, auto kind) {
        using P = decltype(kind);
        const P shift = piece<P>(shifts + p);
        P pivot = shift - broadcast<P>(diagonal_[i]);
        if (i > 0) {
          const P off = broadcast<P>(off_[i - 1]), ratio = off / piece<P>(d_before + p);
          pivot = fma(-off, ratio, pivot);
          put<P>(y + p, fma(ratio, piece<P>(y_before + p), piece<P>(y + p)));
        }
        put<P>(d + p, maximum(pivot, fma(broadcast<P>(least), shift, broadcast<P>(tiny))));
      });
    }
    for (int i = n_ - 1; i >= 0; --i) {
      E *y = c.at(i, 0);
      const E *d = pivots_.at(i, 0), *after = y + c.row;
      each_piece<E>(shifts_, [&](int p, auto kind) {
        using P = decltype(kind);
        P sum = piece<P>(y + p);
        if (i + 1 < n_)
          sum = fma(broadcast<P>(off_[i]), piece<P>(after + p), sum);
        put<P>(y + p, sum / piece<P>(d + p));
      });
    }
    for (int j = n_ - 3; j >= 0; --j)
      reflect(j, c);
  }

private:
  using Limits = Effort<S>;

  // Rows i to i + R - 1 of B -= v w' + w v'; if `multiplies`, their share of B x is added to
  // `product`.
  template <int R, bool multiplies>
  SPLIC_INLINE void update(int i, int begin, const E *v, const E *w_, const E *x,
                           E *product) const {
    using P = Packet<E>;
    P vi[R], wi[R], xi[R];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      vi[r] = broadcast<P>(-v[i + r]);
      wi[r] = broadcast<P>(-w_[i + r]);
      xi[r] = broadcast<P>(multiplies ? x[i + r] : E{});
    }
    for (std::ptrdiff_t l = begin; l < b_.row; l += w) {
      const P vl = load(v + l), wl = load(w_ + l);
      P sum = multiplies ? load(product + l) : P{};
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        E *entry = b_.at(i + r, 0) + l;
        const P now = fma(wi[r], vl, fma(vi[r], wl, load(entry)));
        store(entry, now);
        if (multiplies)
          sum = fma(xi[r], now, sum);
      }
      if (multiplies)
        store(product + l, sum);
    }
  }

  // y += factor x, on whole packets.
  SPLIC_INLINE void add(int begin, std::ptrdiff_t end, E factor, const E *__restrict x,
                        E *__restrict y) const {
    const Packet<E> f = broadcast<Packet<E>>(factor);
    for (std::ptrdiff_t l = begin; l < end; l += w)
      store(y + l, fma(f, load(x + l), load(y + l)));
  }

  SPLIC_INLINE E dot(int begin, const E *x, const E *y) const {
    if constexpr (w > 1)
      return wide_dot(n_ - begin, x + begin, y + begin);
    E sum = E{};
    for (int i = begin; i < n_; ++i)
      sum = fma(x[i], y[i], sum);
    return sum;
  }

  void reflect(int j, Matrix<E> c) {
    const E *v = reflectors_.at(j, 0);
    for (std::ptrdiff_t p = 0; p < pivots_.row; ++p)
      row_[p] = E{};
    for (int i = j + 1; i < n_; ++i)
      add(0, pivots_.row, v[i], c.at(i, 0), row_);
    for (int i = j + 1; i < n_; ++i)
      add(0, pivots_.row, -(v[i] * scale_[j]), row_, c.at(i, 0));
  }

  int n_ = 1, shifts_ = 1;
  Matrix<E> reflectors_, pivots_;
  E *diagonal_ = nullptr, *off_ = nullptr, *scale_ = nullptr, *row_ = nullptr;
  E *products_[2] = {nullptr, nullptr};
};

} // namespace SPLIC_ISA
} // namespace splic
