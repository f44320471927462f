// One completion, both passes, by a warp: matrices of 32 columns and 32 or 96 rows in float32, of
// which a number of triplets is kept that is known to the compiler.
//
// Images come and go with a lane to a column; the bits of the mask lie behind the rows of X.
#pragma once

#include "splic/philox.hpp"
#include "splic/spectrum.hpp"
#include "splic/tv.hpp"
#include "team/image.hpp"
#include "team/warp_triplets.hpp"

namespace splic {

// Matrices of 32 Q rows, of which R singular triplets are kept.
template <int Q, int R, class Warp> class WarpSolver : WarpTriplets<Q, R, Warp> {
  using Base = WarpTriplets<Q, R, Warp>;
  using Base::kHeight, Base::kWidth, Base::kEarly, Base::kLate, Base::kX, Base::kMaskAt;
  using Base::warp_, Base::lane_, Base::x_, Base::square_, Base::kept_, Base::z_, Base::theta_;

public:
  using Base::kBytes;

  // Whether these are the matrices and the rank.
  static bool takes(const Problem &p) {
    return p.dtype != DType::f64 && p.height == kWarp && p.width == kWarp &&
           p.stacked_channels() == Q && p.options.rank == R;
  }

  SPLIC_INLINE WarpSolver(const Problem &problem, const WarpTables &tables, const Warp &warp,
                          float *memory)
      : Base(tables, warp, memory), problem_(problem) {}

  // Completes the item. `record`: may be null. `sum`: the result goes there, or, if it is null,
  // into the target.
  SPLIC_INLINE void run(const MatrixItem &item, Record *record, float *sum) {
    bool sound = load_image(item, record);
#pragma unroll 1
    for (int pass = 0; sound && pass < problem_.passes(); ++pass)
      if (start_pass(pass))
        sound = complete_pass(record, pass);
    store_image(item, sound, sum);
  }

private:
  // ---- images in and out: lane for column ----

  SPLIC_INLINE bool load_image(const MatrixItem &item, Record *record) {
    const Problem &p = problem_;
    PixelRange<float> seen;
#pragma unroll 1
    for (int row = 0; row < kHeight; ++row) {
      const int c = item.channel + row / kWarp, h = row % kWarp;
      warp_.template mark<kLoading>();
      bool anchor;
      if (p.mask.data) {
        anchor = *p.mask.at(item.image, c, h, lane_) != 0;
      } else {
        const PhiloxBlock words =
            mask_words(p.seed, p.first_index + static_cast<std::uint64_t>(item.image), item.stream,
                       static_cast<std::uint32_t>(row * (kWidth / 4) + lane_ / 4));
        const std::uint32_t low = lane_ & 1 ? words.word[1] : words.word[0];
        const std::uint32_t high = lane_ & 1 ? words.word[3] : words.word[2];
        anchor = (lane_ & 2 ? high : low) < p.anchor_threshold;
      }
      const float value = read<float>(p.source.at(item.image, c, h, lane_), p.dtype);
      seen.see(value, anchor);
      x_[row * kX + lane_] = value;
      const std::uint32_t bits = warp_.ballot(anchor);
      if (lane_ == 0)
        x_[row * kX + kMaskAt] = bit_copy<float>(bits);
    }
    warp_.template mark<kLoaded>();
    const Scale<float> found = settle(p, warp_, seen, record);
    unit_ = found.unit;
    range_ = found.range;
    const float scale = 1.0f / unit_;
#pragma unroll 4
    for (int row = 0; row < kHeight; ++row)
      x_[row * kX + lane_] *= scale;
    warp_.sync();
    return found.sound;
  }

  SPLIC_INLINE void store_image(const MatrixItem &item, bool sound, float *sum) {
    const Problem &p = problem_;
    const float top = static_cast<float>(p.largest);
#pragma unroll 1
    for (int row = 0; row < kHeight; ++row) {
      const float value = result_entry(x_[row * kX + lane_], unit_, top, sound);
      warp_.template mark<kStoring>();
      if (sum)
        sum[row * kWidth + lane_] = value;
      else
        write_or_nan<float>(p.target.at(item.image, item.channel + row / kWarp, row % kWarp, lane_),
                            p.dtype, value);
    }
  }

  // ---- Algorithm 1 ----

  SPLIC_INLINE std::uint32_t anchors(int q) const {
    return bit_copy<std::uint32_t>(x_[(lane_ + kWarp * q) * kX + kMaskAt]) ^ flip_;
  }

  // Lines 1 and 2. Without an anchor all entries stay, or become the value that is given for that,
  // and this is false.
  SPLIC_INLINE bool start_pass(int pass) {
    flip_ = pass > 0 ? ~0u : 0u;
    std::uint32_t any = 0;
#pragma unroll
    for (int q = 0; q < Q; ++q)
      any |= anchors(q);
    const bool moves = warp_.any(any != 0);
    const float value = moves ? 0.0f : static_cast<float>(problem_.empty) / unit_;
    const bool sets = moves ? !problem_.options.from_image : problem_.fills();
#pragma unroll 1
    for (int q = 0; sets && q < Q; ++q) {
      float *const row = x_ + (lane_ + kWarp * q) * kX;
      warp_.template mark<kZeroing>();
      const std::uint32_t kept = anchors(q);
#pragma unroll 4
      for (int j = 0; j < kWidth; ++j)
        if (!(kept >> j & 1u))
          row[j] = value;
    }
    warp_.sync();
    return moves;
  }

  // False where it diverges.
  SPLIC_INLINE bool complete_pass(Record *record, int pass) {
    const Options &o = problem_.options;
    float delta = 0;
    warp_.template mark<kPass>();
    bool diverged = false;
    int t = 0;
#pragma unroll 1
    for (int outer = 0; t < o.max_iterations; ++outer) {
      warp_.template mark<kOuter>();
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      float change = 0;
#pragma unroll 1
      for (int i = 0; i < inner; ++i, ++t) {
        warp_.template mark<kIteration>();
        lane_ = warp_.hidden_lane(); // or the compiler computes too much before all loops
        const Moment moment = {outer, i, inner, left - i};
        if (outer < kEarlyLoops)
          this->template find<kEarly>(moment);
        else
          this->template find<kLate>(moment);
        if (t == 0) {
          const float theta = warp_.shuffle(theta_, 0);
          delta = static_cast<float>(o.first_delta) * square_root(theta > 0 ? theta : 0.0f);
        }
        change = update(delta, i + 1 == inner);
      }
      warp_.template mark<kOuterEnd>();
      if (!goes_on(problem_, range_, lane_ == 0 ? record : nullptr, pass, t,
                   square_root(warp_.sum(change)), delta, diverged))
        break;
    }
    return !diverged;
  }

  // ---- the step ----

  // Lines 8 and 9 (see Completion::update of the CPU solver). Returns this lane's share of the
  // squared change, if it `measures`.
  SPLIC_INLINE float update(float delta, bool measures) {
    warp_.template mark<kUpdate>();
    const Options &o = problem_.options;
    const float factor = spectral_factor<WarpOps<Warp>>(
        theta_, delta, static_cast<float>(o.step_size), range_, o.literal);
    const float weight = static_cast<float>(-o.step_size * o.tv_weight);
    const bool before = lane_ > 0, after = lane_ + 1 < kWarp;
    const auto difference = [&](float x) {
      const float left = warp_.shuffle(x, before ? lane_ - 1 : lane_);
      const float right = warp_.shuffle(x, after ? lane_ + 1 : lane_);
      return weight * tv_difference(left, x, right, before, after, o.forward);
    };
    float left[Q][2 * R];
#pragma unroll
    for (int p = 0; p < R; ++p) {
      square_[p * kWidth + lane_] = z_[p];
      square_[(R + p) * kWidth + lane_] = difference(z_[p]);
      const float own = warp_.shuffle(factor, p);
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        left[q][p] = multiply_add(own, kept_[q][p], difference(kept_[q][p]));
        left[q][R + p] = kept_[q][p];
      }
    }
    warp_.sync();
    return measures ? apply<true>(left) : apply<false>(left);
  }

  // X = left right where it is no anchor.
  template <bool measures> SPLIC_INLINE float apply(const float (&left)[Q][2 * R]) {
    float change = 0;
    std::uint32_t kept[Q];
#pragma unroll
    for (int q = 0; q < Q; ++q)
      kept[q] = anchors(q);
#pragma unroll 1
    for (int j = 0; j < kWidth; j += 4) {
      warp_.template mark<kApplyRow, measures>();
      float sum[Q][4] = {};
#pragma unroll
      for (int p = 0; p < 2 * R; ++p) {
        const Four b = load4(square_ + p * kWidth + j);
#pragma unroll
        for (int q = 0; q < Q; ++q)
#pragma unroll
          for (int c = 0; c < 4; ++c)
            sum[q][c] = multiply_add(left[q][p], b.v[c], sum[q][c]);
      }
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        float *const at = x_ + (lane_ + kWarp * q) * kX + j;
        Four x = load4(at);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const bool stays = (kept[q] >> c & 1u) != 0;
          if constexpr (measures) {
            const float d = stays ? 0.0f : sum[q][c] - x.v[c];
            change = multiply_add(d, d, change);
          }
          x.v[c] = stays ? x.v[c] : sum[q][c];
        }
        store4(at, x);
        kept[q] >>= 4;
      }
    }
    warp_.template mark<kApplied, measures>();
    warp_.sync();
    return change;
  }

  const Problem &problem_;
  float unit_ = 1, range_ = 1;
  std::uint32_t flip_ = 0;
};

} // namespace splic
