// One completion, both passes, by a team of threads that share fast memory: a CUDA thread block, or
// (in tests) threads of the host.
#pragma once

#include "team/block_iteration.hpp"

namespace splic {

template <class T, class Team> class Fused : BlockIteration<T, Team> {
  using Base = BlockIteration<T, Team>;
  using Base::problem_, Base::theta_, Base::team_, Base::sizes_;

public:
  // Bytes of shared memory.
  SPLIC_INLINE static std::size_t bytes(const Problem &problem) {
    Fused fused(problem, Team());
    fused.counts_ = true;
    return fused.lay_out(nullptr);
  }

  SPLIC_INLINE Fused(const Problem &problem, const Team &team) : Base(problem, team) {}

  // Completes the item. `memory`: bytes() of it, aligned to 16. `record`: may be null. `sum`: the
  // result goes there, or, if it is null, into the target.
  SPLIC_INLINE void run(unsigned char *memory, const MatrixItem &item, Record *record, T *sum) {
    this->lay_out(memory);
    this->tabulate();
    bool sound = this->load_image(item, record);
    for (int pass = 0; sound && pass < problem_.passes(); ++pass)
      if (this->start_pass(pass))
        sound = complete_pass(record, pass);
    this->store_image(item, sound, sum);
  }

private:
  // False where it diverges.
  SPLIC_INLINE bool complete_pass(Record *record, int pass) {
    const Options &o = problem_.options;
    T delta = T(0);
    bool diverged = false;
    int t = 0;
    for (int outer = 0; t < o.max_iterations; ++outer) {
      const int left = o.max_iterations - t;
      const int inner = left < o.inner_iterations ? left : o.inner_iterations;
      T change = T(0);
      for (int i = 0; i < inner; ++i, ++t) {
        find({outer, i, inner, left - i});
        if (t == 0)
          delta = this->first_delta(theta_[0]);
        this->weigh(delta);
        this->make_sides();
        change = this->apply();
      }
      if (!this->goes_on(record, pass, t, team_.sum(change), delta, diverged))
        break;
    }
    return !diverged;
  }

  SPLIC_INLINE void find(const Moment &moment) {
    if (moment.cold())
      this->start_cold(sizes_.vectors(moment));
    this->squared_ = false;
    this->search(moment, 0, Base::kNothingBefore);
  }
};

} // namespace splic
