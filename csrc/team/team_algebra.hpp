// Dense linear algebra of small matrices by a team of threads that share memory: products, Cholesky
// factors, eigenvalues.
//
// Every thread runs this code, loops share out their entries by `team.rank()`, and each phase ends
// with `team.sync()`.
#pragma once

#include "splic/effort.hpp"
#include "splic/rotation.hpp"

namespace splic {

template <class T> SPLIC_HD T multiply_add(T a, T b, T c) {
#if defined(__CUDA_ARCH__)
  return ::fma(a, b, c);
#else
  return a * b + c;
#endif
}
SPLIC_HD float square_root(float a) { return __builtin_sqrtf(a); }
SPLIC_HD double square_root(double a) { return __builtin_sqrt(a); }

// A matrix in memory: entry (i, j) at p[i * row + j * col].
template <class T> struct Grid {
  T *p;
  int row, col;
  SPLIC_INLINE T &operator()(int i, int j) const { return p[i * row + j * col]; }
  SPLIC_INLINE Grid transposed() const { return {p, col, row}; }
};

// The operations of a rotation on numbers.
template <class T> struct TeamOps {
  using Element = T;
  using Number = T;
  using Mask = bool;
  static SPLIC_INLINE T select(bool m, T a, T b) { return m ? a : b; }
  static SPLIC_INLINE T root(T a) { return square_root(a); }
  static SPLIC_INLINE T inverse_root(T a) { return T(1) / square_root(a); }
  static SPLIC_INLINE T multiply_add(T a, T b, T c) { return splic::multiply_add(a, b, c); }
  static SPLIC_INLINE T number(double x) { return static_cast<T>(x); }
  static SPLIC_INLINE T half_to_the(T n) { return splic::half_to_the(n); }
};

// The k x k problems share their matrices: C comes in, T and the eigenvectors in the rows of Q go
// out.
template <class T, class Team> class TeamAlgebra {
  using Limits = Effort<T>;
  static constexpr int kTile = 4; // rows and columns of a product in one thread's registers

protected:
  SPLIC_INLINE explicit TeamAlgebra(const Team &team) : team_(team) {}

  // Hands out pieces of `memory`, or, with counts_, only counts what they take.
  SPLIC_INLINE void lay_out(unsigned char *memory, int k) {
    memory_ = memory;
    used_ = 0;
    c_ = take_grid(k, k);
    q_ = take_grid(k, k);
    t_ = take_grid(k, k);
    columns_ = take_grid(k, k);
    theta_ = take<T>(k);
    sorted_ = take<T>(k);
    factor_ = take<T>(k);
    floors_ = take<T>(k);
    cosine_ = take<T>(k);
    sine_ = take<T>(k);
    order_ = take<int>(k);
    again_ = take<int>(k);
  }

  template <class E> SPLIC_INLINE E *take(std::size_t count) {
    E *p = counts_ ? nullptr : reinterpret_cast<E *>(memory_ + used_);
    used_ += (count * sizeof(E) + 15) / 16 * 16;
    return p;
  }
  // Rows of odd length: those of a column lie in different banks.
  SPLIC_INLINE Grid<T> take_grid(int rows, int columns) {
    const int row = columns | 1;
    return {take<T>(static_cast<std::size_t>(rows) * row), row, 1};
  }

  // f(i) for i < count, shared out; then all wait.
  template <class F> SPLIC_INLINE void each(int count, const F &f) {
    for (int i = team_.rank(); i < count; i += team_.size())
      f(i);
    team_.sync();
  }
  // f(i, j) for all entries.
  template <class F> SPLIC_INLINE void each_entry(int rows, int columns, const F &f) {
    each(rows * columns, [&](int e) { f(e / columns, e % columns); });
  }

  // epilogue(i, j, sum over l < depth of a(i, l) b(l, j)), summed up in S; upper: for i <= j alone
  // (and perhaps others).
  template <class S = T, class F>
  SPLIC_INLINE void product(int rows, int columns, int depth, Grid<T> a, Grid<T> b,
                            const F &epilogue, bool upper = false) {
    const int across = (columns + kTile - 1) / kTile, down = (rows + kTile - 1) / kTile;
    each(across * down, [&](int tile) {
      const int i0 = tile / across * kTile, j0 = tile % across * kTile;
      if (upper && i0 >= j0 + kTile)
        return;
      const T *pa[kTile], *pb[kTile];
      S sum[kTile][kTile];
#pragma unroll
      for (int i = 0; i < kTile; ++i) {
        pa[i] = &a(i0 + i < rows ? i0 + i : rows - 1, 0);
        pb[i] = &b(0, j0 + i < columns ? j0 + i : columns - 1);
#pragma unroll
        for (int j = 0; j < kTile; ++j)
          sum[i][j] = S(0);
      }
      for (int l = 0; l < depth; ++l) {
        S va[kTile], vb[kTile];
#pragma unroll
        for (int i = 0; i < kTile; ++i) {
          va[i] = pa[i][l * a.col];
          vb[i] = pb[i][l * b.row];
        }
#pragma unroll
        for (int i = 0; i < kTile; ++i)
#pragma unroll
          for (int j = 0; j < kTile; ++j)
            sum[i][j] = multiply_add(va[i], vb[j], sum[i][j]);
      }
#pragma unroll
      for (int i = 0; i < kTile; ++i)
#pragma unroll
        for (int j = 0; j < kTile; ++j)
          if (i0 + i < rows && j0 + j < columns)
            epilogue(i0 + i, j0 + j, sum[i][j]);
    });
  }
  SPLIC_INLINE void product(int rows, int columns, int depth, Grid<T> a, Grid<T> b, Grid<T> to) {
    product(rows, columns, depth, a, b, [&](int i, int j, T sum) { to(i, j) = sum; });
  }
  // to = A'A, symmetric.
  SPLIC_INLINE void gram(int rows, int columns, Grid<T> a, Grid<T> to) {
    product(
        columns, columns, rows, a.transposed(), a,
        [&](int i, int j, T sum) {
          if (i <= j)
            to(i, j) = to(j, i) = sum;
        },
        true);
  }

  // Upper triangular T in t_ with T'C T = I, and the factor of C = R'R in the upper triangle of c_,
  // its diagonal in factor_ (see inverse_cholesky of the CPU solver for the floor).
  SPLIC_INLINE bool cholesky(int k) {
    each_entry(k, k, [&](int i, int j) {
      t_(i, j) = T(0);
      if (i == j)
        floors_[i] = c_(i, i) * static_cast<T>(Limits::pivot_floor);
    });
    bool well = true;
    for (int l = 0; l < k; ++l) {
      const T diagonal = c_(l, l), floor = floors_[l];
      const bool sound = diagonal > floor;
      const T pivot = sound ? diagonal : floor;
      const bool there = pivot > T(1e-34);
      // A pivot that has overflowed makes NaN, not 0.
      const T inverse = (there ? T(1) / square_root(pivot) : T(0)) + (pivot - pivot);
      const T divisor = sound ? inverse : T(0);
      well = well && sound && there;
      each(k, [&](int j) {
        if (j > l)
          c_(l, j) *= divisor;
        else if (j < l)
          t_(j, l) = -t_(j, l) * inverse;
        else
          factor_[l] = diagonal * divisor, t_(l, l) = inverse;
      });
      each_entry(k, k - l - 1, [&](int i, int rest) {
        const int j = l + 1 + rest;
        if (i > l && i <= j)
          c_(i, j) = multiply_add(-c_(l, i), c_(l, j), c_(i, j));
        else if (i <= l)
          t_(i, j) = multiply_add(t_(i, l), c_(l, j), t_(i, j));
      });
    }
    return well;
  }

  // Eigenvalues of c_ in falling order into theta_, eigenvectors into the rows order_ of q_, by
  // one-sided rotations of the columns of its Cholesky factor (Hestenes 1958).
  SPLIC_INLINE void jacobi(int k, int kept) {
    constexpr JacobiLimits limits = Limits::one_sided;
    cholesky(k);
    each_entry(k, k, [&](int j, int l) {
      columns_(j, l) = l < j ? c_(l, j) : l == j ? factor_[l] : T(0);
      q_(j, l) = T(j == l ? 1 : 0);
    });
    const int players = k + k % 2, pairs = players / 2;
    for (int sweep = 0, again = 1; sweep < limits.sweeps && again; ++sweep) {
      each(k, [&](int j) {
        T sum = T(0);
        for (int l = 0; l < k; ++l)
          sum = multiply_add(columns_(j, l), columns_(j, l), sum);
        sorted_[j] = sum;
        again_[j] = 0;
      });
      T largest = T(0);
      for (int j = 0; j < k; ++j)
        largest = sorted_[j] > largest ? sorted_[j] : largest;
      const T floor = largest * static_cast<T>(limits.floor);
      team_.sync();
      for (int round = 0; round + 1 < players; ++round) {
        each(pairs, [&](int i) { measure_pair(i, k, kept, players, round, floor); });
        each_entry(pairs, k, [&](int i, int l) {
          if (sine_[i] == T(0))
            return;
          int a, b;
          tournament_pair(i, players, round, a, b);
          rotate(cosine_[i], sine_[i], columns_(a, l), columns_(b, l));
          rotate(cosine_[i], sine_[i], q_(a, l), q_(b, l));
        });
      }
      again = 0;
      for (int i = 0; i < pairs; ++i)
        again |= again_[i];
      team_.sync();
    }
    // Each finds its place by counting those before it.
    each(k, [&](int j) {
      int place = 0;
      for (int l = 0; l < k; ++l)
        place += sorted_[l] > sorted_[j] || (sorted_[l] == sorted_[j] && l < j) ? 1 : 0;
      // (NaN compares with nothing: all would have place 0, and the rest would be left over.)
      if (!(sorted_[j] == sorted_[j]))
        place = j;
      order_[place] = j;
      theta_[place] = sorted_[j];
    });
  }

  SPLIC_INLINE void measure_pair(int i, int k, int kept, int players, int round, T floor) {
    constexpr JacobiLimits limits = Limits::one_sided;
    int a, b;
    tournament_pair(i, players, round, a, b);
    cosine_[i] = T(1);
    sine_[i] = T(0);
    if (b >= k)
      return;
    T cab = T(0);
    for (int l = 0; l < k; ++l)
      cab = multiply_add(columns_(a, l), columns_(b, l), cab);
    const auto square = [](double x) { return static_cast<T>(x * x); };
    const T rotate_above = square(limits.rotate) * (a < kept ? T(1) : kRestLooseness<T>);
    const PairTest<TeamOps<T>> test(sorted_[a], sorted_[b], cab, true, rotate_above,
                                    square(limits.stop), square(limits.least), floor);
    again_[i] |= test.again;
    if (test.turn)
      ordering_rotation<TeamOps<T>>(sorted_[a], sorted_[b], cab, test.turn, cosine_[i], sine_[i]);
  }

  SPLIC_INLINE static void rotate(T cs, T sn, T &x, T &y) {
    const T a = x, b = y;
    x = multiply_add(cs, a, sn * b);
    y = multiply_add(cs, b, -(sn * a));
  }

  Team team_;
  // Not a test of the memory for null, behind which nvcc no longer knows that it is shared.
  bool counts_ = false;
  unsigned char *memory_ = nullptr;
  std::size_t used_ = 0;
  Grid<T> c_, q_, t_, columns_;
  T *theta_, *sorted_, *factor_, *floors_, *cosine_, *sine_;
  int *order_, *again_;
};

} // namespace splic
