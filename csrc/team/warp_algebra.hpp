// Dense linear algebra of small matrices by the 32 lanes of a warp: what they share lies in fast
// memory and goes there and back in aligned fours, what one lane owns stays in its registers.
//
// Warp has lane(), hidden_lane(), sync(), shuffle(x, lane), shuffle_xor(x, bits), ballot(bool),
// any(bool), sum(x), maximum(x), inverse_root(x) and mark(). All lanes run this code and branch
// alike. Loops over registers are unrolled, so that their indices are known. Every sum has one
// order.
#pragma once

#include "splic/effort.hpp"
#include "splic/rotation.hpp"
#include "team/team_algebra.hpp"

namespace splic {

constexpr int kWarp = 32;

// Parts of the code that run a different number of times: mark<place, K, Q>() stands at the head of
// each. On the host it counts, in the machine code it shows the part; benchmarks/cuda_counts.py
// puts both together. Otherwise it is nothing.
enum Place : int {
  kLoading,
  kLoaded,
  kZeroing,
  kPass,
  kOuter,
  kIteration,
  kMoment,
  kCold,
  kStart,
  kFind,
  kSquareRow,
  kSquareSum,
  kStep,
  kProductRow,
  kProduct,
  kTransposedRow,
  kTransposed,
  kBasis,
  kGramRow,
  kTriangle,
  kRitz,
  kWeights,
  kFactor,
  kSweep,
  kRound,
  kTurn,
  kTurned,
  kSwept,
  kVectors,
  kLeft,
  kColumnRow,
  kColumns,
  kProjected,
  kRevive,
  kRevived,
  kUpdate,
  kApplyRow,
  kApplied,
  kOuterEnd,
  kStoring,
  kPlaces
};
SPLIC_INLINE constexpr int mark_number(int place, int k, int q) { return (place * 32 + k) * 4 + q; }

struct alignas(16) Four {
  float v[4];
};
SPLIC_INLINE Four load4(const float *p) { return *reinterpret_cast<const Four *>(p); }
SPLIC_INLINE void store4(float *p, const Four &x) { *reinterpret_cast<Four *>(p) = x; }

// Length of rows of k entries, k a multiple of 4, of which eight lanes each read or write four
// entries at once: 4 modulo 8, so that these lie in different banks.
SPLIC_INLINE constexpr int padded_row(int k) { return k % 8 == 4 ? k : k + 4; }

template <int K> SPLIC_INLINE void store_row(float *p, const float (&x)[K]) {
#pragma unroll
  for (int j = 0; j < K; j += 4)
    store4(p + j, {x[j], x[j + 1], x[j + 2], x[j + 3]});
}

// The operations of a rotation. Roots are those of the device, good to two units in the last
// place: vectors are made orthogonal once more. It takes subnormal numbers for 0, and so would make
// infinity of them.
template <class Warp> struct WarpOps : TeamOps<float> {
  static SPLIC_INLINE float root(float a) { return a > 0 ? a * inverse_root(a) : 0.0f; }
  static SPLIC_INLINE float inverse_root(float a) {
    constexpr float least = 1.17549435e-38f; // that is normal
    return Warp::inverse_root(a > least ? a : least);
  }
};

// out[Q][K] += x V for Q rows of X in each lane, `x` + 32 q rows further on, and the rows of V in
// memory, of which each lane needs them all.
template <int K, int Q, int length, int row, class Warp>
SPLIC_INLINE void add_products(const Warp &warp, const float *x, const float *v,
                               float (&out)[Q][K]) {
#pragma unroll 2
  for (int l = 0; l < length; l += 4) {
    warp.template mark<kProductRow, K, Q>();
    Four a[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q)
      a[q] = load4(x + q * kWarp * row + l);
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
      for (int p = 0; p < K; p += 4) {
        const Four b = load4(v + (l + i) * padded_row(K) + p);
#pragma unroll
        for (int q = 0; q < Q; ++q)
#pragma unroll
          for (int c = 0; c < 4; ++c)
            out[q][p + c] = multiply_add(a[q].v[i], b.v[c], out[q][p + c]);
      }
  }
}

// out[K] += (column of X, of which entry i is x[i * row])' W, 32 rows of W in memory.
template <int K, int row, class Warp>
SPLIC_INLINE void add_transposed(const Warp &warp, const float *x, const float *w,
                                 float (&out)[K]) {
#pragma unroll 4
  for (int i = 0; i < kWarp; ++i) {
    warp.template mark<kTransposedRow, K>();
    const float a = x[i * row];
#pragma unroll
    for (int p = 0; p < K; p += 4) {
      const Four b = load4(w + i * padded_row(K) + p);
#pragma unroll
      for (int c = 0; c < 4; ++c)
        out[p + c] = multiply_add(a, b.v[c], out[p + c]);
    }
  }
}

// out[columns] = x[K] A, with K rows of A in memory, of length padded_row(K).
template <int K, int columns>
SPLIC_INLINE void multiply_row(const float (&x)[K], const float *a, float (&out)[columns]) {
#pragma unroll
  for (int p = 0; p < columns; ++p)
    out[p] = 0;
#pragma unroll
  for (int i = 0; i < K; ++i)
#pragma unroll
    for (int p = 0; p < columns; p += 4) {
      const Four b = load4(a + i * padded_row(K) + p);
#pragma unroll
      for (int c = 0; c < 4; ++c)
        out[p + c] = multiply_add(x[i], b.v[c], out[p + c]);
    }
}

// V R^-1 in place of V, for Q rows of V in each lane and the rows of R in memory; and the inverse
// of its diagonal.
template <int K, int Q>
SPLIC_INLINE void divide_rows(float (&v)[Q][K], const float *r, const float (&inverse)[K]) {
#pragma unroll
  for (int l = 0; l < K; ++l) {
#pragma unroll
    for (int q = 0; q < Q; ++q)
      v[q][l] *= inverse[l];
#pragma unroll
    for (int p = (l + 1) / 4 * 4; p < K; p += 4) {
      const Four b = load4(r + l * padded_row(K) + p);
#pragma unroll
      for (int q = 0; q < Q; ++q)
#pragma unroll
        for (int c = 0; c < 4; ++c)
          if (p + c > l)
            v[q][p + c] = multiply_add(-v[q][l], b.v[c], v[q][p + c]);
    }
  }
}

// The sum over two lanes that differ in `bit` of `count` entries: each keeps a half of them, the
// lane with the bit the upper one.
template <int count, class Warp, int size>
SPLIC_INLINE void halve(const Warp &warp, int bit, float (&x)[size]) {
  const bool upper = (warp.lane() & bit) != 0;
#pragma unroll
  for (int i = 0; i < count / 2; ++i) {
    const float given = upper ? x[i] : x[i + count / 2];
    const float kept = upper ? x[i + count / 2] : x[i];
    x[i] = kept + warp.shuffle_xor(given, bit);
  }
}
template <int count, class Warp, int size>
SPLIC_INLINE void halve_all(const Warp &warp, int bit, float (&x)[size]) {
  if constexpr (count > 1) {
    halve<count>(warp, bit, x);
    halve_all<count / 2>(warp, bit * 2, x);
  }
}

// A'A, its upper triangle, for K columns of A: each lane has a 4 x 4 tile, and if there are fewer
// tiles than lanes, a share of the rows.
template <int K> class WarpGram {
  static constexpr int kTiles = K / 4 * (K / 4 + 1) / 2;
  static constexpr int kSlices = kTiles <= 4 ? 8 : kTiles <= 8 ? 4 : kTiles <= 16 ? 2 : 1;
  static constexpr int kLanes = kWarp / kSlices; // of a slice
  static constexpr int row = padded_row(K);

public:
  SPLIC_INLINE explicit WarpGram(int lane) {
    slice_ = lane / kLanes;
    int tile = lane % kLanes;
    there_ = tile < kTiles;
    tile = there_ ? tile : 0;
    across_ = 0;
#pragma unroll
    for (int length = K / 4; length > 1; --length)
      if (tile >= length && across_ == K / 4 - length) {
        tile -= length;
        ++across_;
      }
    down_ = 4 * across_;
    across_ = down_ + 4 * tile;
#pragma unroll
    for (int e = 0; e < 16; ++e)
      sum_[e] = 0;
  }

  // 32 rows of A.
  template <class Warp> SPLIC_INLINE void add(const Warp &warp, const float *a) {
    const float *const left = a + slice_ * row + down_, *const right = left + (across_ - down_);
#pragma unroll 4
    for (int i = 0; i < kWarp; i += kSlices) {
      warp.template mark<kGramRow, K>();
      const Four x = load4(left + i * row), y = load4(right + i * row);
#pragma unroll
      for (int e = 0; e < 16; ++e)
        sum_[e] = multiply_add(x.v[e / 4], y.v[e % 4], sum_[e]);
    }
  }

  template <class Warp> SPLIC_INLINE void store(const Warp &warp, float *c) {
    constexpr int left = 16 / kSlices; // entries in each lane, in the end
    if constexpr (kSlices > 1)
      halve<16>(warp, kLanes, sum_);
    if constexpr (kSlices > 2)
      halve<8>(warp, kLanes * 2, sum_);
    if constexpr (kSlices > 4)
      halve<4>(warp, kLanes * 4, sum_);
    int first = 0; // number of the first entry
#pragma unroll
    for (int part = 1; part < kSlices; part *= 2)
      first += slice_ & part ? 8 / part : 0;
    if (!there_)
      return;
    float *const to = c + (down_ + first / 4) * row + across_ + first % 4;
    if constexpr (left >= 4) {
#pragma unroll
      for (int e = 0; e < left; e += 4)
        store4(to + e / 4 * row, {sum_[e], sum_[e + 1], sum_[e + 2], sum_[e + 3]});
    } else {
#pragma unroll
      for (int e = 0; e < left; ++e)
        to[e] = sum_[e];
    }
  }

private:
  float sum_[16];
  int slice_, down_, across_;
  bool there_;
};

// The Cholesky factor of C = R'R: lane j has column j of R, and all lanes the inverse of the
// diagonal (see inverse_cholesky of the CPU solver for the floor).
template <int K> struct WarpFactor {
  float r[K], inverse[K];
  float diagonal; // entry (lane, lane) of C

  // Column `lane` of C, of which the upper triangle is in memory.
  SPLIC_INLINE void load(const float *c, int lane) {
    const int column = lane < K ? lane : K - 1;
#pragma unroll
    for (int i = 0; i < K; ++i)
      r[i] = c[i * padded_row(K) + column];
    diagonal = c[column * padded_row(K) + column];
  }

  template <class Warp> SPLIC_INLINE void run(const Warp &warp) {
    const float floor = diagonal * static_cast<float>(Effort<float>::pivot_floor);
#pragma unroll
    for (int l = 0; l < K; ++l) {
      // Every lane looks at its own entry; that of lane l is the pivot.
      const bool sound = r[l] > floor;
      const float pivot = sound ? r[l] : floor;
      const bool there = pivot > 1e-34f;
      // A pivot that has overflowed makes NaN, not 0.
      const float scale = (there ? Warp::inverse_root(pivot) : 0.0f) + (pivot - pivot);
      r[l] *= warp.shuffle(sound ? scale : 0.0f, l);
      inverse[l] = warp.shuffle(scale, l);
#pragma unroll
      for (int i = l + 1; i < K; ++i)
        r[i] = multiply_add(-warp.shuffle(r[l], i), r[l], r[i]);
    }
  }

  // Row by row.
  template <class Warp> SPLIC_INLINE void store(const Warp &warp, float *to) const {
    if (warp.lane() < K) {
#pragma unroll
      for (int l = 0; l < K; ++l)
        to[l * padded_row(K) + warp.lane()] = r[l];
    }
  }
};

// Eigenvectors of C = L L' by one-sided rotations of the columns of L (Veselic, Hari 1989): these
// become the eigenvectors times the roots of the eigenvalues. L'L is nearer to diagonal than C is,
// and there is no second matrix to rotate. Where lanes are left, two share a column.
template <int K, class Warp> class WarpJacobi {
  static constexpr int kParts = 2 * K <= kWarp ? 2 : 1;
  static constexpr JacobiLimits limits = Effort<float>::one_sided;
  using Ops = WarpOps<Warp>;

public:
  static constexpr int kRows = K / kParts;
  float x_[kRows]; // of this lane's column
  float norm_;     // the whole column's, squared
  int column_, row_;

  // Lanes without a column of their own do what others do.
  SPLIC_INLINE explicit WarpJacobi(const Warp &warp) : warp_(warp) {
    const int lane = warp.lane();
    const int part = lane < K * kParts ? lane / K : 0;
    column_ = lane < K * kParts ? lane - part * K : lane - K * kParts;
    row_ = part * kRows;
    first_lane_ = part * K;
    mate_ = column_ + (kParts == 2 && part == 0 ? K : 0);
  }
  SPLIC_INLINE bool owns() const { return warp_.lane() < K * kParts; }

  // The factor by way of memory; `memory` holds K rows.
  SPLIC_INLINE void load(const WarpFactor<K> &factor, float *memory) {
    if (warp_.lane() < K) {
      float rows[K];
#pragma unroll
      for (int l = 0; l < K; ++l)
        rows[l] = l <= warp_.lane() ? factor.r[l] : 0.0f;
      store_row(memory + warp_.lane() * padded_row(K), rows);
    }
    warp_.sync();
#pragma unroll
    for (int i = 0; i < kRows; ++i)
      x_[i] = memory[(row_ + i) * padded_row(K) + column_];
    warp_.sync();
  }

  SPLIC_INLINE void run(int kept) {
    bool again = true;
#pragma unroll 1
    for (int sweep = 0; sweep < limits.sweeps && again; ++sweep) {
      warp_.template mark<kSweep, K>();
      float sum = 0;
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        sum = multiply_add(x_[i], x_[i], sum);
      norm_ = whole(sum);
      const float floor = warp_.maximum(norm_) * static_cast<float>(limits.floor);
      bool mine = false;
#pragma unroll 1
      for (int round = 0; round + 1 < K; ++round)
        mine |= turn(round, kept, floor);
      warp_.template mark<kSwept, K>();
      again = warp_.any(mine);
    }
    warp_.template mark<kVectors, K>();
  }

  // The place of the column among the eigenvalues in falling order.
  SPLIC_INLINE int place() const {
    int place = 0;
#pragma unroll
    for (int l = 0; l < K; ++l) {
      const float other = warp_.shuffle(norm_, l);
      place += other > norm_ || (other == norm_ && l < column_) ? 1 : 0;
    }
    // (NaN compares with nothing: all would have place 0.)
    return norm_ == norm_ ? place : column_;
  }

private:
  SPLIC_INLINE float whole(float part) const {
    return kParts == 2 ? part + warp_.shuffle(part, mate_) : part;
  }

  // The column that this one meets in a round: all meet all in K - 1 of them.
  SPLIC_INLINE int partner(int round) const {
    if constexpr ((K & (K - 1)) == 0) {
      return column_ ^ (round + 1);
    } else {
      constexpr int others = K - 1; // as tournament_pair() has it: the last one stays
      int met = 2 * round - column_;
      met += met < 0 ? others : 0;
      met -= met >= others ? others : 0;
      met = met == column_ ? others : met;
      return column_ == others ? round : met;
    }
  }

  // One round; whether another sweep is needed.
  SPLIC_INLINE bool turn(int round, int kept, float floor) {
    warp_.template mark<kRound, K>();
    const int met = partner(round), from = first_lane_ + met;
    float y[kRows], cab = 0;
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      y[i] = warp_.shuffle(x_[i], from);
      cab = multiply_add(x_[i], y[i], cab);
    }
    cab = whole(cab);
    const float other = warp_.shuffle(norm_, from);
    const bool first = column_ < met;
    float a = first ? norm_ : other, b = first ? other : norm_, cs = 1, sn = 0;
    const auto square = [](double x) { return static_cast<float>(x * x); };
    const float rotate = (first ? column_ : met) < kept
                             ? square(limits.rotate)
                             : square(limits.rotate) * kRestLooseness<float>;
    const PairTest<Ops> test(a, b, cab, true, rotate, square(limits.stop), square(limits.least),
                             floor);
    if (warp_.any(test.turn)) {
      warp_.template mark<kTurn, K>();
      ordering_rotation<Ops>(a, b, cab, test.turn, cs, sn);
      norm_ = first ? a : b;
      sn = first ? sn : -sn;
#pragma unroll
      for (int i = 0; i < kRows; ++i)
        x_[i] = multiply_add(cs, x_[i], sn * y[i]);
    }
    warp_.template mark<kTurned, K>();
    return test.again;
  }

  const Warp &warp_;
  int first_lane_, mate_;
};

} // namespace splic
