// The k x k problems of a large matrix, solved one at a time: Cholesky in blocks, one-sided Jacobi.
#pragma once

#include "jacobi.hpp"

namespace splic {
namespace SPLIC_ISA {

constexpr int kCholeskyBlock = 16; // a multiple of the packets of every instruction set

// Entries of scratch that a k x k problem needs: of wide_cholesky, of OneSidedJacobi.
template <class T> SPLIC_INLINE std::size_t wide_scratch(int k) {
  const auto cholesky = static_cast<std::size_t>(kCholeskyBlock) * k;
  const auto jacobi = static_cast<std::size_t>(8) * padded<T>(k);
  return cholesky > jacobi ? cholesky : jacobi;
}

// What inverse_cholesky does, and the upper triangle of R with G = R'R. T is all zero before,
// `scratch` holds wide_scratch(k) entries.
template <class T>
inline bool wide_cholesky(int k, Matrix<T> g, Matrix<T> r, Matrix<T> t, T *scratch, T floor) {
  const auto from = [](Matrix<T> a, int i, int j) { return Matrix<T>{a.at(i, j), a.row, a.col}; };
  bool well = true;
  set_floors<T>(k, g, t, floor);
  for (int begin = 0; begin < k; begin += kCholeskyBlock) {
    const int size = k - begin < kCholeskyBlock ? k - begin : kCholeskyBlock;
    const int end = begin + size, rest = k - end;
    const Matrix<T> block = from(t, begin, begin);
    well = factorise<T>(size, from(g, begin, begin), block) && well;
    for (int i = begin; i < end; ++i)
      for (int j = i; j < end; ++j)
        r(i, j) = g(i, j);
    // Above the block, T holds the sum over the rows before so far.
    const Matrix<T> above = {scratch, kCholeskyBlock, 1};
    for (int i = 0; i < begin; ++i)
      for (int j = 0; j < size; ++j)
        above(i, j) = -t(i, begin + j);
    multiply_apart<T>(begin, size, size, above, block, Store<T>{from(t, 0, begin)},
                      Part::upper_factor);
    if (rest == 0)
      break;
    multiply_apart<T>(size, rest, size, block.transposed(), from(g, begin, end),
                      Store<T>{from(r, begin, end)});
    for (int i = begin; i < end; ++i)
      if (r(i, i) == T(0))
        for (int j = end; j < k; ++j)
          r(i, j) = T(0);
    const Matrix<T> row = from(r, begin, end);
    multiply_apart<T>(rest, rest, size, row.transposed(), row, subtract_from<T>(from(g, end, end)),
                      Part::upper_result);
    multiply_apart<T>(end, rest, size, from(t, 0, begin), row, add_to<T>(from(t, 0, end)));
  }
  return well;
}

// Whole packets, of which what lies beyond k is zero in x or y.
template <class T> SPLIC_INLINE T wide_dot(int k, const T *x, const T *y) {
  using P = Packet<T>;
  P sum = {};
  for (int j = 0; j < k; j += Engine<T>::width)
    sum = fma(load(x + j), load(y + j), sum);
  typedef T Quarter __attribute__((vector_size(16)));
  Quarter parts[sizeof(P) / 16];
  __builtin_memcpy(parts, &sum, sizeof sum);
  for (std::size_t i = 1; i < sizeof(P) / 16; ++i)
    parts[0] = parts[0] + parts[i];
  T total = parts[0][0];
  for (std::size_t i = 1; i < 16 / sizeof(T); ++i)
    total = total + parts[0][i];
  return total;
}

// Eigenvalues, in falling order, of R'R for a triangular R, and their eigenvectors, by rotations of
// pairs of columns of R until they are orthogonal (Hestenes 1958). Its entries are products of
// graded columns: small eigenvalues come out as accurate as large ones.
template <class T> class OneSidedJacobi {
  using P = Packet<T>;
  static constexpr int w = Engine<T>::width;

public:
  // Columns is R' before and overwritten; rows of Q and entries of theta come out.
  OneSidedJacobi(int k, int kept, Matrix<T> columns, Matrix<T> q, T *theta, T *scratch,
                 const JacobiLimits &limits)
      : k_(k), kept_(kept), columns_(columns), q_(q), theta_(theta), limits_(limits) {
    T **const arrays[] = {&caa_, &cbb_, &cab_, &cs_, &sn_, &turn_above_};
    for (T **array : arrays) {
      *array = scratch;
      scratch += padded<T>(k);
    }
    first_ = reinterpret_cast<int *>(scratch);
    second_ = first_ + k;
  }

  void run() {
    clear(q_, k_);
    for (int i = 0; i < k_; ++i)
      q_(i, i) = T(1);
    bool again = true;
    for (int sweep = 0; sweep < limits_.sweeps && again; ++sweep) {
      again = false;
      T largest = T(0);
      for (int i = 0; i < k_; ++i) {
        theta_[i] = wide_dot(k_, columns_.at(i, 0), columns_.at(i, 0));
        largest = maximum(largest, theta_[i]);
      }
      floor_ = largest * static_cast<T>(limits_.floor);
      const int players = k_ + k_ % 2;
      for (int round = 0; round + 1 < players; ++round) {
        if (k_ >= kLongSide)
          look();
        again |= turn(pair_up(players, round));
      }
    }
    sort();
  }

private:
  // A round of a tournament in which all meet all; returns the number of pairs.
  int pair_up(int players, int round) {
    int count = 0;
    for (int i = 0; i < players / 2; ++i) {
      int low, high;
      tournament_pair(i, players, round, low, high);
      if (high >= k_)
        continue; // has no partner
      first_[count] = low;
      second_[count++] = high;
    }
    return count;
  }

  // Rotates the pairs; returns whether one of them was far from orthogonal, or out of order.
  bool turn(int count) {
    const T turn_above = static_cast<T>(limits_.rotate * limits_.rotate);
    for (int i = 0; i < count; ++i) {
      turn_above_[i] = first_[i] < kept_ ? turn_above : turn_above * kRestLooseness<T>;
      caa_[i] = theta_[first_[i]];
      cbb_[i] = theta_[second_[i]];
      cab_[i] = wide_dot(k_, columns_.at(first_[i], 0), columns_.at(second_[i], 0));
    }
    for (int i = count; i % w != 0; ++i)
      turn_above_[i] = caa_[i] = cbb_[i] = cab_[i] = T(0);
    const auto square = [](double x) { return splat<P>(static_cast<T>(x * x)); };
    const Mask<P> running = P{} == P{};
    Mask<P> again = {}, any_turn = {};
    for (int i = 0; i < count; i += w) {
      P caa = load(caa_ + i), cbb = load(cbb_ + i), cs, sn;
      const P cab = load(cab_ + i), above = load(turn_above_ + i);
      const P stop = square(limits_.stop);
      const P enough = select(above > splat<P>(turn_above), stop * splat<P>(kRestStop<T>), stop);
      const PairTest<ElementOps<P>> test(caa, cbb, cab, running, above, enough,
                                         square(limits_.least), splat<P>(floor_));
      any_turn = any_turn | ordering_rotation<ElementOps<P>>(caa, cbb, cab, test.turn, cs, sn);
      again = again | test.again;
      store(cs_ + i, cs);
      store(sn_ + i, sn);
      store(caa_ + i, caa);
      store(cbb_ + i, cbb);
    }
    if (!any(any_turn))
      return false;
    for (int i = 0; i < count; ++i) {
      if (sn_[i] == T(0))
        continue;
      const int a = first_[i], b = second_[i];
      theta_[a] = caa_[i];
      theta_[b] = cbb_[i];
      rotate(splat<P>(cs_[i]), splat<P>(sn_[i]), columns_.at(a, 0), columns_.at(b, 0));
      rotate(splat<P>(cs_[i]), splat<P>(sn_[i]), q_.at(a, 0), q_.at(b, 0));
    }
    return any(again);
  }

  SPLIC_INLINE void rotate(P cs, P sn, T *x, T *y) const {
    for (int j = 0; j < k_; j += w) {
      const P xj = load(x + j), yj = load(y + j);
      store(x + j, fma(cs, xj, sn * yj));
      store(y + j, fma(cs, yj, -(sn * xj)));
    }
  }

  void sort() {
    for (int i = 0; i + 1 < k_; ++i) {
      int top = i;
      for (int j = i + 1; j < k_; ++j)
        top = theta_[j] > theta_[top] ? j : top;
      if (top == i)
        continue;
      const T value = theta_[i];
      theta_[i] = theta_[top];
      theta_[top] = value;
      rotate(P{}, splat<P>(T(1)), q_.at(i, 0), q_.at(top, 0));
    }
  }

  int k_, kept_;
  Matrix<T> columns_, q_;
  T *theta_, *caa_, *cbb_, *cab_, *cs_, *sn_, *turn_above_;
  int *first_, *second_;
  JacobiLimits limits_;
  T floor_ = T(0);
};

} // namespace SPLIC_ISA
} // namespace splic
