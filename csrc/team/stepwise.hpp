// A completion in steps, one for each phase of Algorithm 1, around a library that decomposes
// symmetric matrices in batches: the squared singular values and the right singular vectors of X
// are the eigenvalues and eigenvectors of X'X, which is summed up in float64.
//
// Between two steps all threads of all teams wait for each other (the end of a CUDA kernel). A step
// marked "alone" is for one team to a matrix; in the others the threads of several blocks share it,
// and nothing in them waits. A matrix that has stopped is passed over in every step.
#pragma once

#include "team/iterate.hpp"

namespace splic {

// What is kept of a matrix between two steps, besides its arrays.
struct StepState {
  double unit = 1, range = 1, delta = 0;
  std::int32_t sound = 1;   // no: NaN comes out
  std::int32_t running = 0; // in this pass
  std::int32_t wild = 0;    // X'X has overflowed: the next iterate is NaN
};

// The memory of a batch of `count` matrices; the arrays of one lie `stride` bytes from those of the
// next. Matrices and eigenvalues are packed, as the library wants them.
struct StepMemory {
  unsigned char *arrays = nullptr;
  std::size_t stride = 0;
  StepState *states = nullptr;
  double *squares = nullptr;      // X'X, n x n; then its eigenvectors, in rows, the last one first
  double *values = nullptr;       // n eigenvalues, rising
  double *changes = nullptr;      // a share of the squared change for each block
  std::int32_t *failed = nullptr; // not 0: the library has failed on the matrix
  int blocks = 1;                 // to a matrix
};

template <class T, class Team> class Stepwise : Iterate<T, Team> {
  using Base = Iterate<T, Team>;
  using Algebra = TeamAlgebra<T, Team>;
  using Algebra::counts_, Algebra::used_, Algebra::memory_;
  using Base::problem_, Base::g_, Base::r_, Base::x_, Base::left_, Base::kept_, Base::right_;
  using Base::take_grid, Base::each, Base::for_each_entry, Base::product;
  using Base::team_, Base::theta_, Base::factor_, Base::bits_, Base::unit_, Base::range_;

public:
  // Bytes of the arrays of a matrix.
  SPLIC_INLINE static std::size_t bytes(const Problem &problem) {
    Stepwise steps(problem, Team(), {}, 0);
    return (steps.used_ + 255) / 256 * 256;
  }

  SPLIC_INLINE Stepwise(const Problem &problem, const Team &team, const StepMemory &memory,
                        std::int64_t number)
      : Base(problem, team), number_(number), blocks_(memory.blocks) {
    const int m = g_.m, n = g_.n;
    counts_ = !memory.arrays;
    memory_ = counts_ ? nullptr : memory.arrays + number * memory.stride;
    used_ = 0;
    x_ = take_grid(m, n);
    kept_ = take_grid(m, r_);
    left_ = take_grid(m, 2 * r_);
    right_ = take_grid(2 * r_, n);
    theta_ = this->template take<T>(r_);
    factor_ = this->template take<T>(r_);
    bits_ = this->template take<unsigned char>(static_cast<std::size_t>(m) * n);
    if (counts_)
      return;
    state_ = memory.states + number;
    square_ = memory.squares + number * n * n;
    values_ = memory.values + number * n;
    changes_ = memory.changes + number * memory.blocks;
    failed_ = memory.failed + number;
    unit_ = static_cast<T>(state_->unit);
    range_ = static_cast<T>(state_->range);
  }

  // Alone.
  SPLIC_INLINE void load(const MatrixItem &item, Record *record) {
    const bool sound = this->load_image(item, record);
    if (team_.rank() == 0) {
      *state_ = StepState();
      state_->unit = static_cast<double>(unit_);
      state_->range = static_cast<double>(range_);
      state_->sound = sound;
      *failed_ = 0;
    }
  }

  // Alone.
  SPLIC_INLINE void start(int pass) {
    const bool running = state_->sound && this->start_pass(pass);
    team_.sync();
    if (team_.rank() == 0)
      state_->running = running;
  }

  SPLIC_INLINE void square() {
    if (!state_->running)
      return;
    const int n = g_.n;
    this->template product<double>(
        n, n, g_.m, x_.transposed(), x_,
        [&](int i, int j, double sum) {
          if (i <= j)
            square_[i * n + j] = square_[j * n + i] = sum;
        },
        true);
  }

  // Alone. What the library shall not see, numbers that are none and what is left of a matrix that
  // has stopped, becomes the identity.
  SPLIC_INLINE void guard() {
    const int n = g_.n;
    double trace = 0;
    for (int i = 0; i < n; ++i)
      trace += square_[i * n + i];
    const bool wild = !(trace < Effort<T>::huge), running = state_->running;
    team_.sync();
    if (running && !wild)
      return;
    for_each_entry(n, n, [&](int i, int j) { square_[i * n + j] = i == j ? 1.0 : 0.0; });
    if (team_.rank() == 0)
      state_->wild = running;
  }

  // Alone. What the library has found, in the precision of the images.
  SPLIC_INLINE void take_triplets(int t, Record *record) {
    if (!state_->running)
      return;
    const int n = g_.n;
    const std::int32_t failed = *failed_;
    const bool good = failed == 0 && !state_->wild;
    const T none = good ? T(0) : static_cast<T>(__builtin_nan(""));
    for_each_entry(r_, n, [&](int p, int j) {
      right_(p, j) = static_cast<T>(square_[(n - 1 - p) * n + j]) + none;
    });
    for (int p = team_.rank(); p < r_; p += team_.size()) {
      const double theta = values_[n - 1 - p];
      theta_[p] = static_cast<T>(theta > 0 ? theta : 0) + none;
    }
    if (team_.rank() == 0) {
      if (t == 0)
        state_->delta = static_cast<double>(this->first_delta(static_cast<T>(values_[n - 1])));
      if (failed != 0 && record)
        record->failed = failed;
    }
  }

  SPLIC_INLINE void project() {
    if (!state_->running)
      return;
    product(g_.m, r_, g_.n, x_, right_.transposed(), kept_);
    this->weigh(static_cast<T>(state_->delta));
  }

  SPLIC_INLINE void sides() {
    if (state_->running)
      this->make_sides();
  }

  // This thread's share of the squared change.
  SPLIC_INLINE T advance() { return state_->running ? this->apply() : T(0); }
  SPLIC_INLINE void keep_change(int block, double change) { changes_[block] = change; }

  // Alone, after iteration t of a pass, at the end of an outer loop.
  SPLIC_INLINE void finish(int pass, int t, Record *record) {
    if (!state_->running)
      return;
    double change = 0;
    for (int block = 0; block < blocks_; ++block)
      change += changes_[block];
    T delta = static_cast<T>(state_->delta);
    bool diverged = false;
    const bool on = this->goes_on(record, pass, t, static_cast<T>(change), delta, diverged);
    team_.sync();
    if (team_.rank() == 0) {
      state_->delta = static_cast<double>(delta);
      state_->running = on;
      state_->sound = !diverged;
    }
  }

  // Alone.
  SPLIC_INLINE void store(const MatrixItem &item, T *sum) {
    this->store_image(item, state_->sound, sum);
  }

private:
  std::int64_t number_;
  int blocks_;
  StepState *state_ = nullptr;
  double *square_ = nullptr, *values_ = nullptr, *changes_ = nullptr;
  std::int32_t *failed_ = nullptr;
};

// Both passes over a batch. The runner has load(), start(pass), square(), guard(), decompose(),
// take_triplets(t), project(), sides(), advance(), finish(pass, t) and store(), each for all
// matrices; t counts iterations. It asks the device nothing.
template <class Runner> void run_steps(const Problem &problem, Runner &&runner) {
  const Options &o = problem.options;
  runner.load();
  for (int pass = 0; pass < problem.passes(); ++pass) {
    runner.start(pass);
    for (int t = 0; t < o.max_iterations;) {
      const int end =
          o.max_iterations - t < o.inner_iterations ? o.max_iterations : t + o.inner_iterations;
      for (; t < end; ++t) {
        runner.square();
        runner.guard();
        runner.decompose();
        runner.take_triplets(t);
        runner.project();
        runner.sides();
        runner.advance();
      }
      runner.finish(pass, t);
    }
  }
  runner.store();
}

} // namespace splic
