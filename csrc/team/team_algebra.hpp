// Dense linear algebra of small matrices by a team of threads that share memory: products, Cholesky
// factors, eigenvalues.
//
// Every thread runs this code, loops share out their entries by `team.rank()`, and each phase ends
// with `team.sync()`. What is too small for all of them is the work of the first warp, whose
// threads wait for each other alone. A team has rank(), size(), sync(), sum(x), maximum(x); a
// warp kLanes threads, leads() (whether this is the first), warp_sync(), warp_any(x), and
// shuffle_xor(x, bits) if there are more than one; and spread(), the tiles that a product should be
// cut into so that all have work. Or kTiles says that products are those of tile.hpp.
#pragma once

#include "splic/effort.hpp"
#include "splic/rotation.hpp"
#include "team/tile.hpp"

namespace splic {

// The k x k problems share their matrices: C comes in; T, or eigenvectors in C, go out.
template <class T, class Team> class TeamAlgebra {
  using Limits = Effort<T>;
  static constexpr int kTile = 4;   // rows and columns of a product in one thread's registers
  static constexpr int kSlices = 8; // of the depth of a product, at most
  static constexpr int kBatch = 4;  // entries that are on their way from memory at the same time
  static constexpr bool kWarps = Team::kLanes > 1;

protected:
  static constexpr int kPanel = 32; // larger problems are not left to one warp

  SPLIC_INLINE explicit TeamAlgebra(const Team &team) : team_(team) {}

  // Hands out pieces of `memory`, or, with counts_, only counts what they take.
  SPLIC_INLINE void lay_out(unsigned char *memory, int k) {
    memory_ = memory;
    used_ = 0;
    c_ = take_grid(k, k);
    t_ = take_grid(k, k);
    panel_ = take_grid(k > kPanel ? k : 0, k);
    theta_ = take<T>(k);
    sorted_ = take<T>(k);
    factor_ = take<T>(k);
    floors_ = take<T>(k);
    inverse_ = take<T>(k);
    order_ = take<int>(k);
    flags_ = take<int>(2);
  }

  template <class E> SPLIC_INLINE E *take(std::size_t count) {
    E *p = counts_ ? nullptr : reinterpret_cast<E *>(memory_ + used_);
    const std::size_t whole = sectors_ ? 32 : 16;
    used_ += (count * sizeof(E) + whole - 1) / whole * whole;
    return p;
  }
  // The length of rows in memory. Odd: those of a column lie in different banks. Or, in device
  // memory that all go through row by row, whole sectors.
  SPLIC_INLINE int row_of(int columns) const {
    return sectors_ ? (columns + 7) / 8 * 8 : columns | 1;
  }
  SPLIC_INLINE Grid<T> take_grid(int rows, int columns) {
    const int row = row_of(columns);
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
    if constexpr (Team::kTiles)
      tile_product<S>(team_, rows, columns, depth, a, b, epilogue, upper);
    else
      product_of_team<S>(rows, columns, depth, a, b, epilogue, upper);
  }
  // Where there are few tiles, neighbouring lanes share the depth of one, add up and share out its
  // entries.
  template <class S, class F>
  SPLIC_INLINE void product_of_team(int rows, int columns, int depth, Grid<T> a, Grid<T> b,
                                    const F &epilogue, bool upper) {
    const int across = (columns + kTile - 1) / kTile, down = (rows + kTile - 1) / kTile;
    const int tiles = upper ? across * (across + 1) / 2 : across * down;
    int slices = 1, shift = 0;
    while (slices < kSlices && 2 * slices * tiles <= team_.spread() && 8 * slices <= depth) {
      slices *= 2;
      ++shift;
    }
    const int chunk = (depth + slices - 1) >> shift;
    // Without warps a thread has all slices of its tile.
    constexpr int held = kWarps ? 1 : kSlices;
    const int lanes = kWarps ? slices : 1;
    shift = kWarps ? shift : 0;
    for (int begin = 0; begin < tiles * lanes; begin += team_.size()) {
      const int item = begin + team_.rank(), slice = item & (lanes - 1);
      const bool there = item < tiles * lanes;
      int tile = there ? item >> shift : 0, i0 = 0, j0 = 0;
      if (upper) {
        int length = across;
        for (; tile >= length; tile -= length--)
          ;
        i0 = (across - length) * kTile;
        j0 = i0 + tile * kTile;
      } else {
        i0 = tile / across * kTile;
        j0 = tile % across * kTile;
      }
      const T *pa[kTile], *pb[kTile];
#pragma unroll
      for (int i = 0; i < kTile; ++i) {
        pa[i] = &a(i0 + i < rows ? i0 + i : rows - 1, 0);
        pb[i] = &b(0, j0 + i < columns ? j0 + i : columns - 1);
      }
      S sum[held][kTile][kTile];
      for (int h = 0; h < (kWarps ? 1 : slices); ++h) {
        S(&own)[kTile][kTile] = sum[h];
#pragma unroll
        for (int e = 0; e < kTile * kTile; ++e)
          own[e / kTile][e % kTile] = S(0);
        const int first = (kWarps ? slice : h) * chunk, most = first + chunk;
        const int last = there ? (most < depth ? most : depth) : first;
#pragma unroll 4
        for (int l = first; l < last; ++l) {
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
              own[i][j] = multiply_add(va[i], vb[j], own[i][j]);
        }
      }
      for (int step = 1; step < slices; step *= 2)
        add_slices(slices, step, sum);
      if (!there)
        continue;
#pragma unroll
      for (int i = 0; i < kTile; ++i)
#pragma unroll
        for (int j = 0; j < kTile; ++j)
          if (i0 + i < rows && j0 + j < columns && ((kTile * i + j) & (lanes - 1)) == slice)
            epilogue(i0 + i, j0 + j, sum[0][i][j]);
    }
    team_.sync();
  }
  // The sums of each slice and that `step` further on, in both of them.
  template <class S, int held>
  SPLIC_INLINE void add_slices(int slices, int step, S (&sum)[held][kTile][kTile]) const {
#pragma unroll
    for (int e = 0; e < kTile * kTile; ++e) {
      const int i = e / kTile, j = e % kTile;
      if constexpr (kWarps) {
        sum[0][i][j] += team_.shuffle_xor(sum[0][i][j], step);
      } else {
        for (int h = 0; h < slices; h += 2 * step)
          sum[h][i][j] += sum[h + step][i][j];
      }
    }
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
    for (int begin = 0; begin < k; begin += kPanel) {
      const int end = k - begin < kPanel ? k : begin + kPanel;
      if (team_.leads())
        factorise(k, begin, end);
      team_.sync();
      if (k > kPanel)
        spread_panel(k, begin, end);
    }
    return flags_[kWell] != 0;
  }

  // Eigenvalues of c_ in falling order into theta_; eigenvectors, times the roots of their values,
  // into the rows order_ of c_. One-sided rotations of the columns of L in C = L L' (Veselic, Hari
  // 1989): L'L is nearer to diagonal than C is. False where C is too large to have any.
  SPLIC_INLINE bool jacobi(int k, int kept) {
    const bool alone = k <= kPanel;
    if (!alone || team_.leads()) {
      T trace = T(0);
      for (int p = 0; p < k; ++p)
        trace += c_(p, p);
      const bool tame = trace < static_cast<T>(Limits::huge);
      wait(alone);
      const int rank = team_.rank(), size = alone ? Team::kLanes : team_.size();
      if (rank == 0)
        flags_[kTame] = tame;
      if (!tame)
        for (int e = rank; e < k * k; e += size)
          c_(e / k, e % k) = T(0);
      wait(alone);
      if (alone) {
        factorise(k, 0, k);
        team_.warp_sync();
      } else {
        cholesky(k);
      }
      turn_columns(k, kept, rank, size, alone);
    }
    if (alone)
      team_.sync();
    return flags_[kTame] != 0;
  }

private:
  static constexpr int kWell = 0, kTame = 1; // flags

  SPLIC_INLINE void wait(bool alone) const {
    if (alone)
      team_.warp_sync();
    else
      team_.sync();
  }

  // cholesky() of the rows and columns from begin to end alone, by the first warp. Row l of R and
  // column l of T are scaled in the end: until then every lane does it for itself, and one wait for
  // each pivot is enough.
  SPLIC_INLINE void factorise(int k, int begin, int end) {
    constexpr int across = kWarps ? 8 : 1, down = Team::kLanes / across;
    const int row = team_.rank() / across, column = team_.rank() % across;
    if (begin == 0) {
      for (int j = team_.rank(); j < k; j += Team::kLanes)
        floors_[j] = c_(j, j) * static_cast<T>(Limits::pivot_floor);
      team_.warp_sync();
    }
    bool well = true;
    for (int l = begin; l < end; ++l) {
      const T diagonal = c_(l, l), floor = floors_[l];
      const bool sound = diagonal > floor;
      const T pivot = sound ? diagonal : floor;
      const bool there = pivot > T(1e-34);
      // A pivot that has overflowed makes NaN, not 0.
      const T inverse = (there ? inverse_square_root(pivot) : T(0)) + (pivot - pivot);
      const T divisor = sound ? inverse : T(0);
      well = well && sound && there;
      if (team_.rank() == 0) {
        factor_[l] = diagonal * divisor;
        inverse_[l] = inverse;
      }
      for (int j = l + 1 + column; j < end; j += across) {
        const T right = c_(l, j) * divisor;
        for (int first = begin + row; first <= j; first += kBatch * down) {
          T *at[kBatch], value[kBatch], left[kBatch];
#pragma unroll
          for (int b = 0; b < kBatch; ++b) {
            const int i = first + b * down <= j ? first + b * down : j;
            at[b] = i > l ? &c_(i, j) : &t_(i, j);
            left[b] = (i > l ? c_(l, i) : t_(i, l)) * -(i > l ? divisor : inverse);
            left[b] = i == l ? inverse : left[b];
            value[b] = i == l ? T(0) : *at[b];
          }
#pragma unroll
          for (int b = 0; b < kBatch; ++b)
            if (first + b * down <= j)
              *at[b] = multiply_add(left[b], right, value[b]);
        }
      }
      team_.warp_sync();
    }
    for (int i = begin + row; i < end; i += down)
      for (int j = begin + column; j < end; j += across) {
        const T inverse = inverse_[j];
        if (i < j) {
          c_(i, j) *= factor_[i] == T(0) ? T(0) : inverse_[i];
          t_(i, j) *= -inverse;
        } else {
          t_(i, j) = i == j ? inverse : T(0);
        }
      }
    if (team_.rank() == 0)
      flags_[kWell] = well && (begin == 0 || flags_[kWell] != 0);
  }

  // What the rest of C and of T have from a panel.
  SPLIC_INLINE void spread_panel(int k, int begin, int end) {
    const int size = end - begin, rest = k - end;
    const Grid<T> block = t_.from(begin, begin);
    const Grid<T> right = c_.from(begin, end);
    product(size, rest, size, block.transposed(), right, [&](int i, int j, T sum) {
      panel_(begin + i, end + j) = factor_[begin + i] == T(0) ? T(0) : sum;
    });
    product(begin, size, size, t_.from(0, begin), block,
            [&](int i, int j, T sum) { panel_(i, begin + j) = -sum; });
    each_entry(k, k, [&](int i, int j) {
      const bool inside = j >= begin && j < end;
      if (inside && i < begin)
        t_(i, j) = panel_(i, j);
      else if (inside && i >= end)
        t_(i, j) = T(0);
      else if (i >= begin && i < end && j >= end)
        c_(i, j) = panel_(i, j);
    });
    if (rest == 0)
      return;
    product(
        rest, rest, size, right.transposed(), right,
        [&](int i, int j, T sum) {
          if (i <= j)
            c_(end + i, end + j) -= sum;
        },
        true);
    product(end, rest, size, t_.from(0, begin), right,
            [&](int i, int j, T sum) { t_(i, end + j) = i < begin ? t_(i, end + j) + sum : sum; });
  }

  // The factor in c_ becomes L', whose rows are turned. A pair is the work of neighbouring lanes.
  SPLIC_INLINE void turn_columns(int k, int kept, int rank, int size, bool alone) {
    constexpr JacobiLimits limits = Limits::turned;
    for (int i = rank; i < k; i += size)
      for (int j = 0; j <= i; ++j)
        c_(i, j) = i == j ? factor_[i] : T(0);
    wait(alone);
    const int players = k + k % 2, pairs = players / 2;
    int parts = 1, shift = 0;
    while (kWarps && parts < 8 && 2 * parts * pairs <= size) {
      parts *= 2;
      ++shift;
    }
    bool again = true;
    for (int sweep = 0; sweep < limits.sweeps && again; ++sweep) {
      for (int j = rank; j < k; j += size)
        sorted_[j] = dot(k, 0, 1, &c_(j, 0), &c_(j, 0));
      wait(alone);
      T largest = T(0);
      for (int j = 0; j < k; ++j)
        largest = sorted_[j] > largest ? sorted_[j] : largest;
      const T floor = largest * static_cast<T>(limits.floor);
      wait(alone);
      bool mine = false;
      for (int round = 0; round + 1 < players; ++round) {
        for (int begin = 0; begin < pairs << shift; begin += size) {
          const int item = begin + rank, part = item & (parts - 1), pair = item >> shift;
          int a, b;
          tournament_pair(pair < pairs ? pair : 0, players, round, a, b);
          const bool there = pair < pairs && b < k;
          mine |= turn_pair(k, kept, part, parts, a, there ? b : a, there, floor);
        }
        wait(alone);
      }
      again = alone ? team_.warp_any(mine) : team_.maximum(mine ? T(1) : T(0)) > T(0);
    }
    // Each finds its place by counting those before it.
    for (int j = rank; j < k; j += size) {
      int place = 0;
      for (int l = 0; l < k; ++l)
        place += sorted_[l] > sorted_[j] || (sorted_[l] == sorted_[j] && l < j) ? 1 : 0;
      // (NaN compares with nothing: all would have place 0, and the rest would be left over.)
      if (!(sorted_[j] == sorted_[j]))
        place = j;
      order_[place] = j;
      theta_[place] = sorted_[j];
    }
    wait(alone);
  }

  // Of two rows of c_; whether another sweep is needed. Where `parts` lanes share the pair, each
  // has every so many-th entry.
  SPLIC_INLINE bool turn_pair(int k, int kept, int part, int parts, int a, int b, bool there,
                              T floor) {
    constexpr JacobiLimits limits = Limits::turned;
    T *const x = &c_(a, 0), *const y = &c_(b, 0);
    T cab = there ? dot(k, part, parts, x, y) : T(0);
    T caa = sorted_[a], cbb = sorted_[b];
    if constexpr (kWarps) {
      for (int bits = 1; bits < parts; bits *= 2)
        cab += team_.shuffle_xor(cab, bits);
      team_.warp_sync(); // all have read what one of them changes
    }
    if (!there)
      return false;
    const auto square = [](double v) { return static_cast<T>(v * v); };
    const T rotate_above = square(limits.rotate) * (a < kept ? T(1) : kRestLooseness<T>);
    const PairTest<TeamOps<T>> test(caa, cbb, cab, true, rotate_above, square(limits.stop),
                                    square(limits.least), floor);
    if (test.turn) {
      T cs, sn;
      ordering_rotation<TeamOps<T>>(caa, cbb, cab, test.turn, cs, sn);
      if (part == 0) {
        sorted_[a] = caa;
        sorted_[b] = cbb;
      }
      for (int first = part; first < k; first += kBatch * parts) {
        T u[kBatch], v[kBatch];
#pragma unroll
        for (int e = 0; e < kBatch; ++e) {
          const int l = first + e * parts < k ? first + e * parts : first;
          u[e] = x[l];
          v[e] = y[l];
        }
#pragma unroll
        for (int e = 0; e < kBatch; ++e) {
          rotate(cs, sn, u[e], v[e]);
          if (first + e * parts < k) {
            x[first + e * parts] = u[e];
            y[first + e * parts] = v[e];
          }
        }
      }
    }
    return test.again;
  }

  // Of every step-th entry.
  SPLIC_INLINE T dot(int count, int first, int step, const T *x, const T *y) const {
    T sum = T(0);
#pragma unroll 4
    for (int l = first; l < count; l += step)
      sum = multiply_add(x[l], y[l], sum);
    return sum;
  }

  SPLIC_INLINE static void rotate(T cs, T sn, T &x, T &y) {
    const T a = x, b = y;
    x = multiply_add(cs, a, sn * b);
    y = multiply_add(cs, b, -(sn * a));
  }

protected:
  Team team_;
  // Not a test of the memory for null, behind which nvcc no longer knows that it is shared.
  bool counts_ = false, sectors_ = false;
  unsigned char *memory_ = nullptr;
  std::size_t used_ = 0;
  Grid<T> c_, t_;
  T *theta_, *factor_;
  int *order_;

private:
  Grid<T> panel_;
  T *sorted_, *floors_, *inverse_;
  int *flags_;
};

} // namespace splic
