// A completion in steps for a batch of matrices, one for each phase of Algorithm 1: what all ways
// to decompose a matrix have in common.
//
// Between two steps all threads of all teams wait for each other (the end of a CUDA kernel). A step
// marked "alone" is for one team to a matrix; in the others the threads of several blocks share it,
// and nothing in them waits. A matrix that has stopped is passed over in every step.
#pragma once

#include "splic/effort.hpp"
#include "team/image.hpp"

namespace splic {

// What is kept of a matrix between two steps, besides its arrays.
struct StepState {
  double unit = 1, range = 1, delta = 0;
  std::int32_t sound = 1;   // no: NaN comes out
  std::int32_t running = 0; // in this pass
  std::int32_t wild = 0;    // X'X has overflowed: the next iterate is NaN
};

// The memory of a batch of matrices; the arrays of one lie `stride` bytes from those of the next.
struct StepMemory {
  unsigned char *arrays = nullptr;
  std::size_t stride = 0;
  StepState *states = nullptr;
  double *changes = nullptr; // a share of the squared change for each block
  int blocks = 1;            // to a matrix
};

// Base: an Iterate<T, Team>, or what is made of it.
template <class T, class Team, class Base> class Steps : protected Base {
protected:
  using Base::team_, Base::unit_, Base::range_;

  // To count what a matrix takes.
  SPLIC_INLINE explicit Steps(const Problem &problem) : Base(problem, Team()) {
    this->counts_ = true;
  }
  SPLIC_INLINE Steps(const Problem &problem, const Team &team, const StepMemory &memory,
                     std::int64_t number)
      : Base(problem, team), blocks_(memory.blocks), state_(memory.states + number),
        changes_(memory.changes + number * memory.blocks) {
    unit_ = static_cast<T>(state_->unit);
    range_ = static_cast<T>(state_->range);
  }

public:
  // Alone.
  SPLIC_INLINE void load(const MatrixItem &item, Record *record) {
    const bool sound = this->load_image(item, record);
    if (team_.rank() == 0) {
      *state_ = StepState();
      state_->unit = static_cast<double>(unit_);
      state_->range = static_cast<double>(range_);
      state_->sound = sound;
    }
  }

  // Alone.
  SPLIC_INLINE void start(int pass) {
    const bool running = state_->sound && this->start_pass(pass);
    team_.sync();
    if (team_.rank() == 0)
      state_->running = running;
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

protected:
  int blocks_ = 1;
  StepState *state_ = nullptr;
  double *changes_ = nullptr;
};

// Both passes over a batch. The runner has load(), start(pass), find(moment), sides(), advance(),
// finish(pass, t) and store(), each for all matrices; t counts iterations. It asks the device
// nothing.
template <class Runner> void run_steps(const Problem &problem, Runner &&runner) {
  const Options &o = problem.options;
  runner.load();
  for (int pass = 0; pass < problem.passes(); ++pass) {
    runner.start(pass);
    for (int t = 0, outer = 0; t < o.max_iterations; ++outer) {
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      for (int i = 0; i < inner; ++i, ++t) {
        runner.find({outer, i, inner, left - i});
        runner.sides();
        runner.advance();
      }
      runner.finish(pass, t);
    }
  }
  runner.store();
}

} // namespace splic
