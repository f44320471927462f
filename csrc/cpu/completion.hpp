// One completion: both passes of Algorithm 1 over one matrix in each lane of an element.
#pragma once

#include "splic/convert.hpp"
#include "splic/philox.hpp"
#include "splic/spectrum.hpp"
#include "splic/tv.hpp"
#include "triplets.hpp"

namespace splic {
namespace SPLIC_ISA {

template <class E> class Completion {
protected:
  using S = Scalar<E>;
  static constexpr int kLanes = Lanes<E>::count;
  static constexpr int kWidth = Engine<E>::width;

public:
  static std::size_t workspace_bytes(const Problem &problem) {
    Arena arena(nullptr);
    Completion().lay_out(problem, nullptr, arena);
    return arena.used();
  }

  void run(const Job &job) {
    Arena arena(static_cast<unsigned char *>(job.workspace));
    lay_out(*job.problem, job.basis, arena);
    load_images(job);
    for (int pass = 0; pass < problem_->passes(); ++pass) {
      start_pass(pass);
      complete_pass(job, pass, nullptr);
    }
    store_images(job);
  }

protected:
  // ---- memory ----

  std::size_t word_count() const { return static_cast<std::size_t>(g_.m) * row_packets_; }

  void lay_out(const Problem &problem, const double *basis, Arena &arena) {
    problem_ = &problem;
    g_ = Geometry(problem);
    r_ = problem.options.rank;
    row_packets_ = packets<E>(g_.n);
    triplets_.lay_out(problem, basis, arena);
    x_ = triplets_.x_;
    previous_ = arena.take_matrix<E>(g_.m, g_.n);
    left_ = arena.take_matrix<E>(g_.m, 2 * r_);
    factor_ = arena.take<E>(r_);
    anchors_ = arena.take<std::uint16_t>(word_count());
    given_ = arena.take<std::uint16_t>(word_count());
    padding_ = arena.take<std::uint16_t>(row_packets_);
  }

  // ---- images in and out ----

  // Calls f(channel, row, column, number, element, word, bit) for every entry of the stacked image;
  // `number` counts them.
  template <class F> SPLIC_INLINE void each_entry(Matrix<E> x, int lane, const F &f) {
    const Problem &p = *problem_;
    // Steps from one entry of the image to the next of its column, and of its row.
    const std::ptrdiff_t down = g_.transposed ? 1 : x.row, along = g_.transposed ? x.row : 1;
    std::uint32_t number = 0;
    for (int c = 0; c < p.stacked_channels(); ++c) {
      look();
      for (int h = 0; h < p.height; ++h) {
        const int row = c * p.height + h;
        E *entry = x.p + row * down;
        for (int column = 0; column < p.width; ++column, ++number, entry += along) {
          const int i = g_.transposed ? column : row, j = g_.transposed ? row : column;
          f(c, h, column, number, *entry, static_cast<std::size_t>(i) * row_packets_ + j / kWidth,
            static_cast<std::uint16_t>(1u << (kWidth == 1 ? lane : j % kWidth)));
        }
      }
    }
  }

  struct Item {
    std::int64_t image;
    int channel;
    std::uint32_t stream;
  };
  Item item_of(const Job &job, int lane) const {
    const std::int64_t number = job.first + (lane < job.count ? lane : job.count - 1);
    const std::int64_t matrix = job.matrices[number / job.streams];
    return {matrix / problem_->planes(), static_cast<int>(matrix % problem_->planes()),
            static_cast<std::uint32_t>(job.first_stream + number % job.streams)};
  }

  void load_images(const Job &job) {
    const Problem &p = *problem_;
    clear(x_, g_.m);
    for (std::size_t i = 0; i < word_count(); ++i)
      given_[i] = 0;
    for (int j = 0; j < row_packets_; ++j) {
      std::uint32_t bits = 0; // of a dense row: what lies beyond its end, or beyond a packet
      if (kWidth > 1)
        for (int b = 0; b < 16; ++b)
          bits |= b < kWidth && j * kWidth + b < g_.n ? 0u : 1u << b;
      padding_[j] = static_cast<std::uint16_t>(bits);
    }
    std::uint32_t first = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      const Item item = item_of(job, lane);
      first |= (item.stream == 0 ? 1u : 0u) << lane;
      S top_anchor = 0, top = 0;
      PhiloxBlock words = {};
      each_entry(x_, lane,
                 [&](int channel, int h, int column, std::uint32_t number, E &x, std::size_t word,
                     std::uint16_t bit) SPLIC_ALWAYS_INLINE {
                   const int c = item.channel + channel;
                   bool anchor;
                   if (p.mask.data) {
                     anchor = *p.mask.at(item.image, c, h, column) != 0;
                   } else {
                     if (number % 4 == 0)
                       words = mask_words(p.seed,
                                          p.first_index + static_cast<std::uint64_t>(item.image),
                                          item.stream, number / 4);
                     anchor = words.word[number % 4] < p.anchor_threshold;
                   }
                   const S value = read<S>(p.source.at(item.image, c, h, column), p.dtype);
                   set_lane(x, lane, value);
                   top = value > top ? value : top;
                   if (anchor) {
                     top_anchor = value > top_anchor ? value : top_anchor;
                     given_[word] = static_cast<std::uint16_t>(given_[word] | bit);
                   }
                 });
      // Scaling by a power of two is exact, and keeps the squares in range. What is never seen must
      // not decide on it.
      const bool anchors_alone = top_anchor > 0 && !p.options.from_image;
      double size = static_cast<double>(anchors_alone ? top_anchor : top);
      const bool blind = p.hides() && !(top_anchor > 0);
      if ((p.fills() || blind) && (lacks_anchors(lane) ? p.fills() : blind))
        size = p.data_range;
      const double unit = unit_of<S>(size);
      set_lane(unit_, lane, static_cast<S>(unit));
      set_lane(range_, lane, static_cast<S>(p.data_range / unit));
    }
    first_ = from_bits<E>(first);
    doubt_ = Mask<E>{};
    const E scale = splat<E>(S(1)) / unit_;
    for (int i = 0; i < g_.m; ++i)
      for (int j = 0; j < g_.n; ++j)
        x_(i, j) = x_(i, j) * scale;
  }

  // Whether a pass has no anchor.
  bool lacks_anchors(int lane) const {
    const std::uint32_t every = kWidth == 1 ? 1u << lane : 0xffffu;
    std::uint32_t hidden = every, given = every; // everywhere
    for (int i = 0; i < g_.m; ++i)
      for (int j = 0; j < row_packets_; ++j) {
        const std::uint32_t word = given_[static_cast<std::size_t>(i) * row_packets_ + j];
        hidden &= ~word;
        given &= word | padding_[j];
      }
    return hidden == every || (problem_->options.alternate && given == every);
  }

  void store_images(const Job &job) {
    const Problem &p = *problem_;
    const S top = static_cast<S>(p.largest);
    const std::size_t size = static_cast<std::size_t>(g_.m) * g_.n;
    for (int lane = 0; lane < job.count && lane < kLanes; ++lane) {
      if (leaves(job, lane))
        continue;
      const Item item = item_of(job, lane);
      const S unit = get_lane(unit_, lane);
      S *sum = job.sums ? static_cast<S *>(job.sums) + lane * size : nullptr;
      each_entry(x_, lane,
                 [&](int channel, int h, int column, std::uint32_t number, E &x, std::size_t,
                     std::uint16_t) SPLIC_ALWAYS_INLINE {
                   S value = get_lane(x, lane) * unit;
                   value = value > 0 ? value : S(0);
                   value = value < top ? value : top;
                   if (sum)
                     sum[number] = value;
                   else
                     write<S>(p.target.at(item.image, item.channel + channel, h, column), p.dtype,
                              value);
                 });
    }
  }

  // ---- Algorithm 1 ----

  // Lines 1 and 2: zero the targets, unless they start as they are. A matrix without an anchor
  // keeps all its entries, or is filled, and stays so.
  void start_pass(int pass) {
    std::uint32_t seen = 0;
    for (int i = 0; i < g_.m; ++i) {
      for (int j = 0; j < row_packets_; ++j) {
        const std::size_t at = static_cast<std::size_t>(i) * row_packets_ + j;
        std::uint16_t &word = anchors_[at];
        word = static_cast<std::uint16_t>((pass == 0 ? given_[at] : ~given_[at]) & ~padding_[j]);
        seen |= word;
      }
    }
    const std::uint32_t moving = kWidth == 1 ? seen : (seen ? 1u : 0u);
    active_ = from_bits<E>(moving);
    const std::uint16_t still = kWidth == 1 ? static_cast<std::uint16_t>(~moving)
                                            : static_cast<std::uint16_t>(moving ? 0 : 0xffff);
    const bool from_image = problem_->options.from_image;
    for (int i = 0; i < g_.m; ++i) {
      for (int j = 0; j < row_packets_; ++j) {
        std::uint16_t &word = anchors_[static_cast<std::size_t>(i) * row_packets_ + j];
        word = static_cast<std::uint16_t>(word | padding_[j] | still);
        if (from_image)
          continue;
        E *entry = x_.at(i, j * kWidth);
        store(entry, select(from_bits<Packet<E>>(word), load(entry), Packet<E>{}));
      }
    }
    if (problem_->fills())
      fill(still);
  }

  void fill(std::uint16_t still) {
    filled_ = from_bits<E>(still);
    if (still == 0)
      return;
    const E value = splat<E>(static_cast<S>(problem_->empty)) / unit_;
    for (int i = 0; i < g_.m; ++i)
      for (int j = 0; j < g_.n; ++j)
        x_(i, j) = select(filled_, value, x_(i, j));
  }

  // Calls found(*this, pass, t, delta) in each iteration, before the update, unless it is null.
  using Found = void (*)(Completion &, int pass, int t, E delta);
  void complete_pass(const Job &job, int pass, Found found) {
    const Options &o = problem_->options;
    const S entries = static_cast<S>(g_.m) * static_cast<S>(g_.n);
    const E tolerance = splat<E>(static_cast<S>(o.tolerance)) * range_;
    E delta = E{};
    int t = 0;
    for (int outer = 0; t < o.max_iterations && any(active_); ++outer) {
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      for (int i = 0; i < inner; ++i, ++t) {
        look();
        triplets_.find({outer, i, inner, left - i}, active_);
        if (t == 0) {
          delta = sqrt(maximum(triplets_.theta_[0], E{})) * splat<E>(static_cast<S>(o.first_delta));
          leave_deficient();
        }
        const bool last = i + 1 == inner;
        if (last)
          copy(x_, previous_, g_.m);
        if (found)
          found(*this, pass, t, delta);
        update(delta);
      }
      const E residual = change() / splat<E>(entries);
      const std::uint32_t moving = to_bits<E>(active_);
      for (int lane = 0; lane < kLanes && lane < job.count; ++lane) {
        if (moving >> lane & 1u) {
          Record &record = job.records[lane];
          const double range = static_cast<double>(get_lane(range_, lane));
          record.iterations[pass] = t;
          const double size = static_cast<double>(get_lane(residual, lane)) / range;
          record.residual[pass] = size <= kDiverged ? size : __builtin_inf();
          record.delta[pass] = static_cast<double>(get_lane(delta, lane)) / range;
        }
      }
      stop_lanes((residual > tolerance) & (residual <= range_ * splat<E>(S(kDiverged))));
      delta = delta * splat<E>(static_cast<S>(o.delta_decay));
    }
  }

  // ||X_t - X_{t-1}||_F, summed in the same order when interleaved and when dense: as many sums as
  // a packet has entries, of the columns j, j + classes, ... each.
  E change() const {
    constexpr int classes = kVectorBytes / static_cast<int>(sizeof(S));
    E sums[classes];
    if constexpr (kWidth > 1) { // what lies beyond column n is zero
      Packet<E> sum = {};
      for (std::ptrdiff_t e = 0; e < g_.m * x_.row; e += kWidth) {
        const Packet<E> d = load(x_.p + e) - load(previous_.p + e);
        sum = fma(d, d, sum);
      }
      __builtin_memcpy(sums, &sum, sizeof sum);
    } else {
      for (int l = 0; l < classes; ++l)
        sums[l] = E{};
      for (int i = 0; i < g_.m; ++i) {
        const E *x = x_.at(i, 0), *y = previous_.at(i, 0);
        for (int j = 0; j < g_.n; j += classes) {
          const int count = g_.n - j < classes ? g_.n - j : classes;
          for (int l = 0; l < count; ++l) {
            const E d = x[j + l] - y[j + l];
            sums[l] = fma(d, d, sums[l]);
          }
        }
      }
    }
    E total = E{};
    for (int l = 0; l < classes; ++l)
      total = total + sums[l];
    return sqrt(total);
  }

  // Vectors of a matrix of lower rank than is kept are rounding: with more care there is less of
  // it. (By the first mask, as for other doubts.)
  void leave_deficient() {
    if (problem_->care == Care::whole || (sizeof(S) == sizeof(double) && !g_.opens()))
      return;
    const E least = triplets_.theta_[0] * splat<E>(static_cast<S>(Effort<S>::deficient));
    doubt_ = doubt_ | (active_ & first_ & (triplets_.theta_[r_ - 1] <= least));
    if (any(doubt_))
      stop_lanes(doubt_ == Mask<E>{});
  }
  // Notes that a lane has been left, and stores nothing.
  bool leaves(const Job &job, int lane) const {
    const bool left = (to_bits<E>(doubt_) >> lane & 1u) != 0;
    job.records[lane].doubt = left ? 1 : 0;
    return left;
  }

  // Lanes that have converged keep what they hold: all their entries become anchors.
  void stop_lanes(Mask<E> going) {
    active_ = active_ & going;
    if constexpr (kWidth == 1) {
      const auto still = static_cast<std::uint16_t>(~to_bits<E>(active_));
      for (std::size_t i = 0; i < word_count(); ++i)
        anchors_[i] = static_cast<std::uint16_t>(anchors_[i] | still);
    }
  }

  // Line 8 and 9, from the factors: with R = U Z', eq. (9) is diagonal in the same basis and the
  // TV gradient is a difference along the rows of U and of Z, so that Y = [D U - mu lambda L U | U]
  // [Z | -mu lambda L Z]'.
  void update(E delta) {
    const Options &o = problem_->options;
    const E weight = splat<E>(static_cast<S>(-o.step_size * o.tv_weight));
    const bool smooth = o.step_size * o.tv_weight != 0.0;
    each_piece<E>(r_, [&](int p, auto kind) {
      using P = decltype(kind);
      put<P>(factor_ + p, spectral_factor<ElementOps<P>>(
                              piece<P>(triplets_.theta_ + p), broadcast<P>(delta),
                              ElementOps<P>::number(o.step_size), broadcast<P>(range_), o.literal));
    });
    for (int i = 0; i < g_.m; ++i) {
      const E *u = triplets_.kept_.at(i, 0);
      E *out = left_.at(i, 0);
      if (!smooth) {
        for (int p = 0; p < r_; ++p)
          out[p] = factor_[p] * u[p];
        continue;
      }
      scaled_difference<false>(
          r_, weight, i % g_.row_block == 0 ? nullptr : u - triplets_.kept_.row, u,
          (i + 1) % g_.row_block == 0 ? nullptr : u + triplets_.kept_.row, out);
      each_piece<E>(r_, [&](int p, auto kind) {
        using P = decltype(kind);
        const P up = piece<P>(u + p);
        put<P>(out + p, fma(piece<P>(factor_ + p), up, piece<P>(out + p)));
        put<P>(out + r_ + p, up);
      });
    }
    for (int p = 0; smooth && p < r_; ++p) {
      const E *z = triplets_.right_.at(p, 0);
      E *out = triplets_.right_.at(r_ + p, 0);
      row_difference<false>(weight, z, out);
      for (int j = g_.n; j < triplets_.right_.row; ++j)
        out[j] = E{};
    }
    const StoreTargets<E> epilogue = {x_, anchors_, row_packets_};
    multiply<E>(g_.m, g_.n, smooth ? 2 * r_ : r_, left_, triplets_.right_, epilogue);
  }

  // weight times the TV gradient along an axis, or its transpose, at x between its neighbours
  // (null: there is none).
  template <bool transposed>
  void scaled_difference(int count, E weight, const E *before, const E *x, const E *after,
                         E *out) const {
    const auto each = [&](bool has_before, bool has_after, bool forward) SPLIC_ALWAYS_INLINE {
      each_piece<E>(count, [&](int p, auto kind) {
        using P = decltype(kind);
        const P b = piece<P>(before + p), here = piece<P>(x + p), a = piece<P>(after + p);
        const P sum = transposed ? tv_transposed(b, here, a, has_before, has_after, forward)
                                 : tv_difference(b, here, a, has_before, has_after, forward);
        put<P>(out + p, broadcast<P>(weight) * sum);
      });
    };
    const bool has_before = before != nullptr, has_after = after != nullptr;
    before = has_before ? before : x;
    after = has_after ? after : x;
    if (has_before && has_after && !problem_->options.forward)
      each(true, true, false); // nearly always: without a test in the loop
    else
      each(has_before, has_after, problem_->options.forward);
  }

  // The same along a row, in which blocks of columns are apart.
  template <bool transposed> void row_difference(E weight, const E *x, E *out) const {
    const int size = g_.column_block, last = size - 1;
    for (int j = 0; j < g_.n; j += size, x += size, out += size) {
      scaled_difference<transposed>(1, weight, nullptr, x, size == 1 ? nullptr : x + 1, out);
      scaled_difference<transposed>(size - 2, weight, x, x + 1, x + 2, out + 1);
      if (size > 1)
        scaled_difference<transposed>(1, weight, x + last - 1, x + last, nullptr, out + last);
    }
  }

  const Problem *problem_ = nullptr;
  Geometry g_;
  int r_ = 1, row_packets_ = 1;
  Triplets<E> triplets_;
  Matrix<E> x_, previous_, left_;
  E *factor_ = nullptr;
  std::uint16_t *anchors_ = nullptr, *given_ = nullptr, *padding_ = nullptr;
  E unit_ = E{}, range_ = E{};
  Mask<E> active_ = {}, first_ = {}, doubt_ = {};
  Mask<E> filled_ = {}; // in this pass, for want of an anchor
};

} // namespace SPLIC_ISA
} // namespace splic
