// The matrix of a completion, and one step on it, by a team of threads: what the fused CUDA kernel
// and the kernels around cuSOLVER share.
//
// Every thread runs this code, loops share out their entries by `team.rank()`, and each phase ends
// with `team.sync()`. Decisions are made by all threads alike from shared values. Every sum has one
// order, that of the change alone depends on the size of the team: results are reproducible.
#pragma once

#include "splic/philox.hpp"
#include "splic/spectrum.hpp"
#include "splic/tv.hpp"
#include "team/image.hpp"
#include "team/team_algebra.hpp"

namespace splic {

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

  // False where there is nothing to complete.
  SPLIC_INLINE bool load_image(const MatrixItem &item, Record *record) {
    const Problem &p = problem_;
    const int count = g_.m * g_.n;
    PixelRange<T> seen;
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
          seen.see(value, anchor);
          bits_[i * g_.n + j] = anchor ? kAnchor | kGiven : 0;
        });
      }
    }
    const Scale<T> found = settle(p, team_, seen, record);
    unit_ = found.unit;
    range_ = found.range;
    const T scale = T(1) / unit_;
    each_entry(g_.m, g_.n, [&](int i, int j) { x_(i, j) *= scale; });
    return found.sound;
  }

  // To `sum`, or, if it is null, into the target.
  SPLIC_INLINE void store_image(const MatrixItem &item, bool sound, T *sum) {
    const Problem &p = problem_;
    const T top = static_cast<T>(p.largest);
    each(g_.m * g_.n, [&](int number) {
      at_number(number, [&](int row, int column, int i, int j) {
        const T value = result_entry(x_(i, j), unit_, top, sound);
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

  // After iteration t of a pass: whether the pass goes on.
  SPLIC_INLINE bool goes_on(Record *record, int pass, int t, T squared_change, T &delta,
                            bool &diverged) {
    return splic::goes_on(problem_, range_, team_.rank() == 0 ? record : nullptr, pass, t,
                          square_root(squared_change), delta, diverged);
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
