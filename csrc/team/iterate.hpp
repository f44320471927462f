// The matrix of a completion, and one step on it, by a team of threads: what the fused CUDA kernel
// and the kernels around cuSOLVER share.
//
// Every thread runs this code, loops share out their entries by `team.rank()`, and each phase ends
// with `team.sync()`. Decisions are made by all threads alike from shared values. Every sum has one
// order, that of the change alone depends on the size of the team: results are reproducible.
#pragma once

#include "splic/convert.hpp"
#include "splic/geometry.hpp"
#include "splic/philox.hpp"
#include "splic/spectrum.hpp"
#include "splic/tv.hpp"
#include "team/team_algebra.hpp"

namespace splic {

// The matrix that a team works on.
struct MatrixItem {
  std::int64_t image;
  int channel;          // the first one, where the channels are separate
  std::uint32_t stream; // number of the mask
};

template <class T, class Team> class Iterate : protected TeamAlgebra<T, Team> {
  using Algebra = TeamAlgebra<T, Team>;

protected:
  using Algebra::factor_, Algebra::theta_, Algebra::team_;
  using Algebra::take_grid, Algebra::each, Algebra::each_entry, Algebra::product;

  SPLIC_INLINE Iterate(const Problem &problem, const Team &team)
      : Algebra(team), problem_(problem), g_(problem), r_(problem.options.rank) {}

  // ---- images in and out ----

  // f(row, column, entry of the matrix) for entry `number` of the stacked image.
  template <class F> SPLIC_INLINE void at_number(int number, const F &f) {
    const int row = number / problem_.width, column = number % problem_.width;
    f(row, column, g_.transposed ? column : row, g_.transposed ? row : column);
  }

  static constexpr unsigned char kAnchor = 1, kGiven = 2;

  // False where a value is no number or out of range: there is nothing to complete. Hidden pixels
  // that the result does not depend on may be anything, and do not count.
  SPLIC_INLINE bool load_image(const MatrixItem &item, Record *record) {
    const Problem &p = problem_;
    const int count = g_.m * g_.n;
    const T huge = static_cast<T>(__builtin_huge_val());
    // Of all pixels, and of the anchors.
    T top = 0, top_anchor = 0, bottom = huge, bottom_anchor = huge;
    bool finite = true, finite_anchors = true, any_anchor = false, all_anchors = true;
    for (int block = team_.rank(); 4 * block < count; block += team_.size()) {
      PhiloxBlock words = {};
      if (!p.mask.data)
        words = mask_words(p.seed, p.first_index + static_cast<std::uint64_t>(item.image),
                           item.stream, static_cast<std::uint32_t>(block));
      for (int w = 0; w < 4 && 4 * block + w < count; ++w) {
        at_number(4 * block + w, [&](int row, int column, int i, int j) {
          const int c = item.channel + row / p.height, h = row % p.height;
          const bool anchor = p.mask.data ? *p.mask.at(item.image, c, h, column) != 0
                                          : words.word[w] < p.anchor_threshold;
          const T value = read<T>(p.source.at(item.image, c, h, column), p.dtype);
          x_(i, j) = value;
          const bool number = value - value == T(0);
          finite = finite && number;
          finite_anchors = finite_anchors && (number || !anchor);
          any_anchor = any_anchor || anchor;
          all_anchors = all_anchors && anchor;
          top = value > top ? value : top;
          bottom = value < bottom ? value : bottom;
          top_anchor = anchor && value > top_anchor ? value : top_anchor;
          bottom_anchor = anchor && value < bottom_anchor ? value : bottom_anchor;
          bits_[i * g_.n + j] = anchor ? kAnchor | kGiven : 0;
        });
      }
    }
    bool empty = false, full = false;
    if (p.hides() || p.fills()) {
      empty = !(team_.maximum(any_anchor ? T(1) : T(0)) > T(0));
      full = !(team_.maximum(all_anchors ? T(0) : T(1)) > T(0));
    }
    const bool blind = p.hides() && (!empty || p.fills());
    if (blind) {
      top = top_anchor;
      bottom = bottom_anchor;
      finite = finite_anchors;
    }
    top = team_.maximum(top);
    bottom = -team_.maximum(-bottom);
    bottom = bottom < huge ? bottom : T(0); // nothing counts
    top_anchor = team_.maximum(top_anchor);
    finite = !(team_.maximum(finite ? T(0) : T(1)) > T(0));
    if (record && team_.rank() == 0) {
      record->low = finite ? static_cast<double>(bottom) : __builtin_nan("");
      record->high = finite ? static_cast<double>(top) : __builtin_nan("");
    }
    // Scaling by a power of two is exact, and keeps the squares in range.
    double size = static_cast<double>(top_anchor > 0 && !p.options.from_image ? top_anchor : top);
    const bool fills = p.fills() && (empty || (full && p.options.alternate));
    if (fills || (blind && !(top_anchor > 0))) // by nothing that is hidden
      size = p.data_range;
    unit_ = static_cast<T>(unit_of<T>(size));
    range_ = static_cast<T>(p.data_range / static_cast<double>(unit_));
    const T scale = T(1) / unit_;
    each_entry(g_.m, g_.n, [&](int i, int j) { x_(i, j) *= scale; });
    return finite && bottom >= T(0) && static_cast<double>(top) <= p.data_range;
  }

  // To `sum`, or, if it is null, into the target. An image that is not sound, or has diverged,
  // comes out as NaN (0 where the type has none): nobody shall take it for a completed one.
  SPLIC_INLINE void store_image(const MatrixItem &item, bool sound, T *sum) {
    const Problem &p = problem_;
    const T top = static_cast<T>(p.largest);
    each(g_.m * g_.n, [&](int number) {
      at_number(number, [&](int row, int column, int i, int j) {
        T value = x_(i, j) * unit_;
        value = value > 0 ? value : T(0);
        value = value < top ? value : top;
        if (!sound)
          value = static_cast<T>(__builtin_nan(""));
        if (sum)
          sum[number] = value;
        else
          write_or_nan<T>(
              p.target.at(item.image, item.channel + row / p.height, row % p.height, column),
              p.dtype, value);
      });
    });
  }

  // ---- Algorithm 1 ----

  // Lines 1 and 2: zero the targets, unless they start as they are. Without an anchor all entries
  // stay, or become the value that is given for that, and this is false.
  SPLIC_INLINE bool start_pass(int pass) {
    const int count = g_.m * g_.n;
    T any = 0;
    for (int e = team_.rank(); e < count; e += team_.size()) {
      if (pass > 0)
        bits_[e] = bits_[e] & kGiven ? kGiven : kAnchor;
      any = bits_[e] & kAnchor ? T(1) : any;
    }
    if (!(team_.maximum(any) > T(0))) {
      const T value = static_cast<T>(problem_.empty) / unit_;
      if (problem_.fills())
        each_entry(g_.m, g_.n, [&](int i, int j) { x_(i, j) = value; });
      return false;
    }
    if (!problem_.options.from_image)
      each_entry(g_.m, g_.n, [&](int i, int j) {
        if (!(bits_[i * g_.n + j] & kAnchor))
          x_(i, j) = T(0);
      });
    return true;
  }

  // From the square of the first singular value.
  SPLIC_INLINE T first_delta(T theta) const {
    return static_cast<T>(problem_.options.first_delta) * square_root(theta > T(0) ? theta : T(0));
  }

  // Line 8, from kept_ and right_, of which the product over the kept triplets is R: first the
  // spectral factors ...
  SPLIC_INLINE void weigh(T delta) {
    const Options &o = problem_.options;
    each(r_, [&](int p) {
      factor_[p] = spectral_factor<TeamOps<T>>(theta_[p], delta, static_cast<T>(o.step_size),
                                               range_, o.literal);
    });
  }

  // ... then both sides of the product that the next iterate is (see Completion::update of the CPU
  // solver).
  SPLIC_INLINE bool smooths() const {
    return problem_.options.step_size * problem_.options.tv_weight != 0.0;
  }
  SPLIC_INLINE void make_sides() {
    const Options &o = problem_.options;
    const T weight = static_cast<T>(-o.step_size * o.tv_weight);
    const bool smooth = smooths();
    for_each_entry(g_.m, r_, [&](int i, int p) {
      const T u = kept_(i, p);
      T value = T(0);
      if (smooth) {
        const bool before = i % g_.row_block != 0, after = (i + 1) % g_.row_block != 0;
        value = weight * tv_difference(before ? kept_(i - 1, p) : u, u, after ? kept_(i + 1, p) : u,
                                       before, after, o.forward);
        left_(i, r_ + p) = u;
      }
      left_(i, p) = multiply_add(factor_[p], u, value);
    });
    if (smooth)
      for_each_entry(r_, g_.n, [&](int p, int j) {
        const bool before = j % g_.column_block != 0, after = (j + 1) % g_.column_block != 0;
        const T z = right_(p, j);
        right_(r_ + p, j) =
            weight * tv_difference(before ? right_(p, j - 1) : z, z, after ? right_(p, j + 1) : z,
                                   before, after, o.forward);
      });
    team_.sync();
  }

  // Lines 8 and 9. Returns this thread's share of the squared change.
  SPLIC_INLINE T apply() {
    T change = T(0);
    product(g_.m, g_.n, smooths() ? 2 * r_ : r_, left_, right_, [&](int i, int j, T sum) {
      if (bits_[i * g_.n + j] & kAnchor)
        return;
      const T d = sum - x_(i, j);
      change = multiply_add(d, d, change);
      x_(i, j) = sum;
    });
    return change;
  }

  // Line 12 and what is recorded, after iteration t of a pass: whether the pass goes on.
  // `diverged`: it stops because the change is beyond all bounds.
  SPLIC_INLINE bool goes_on(Record *record, int pass, int t, T squared_change, T &delta,
                            bool &diverged) {
    const T entries = static_cast<T>(g_.m) * static_cast<T>(g_.n);
    const T tolerance = static_cast<T>(problem_.options.tolerance) * range_;
    const T residual = square_root(squared_change) / entries;
    const double range = static_cast<double>(range_);
    const double size = static_cast<double>(residual) / range;
    diverged = !(size <= kDiverged);
    if (record && team_.rank() == 0) {
      record->iterations[pass] = t;
      record->residual[pass] = diverged ? __builtin_huge_val() : size;
      record->delta[pass] = static_cast<double>(delta) / range;
    }
    if (diverged || !(residual > tolerance))
      return false;
    delta *= static_cast<T>(problem_.options.delta_decay);
    return true;
  }

  // each_entry() without waiting.
  template <class F> SPLIC_INLINE void for_each_entry(int rows, int columns, const F &f) {
    for (int e = team_.rank(); e < rows * columns; e += team_.size())
      f(e / columns, e % columns);
  }

  const Problem &problem_;
  Geometry g_;
  int r_;
  Grid<T> x_, left_, kept_, right_;
  unsigned char *bits_;
  T unit_ = T(1), range_ = T(1);
};

} // namespace splic
