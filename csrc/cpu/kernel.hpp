// One completion: both passes of Algorithm 1 over one matrix in each lane of an element.
//
// The leading singular triplets come from a block iteration that starts at those of the iteration
// before: a few shifted applications of X'X with Cholesky orthonormalisation, a Rayleigh-Ritz step
// by Jacobi rotations, Cholesky once more for the kept left vectors. A residual test repeats it for
// the lanes that need it.
#pragma once

#include "convert.hpp"
#include "jacobi.hpp"
#include "solve.hpp"
#include "splic/philox.hpp"
#include "splic/spectrum.hpp"
#include "splic/tv.hpp"

namespace splic {
namespace SPLIC_ISA {

// How hard each iteration tries before the residual test; the test decides what is good enough.
template <class S> struct Effort;
template <> struct Effort<float> {
  static constexpr JacobiLimits jacobi = {1e-5, 1e-3, 3e-7, 1e-12, 12};
  static constexpr double pivot_floor = 1e-6; // of the Cholesky factorisation
  static constexpr double dropped = 1e-6;     // singular values below this share of the first
  static constexpr double residual = 3e-6;    // of a kept triplet, root mean square per entry
  static constexpr double steep = 3e-5;       // theta_r / theta_1 below which X'X is too coarse
  static constexpr int repeats = 30;          // of the block iteration, at most
  static constexpr int least_exponent = -100; // of the unit that scales a matrix
};
template <> struct Effort<double> {
  static constexpr JacobiLimits jacobi = {1e-11, 1e-5, 1e-15, 1e-26, 20};
  static constexpr double pivot_floor = 1e-13;
  static constexpr double dropped = 1e-13;
  static constexpr double residual = 1e-12;
  static constexpr double steep = 1e-12;
  static constexpr int repeats = 60;
  static constexpr int least_exponent = -1000;
};


template <class E> class Completion {
  using S = Scalar<E>;
  static constexpr int kLanes = Lanes<E>::count;
  static constexpr int kWidth = Engine<E>::width;
  using Limits = Effort<S>;
  static constexpr int kMostRank = 512;

public:
  static std::size_t workspace_bytes(const Problem &problem) {
    Completion c;
    c.lay_out(problem, nullptr);
    return c.used_;
  }

  void run(const Job &job) {
    problem_ = job.problem;
    basis_ = job.basis;
    lay_out(*job.problem, static_cast<unsigned char *>(job.workspace));
    clear(right_, right_rows_); // the padding of rows stays zero
    load_images(job);
    start_pass();
    complete_pass(job, 0);
    if (problem_->options.alternate) {
      for (std::size_t i = 0; i < word_count(); ++i)
        anchors_[i] = static_cast<std::uint16_t>(~given_[i]);
      start_pass();
      complete_pass(job, 1);
    }
    store_images(job);
  }

private:
  // ---- memory ----

  template <class T> T *take(std::size_t count) {
    T *p = base_ ? reinterpret_cast<T *>(base_ + used_) : nullptr;
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return p;
  }
  Matrix<E> take_matrix(int rows, int columns) {
    const int row = padded<E>(columns);
    return {take<E>(static_cast<std::size_t>(rows) * row), row, 1};
  }
  static void clear(Matrix<E> a, int rows) {
    for (std::ptrdiff_t i = 0; i < rows * a.row; ++i)
      a.p[i] = E{};
  }
  int block_size(int k) const { return 4 * k > 3 * g_.n ? g_.n : k; }
  std::size_t word_count() const { return static_cast<std::size_t>(g_.m) * row_packets_; }

  void lay_out(const Problem &problem, unsigned char *base) {
    base_ = base;
    used_ = 0;
    g_ = Geometry(problem);
    r_ = problem.options.rank;
    // More vectors than are kept: the further sigma_k is from sigma_r, the faster the convergence.
    const int extra = r_ < 8 ? 4 : r_ < 16 ? r_ / 2 : 8;
    const int step = g_.interleaves() ? 4 : kVectorBytes / static_cast<int>(sizeof(S));
    k_late_ = block_size((r_ + extra + step - 1) / step * step);
    k_early_ = g_.interleaves() ? block_size((r_ + 2 * extra + step - 1) / step * step) : k_late_;
    const int k = k_early_ > k_late_ ? k_early_ : k_late_;
    row_packets_ = packets<E>(g_.n);
    x_ = take_matrix(g_.m, g_.n);
    previous_ = take_matrix(g_.m, g_.n);
    b_ = take_matrix(g_.n, g_.n);
    start_ = take_matrix(g_.n, k);
    v_ = take_matrix(g_.n, k);
    v2_ = take_matrix(g_.n, k);
    product_ = take_matrix(g_.n, k);
    product2_ = take_matrix(g_.n, k);
    w_ = take_matrix(g_.m, k);
    u_ = take_matrix(g_.m, k);
    kept_ = take_matrix(g_.m, r_);
    left_ = take_matrix(g_.m, 2 * r_);
    right_rows_ = k > 2 * r_ ? k : 2 * r_;
    right_ = take_matrix(right_rows_, g_.n);
    c_ = take_matrix(k, k);
    q_ = take_matrix(k, k);
    t_ = take_matrix(k, k);
    theta_ = take<E>(k);
    anchors_ = take<std::uint16_t>(word_count());
    given_ = take<std::uint16_t>(word_count());
    padding_ = take<std::uint16_t>(row_packets_);
  }

  // ---- images in and out ----

  // Calls f(row, column, element, word, bit) for every entry of the stacked image.
  template <class F> SPLIC_INLINE void each_entry(int lane, const F &f) {
    const int rows = problem_->stacked_channels() * problem_->height;
    for (int row = 0; row < rows; ++row) {
      for (int column = 0; column < problem_->width; ++column) {
        const int i = g_.transposed ? column : row, j = g_.transposed ? row : column;
        f(row, column, x_(i, j), static_cast<std::size_t>(i) * row_packets_ + j / kWidth,
          static_cast<std::uint16_t>(1u << (kWidth == 1 ? lane : j % kWidth)));
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
    const std::int64_t plane = number / job.streams;
    return {plane / problem_->planes(), static_cast<int>(plane % problem_->planes()),
            static_cast<std::uint32_t>(job.first_stream + number % job.streams)};
  }

  // Exponent e with 2^e <= x < 2^(e+1), bounded so that 2^e and 2^-e are normal numbers.
  static double unit_of(double x) {
    const int exponent = static_cast<int>((bit_copy<std::uint64_t>(x) >> 52) & 0x7ff) - 1023;
    const int most = sizeof(S) == 4 ? 126 : 1022;
    const int e = exponent < Limits::least_exponent ? Limits::least_exponent
                  : exponent > most                 ? most
                                                    : exponent;
    return bit_copy<double>(static_cast<std::uint64_t>(e + 1023) << 52);
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
    for (int lane = 0; lane < kLanes; ++lane) {
      const Item item = item_of(job, lane);
      S top_anchor = 0, top = 0;
      PhiloxBlock words = {};
      each_entry(lane, [&](int row, int column, E &x, std::size_t word, std::uint16_t bit) {
        const int c = item.channel + row / p.height, h = row % p.height;
        bool anchor;
        if (p.mask.data) {
          anchor = *p.mask.at(item.image, c, h, column) != 0;
        } else {
          const std::uint32_t number = static_cast<std::uint32_t>(row) * p.width + column;
          if (number % 4 == 0)
            words = mask_words(p.seed, p.first_index + static_cast<std::uint64_t>(item.image),
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
      // Scaling by a power of two is exact, and keeps the squares in range.
      const double unit = unit_of(static_cast<double>(top_anchor > 0 ? top_anchor : top));
      set_lane(unit_, lane, static_cast<S>(unit));
      set_lane(range_, lane, static_cast<S>(p.data_range / unit));
    }
    const E scale = splat<E>(S(1)) / unit_;
    for (int i = 0; i < g_.m; ++i)
      for (int j = 0; j < g_.n; ++j)
        x_(i, j) = x_(i, j) * scale;
    for (std::size_t i = 0; i < word_count(); ++i)
      anchors_[i] = given_[i];
  }

  void store_images(const Job &job) {
    const Problem &p = *problem_;
    const S top = static_cast<S>(p.largest);
    const std::size_t size = static_cast<std::size_t>(g_.m) * g_.n;
    for (int lane = 0; lane < job.count && lane < kLanes; ++lane) {
      const Item item = item_of(job, lane);
      const S unit = get_lane(unit_, lane);
      S *sum = job.sums ? static_cast<S *>(job.sums) + lane * size : nullptr;
      each_entry(lane, [&](int row, int column, E &x, std::size_t, std::uint16_t) {
        S value = get_lane(x, lane) * unit;
        value = value > 0 ? value : S(0);
        value = value < top ? value : top;
        if (sum)
          sum[static_cast<std::size_t>(row) * p.width + column] = value;
        else
          write<S>(p.target.at(item.image, item.channel + row / p.height, row % p.height, column),
                   p.dtype, value);
      });
    }
  }

  // ---- Algorithm 1 ----

  // Lines 1 and 2: zero the targets. A matrix without an anchor keeps all its entries, for good.
  void start_pass() {
    std::uint32_t seen = 0;
    for (int i = 0; i < g_.m; ++i) {
      for (int j = 0; j < row_packets_; ++j) {
        std::uint16_t &word = anchors_[static_cast<std::size_t>(i) * row_packets_ + j];
        word = static_cast<std::uint16_t>(word & ~padding_[j]);
        seen |= word;
      }
    }
    const std::uint32_t moving = kWidth == 1 ? seen : (seen ? 1u : 0u);
    active_ = from_bits<E>(moving);
    const std::uint16_t still = kWidth == 1 ? static_cast<std::uint16_t>(~moving)
                                            : static_cast<std::uint16_t>(moving ? 0 : 0xffff);
    for (int i = 0; i < g_.m; ++i) {
      for (int j = 0; j < row_packets_; ++j) {
        std::uint16_t &word = anchors_[static_cast<std::size_t>(i) * row_packets_ + j];
        word = static_cast<std::uint16_t>(word | padding_[j] | still);
        E *entry = x_.at(i, j * kWidth);
        store(entry, select(from_bits<Packet<E>>(word), load(entry), Packet<E>{}));
      }
    }
  }

  void complete_pass(const Job &job, int pass) {
    const Options &o = problem_->options;
    const S entries = static_cast<S>(g_.m) * static_cast<S>(g_.n);
    const E tolerance = splat<E>(static_cast<S>(o.tolerance)) * range_;
    E delta = E{};
    int t = 0;
    for (int outer = 0; t < o.max_iterations && any(active_); ++outer) {
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      for (int i = 0; i < inner; ++i, ++t) {
        const int k = outer < kEarlyLoops ? k_early_ : k_late_;
        triplets(k, t == 0 ? kColdApplications : applications(outer), t == 0);
        if (t == 0)
          delta = sqrt(maximum(theta_[0], E{}));
        const bool last = i + 1 == inner;
        if (last)
          for (std::ptrdiff_t e = 0; e < g_.m * x_.row; ++e)
            previous_.p[e] = x_.p[e];
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

  // ||X_t - X_{t-1}||_F, summed in the same order when interleaved and when dense.
  E change() const {
    constexpr int classes = kVectorBytes / static_cast<int>(sizeof(S));
    E sums[classes];
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
    E total = E{};
    for (int l = 0; l < classes; ++l)
      total = total + sums[l];
    return sqrt(total);
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
    for (int p = 0; p < r_; ++p) {
      E factor;
      for (int lane = 0; lane < kLanes; ++lane)
        set_lane(factor, lane,
                 spectral_factor<S>(get_lane(theta_[p], lane), get_lane(delta, lane),
                                    static_cast<S>(o.step_size), get_lane(range_, lane),
                                    o.literal));
      factor_[p] = factor;
    }
    for (int i = 0; i < g_.m; ++i) {
      const bool before = i % g_.row_block != 0, after = (i + 1) % g_.row_block != 0;
      const E *u = kept_.at(i, 0);
      const E *above = before ? u - kept_.row : u, *below = after ? u + kept_.row : u;
      E *out = left_.at(i, 0);
      for (int p = 0; p < r_; ++p) {
        out[p] = factor_[p] * u[p];
        if (smooth) {
          out[p] = fma(weight, tv_difference(above[p], u[p], below[p], before, after, o.forward),
                       out[p]);
          out[r_ + p] = u[p];
        }
      }
    }
    if (smooth) {
      for (int p = 0; p < r_; ++p) {
        const E *z = right_.at(p, 0);
        E *out = right_.at(r_ + p, 0);
        for (int j = 0; j < g_.n; ++j) {
          const bool before = j % g_.column_block != 0, after = (j + 1) % g_.column_block != 0;
          out[j] = weight * tv_difference(z[before ? j - 1 : j], z[j], z[after ? j + 1 : j], before,
                                          after, o.forward);
        }
        for (int j = g_.n; j < right_.row; ++j)
          out[j] = E{};
      }
    }
    const StoreTargets<E> epilogue = {x_, anchors_, row_packets_};
    multiply<E>(g_.m, g_.n, smooth ? 2 * r_ : r_, left_, right_, epilogue);
  }

  // ---- the leading singular triplets ----

  static constexpr int kEarlyLoops = 2;
  static constexpr int kColdApplications = 14;
  int applications(int outer) const {
    constexpr int schedule[] = {3, 4, 4, 3, 3, 2, 2, 1};
    return schedule[outer < 7 ? outer : 7] + (g_.interleaves() ? 0 : 1);
  }

  // Leaves U in kept_, Z' = U'X in right_, sigma^2 in theta_, and the start of
  // the next iteration in start_.
  void triplets(int k, int steps, bool cold) {
    if (cold) {
      for (int j = 0; j < g_.n; ++j)
        for (int p = 0; p < start_.row; ++p)
          start_(j, p) = p >= k ? E{} : k < g_.n ? basis(j, p) : splat<E>(S(j == p ? 1 : 0));
      for (int p = 0; p < k; ++p)
        theta_[p] = E{};
    }
    bool gram_ready = false;
    if (k == g_.n)
      steps = 0;
    refine(k, steps, start_, v_, gram_ready);
    E before = splat<E>(S(1e30));
    for (int repeat = 0;; ++repeat) {
      rayleigh_ritz(k);
      Mask<E> poor = active_ & (E{} > E{});
      if (k < g_.n) {
        const E now = missed(k);
        poor = active_ & (now > splat<E>(S(Limits::residual * Limits::residual) * g_.m * g_.n));
        if (cold && repeat == 0)
          poor = active_;
        // Where rounding sets the limit, or singular values tie, repetition stops helping.
        poor = poor & (now < splat<E>(S(0.5)) * before);
        before = select(poor, now, before);
      }
      next_start(k);
      if (!any(poor) || repeat == Limits::repeats)
        break;
      refine(k, kRepeatApplications, start_, v2_, gram_ready);
      for (int j = 0; j < g_.n; ++j)
        for (int p = 0; p < k; ++p)
          v_(j, p) = select(poor, v2_(j, p), v_(j, p));
    }
  }
  static constexpr int kRepeatApplications = 3;

  SPLIC_INLINE E basis(int j, int p) const {
    return splat<E>(static_cast<S>(basis_[static_cast<std::size_t>(p) * g_.n + j]));
  }

  // to = orthonormal basis of the product of (X'X - shift) over the shifts, times from.
  void refine(int k, int steps, Matrix<E> from, Matrix<E> to, bool &gram_ready) {
    // X'X squares the singular values: where the kept ones are far below the first, its rounding
    // drowns them, and X'(X V) takes its place. (Lanes choose each for itself, so that the result
    // of one does not depend on the others.)
    const Mask<E> steep =
        active_ & (theta_[r_ - 1] < theta_[0] * splat<E>(static_cast<S>(Limits::steep)));
    const bool only_direct = kWidth > 1 && any(steep);
    if (any(steep) && steps > 0) {
      // What the start still holds of the first vector would grow by theta_1 / theta_k.
      orthonormalise(k, g_.n, from, product_);
      for (std::ptrdiff_t e = 0; e < g_.n * from.row; ++e)
        from.p[e] = select(steep, product_.p[e], from.p[e]);
    }
    const double gram = 0.5 * g_.m * g_.n * g_.n;
    if (!gram_ready && !only_direct && steps > 0 &&
        gram + double(steps) * g_.n * g_.n * k < 2.0 * steps * g_.m * g_.n * k) {
      multiply<E>(g_.n, g_.n, g_.m, x_.transposed(), x_, Store<E>{b_}, Part::upper_result);
      for (int i = 1; i < g_.n; ++i)
        for (int j = 0; j < i; ++j)
          b_(i, j) = b_(j, i);
      gram_ready = true;
    }
    for (int step = 0; step < steps; ++step) {
      // Chebyshev nodes on [0, theta_k]: what lies there is damped the most, evenly.
      const double node = 0.5 + 0.5 * chebyshev_node(step, steps);
      const E shift = theta_[k - 1] * splat<E>(static_cast<S>(node));
      const bool direct = only_direct || !gram_ready;
      if (direct || any(steep)) {
        multiply<E>(g_.m, k, g_.n, x_, from, Store<E>{w_});
        multiply<E>(g_.n, k, g_.m, x_.transposed(), w_, StoreShifted<E>{product_, from, shift});
      }
      if (!direct) {
        const Matrix<E> squared = any(steep) ? product2_ : product_;
        multiply<E>(g_.n, k, g_.n, b_, from, StoreShifted<E>{squared, from, shift});
        if (any(steep))
          for (std::ptrdiff_t e = 0; e < g_.n * product_.row; ++e)
            product_.p[e] = select(steep, product_.p[e], product2_.p[e]);
      }
      orthonormalise(k, g_.n, product_, to);
      from = to;
    }
    if (steps == 0) {
      // V is a basis of the whole space. Any orthonormal one will do; this one keeps the zeros of
      // sparse matrices, whose iteration may be an unstable equilibrium.
      const Mask<E> well = orthonormalise(k, g_.n, from, to);
      for (int j = 0; j < g_.n; ++j)
        for (int p = 0; p < k; ++p)
          to(j, p) = select(well, to(j, p), splat<E>(S(j == p ? 1 : 0)));
    }
  }

  static double chebyshev_node(int i, int n) {
    // cos((2 i + 1) pi / (2 n)) by its Taylor series: |x| <= pi.
    const double x = (2 * i + 1) * 3.14159265358979323846 / (2 * n);
    double term = 1, sum = 1;
    for (int j = 1; j < 14; ++j) {
      term *= -x * x / ((2 * j - 1) * (2 * j));
      sum += term;
    }
    return sum;
  }

  // to = from T with orthonormal columns, k of them with `rows` entries; true where it worked.
  Mask<E> orthonormalise(int k, int rows, Matrix<E> from, Matrix<E> to) {
    multiply<E>(k, k, rows, from.transposed(), from, Store<E>{c_}, Part::upper_result);
    clear(t_, k);
    const Mask<E> well = inverse_cholesky<E>(k, c_, t_, static_cast<S>(Limits::pivot_floor));
    multiply<E>(rows, k, k, from, t_, Store<E>{to}, Part::upper_factor);
    return well;
  }

  void rayleigh_ritz(int k) {
    multiply<E>(g_.m, k, g_.n, x_, v_, Store<E>{w_});
    multiply<E>(k, k, g_.m, w_.transposed(), w_, Store<E>{c_}, Part::upper_result);
    if constexpr (kWidth > 1) {
      if (g_.interleaves())
        symmetric_jacobi<E>(k, c_, q_, active_, Limits::jacobi);
      else
        WideJacobi<E>(k, c_, q_, factor_, Limits::jacobi).run();
    } else {
      symmetric_jacobi<E>(k, c_, q_, active_, Limits::jacobi);
    }
    // U = W Q / sigma; directions without weight are dropped.
    const E least = c_(0, 0) * splat<E>(static_cast<S>(Limits::dropped * Limits::dropped));
    clear(t_, k);
    for (int p = 0; p < k; ++p) {
      theta_[p] = maximum(c_(p, p), E{});
      const Mask<E> kept = (theta_[p] > least) & (theta_[p] > E{});
      const E inverse = select(kept, splat<E>(S(1)) / sqrt(select(kept, theta_[p], splat<E>(S(1)))), E{});
      for (int i = 0; i < k; ++i)
        t_(i, p) = q_(p, i) * inverse;
    }
    multiply<E>(g_.m, k, k, w_, t_, Store<E>{u_});
    // The division has lost the orthogonality of weak columns to strong ones: restore it.
    orthonormalise(r_, g_.m, u_, kept_);
    multiply<E>(r_, g_.n, g_.m, kept_.transposed(), x_, Store<E>{right_});
    const Matrix<const E> rest = {u_.p + r_, 1, u_.row};
    const Matrix<E> rest_out = {right_.at(r_, 0), right_.row, 1};
    multiply<E>(k - r_, g_.n, g_.m, rest, x_, Store<E>{rest_out});
  }

  // The error that the worse of the last two kept triplets leaves in U Z', squared: the sine of the
  // angle to what V misses, times sigma_k, over the relative gap between theta_p and theta_k (which
  // is not trusted to be much smaller than theta_r: V may have lost a vector).
  E missed(int k) {
    E worst = E{};
    const E tail = maximum(theta_[k - 1], theta_[r_ - 1] * splat<E>(S(0.0625)));
    for (int p = r_ > 2 ? r_ - 2 : 0; p < r_; ++p) {
      const E *z = right_.at(p, 0);
      E sum = E{};
      for (int q = 0; q < k; ++q)
        factor_[q] = E{};
      for (int j = 0; j < g_.n; ++j)
        add_multiple(k, z[j], v_.at(j, 0), factor_);
      for (int j = 0; j < g_.n; ++j) {
        const E *v = v_.at(j, 0);
        E rest = z[j];
        for (int q = 0; q < k; ++q)
          rest = fma(-factor_[q], v[q], rest);
        sum = fma(rest, rest, sum);
      }
      const E gap = theta_[p] - tail;
      const Mask<E> apart = gap > E{};
      worst = maximum(worst, select(apart, sum * tail * theta_[p] /
                                               select(apart, gap * gap, splat<E>(S(1))), E{}));
    }
    return worst;
  }

  // The right vectors, unscaled, begin the next iteration; dead ones are seeded afresh.
  void next_start(int k) {
    for (int p = 0; p < k; ++p) {
      const E *z = right_.at(p, 0);
      const Mask<E> dead = theta_[p] <= theta_[0] * splat<E>(static_cast<S>(Limits::dropped * Limits::dropped));
      if (any(dead)) {
        for (int j = 0; j < g_.n; ++j)
          start_(j, p) = select(dead, basis(j, p), z[j]);
      } else {
        for (int j = 0; j < g_.n; ++j)
          start_(j, p) = z[j];
      }
    }
    for (int p = k; p < padded<E>(k); ++p)
      for (int j = 0; j < g_.n; ++j)
        start_(j, p) = E{};
  }

  const Problem *problem_ = nullptr;
  const double *basis_ = nullptr;
  unsigned char *base_ = nullptr;
  std::size_t used_ = 0;
  Geometry g_;
  int r_ = 1, k_early_ = 1, k_late_ = 1, row_packets_ = 1, right_rows_ = 1;
  Matrix<E> x_, previous_, b_, start_, v_, v2_, product_, product2_, w_, u_, kept_, left_, right_, c_, q_, t_;
  E *theta_ = nullptr;
  std::uint16_t *anchors_ = nullptr, *given_ = nullptr, *padding_ = nullptr;
  E unit_ = E{}, range_ = E{};
  Mask<E> active_ = {};
  E factor_[2 * kMostRank]; // scratch, also
};

template <class E> std::size_t workspace_bytes(const Problem &problem) {
  return Completion<E>::workspace_bytes(problem);
}
template <class E> void complete_job(const Job &job) {
  Completion<E> completion;
  completion.run(job);
}

inline constexpr Kernels make_kernels(const char *name) {
  return {name,
          {Lanes<VecF>::count, Lanes<VecD>::count},
          {workspace_bytes<VecF>, workspace_bytes<VecD>},
          {complete_job<VecF>, complete_job<VecD>},
          {workspace_bytes<float>, workspace_bytes<double>},
          {complete_job<float>, complete_job<double>}};
}

} // namespace SPLIC_ISA
} // namespace splic
