// The derivative of a completion: reverse mode through the iterations of both passes.
//
// The completion is computed again; of each iteration the triplets stay (the iterate follows from
// those of the iteration before). The step is F(X) = U g(S) V' with g = 0 beyond the rank. With a
// loss' gradient G by F, what F makes of the kept triplets among themselves has the divided
// differences of g as coefficients (Daleckii-Krein; Noferini 2017). Between kept and other triplets
// the sum over the others is a linear system for each kept one: with the rest B = X - U S V'
//
//   dL/dX = U C V' + sum_p (u_p a_p' + b_p v_p'),
//   (s_p^2 - B'B) a_p = g_p (s_p G'u_p + B'G v_p) outside of V,   s_p b_p = g_p G v_p + B a_p,
//
// so that no other triplet is ever computed.
#pragma once

#include "completion.hpp"
#include "shifted.hpp"
#include "surrogate.hpp"
#include "tape.hpp"

namespace splic {
namespace SPLIC_ISA {

template <class E> class Derivative : private Completion<E> {
  using Base = Completion<E>;
  using Base::active_, Base::range_, Base::unit_, Base::row_packets_, Base::left_;
  using Base::kLanes, Base::kWidth;
  using Base::problem_, Base::g_, Base::r_, Base::x_, Base::triplets_, Base::anchors_;
  using typename Base::Item;
  using typename Base::S;
  using Iteration = splic::SPLIC_ISA::Iteration<E>;

public:
  static std::size_t workspace_bytes(const Problem &problem) {
    Arena arena(nullptr);
    Derivative().lay_out(problem, nullptr, arena);
    return arena.used();
  }

  void run(const Job &job) {
    Arena arena(static_cast<unsigned char *>(job.workspace));
    lay_out(*job.problem, job.basis, arena);
    this->load_images(job);
    const int passes = problem_->passes();
    for (int pass = 0; pass < passes; ++pass) {
      copy(x_, starts_[pass], g_.m);
      this->start_pass(pass);
      count_[pass] = 0;
      this->complete_pass(job, pass, &Derivative::keep_iteration);
    }
    load_cotangent(job);
    for (int pass = passes - 1; pass >= 0; --pass)
      differentiate_pass(pass);
    store_gradient(job);
  }

private:
  static void keep_iteration(Base &base, int pass, int t, E delta) {
    auto &self = static_cast<Derivative &>(base);
    const Iteration now = self.tape_[pass][t];
    copy(self.triplets_.kept_, now.left, self.g_.m);
    copy(self.triplets_.right_, now.right, self.r_);
    for (int p = 0; p < self.r_; ++p)
      now.theta[p] = self.triplets_.theta_[p];
    *now.delta = delta;
    *now.active = self.active_;
    self.count_[pass] = t + 1;
  }

  bool cuts_smoothly() const { return problem_->cut_width > 0 && r_ < g_.n; }

  void lay_out(const Problem &problem, const double *basis, Arena &arena) {
    Base::lay_out(problem, basis, arena);
    Matrix<E> *const images[] = {&starts_[0], &starts_[1], &gradient_, &by_step_, &by_cut_, &rest_};
    for (Matrix<E> *a : images)
      *a = arena.take_matrix<E>(g_.m, g_.n);
    Matrix<E> *const left_sides[] = {&step_v_, &cut_v_};
    for (Matrix<E> *a : left_sides)
      *a = arena.take_matrix<E>(g_.m, r_);
    Matrix<E> *const right_sides[] = {&v_, &step_u_, &cut_u_, &product_};
    for (Matrix<E> *a : right_sides)
      *a = arena.take_matrix<E>(g_.n, r_);
    Matrix<E> *const squares[] = {&step_e_, &cut_e_, &core_, &inner_};
    for (Matrix<E> *a : squares)
      *a = arena.take_matrix<E>(r_, r_);
    right_ = arena.take_matrix<E>(2 * r_, g_.n);
    E **const weights[] = {&share_, &slope_, &delta_slope_, &sigma_, &inverse_, &shift_};
    for (E **array : weights)
      *array = arena.take<E>(r_);
    line_ = arena.take<E>(by_cut_.row);
    systems_.lay_out(g_.n, r_, arena);
    if (cuts_smoothly())
      surrogate_.lay_out(g_, arena);
    if (r_ == g_.n)
      null_ = arena.take_matrix<E>(g_.m, g_.n);
    for (int pass = 0; pass < problem.passes(); ++pass)
      tape_[pass].lay_out(g_.m, r_, triplets_.kept_.row, triplets_.right_.row,
                          problem.options.max_iterations, arena);
  }

  // ---- in and out ----

  // The gradient by the result before it is clipped to [0, largest].
  void load_cotangent(const Job &job) {
    const Problem &p = *problem_;
    const S top = static_cast<S>(p.largest);
    clear(gradient_, g_.m);
    for (int lane = 0; lane < kLanes; ++lane) {
      const Item item = this->item_of(job, lane);
      const S unit = get_lane(unit_, lane);
      this->each_entry(
          x_, lane,
          [&](int channel, int h, int column, std::uint32_t, E &x, std::size_t,
              std::uint16_t) SPLIC_ALWAYS_INLINE {
            const S value = get_lane(x, lane) * unit;
            E &entry = gradient_.p[&x - x_.p];
            set_lane(entry, lane,
                     value >= S(0) && value <= top
                         ? read<S>(p.cotangent.at(item.image, item.channel + channel, h, column),
                                   p.dtype)
                         : S(0));
          });
    }
  }

  void store_gradient(const Job &job) {
    const Problem &p = *problem_;
    const std::size_t size = static_cast<std::size_t>(g_.m) * g_.n;
    for (int lane = 0; lane < job.count && lane < kLanes; ++lane) {
      if (this->leaves(job, lane))
        continue;
      const Item item = this->item_of(job, lane);
      S *sum = job.sums ? static_cast<S *>(job.sums) + lane * size : nullptr;
      this->each_entry(gradient_, lane,
                       [&](int channel, int h, int column, std::uint32_t number, E &x, std::size_t,
                           std::uint16_t) SPLIC_ALWAYS_INLINE {
                         const S value = get_lane(x, lane);
                         if (sum)
                           sum[number] = value;
                         else
                           write<S>(p.target.at(item.image, item.channel + channel, h, column),
                                    p.dtype, value);
                       });
    }
  }

  // ---- reverse mode ----

  void recall(const Iteration &now) {
    copy(now.left, triplets_.kept_, g_.m);
    copy(now.right, triplets_.right_, r_);
    for (int p = 0; p < r_; ++p)
      triplets_.theta_[p] = now.theta[p];
  }

  // The squares of small singular values, as they come from X'X, are coarse. Rotations of the rows
  // of Z' = U'X, and of U with them, make U, Z and sigma of them what they should be (Hestenes
  // 1958).
  void polish() {
    const Matrix<E> u = triplets_.kept_, z = triplets_.right_;
    const auto product = [&](int a, int b) {
      if constexpr (kWidth > 1)
        return wide_dot<E>(g_.n, z.at(a, 0), z.at(b, 0));
      E sum = E{};
      for (int j = 0; j < g_.n; ++j)
        sum = fma(z(a, j), z(b, j), sum);
      return sum;
    };
    const S graded = static_cast<S>(Effort<S>::graded);
    const E limit = splat<E>(graded * graded), one = splat<E>(S(1));
    for (int p = 0; p < r_; ++p)
      triplets_.theta_[p] = product(p, p);
    const int sweeps = any(triplets_.theta_[r_ - 1] < limit * triplets_.theta_[0]) ? 3 : 0;
    constexpr double rotate_above = Effort<S>::jacobi.rotate;
    const E least = splat<E>(static_cast<S>(rotate_above * rotate_above));
    for (int pair = 0; pair < sweeps * r_ * r_; ++pair) {
      const int a = pair / r_ % r_, b = pair % r_;
      if (a >= b)
        continue;
      const E caa = triplets_.theta_[a], cbb = triplets_.theta_[b], cab = product(a, b);
      const Mask<E> turn = cab * cab > least * caa * cbb;
      if (!any(turn))
        continue;
      const E tau = (cbb - caa) / select(turn, cab + cab, one);
      const E size = maximum(tau, -tau);
      const E root = sqrt(fma(tau, tau, one));
      const E tangent = select(tau < E{}, -one, one) / (size + root);
      const E t = select(turn, tangent, E{}), c = one / sqrt(fma(t, t, one)), s = c * t;
      const auto rotate = [&](E &x, E &y) {
        const E before = x;
        x = fma(c, before, -(s * y));
        y = fma(s, before, c * y);
      };
      for (int j = 0; j < g_.n; ++j)
        rotate(z(a, j), z(b, j));
      for (int i = 0; i < g_.m; ++i)
        rotate(u(i, a), u(i, b));
      triplets_.theta_[a] = product(a, a);
      triplets_.theta_[b] = product(b, b);
    }
  }

  void differentiate_pass(int pass) {
    if (count_[pass] == 0) { // no anchor, no iteration: the images pass through, or nothing does
      if (problem_->fills())
        clear(gradient_, g_.m);
      return;
    }
    copy(starts_[pass], x_, g_.m);
    this->start_pass(pass);
    const Options &o = problem_->options;
    by_start_ = E{};
    for (int t = count_[pass] - 1; t >= 0; --t) {
      look();
      if (t > 0) {
        const Iteration before = tape_[pass][t - 1];
        recall(before);
        this->update(*before.delta);
      } else {
        copy(starts_[pass], x_, g_.m);
        this->start_pass(pass);
      }
      const Iteration now = tape_[pass][t];
      recall(now);
      polish();
      S decay = S(1);
      for (int outer = t / o.inner_iterations; outer > 0; --outer)
        decay = decay * static_cast<S>(o.delta_decay);
      step_back(*now.delta, *now.active);
      by_start_ = select(*now.active, fma(splat<E>(decay), by_delta_, by_start_), by_start_);
    }
    // What starts at zero has no gradient; delta starts at a share of sigma_1, whose gradient is
    // u_1 v_1'.
    by_start_ = by_start_ * splat<E>(static_cast<S>(o.first_delta));
    const std::uint16_t every = o.from_image ? 0xffff : 0;
    const Mask<E> weighted = by_start_ != E{};
    for (int i = 0; i < g_.m; ++i) {
      const E left = select(weighted, by_start_ * triplets_.kept_(i, 0) * inverse_[0], E{});
      for (int j = 0; j < row_packets_; ++j) {
        E *entry = gradient_.at(i, j * kWidth);
        const Packet<E> top = load(triplets_.right_.at(0, j * kWidth));
        store(entry, select(from_bits<Packet<E>>(static_cast<std::uint16_t>(
                                anchors_[static_cast<std::size_t>(i) * row_packets_ + j] | every)),
                            fma(broadcast<Packet<E>>(left), top, load(entry)), Packet<E>{}));
      }
    }
    if (problem_->fills() && any(this->filled_))
      for (int i = 0; i < g_.m; ++i)
        for (int j = 0; j < g_.n; ++j)
          gradient_(i, j) = select(this->filled_, E{}, gradient_(i, j));
  }

  // From the gradient by X_{t+1} to that by X_t (x_), whose triplets have been recalled.
  void step_back(E delta, Mask<E> active) {
    const Options &o = problem_->options;
    const bool smooth = o.step_size * o.tv_weight != 0.0;
    const Matrix<E> u = triplets_.kept_, z = triplets_.right_;
    const Matrix<E> vt = {right_.at(r_, 0), right_.row, 1};
    Mask<E> deficient = {};
    for (int p = 0; p < r_; ++p)
      deficient = deficient | weigh(p, delta);
    for (int p = 0; p < r_; ++p) {
      for (int j = 0; j < vt.row; ++j)
        vt(p, j) = z(p, j) * inverse_[p];
      for (int j = 0; j < g_.n; ++j)
        v_(j, p) = vt(p, j);
    }
    for (int i = 0; i < g_.m; ++i)
      for (int j = 0; j < row_packets_; ++j) {
        const std::uint16_t word = anchors_[static_cast<std::size_t>(i) * row_packets_ + j];
        store(by_step_.at(i, j * kWidth),
              select(from_bits<Packet<E>>(word), Packet<E>{}, load(gradient_.at(i, j * kWidth))));
      }
    if (smooth)
      tv_back();
    // B and B'B
    multiply_apart<E>(g_.m, g_.n, r_, u, z, combination<E>(rest_, splat<E>(1), x_, -1));
    multiply_apart<E>(g_.n, g_.n, g_.m, rest_.transposed(), rest_, Store<E>{systems_.b_},
                      Part::upper_result);
    for (int i = 1; i < g_.n; ++i)
      for (int j = 0; j < i; ++j)
        systems_.b_(i, j) = systems_.b_(j, i);
    if (cuts_smoothly()) {
      surrogate_.decompose(x_, r_, vt, sigma_, systems_.b_, active);
      surrogate_.weigh(*problem_, delta, range_);
      Matrix<E> left, right;
      by_delta_ = surrogate_.factors(by_step_, by_cut_, smooth, left, right);
      multiply_apart<E>(g_.m, g_.n, g_.n, left, right, Store<E>{by_step_});
      add_to_gradient(active);
      return;
    }
    // G V, G'U, and E = U'G V, of the step and of the cut that the TV gradient sees.
    multiply_apart<E>(g_.m, r_, g_.n, by_step_, v_, Store<E>{step_v_});
    multiply_apart<E>(g_.n, r_, g_.m, by_step_.transposed(), u, Store<E>{step_u_});
    multiply_apart<E>(r_, r_, g_.m, u.transposed(), step_v_, Store<E>{step_e_});
    if (smooth) {
      multiply_apart<E>(g_.m, r_, g_.n, by_cut_, v_, Store<E>{cut_v_});
      multiply_apart<E>(g_.n, r_, g_.m, by_cut_.transposed(), u, Store<E>{cut_u_});
      multiply_apart<E>(r_, r_, g_.m, u.transposed(), cut_v_, Store<E>{cut_e_});
    }
    const bool whole = r_ == g_.n && any(deficient);
    if (whole)
      keep_null_space(delta, smooth);
    combine(smooth);
    systems_.reduce();
    multiply_apart<E>(g_.n, r_, g_.m, rest_.transposed(), step_v_, Store<E>{product_});
    for (int j = 0; j < g_.n; ++j)
      each_piece<E>(r_, [&](int p, auto kind) {
        using P = decltype(kind);
        const P step = piece<P>(sigma_ + p) * piece<P>(product_.at(j, p));
        put<P>(step_u_.at(j, p), fma(piece<P>(shift_ + p), piece<P>(step_u_.at(j, p)), step));
      });
    systems_.solve(shift_, step_u_);
    multiply_apart<E>(g_.m, r_, g_.n, rest_, step_u_, Store<E>{cut_v_});
    // dL/dX = [U | b] [C V' + a' ; V']
    multiply_apart<E>(r_, g_.n, r_, core_, vt, Store<E>{right_});
    for (int p = 0; p < r_; ++p)
      for (int j = 0; j < g_.n; ++j)
        right_(p, j) = right_(p, j) + step_u_(j, p);
    for (int i = 0; i < g_.m; ++i)
      each_piece<E>(r_, [&](int p, auto kind) {
        using P = decltype(kind);
        put<P>(left_.at(i, p), piece<P>(u.at(i, p)));
        put<P>(left_.at(i, r_ + p),
               fma(piece<P>(inverse_ + p), piece<P>(cut_v_.at(i, p)), piece<P>(step_v_.at(i, p))));
      });
    multiply_apart<E>(g_.m, g_.n, 2 * r_, left_, right_, Store<E>{by_step_});
    add_to_gradient(active);
    if (whole)
      for (int i = 0; i < g_.m; ++i)
        for (int j = 0; j < g_.n; ++j)
          gradient_(i, j) =
              select(active & deficient, gradient_(i, j) + null_(i, j), gradient_(i, j));
  }

  // G = mask ? G : 0, plus what is in by_step_, in the lanes that are active.
  void add_to_gradient(Mask<E> active) {
    for (int i = 0; i < g_.m; ++i)
      for (int j = 0; j < row_packets_; ++j) {
        E *entry = gradient_.at(i, j * kWidth);
        const Packet<E> old = load(entry);
        const std::uint16_t word = anchors_[static_cast<std::size_t>(i) * row_packets_ + j];
        const Packet<E> sum =
            select(from_bits<Packet<E>>(word), old, Packet<E>{}) + load(by_step_.at(i, j * kWidth));
        if constexpr (kWidth == 1)
          store(entry, select(active, sum, old));
        else
          store(entry, sum);
      }
  }

  SpectralSlope<E> slope_at(E sigma_squared, E delta) const {
    const Options &o = problem_->options;
    return spectral_slope<ElementOps<E>>(sigma_squared, delta, ElementOps<E>::number(o.step_size),
                                         range_, o.literal);
  }

  // sigma_p and what the step makes of it. What is not above rounding is no triplet; returns where.
  Mask<E> weigh(int p, E delta) {
    const S weak = static_cast<S>(Effort<S>::weak);
    const Mask<E> there = (triplets_.theta_[p] > triplets_.theta_[0] * splat<E>(weak * weak)) &
                          (triplets_.theta_[p] > E{});
    const Mask<E> everywhere = E{} == E{};
    const E theta = select(there, triplets_.theta_[p], E{});
    if (any(there != everywhere)) {
      for (int i = 0; i < g_.m; ++i)
        triplets_.kept_(i, p) = select(there, triplets_.kept_(i, p), E{});
      for (int j = 0; j < g_.n; ++j)
        triplets_.right_(p, j) = select(there, triplets_.right_(p, j), E{});
    }
    sigma_[p] = sqrt(select(there, theta, E{}));
    inverse_[p] = select(there, splat<E>(S(1)) / select(there, sigma_[p], splat<E>(S(1))), E{});
    shift_[p] = select(there, theta, E{});
    const SpectralSlope<E> g = slope_at(theta, delta);
    share_[p] = g.factor;
    slope_[p] = g.by_sigma;
    delta_slope_[p] = g.by_delta;
    return there != everywhere;
  }

  // Without a cut, the step multiplies by g'(0) what has neither a left nor a right triplet: into
  // null_. Called before `combine`.
  void keep_null_space(E delta, bool smooth) {
    const Matrix<E> vt = {right_.at(r_, 0), right_.row, 1}, null = null_;
    const E at_zero = slope_at(E{}, delta).by_sigma;
    for (int i = 0; i < g_.m; ++i) {
      for (int j = 0; j < null.row; ++j)
        null(i, j) = fma(at_zero, by_step_(i, j), smooth ? by_cut_(i, j) : E{});
      for (int p = 0; p < r_; ++p)
        left_(i, p) = fma(at_zero, step_v_(i, p), smooth ? cut_v_(i, p) : E{});
    }
    multiply_apart<E>(g_.m, g_.n, r_, left_, vt, subtract_from<E>(null));
    multiply_apart<E>(r_, g_.n, g_.m, triplets_.kept_.transposed(), null, Store<E>{right_});
    multiply_apart<E>(g_.m, g_.n, r_, triplets_.kept_, right_, subtract_from<E>(null));
  }

  // Each column of A times the triplet's g / sigma, plus, if `smooth`, that of B.
  void scale_and_add(int rows, Matrix<E> a, bool smooth, Matrix<E> b) {
    for (int i = 0; i < rows; ++i)
      each_piece<E>(r_, [&](int p, auto kind) {
        using P = decltype(kind);
        const P more = smooth ? piece<P>(b.at(i, p)) : P{};
        put<P>(a.at(i, p), fma(piece<P>(share_ + p), piece<P>(a.at(i, p)), more));
      });
  }

  // Leaves C in core_; in step_v_ and step_u_, over sigma_p, what g and the cut make together of
  // G v_p outside of U and of G'u_p outside of V; and the gradient by delta.
  void combine(bool smooth) {
    const E half = splat<E>(S(0.5));
    by_delta_ = E{};
    for (int i = 0; i < r_; ++i) {
      by_delta_ = fma(delta_slope_[i], step_e_(i, i), by_delta_);
      for (int j = 0; j < r_; ++j) {
        E even, odd;
        divided_differences<E>(sigma_[i], sigma_[j], share_[i], share_[j], slope_[i], slope_[j],
                               even, odd);
        const E e = step_e_(i, j), et = step_e_(j, i);
        const E core = half * (even * (e + et) + odd * (e - et));
        core_(i, j) = smooth ? core + cut_e_(i, j) : core;
      }
    }
    scale_and_add(g_.m, step_v_, smooth, cut_v_);
    scale_and_add(g_.n, step_u_, smooth, cut_u_);
    for (int i = 0; i < r_; ++i)
      for (int p = 0; p < r_; ++p)
        inner_(i, p) = fma(share_[p], step_e_(i, p), smooth ? cut_e_(i, p) : E{});
    multiply_apart<E>(g_.m, r_, r_, triplets_.kept_, inner_, subtract_from<E>(step_v_));
    for (int i = 0; i < r_; ++i)
      for (int p = 0; p < r_; ++p)
        inner_(i, p) = fma(share_[p], step_e_(p, i), smooth ? cut_e_(p, i) : E{});
    multiply_apart<E>(g_.n, r_, r_, v_, inner_, subtract_from<E>(step_u_));
  }

  // The TV gradient's transpose, along both axes, of the gradient by R.
  void tv_back() {
    const Options &o = problem_->options;
    const E weight = splat<E>(static_cast<S>(-o.step_size * o.tv_weight));
    for (int i = 0; i < g_.m; ++i) {
      const E *x = by_step_.at(i, 0);
      E *out = by_cut_.at(i, 0);
      this->template scaled_difference<true>(
          g_.n, weight, i % g_.row_block == 0 ? nullptr : x - by_step_.row, x,
          (i + 1) % g_.row_block == 0 ? nullptr : x + by_step_.row, out);
      this->template row_difference<true>(weight, x, line_);
      add_multiple(g_.n, splat<E>(S(1)), line_, out);
      for (int j = g_.n; j < by_cut_.row; ++j)
        out[j] = E{};
    }
  }

  Matrix<E> starts_[2], gradient_, by_step_, by_cut_, rest_, null_;
  Matrix<E> step_v_, cut_v_, v_, step_u_, cut_u_, product_, step_e_, cut_e_, core_, inner_, right_;
  // Of each kept triplet: g / sigma, the derivatives of g, sigma, 1 / sigma, sigma^2.
  E *share_ = nullptr, *slope_ = nullptr, *delta_slope_ = nullptr, *sigma_ = nullptr,
    *inverse_ = nullptr, *shift_ = nullptr;
  E *line_ = nullptr; // a row
  ShiftedSystems<E> systems_;
  Surrogate<E> surrogate_;
  Tape<E> tape_[2];
  int count_[2] = {0, 0};
  E by_delta_ = E{}, by_start_ = E{};
};

} // namespace SPLIC_ISA
} // namespace splic
