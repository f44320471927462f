// One completion, both passes, by a team of threads that share fast memory: a CUDA thread block, or
// (in tests) threads of the host.
//
// The block iteration of the CPU solver (csrc/cpu/triplets.hpp) on one matrix: every thread runs
// this code, loops share out their entries by `team.rank()`, and each phase ends with
// `team.sync()`. Decisions are made by all threads alike from shared values. Every sum has one
// order, that of the change alone depends on the size of the team: results are reproducible.
#pragma once

#include "splic/convert.hpp"
#include "splic/geometry.hpp"
#include "splic/philox.hpp"
#include "splic/spectrum.hpp"
#include "splic/team_algebra.hpp"
#include "splic/tv.hpp"

namespace splic {

// What one team works on.
struct FusedItem {
  std::int64_t image;
  int channel;
  std::uint32_t stream;
};

template <class T, class Team> class Fused : TeamAlgebra<T, Team> {
  using Algebra = TeamAlgebra<T, Team>;
  using Algebra::cholesky, Algebra::jacobi;
  using Algebra::factor_, Algebra::used_;
  using Algebra::take_grid, Algebra::each, Algebra::each_entry, Algebra::product, Algebra::gram;
  using Algebra::team_, Algebra::c_, Algebra::q_, Algebra::t_, Algebra::theta_, Algebra::order_;
  using Limits = Effort<T>;

public:
  // Bytes of shared memory; the first call of `lay_out` with null memory only counts.
  SPLIC_INLINE static std::size_t bytes(const Problem &problem) {
    Fused fused(problem, Team());
    return fused.lay_out(nullptr);
  }

  SPLIC_INLINE Fused(const Problem &problem, const Team &team)
      : Algebra(team), problem_(problem), g_(problem), r_(problem.options.rank) {
    const int extra = extra_vectors(r_, wide());
    k_late_ = block_size((r_ + extra + 3) / 4 * 4, g_.n);
    k_early_ = wide() ? k_late_ : block_size((r_ + 2 * extra + 3) / 4 * 4, g_.n);
    k_ = k_early_ > k_late_ ? k_early_ : k_late_;
  }

  // Completes the item. `memory`: bytes() of it, aligned to 16. `sum`: the result goes there, or,
  // if it is null, into the target.
  SPLIC_INLINE void run(unsigned char *memory, const FusedItem &item, Record *record, T *sum) {
    lay_out(memory);
    load_image(item);
    for (int pass = 0; pass < problem_.passes(); ++pass) {
      if (start_pass(pass))
        complete_pass(record, pass);
    }
    store_image(item, sum);
  }

private:
  // Large matrices are treated as on the CPU: more vectors, for flatter spectra.
  SPLIC_INLINE bool wide() const { return !g_.interleaves(); }

  // ---- memory ----

  SPLIC_INLINE std::size_t lay_out(unsigned char *memory) {
    Algebra::lay_out(memory, k_);
    const int m = g_.m, n = g_.n;
    x_ = take_grid(m, n);
    b_ = take_grid(n, n);
    start_ = take_grid(n, k_);
    v_ = take_grid(n, k_);
    product_ = take_grid(n, k_);
    // [U' U | U] is made when W and the raw U are no longer needed: it lies over them.
    const int left = 2 * r_ | 1, w = k_ | 1, u = r_ | 1;
    T *const area =
        this->template take<T>(static_cast<std::size_t>(m) * (w + u > left ? w + u : left));
    w_ = {area, w, 1};
    u_ = {area ? area + static_cast<std::size_t>(m) * w : nullptr, u, 1};
    left_ = {area, left, 1};
    kept_ = take_grid(m, r_);
    right_ = take_grid(2 * r_, n);
    scratch_ = this->template take<T>(2 * (static_cast<std::size_t>(k_) + n));
    bits_ = this->template take<unsigned char>(static_cast<std::size_t>(m) * n);
    return used_;
  }

  // ---- images in and out ----

  SPLIC_INLINE int rows() const { return problem_.stacked_channels() * problem_.height; }

  // f(row, column, entry of the matrix) for entry `number` of the stacked image.
  template <class F> SPLIC_INLINE void at_number(int number, const F &f) {
    const int row = number / problem_.width, column = number % problem_.width;
    f(row, column, g_.transposed ? column : row, g_.transposed ? row : column);
  }

  static constexpr unsigned char kAnchor = 1, kGiven = 2;

  SPLIC_INLINE void load_image(const FusedItem &item) {
    const Problem &p = problem_;
    const int count = g_.m * g_.n;
    T top = 0, top_anchor = 0;
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
          top = value > top ? value : top;
          top_anchor = anchor && value > top_anchor ? value : top_anchor;
          bits_[i * g_.n + j] = anchor ? kAnchor | kGiven : 0;
        });
      }
    }
    top = team_.maximum(top);
    top_anchor = team_.maximum(top_anchor);
    // Scaling by a power of two is exact, and keeps the squares in range.
    unit_ = static_cast<T>(unit_of<T>(static_cast<double>(top_anchor > 0 ? top_anchor : top)));
    range_ = static_cast<T>(p.data_range / static_cast<double>(unit_));
    const T scale = T(1) / unit_;
    each_entry(g_.m, g_.n, [&](int i, int j) { x_(i, j) *= scale; });
  }

  SPLIC_INLINE void store_image(const FusedItem &item, T *sum) {
    const Problem &p = problem_;
    const T top = static_cast<T>(p.largest);
    each(g_.m * g_.n, [&](int number) {
      at_number(number, [&](int row, int column, int i, int j) {
        T value = x_(i, j) * unit_;
        value = value > 0 ? value : T(0);
        value = value < top ? value : top;
        if (sum)
          sum[number] = value;
        else
          write<T>(p.target.at(item.image, item.channel + row / p.height, row % p.height, column),
                   p.dtype, value);
      });
    });
  }

  // ---- Algorithm 1 ----

  // Lines 1 and 2: zero the targets. Without an anchor all entries stay, and this is false.
  SPLIC_INLINE bool start_pass(int pass) {
    const int count = g_.m * g_.n;
    T any = 0;
    for (int e = team_.rank(); e < count; e += team_.size()) {
      if (pass > 0)
        bits_[e] = bits_[e] & kGiven ? kGiven : kAnchor;
      any = bits_[e] & kAnchor ? T(1) : any;
    }
    if (!(team_.maximum(any) > T(0)))
      return false;
    each_entry(g_.m, g_.n, [&](int i, int j) {
      if (!(bits_[i * g_.n + j] & kAnchor))
        x_(i, j) = T(0);
    });
    return true;
  }

  SPLIC_INLINE void complete_pass(Record *record, int pass) {
    const Options &o = problem_.options;
    const T entries = static_cast<T>(g_.m) * static_cast<T>(g_.n);
    const T tolerance = static_cast<T>(o.tolerance) * range_;
    T delta = T(0);
    int t = 0;
    for (int outer = 0; t < o.max_iterations; ++outer) {
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      T change = T(0);
      for (int i = 0; i < inner; ++i, ++t) {
        find({outer, i, inner, left - i});
        if (t == 0)
          delta = square_root(theta_[0] > T(0) ? theta_[0] : T(0));
        change = update(delta);
      }
      const T residual = square_root(team_.sum(change)) / entries;
      if (team_.rank() == 0) {
        const double range = static_cast<double>(range_);
        const double size = static_cast<double>(residual) / range;
        record->iterations[pass] = t;
        record->residual[pass] = size <= kDiverged ? size : __builtin_huge_val();
        record->delta[pass] = static_cast<double>(delta) / range;
      }
      if (!(residual > tolerance && residual <= range_ * static_cast<T>(kDiverged)))
        break;
      delta *= static_cast<T>(o.delta_decay);
    }
  }

  // Lines 8 and 9, from the factors (see Completion::update of the CPU solver). Returns this
  // thread's share of the squared change.
  SPLIC_INLINE T update(T delta) {
    const Options &o = problem_.options;
    const T weight = static_cast<T>(-o.step_size * o.tv_weight);
    const bool smooth = o.step_size * o.tv_weight != 0.0;
    each(r_, [&](int p) {
      factor_[p] =
          spectral_factor<T>(theta_[p], delta, static_cast<T>(o.step_size), range_, o.literal);
    });
    each_entry(g_.m, r_, [&](int i, int p) {
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
    if (smooth) {
      each_entry(r_, g_.n, [&](int p, int j) {
        const bool before = j % g_.column_block != 0, after = (j + 1) % g_.column_block != 0;
        const T z = right_(p, j);
        right_(r_ + p, j) =
            weight * tv_difference(before ? right_(p, j - 1) : z, z, after ? right_(p, j + 1) : z,
                                   before, after, o.forward);
      });
    }
    T change = T(0);
    product(g_.m, g_.n, smooth ? 2 * r_ : r_, left_, right_, [&](int i, int j, T sum) {
      if (bits_[i * g_.n + j] & kAnchor)
        return;
      const T d = sum - x_(i, j);
      change = multiply_add(d, d, change);
      x_(i, j) = sum;
    });
    return change;
  }

  // ---- the leading triplets ----

  SPLIC_INLINE T basis(int j, int p) const { return static_cast<T>(cosine_basis(j, p, g_.n)); }

  // Leaves U in kept_, Z' = U'X in right_, sigma^2 in theta_, the next start in start_.
  SPLIC_INLINE void find(const Moment &moment) {
    const bool cold = moment.cold();
    const int k = moment.outer < kEarlyLoops ? k_early_ : k_late_;
    const T residual = static_cast<T>(Limits::residual * looseness(moment));
    const T limit = residual * residual * static_cast<T>(g_.m) * static_cast<T>(g_.n);
    int steps = cold ? kColdApplications : warm_applications(moment, wide());
    if (cold) {
      each_entry(g_.n, k,
                 [&](int j, int p) { start_(j, p) = k < g_.n ? basis(j, p) : T(j == p ? 1 : 0); });
      each(k, [&](int p) { theta_[p] = T(0); });
    }
    gram_ready_ = false;
    if (k == g_.n)
      steps = 0;
    refine(k, steps);
    T before = T(1e30);
    for (int repeat = 0;; ++repeat) {
      rayleigh_ritz(k);
      bool poor = false;
      if (k < g_.n) {
        const T now = missed(k);
        poor = now > limit || (cold && repeat == 0);
        // Where rounding sets the limit, or singular values tie, repetition stops helping.
        poor = poor && now < T(0.9) * before;
        before = now;
      }
      next_start(k);
      if (!poor || repeat == Limits::repeats)
        break;
      refine(k, kRepeatApplications);
    }
  }

  // v_ = orthonormal basis of the product of (X'X - shift) over the shifts, times start_.
  SPLIC_INLINE void refine(int k, int steps) {
    const int m = g_.m, n = g_.n;
    const bool steep = theta_[r_ - 1] < theta_[0] * static_cast<T>(Limits::steep);
    if (steps == 0) {
      if (!orthonormalise(k, n, start_, v_))
        each_entry(n, k, [&](int j, int p) { v_(j, p) = T(j == p ? 1 : 0); });
      return;
    }
    if (steep)
      orthonormalise_again(k, start_);
    const double pays = 0.5 * m * n * n + double(steps) * n * n * k;
    if (!steep && !gram_ready_ && pays < 2.0 * steps * m * n * k) {
      gram(m, n, x_, b_);
      gram_ready_ = true;
    }
    const T largest = theta_[k - 1];
    Grid<T> from = start_;
    for (int step = 0; step < steps; ++step) {
      // Chebyshev nodes on [0, theta_k]: what lies there is damped the most, evenly.
      const T shift = largest * static_cast<T>(0.5 + 0.5 * chebyshev_node(step, steps));
      const auto shifted = [&](int j, int p, T sum) {
        product_(j, p) = multiply_add(-shift, from(j, p), sum);
      };
      if (gram_ready_ && !steep) {
        product(n, k, n, b_, from, shifted);
      } else {
        product(m, k, n, x_, from, w_);
        product(n, k, m, x_.transposed(), w_, shifted);
      }
      orthonormalise(k, n, product_, v_);
      // Rounding in X V has brought the first vectors back, larger than what was to be found.
      if (steep)
        orthonormalise_again(k, v_);
      from = v_;
    }
  }

  // to = from T with orthonormal columns; whether all of them came out well.
  SPLIC_INLINE bool orthonormalise(int k, int rows, Grid<T> from, Grid<T> to) {
    gram(rows, k, from, c_);
    const bool well = cholesky(k);
    product(rows, k, k, from, t_, to);
    return well;
  }
  SPLIC_INLINE void orthonormalise_again(int k, Grid<T> v) {
    orthonormalise(k, g_.n, v, product_);
    each_entry(g_.n, k, [&](int j, int p) { v(j, p) = product_(j, p); });
  }

  SPLIC_INLINE void rayleigh_ritz(int k) {
    product(g_.m, k, g_.n, x_, v_, w_);
    gram(g_.m, k, w_, c_);
    T trace = T(0);
    for (int p = 0; p < k; ++p)
      trace += c_(p, p);
    const bool tame = trace < static_cast<T>(Limits::huge);
    team_.sync();
    if (!tame) // diverging: what comes out is NaN
      each_entry(k, k, [&](int i, int j) { c_(i, j) = T(0); });
    const T none = tame ? T(0) : static_cast<T>(__builtin_nan(""));
    jacobi(k, r_);
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    // U = W Q / sigma; directions without weight are dropped.
    each_entry(k, r_, [&](int i, int p) {
      const T theta = theta_[p];
      const T inverse = theta > least && theta > T(0) ? T(1) / square_root(theta) : T(0);
      t_(i, p) = multiply_add(q_(order_[p], i), inverse, none);
    });
    product(g_.m, r_, k, w_, t_, u_);
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    orthonormalise(r_, g_.m, u_, kept_);
    product(r_, g_.n, g_.m, kept_.transposed(), x_, right_);
  }

  // The error that the worse of the last two kept triplets leaves in U Z', squared (see
  // Triplets::missed of the CPU solver).
  SPLIC_INLINE T missed(int k) {
    const int first = r_ > 2 ? r_ - 2 : 0, count = r_ - first, n = g_.n;
    T *const inside = scratch_, *const outside = scratch_ + 2 * k;
    each_entry(count, k, [&](int p, int q) {
      T sum = T(0);
      for (int j = 0; j < n; ++j)
        sum = multiply_add(right_(first + p, j), v_(j, q), sum);
      inside[p * k + q] = sum;
    });
    each_entry(count, n, [&](int p, int j) {
      T sum = T(0);
      for (int q = 0; q < k; ++q)
        sum = multiply_add(inside[p * k + q], v_(j, q), sum);
      const T rest = right_(first + p, j) - sum;
      outside[p * n + j] = rest * rest;
    });
    const T least = theta_[r_ - 1] * T(0.0625);
    const T tail = theta_[k - 1] > least ? theta_[k - 1] : least;
    T worst = T(0);
    for (int p = 0; p < count; ++p) {
      T sum = T(0);
      for (int j = 0; j < n; ++j)
        sum += outside[p * n + j];
      const T gap = theta_[first + p] - tail;
      const T error = gap > T(0) ? sum * tail * theta_[first + p] / (gap * gap) : T(0);
      worst = error > worst ? error : worst;
    }
    team_.sync();
    return worst;
  }

  // The right vectors begin the next iteration: Z as it is for the kept ones, V Q for the others.
  // Dead ones are seeded afresh.
  SPLIC_INLINE void next_start(int k) {
    const T least = theta_[0] * static_cast<T>(Limits::dropped * Limits::dropped);
    each_entry(g_.n, k, [&](int j, int p) {
      T value = T(0);
      if (theta_[p] <= least)
        value = basis(j, p);
      else if (p < r_)
        value = right_(p, j);
      else
        for (int i = 0; i < k; ++i)
          value = multiply_add(v_(j, i), q_(order_[p], i), value);
      start_(j, p) = value;
    });
  }

  const Problem &problem_;
  Geometry g_;
  int r_, k_, k_early_, k_late_;
  Grid<T> x_, b_, start_, v_, product_, w_, u_, left_, kept_, right_;
  T *scratch_;
  unsigned char *bits_;
  T unit_ = T(1), range_ = T(1);
  bool gram_ready_ = false;
};

} // namespace splic
