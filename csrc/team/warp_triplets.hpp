// The leading singular triplets of a matrix of 32 columns, by a warp: the block iteration of
// team/fused.hpp in float32, for a rank that is known to the compiler.
//
// A lane owns the rows lane, lane + 32, ... of X and of all that is as high (W, U), and row `lane`
// of all that has 32 rows (V, the start, Z). Such rows stay in registers; what others need of them
// goes through fast memory.
#pragma once

#include "team/warp_algebra.hpp"

namespace splic {

// What would cost divisions in double precision, or a table of each thread, computed by the host.
struct WarpTables {
  int applications[kSchedule];                           // of X'X to a warm start
  float share[kColdApplications + 1][kColdApplications]; // of theta_k, that is a shift
  float cosine[2 * kWarp + 1];                           // of i pi / 64

  WarpTables() {
    for (int outer = 0; outer < kSchedule; ++outer)
      applications[outer] = warm_applications({outer, 0, 0, 0}, false);
    for (int steps = 1; steps <= kColdApplications; ++steps)
      for (int i = 0; i < kColdApplications; ++i)
        share[steps][i] =
            i < steps ? static_cast<float>(0.5 + 0.5 * chebyshev_node(i, steps)) : 0.0f;
    for (int i = 0; i <= 2 * kWarp; ++i)
      cosine[i] = static_cast<float>(splic::cosine(i, kWarp));
  }
};

// Of matrices of 32 Q rows, R triplets.
template <int Q, int R, class Warp> class WarpTriplets {
  using Limits = Effort<float>;
  static constexpr int kExtra = extra_vectors(R, false);

protected:
  static constexpr int kHeight = kWarp * Q, kWidth = kWarp;
  static constexpr int kEarly = block_size((R + 2 * kExtra + 3) / 4 * 4, kWidth);
  static constexpr int kLate = block_size((R + kExtra + 3) / 4 * 4, kWidth);
  static_assert(kEarly < kWidth, "a basis of the whole space needs no refinement");
  // A row of X; in what is left of it, the mask of that row, and an eigenvalue.
  static constexpr int kX = kWidth + 4, kMaskAt = kWidth, kValueAt = kWidth + 1;

private:
  // Fast memory, in floats: X; X'X, or what is W in parts, or the right side of the update; V, or
  // parts of W or U; the k x k problems.
  static constexpr int kAtSquare = kHeight * kX;
  static constexpr int kAtBasis = kAtSquare + kWidth * kX;
  static constexpr int kAtSmall = kAtBasis + kWidth * padded_row(kEarly);
  static constexpr int kFloats = kAtSmall + kEarly * padded_row(kEarly);
  static_assert(2 * R * kWidth <= kWidth * kX, "both sides of the update fit");
  static_assert(padded_row(kEarly) <= kX, "a part of W fits");
  static_assert(2 * kEarly <= kEarly * padded_row(kEarly), "two rows fit");

public:
  static constexpr std::size_t kBytes = kFloats * sizeof(float);

protected:
  SPLIC_INLINE WarpTriplets(const WarpTables &tables, const Warp &warp, float *memory)
      : tables_(tables), warp_(warp), lane_(warp.lane()), x_(memory), square_(memory + kAtSquare),
        basis_(memory + kAtBasis), small_(memory + kAtSmall) {}

  // Leaves U in kept_, Z' = U'X in z_, sigma^2 in theta_, the next start in start_.
  template <int K> SPLIC_INLINE void find(const Moment &moment) {
    warp_.template mark<kMoment, K>();
    const bool cold = moment.cold();
    const float residual = static_cast<float>(Limits::residual * looseness(moment));
    const float limit = residual * residual * static_cast<float>(kHeight) * kWidth;
    const int loop = moment.outer + 1 < kSchedule ? moment.outer : kSchedule - 1;
    int steps = cold ? kColdApplications : tables_.applications[loop];
    if (cold) {
      warp_.template mark<kCold, K>();
#pragma unroll
      for (int p = 0; p < K; ++p)
        start_[p] = basis(p);
      theta_ = 0;
    }
    warp_.template mark<kStart, K>();
    bool squared = false; // X'X is there
    float before = 1e30f;
#pragma unroll 1
    for (int repeat = 0;; ++repeat) {
      warp_.template mark<kFind, K>();
      float v[K];
      refine(v, steps, squared);
      rayleigh_ritz(v);
      warp_.template mark<kProjected, K>();
      const float now = missed(v);
      const bool poor = (now > limit || (cold && repeat == 0)) &&
                        // Where rounding sets the limit, or singular values tie, repetition
                        // stops helping.
                        now < 0.9f * before;
      before = now;
      revive<K>();
      warp_.template mark<kRevived, K>();
      if (!poor || repeat == Limits::repeats)
        break;
      steps = kRepeatApplications;
    }
  }

  const WarpTables &tables_;
  const Warp warp_;
  int lane_;
  float *const x_, *const square_, *const basis_, *const small_;
  float kept_[Q][R], z_[R], start_[kEarly];
  float theta_ = 0; // of lane p: the square of singular value p

private:
  // Entry `lane` of column p of the discrete cosine transform.
  SPLIC_INLINE float basis(int p) const {
    const int turns = (2 * warp_.hidden_lane() + 1) * p % (4 * kWarp);
    const float cosine = tables_.cosine[turns > 2 * kWarp ? 4 * kWarp - turns : turns];
    return (p == 0 ? 0.17677669529663687f : 0.25f) * cosine; // roots of 1 / 32 and 2 / 32
  }

  // v = orthonormal basis of the product of (X'X - shift) over the shifts, times start_.
  template <int K> SPLIC_INLINE void refine(float (&v)[K], int steps, bool &squared) {
    const float first = warp_.shuffle(theta_, 0), last = warp_.shuffle(theta_, R - 1);
    const float largest = warp_.shuffle(theta_, K - 1);
    const bool steep = last < first * static_cast<float>(Limits::steep);
#pragma unroll
    for (int p = 0; p < K; ++p)
      v[p] = start_[p];
    if (steep) {
      squared = false; // what needs the memory is on its way
    } else if (!squared && kHeight * kWidth + 2 * steps * kWidth * K < 4 * steps * kHeight * K) {
      square();
      squared = true;
    }
    // What a steep start still holds of the first vector would grow by theta_1 / theta_k, and
    // rounding in X V brings it back, larger than what was to be found: such bases are made
    // orthonormal before the first step, and twice after each.
#pragma unroll 1
    for (int step = steep ? -1 : 0; step < steps; ++step) {
      if (step >= 0) {
        warp_.template mark<kStep, K>();
        // Chebyshev nodes on [0, theta_k]: what lies there is damped the most, evenly.
        const float shift = largest * tables_.share[steps][step];
        store_row(basis_ + lane_ * padded_row(K), v);
        warp_.sync();
        if (squared)
          apply_square(v, shift);
        else
          apply_both(v, shift);
        warp_.sync();
        warp_.template mark<kProduct, K>();
      }
#pragma unroll 1
      for (int times = steep && step >= 0 ? 2 : 1; times > 0; --times)
        orthonormalise(v);
    }
  }

  // v = X'X v - shift v, with V in memory and X'X ready.
  template <int K> SPLIC_INLINE void apply_square(float (&v)[K], float shift) {
    float sum[1][K] = {};
    add_products<K, 1, kWidth, kX>(warp_, square_ + lane_ * kX, basis_, sum);
#pragma unroll
    for (int p = 0; p < K; ++p)
      v[p] = multiply_add(-shift, v[p], sum[0][p]);
  }
  // The same from X itself, 32 rows at a time.
  template <int K> SPLIC_INLINE void apply_both(float (&v)[K], float shift) {
    float sum[K] = {};
#pragma unroll 1
    for (int q = 0; q < Q; ++q) {
      float w[1][K] = {};
      add_products<K, 1, kWidth, kX>(warp_, x_ + (lane_ + kWarp * q) * kX, basis_, w);
      store_row(square_ + lane_ * padded_row(K), w[0]);
      warp_.sync();
      add_transposed<K, kX>(warp_, x_ + kWarp * q * kX + lane_, square_, sum);
      warp_.template mark<kTransposed, K>();
      warp_.sync();
    }
#pragma unroll
    for (int p = 0; p < K; ++p)
      v[p] = multiply_add(-shift, v[p], sum[p]);
  }

  // X'X. The columns are in eight groups of four. A lane has the blocks of one group with itself
  // and the four that follow it in a circle, and every fourth row of X; in the end, a row of each
  // block.
  SPLIC_INLINE void square() {
    constexpr int groups = kWidth / 4, blocks = groups / 2 + 1;
    const int group = lane_ % groups, slice = lane_ / groups;
    float sum[blocks][16] = {};
    const float *at[blocks];
#pragma unroll
    for (int d = 0; d < blocks; ++d)
      at[d] = x_ + slice * kX + 4 * ((group + d) % groups);
#pragma unroll 1
    for (int i = 0; i < kHeight; i += 8) {
      warp_.template mark<kSquareRow>();
#pragma unroll
      for (int half = 0; half < 8; half += 4) {
        const Four own = load4(at[0] + half * kX);
#pragma unroll
        for (int d = 0; d < blocks; ++d) {
          const Four other = d ? load4(at[d] + half * kX) : own;
#pragma unroll
          for (int a = 0; a < 4; ++a)
#pragma unroll
            for (int b = d ? 0 : a; b < 4; ++b)
              sum[d][4 * a + b] = multiply_add(own.v[a], other.v[b], sum[d][4 * a + b]);
        }
      }
#pragma unroll
      for (int d = 0; d < blocks; ++d)
        at[d] += 8 * kX;
    }
    warp_.template mark<kSquareSum>();
#pragma unroll
    for (int a = 1; a < 4; ++a)
#pragma unroll
      for (int b = 0; b < a; ++b)
        sum[0][4 * a + b] = sum[0][4 * b + a];
    const int row = 4 * group + 2 * (slice % 2) + slice / 2;
#pragma unroll
    for (int d = 0; d < blocks; ++d) {
      halve<16>(warp_, groups, sum[d]);
      halve<8>(warp_, 2 * groups, sum[d]);
      const int column = 4 * ((group + d) % groups);
      store4(square_ + row * kX + column, {sum[d][0], sum[d][1], sum[d][2], sum[d][3]});
      if (d > 0 && d + 1 < blocks) {
#pragma unroll
        for (int b = 0; b < 4; ++b)
          square_[(column + b) * kX + row] = sum[d][b];
      }
    }
    warp_.sync();
  }

  // v = v R^-1 with orthonormal columns.
  template <int K> SPLIC_INLINE void orthonormalise(float (&v)[K]) {
    warp_.template mark<kBasis, K>();
    store_row(basis_ + lane_ * padded_row(K), v);
    warp_.sync();
    WarpGram<K> gram(lane_);
    gram.add(warp_, basis_);
    warp_.template mark<kTriangle, K>();
    float rows[1][K];
#pragma unroll
    for (int p = 0; p < K; ++p)
      rows[0][p] = v[p];
    divide(gram, rows);
#pragma unroll
    for (int p = 0; p < K; ++p)
      v[p] = rows[0][p];
    warp_.sync();
  }

  // The rows of A, of which A'A is summed up, over the factor of that.
  template <int K, int count> SPLIC_INLINE void divide(WarpGram<K> &gram, float (&rows)[count][K]) {
    gram.store(warp_, small_);
    warp_.sync();
    WarpFactor<K> factor;
    factor.load(small_, lane_);
    warp_.sync();
    factor.run(warp_);
    factor.store(warp_, small_);
    warp_.sync();
    divide_rows(rows, small_, factor.inverse);
  }

  template <int K> SPLIC_INLINE void rayleigh_ritz(float (&v)[K]) {
    warp_.template mark<kRitz, K>();
    store_row(basis_ + lane_ * padded_row(K), v);
    warp_.sync();
    float w[Q][K] = {};
    add_products<K, Q, kWidth, kX>(warp_, x_ + lane_ * kX, basis_, w);
    warp_.template mark<kWeights, K>();
    warp_.sync();
    WarpGram<K> gram(lane_);
    add_gram(gram, w);
    gram.store(warp_, small_);
    warp_.sync();
    diagonalise<K>();
    // U = W Q / sigma
#pragma unroll
    for (int q = 0; q < Q; ++q)
      multiply_row<K, R>(w[q], small_, kept_[q]);
    next_start(v);
    warp_.sync();
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    WarpGram<R> again(lane_);
    add_gram(again, kept_);
    warp_.template mark<kLeft, K>();
    divide(again, kept_);
    project();
  }

  // A lane's rows of A, 32 rows at a time by way of memory.
  template <int K> SPLIC_INLINE void add_gram(WarpGram<K> &gram, const float (&a)[Q][K]) {
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      store_row(basis_ + lane_ * padded_row(K), a[q]);
      warp_.sync();
      gram.add(warp_, basis_);
      warp_.sync();
    }
  }

  // Of the matrix in small_: eigenvalues in falling order into theta_, eigenvectors, those that are
  // kept over the roots of their values, into the columns of small_; NaN where it diverges.
  template <int K> SPLIC_INLINE void diagonalise() {
    warp_.template mark<kFactor, K>();
    WarpFactor<K> factor;
    factor.load(small_, lane_);
    warp_.sync();
    const float trace = warp_.sum(lane_ < K ? factor.diagonal : 0.0f);
    const bool tame = trace < static_cast<float>(Limits::huge);
    if (!tame) {
      factor.diagonal = 0;
#pragma unroll
      for (int i = 0; i < K; ++i)
        factor.r[i] = 0;
    }
    factor.run(warp_);
    WarpJacobi<K, Warp> jacobi(warp_);
    jacobi.load(factor, small_);
    jacobi.run(R);
    const int place = jacobi.place();
    if (lane_ < K)
      x_[place * kX + kValueAt] = jacobi.norm_;
    warp_.sync();
    theta_ = lane_ < K ? x_[lane_ * kX + kValueAt] : 0.0f;
    const float first = warp_.shuffle(theta_, 0);
    const float least = first * static_cast<float>(Limits::dropped * Limits::dropped);
    const float inverse = jacobi.norm_ > least && jacobi.norm_ > 0
                              ? WarpOps<Warp>::inverse_root(jacobi.norm_)
                              : 0.0f; // directions without weight are dropped
    const float none = tame ? 0.0f : static_cast<float>(__builtin_nan(""));
    const float scale = (place < R ? inverse * inverse : inverse) + none;
    if (jacobi.owns()) {
#pragma unroll
      for (int i = 0; i < WarpJacobi<K, Warp>::kRows; ++i)
        small_[(jacobi.row_ + i) * padded_row(K) + place] = jacobi.x_[i] * scale;
    }
    warp_.sync();
  }

  // The right vectors begin the next iteration: Z as it is for the kept ones (see revive()), V Q
  // for the others.
  template <int K> SPLIC_INLINE void next_start(const float (&v)[K]) {
    float rest[K - R] = {};
#pragma unroll
    for (int i = 0; i < K; ++i)
#pragma unroll
      for (int p = 0; p < K - R; p += 4) {
        const Four b = load4(small_ + i * padded_row(K) + R + p);
#pragma unroll
        for (int c = 0; c < 4; ++c)
          rest[p + c] = multiply_add(v[i], b.v[c], rest[p + c]);
      }
#pragma unroll
    for (int p = R; p < K; ++p)
      start_[p] = rest[p - R];
  }

  // Dead vectors are seeded afresh.
  template <int K> SPLIC_INLINE void revive() {
#pragma unroll
    for (int p = 0; p < R; ++p)
      start_[p] = z_[p];
    const float least =
        warp_.shuffle(theta_, 0) * static_cast<float>(Limits::dropped * Limits::dropped);
    const std::uint32_t dead = warp_.ballot(lane_ < K && theta_ <= least);
    if (dead == 0)
      return;
    warp_.template mark<kRevive, K>();
#pragma unroll
    for (int p = 0; p < K; ++p)
      if (dead >> p & 1u)
        start_[p] = basis(p);
  }

  // Z' = U'X. A lane has four columns of X and every fourth pair of rows (from which eight lanes
  // read without meeting in a bank); in the end, its own column.
  SPLIC_INLINE void project() {
    const int slice = lane_ % 4;
    float sum[4 * R] = {};
#pragma unroll
    for (int q = 0; q < Q; ++q) {
      store_row(basis_ + lane_ * padded_row(R), kept_[q]);
      warp_.sync();
      const float *x = x_ + (kWarp * q + 2 * slice) * kX + lane_ / 4 * 4;
      const float *u = basis_ + 2 * slice * padded_row(R);
#pragma unroll 1
      for (int i = 0; i < kWarp; i += 8, x += 8 * kX, u += 8 * padded_row(R)) {
        warp_.template mark<kColumnRow, R>();
#pragma unroll
        for (int next = 0; next < 2; ++next) {
          const Four a = load4(x + next * kX);
#pragma unroll
          for (int p = 0; p < R; p += 4) {
            const Four b = load4(u + next * padded_row(R) + p);
#pragma unroll
            for (int e = 0; e < 16; ++e)
              sum[e / 4 * R + p + e % 4] =
                  multiply_add(a.v[e / 4], b.v[e % 4], sum[e / 4 * R + p + e % 4]);
          }
        }
      }
      warp_.template mark<kColumns, R>();
      warp_.sync();
    }
    halve<4 * R>(warp_, 2, sum);
    halve<2 * R>(warp_, 1, sum);
#pragma unroll
    for (int p = 0; p < R; ++p)
      z_[p] = sum[p];
  }

  // The error that the worse of the last two kept triplets leaves in U Z', squared.
  template <int K> SPLIC_INLINE float missed(const float (&v)[K]) {
    constexpr int first = R - 2, row = padded_row(K);
    // Z'V of both rows; what is beyond a power of two is padded.
    float worst = 0;
    const float theta_k = warp_.shuffle(theta_, K - 1), theta_r = warp_.shuffle(theta_, R - 1);
    float inside[kWarp];
#pragma unroll
    for (int e = 0; e < kWarp; ++e)
      inside[e] = e % 16 < K ? z_[first + e / 16] * v[e % 16 < K ? e % 16 : 0] : 0.0f;
    halve_all<kWarp>(warp_, 1, inside);
    store_inside(0, inside[0], row);
    if constexpr (K > 16) {
#pragma unroll
      for (int e = 0; e < kWarp; ++e)
        inside[e] =
            16 + e % 16 < K ? z_[first + e / 16] * v[16 + e % 16 < K ? 16 + e % 16 : 0] : 0.0f;
      halve_all<kWarp>(warp_, 1, inside);
      store_inside(16, inside[0], row);
    }
    warp_.sync();
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      float sum = 0;
#pragma unroll
      for (int i = 0; i < K; i += 4) {
        const Four b = load4(small_ + p * row + i);
#pragma unroll
        for (int c = 0; c < 4; ++c)
          sum = multiply_add(b.v[c], v[i + c], sum);
      }
      const float rest = z_[first + p] - sum;
      const float error = missed_by<WarpOps<Warp>>(
          warp_.sum(rest * rest), warp_.shuffle(theta_, first + p), theta_k, theta_r);
      worst = error > worst ? error : worst;
    }
    warp_.sync();
    return worst;
  }
  // Lane by lane, as halve_all() leaves them.
  SPLIC_INLINE void store_inside(int from, float sum, int row) const {
    int entry = 0;
#pragma unroll
    for (int bit = 1; bit < kWarp; bit *= 2)
      entry += lane_ & bit ? kWarp / 2 / bit : 0;
    const int column = from + entry % 16;
    if (column < row)
      small_[entry / 16 * row + column] = sum;
  }
};

} // namespace splic
