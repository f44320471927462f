// A product by many blocks of threads that do not wait for each other: each has a tile of the
// result, and goes through the depth in slabs that it keeps in shared memory.
//
// A team then has rank(), thread() within the block and number(), that of the tile, barrier() of
// the block, and memory(), the shared memory of one.
#pragma once

#include "team/grid.hpp"

namespace splic {

// A block's tile, and a thread's part of it: whole 4 x 4, so that a depth step takes two loads of
// four numbers for 16 products.
struct Tile {
  static constexpr int kRows = 64, kColumns = 32, kDepth = 16, kOwn = 4;
  static constexpr int kThreads = kRows * kColumns / (kOwn * kOwn);
  // Longer rows than that, for the banks; of whole quadruples.
  static constexpr int kLeft = kRows + 4, kRight = kColumns + 4;
  template <class T> static constexpr std::size_t bytes = 2 * kDepth * (kLeft + kRight) * sizeof(T);

  SPLIC_INLINE static int across(int columns) { return (columns + kColumns - 1) / kColumns; }
  // In a result.
  SPLIC_INLINE static int count(int rows, int columns) {
    return (rows + kRows - 1) / kRows * across(columns);
  }
  // The first row and column of a thread's part, in the tile: a warp has 16 rows.
  SPLIC_INLINE static int row(int thread) { return thread / 32 * 16 + thread % 32 / 8 * kOwn; }
  SPLIC_INLINE static int column(int thread) { return thread % 8 * kOwn; }
};

template <class T> struct alignas(16) Quadruple {
  T x[Tile::kOwn];
};

// This thread's part of the tile at (i0, j0) of a(i, l) b(l, j), summed up over l < depth in that
// order. Compiled once for all products. What lies outside of the matrices counts as 0.
template <class T, class Team>
SPLIC_HD SPLIC_NOINLINE void sum_tile(Team team, int i0, int j0, int rows, int columns, int depth,
                                      Grid<T> a, Grid<T> b, T *sums) {
  constexpr int kOwn = Tile::kOwn, kDepth = Tile::kDepth, kThreads = Tile::kThreads;
  constexpr int kLefts = Tile::kRows * kDepth / kThreads;
  constexpr int kRights = Tile::kColumns * kDepth / kThreads;
  T *const left = reinterpret_cast<T *>(team.memory());
  T *const right = left + 2 * kDepth * Tile::kLeft;
  const int thread = team.thread(), row = Tile::row(thread), column = Tile::column(thread);
  // What a thread brings into a slab: entries of A, the first one and the way from one to the next,
  // so that threads that are neighbours read neighbours in memory; and of B.
  const bool tall = a.row == 1;
  const int i = tall ? thread % Tile::kRows : thread / kDepth;
  const int l = tall ? thread / Tile::kRows : thread % kDepth;
  const int down = tall ? 0 : kThreads / kDepth, on = tall ? kThreads / Tile::kRows : 0;
  const int j = thread % Tile::kColumns, k = thread / Tile::kColumns;
  constexpr int kOn = kThreads / Tile::kColumns;
  const T *const from_a = &a(i0 + i, l), *const from_b = &b(k, j0 + j);
  const int jump = down * a.row + on * a.col, jump_to = down + on * Tile::kLeft;
  T next_left[kLefts], next_right[kRights], sum[kOwn][kOwn];
#pragma unroll
  for (int e = 0; e < kOwn * kOwn; ++e)
    sum[e / kOwn][e % kOwn] = T(0);
  const auto fetch = [&](int first) {
    const T *const pa = from_a + first * a.col, *const pb = from_b + first * b.row;
#pragma unroll
    for (int q = 0; q < kLefts; ++q)
      next_left[q] = i0 + i + q * down < rows && first + l + q * on < depth ? pa[q * jump] : T(0);
#pragma unroll
    for (int q = 0; q < kRights; ++q)
      next_right[q] = j0 + j < columns && first + k + q * kOn < depth ? pb[q * kOn * b.row] : T(0);
  };
  fetch(0);
  // Two slabs in turn: who writes one has passed the barrier behind which nobody reads it.
#pragma unroll 1
  for (int first = 0, turn = 0; first < depth; first += kDepth, turn ^= 1) {
    T *const own_left = left + turn * kDepth * Tile::kLeft;
    T *const own_right = right + turn * kDepth * Tile::kRight;
#pragma unroll
    for (int q = 0; q < kLefts; ++q)
      own_left[l * Tile::kLeft + i + q * jump_to] = next_left[q];
#pragma unroll
    for (int q = 0; q < kRights; ++q)
      own_right[(k + q * kOn) * Tile::kRight + j] = next_right[q];
    team.barrier();
    if (first + kDepth < depth)
      fetch(first + kDepth);
#pragma unroll 4
    for (int d = 0; d < kDepth; ++d) {
      const auto u = *reinterpret_cast<const Quadruple<T> *>(own_left + d * Tile::kLeft + row);
      const auto v = *reinterpret_cast<const Quadruple<T> *>(own_right + d * Tile::kRight + column);
#pragma unroll
      for (int x = 0; x < kOwn; ++x)
#pragma unroll
        for (int y = 0; y < kOwn; ++y)
          sum[x][y] = multiply_add(u.x[x], v.x[y], sum[x][y]);
    }
  }
#pragma unroll
  for (int e = 0; e < kOwn * kOwn; ++e)
    sums[e] = sum[e / kOwn][e % kOwn];
}

// epilogue(i, j, sum) for the entries of the team's tile, if the result has one of that number;
// upper: for i <= j alone (and perhaps others).
template <class T, class Team, class F>
SPLIC_INLINE void tile_product(const Team &team, int rows, int columns, int depth, const Grid<T> &a,
                               const Grid<T> &b, const F &epilogue, bool upper) {
  const int across = Tile::across(columns), number = team.number();
  const int i0 = number / across * Tile::kRows, j0 = number % across * Tile::kColumns;
  if (i0 >= rows || (upper && j0 + Tile::kColumns <= i0))
    return;
  T sums[Tile::kOwn * Tile::kOwn];
  sum_tile<T>(team, i0, j0, rows, columns, depth, a, b, sums);
  const int row = i0 + Tile::row(team.thread()), column = j0 + Tile::column(team.thread());
#pragma unroll
  for (int e = 0; e < Tile::kOwn * Tile::kOwn; ++e)
    if (row + e / Tile::kOwn < rows && column + e % Tile::kOwn < columns)
      epilogue(row + e / Tile::kOwn, column + e % Tile::kOwn, sums[e]);
}

} // namespace splic
