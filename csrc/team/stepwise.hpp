// A completion in steps around a library that decomposes symmetric matrices in batches: the squared
// singular values and the right singular vectors of X are the eigenvalues and eigenvectors of X'X,
// which is summed up in float64.
#pragma once

#include "team/iterate.hpp"
#include "team/steps.hpp"

namespace splic {

// Matrices and eigenvalues are packed, as the library wants them.
struct LibraryMemory : StepMemory {
  double *squares = nullptr;      // X'X, n x n; then its eigenvectors, in rows, the last one first
  double *values = nullptr;       // n eigenvalues, rising
  std::int32_t *failed = nullptr; // not 0: the library has failed on the matrix
};

template <class T, class Team> class Stepwise : public Steps<T, Team, Iterate<T, Team>> {
  using Base = Steps<T, Team, Iterate<T, Team>>;
  using Base::problem_, Base::g_, Base::r_, Base::x_, Base::left_, Base::kept_, Base::right_;
  using Base::take_grid, Base::each, Base::for_each_entry, Base::product;
  using Base::team_, Base::theta_, Base::factor_, Base::bits_;
  using Base::used_, Base::memory_, Base::state_;

public:
  // Bytes of the arrays of a matrix.
  SPLIC_INLINE static std::size_t bytes(const Problem &problem) {
    Stepwise steps(problem);
    return (steps.used_ + 255) / 256 * 256;
  }

  SPLIC_INLINE Stepwise(const Problem &problem, const Team &team, const LibraryMemory &memory,
                        std::int64_t number)
      : Base(problem, team, memory, number) {
    const std::int64_t n = g_.n;
    lay_out(memory.arrays + number * memory.stride);
    square_ = memory.squares + number * n * n;
    values_ = memory.values + number * n;
    failed_ = memory.failed + number;
  }

  // Alone.
  SPLIC_INLINE void load(const MatrixItem &item, Record *record) {
    Base::load(item, record);
    if (team_.rank() == 0)
      *failed_ = 0;
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
  SPLIC_INLINE void take_triplets(bool first, Record *record) {
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
      if (first)
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

private:
  SPLIC_INLINE explicit Stepwise(const Problem &problem) : Base(problem) { lay_out(nullptr); }

  SPLIC_INLINE void lay_out(unsigned char *memory) {
    const int m = g_.m, n = g_.n;
    memory_ = memory;
    used_ = 0;
    x_ = take_grid(m, n);
    kept_ = take_grid(m, r_);
    left_ = take_grid(m, 2 * r_);
    right_ = take_grid(2 * r_, n);
    theta_ = this->template take<T>(r_);
    factor_ = this->template take<T>(r_);
    bits_ = this->template take<unsigned char>(static_cast<std::size_t>(m) * n);
  }

  double *square_ = nullptr, *values_ = nullptr;
  std::int32_t *failed_ = nullptr;
};

// The steps of such a runner that find the triplets.
template <class Runner> void find_by_library(Runner &&runner, const Moment &moment) {
  runner.square();
  runner.guard();
  runner.decompose();
  runner.take_triplets(moment.cold());
  runner.project();
}

} // namespace splic
