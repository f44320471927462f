// A completion in steps with the block iteration, whose products are shared by many blocks of
// threads (team/tile.hpp): for matrices that do not fit the shared memory of one.
//
// Nobody is asked how a matrix gets on: the steps that one of them may need are taken for all, and
// those that have no need of a step pass it over. What depends on a matrix, such as whether its
// spectrum is steep, each block reads from what the steps before have left. Steps marked "alone"
// are those of team/steps.hpp.
#pragma once

#include "team/block_iteration.hpp"
#include "team/steps.hpp"

namespace splic {

// How far the search for the triplets of a matrix has come.
struct SearchState {
  double before = 0;        // what was missed the last time
  std::int32_t poor = 0;    // what there is is not good enough
  std::int32_t squared = 0; // X'X is there
  std::int32_t well = 0;    // the last Cholesky factor came out well
};

struct TiledMemory : StepMemory {
  SearchState *searches = nullptr;
};

// What a step is told besides: where in the search it stands.
struct SearchStep {
  Moment moment = {0, 0, 0, 0};
  int k = 0;                         // vectors
  int step = 0, steps = 0, time = 0; // as in refine()
  int repeat = 0;                    // searches before this one
};

// Searches whose steps are taken for all matrices, the first one included: float64 asks for more.
// What a matrix needs beyond that is left to one team.
template <class T> SPLIC_HD int shared_searches(const Moment &moment) {
  return (sizeof(T) == sizeof(float) ? 2 : 5) + (moment.cold() ? 1 : 0);
}

template <class T, class Team> class Tiled : public Steps<T, Team, BlockIteration<T, Team>> {
  using Base = Steps<T, Team, BlockIteration<T, Team>>;
  using Algebra = TeamAlgebra<T, Team>;
  using Base::c_, Base::t_, Base::theta_, Base::team_, Base::state_;
  using Base::g_, Base::r_, Base::sizes_, Base::w_, Base::u_, Base::squared_;
  using Base::gram, Base::each, Base::each_entry;

public:
  // Bytes of the arrays of a matrix, and of those of its small problems, which are better kept in
  // shared memory.
  SPLIC_INLINE static std::size_t bytes(const Problem &problem) {
    Tiled matrix(problem);
    return (matrix.lay_out_all(nullptr) + 255) / 256 * 256;
  }
  SPLIC_INLINE static std::size_t small_bytes(const Problem &problem) {
    Tiled matrix(problem);
    matrix.Algebra::lay_out(nullptr, matrix.sizes_.most());
    return (matrix.used_ + 255) / 256 * 256;
  }

  SPLIC_INLINE Tiled(const Problem &problem, const Team &team, const TiledMemory &memory,
                     std::int64_t number)
      : Base(problem, team, memory, number), search_(memory.searches + number) {
    lay_out_all(memory.arrays + number * memory.stride);
  }

  // ---- alone ----

  SPLIC_INLINE void load(const MatrixItem &item, Record *record) {
    this->tabulate();
    Base::load(item, record);
  }

  SPLIC_INLINE void start(int pass) {
    Base::start(pass);
    team_.sync();
    if (state_->running)
      this->start_cold(sizes_.early);
    if (team_.rank() == 0)
      begin_search();
  }

  // Of the Gram matrix of a basis, or of the kept left vectors. `memory`: small_bytes() of it.
  SPLIC_INLINE void factorise_basis(const SearchStep &at, unsigned char *memory) {
    if (!searches())
      return;
    const bool is_steep = this->steep();
    if (!this->needs_basis(at.step, at.time, at.steps, is_steep))
      return;
    const bool squared = squares(at, is_steep);
    factorise_small(at.k, memory);
    if (team_.rank() == 0)
      search_->squared = search_->squared || squared;
  }
  SPLIC_INLINE void factorise_left(unsigned char *memory) {
    if (searches())
      factorise_small(r_, memory);
  }

  SPLIC_INLINE void diagonalise(const SearchStep &at, unsigned char *memory) {
    if (!searches())
      return;
    const Grid<T> t = t_;
    T *const theta = theta_;
    take_small(at.k, memory);
    this->solve_small(at.k);
    each_entry(at.k, at.k, [&](int i, int j) { t(i, j) = t_(i, j); });
    each(at.k, [&](int p) { theta[p] = theta_[p]; });
  }

  SPLIC_INLINE void judge_all(const SearchStep &at) {
    if (!searches())
      return;
    T before = static_cast<T>(search_->before);
    const bool poor = this->judge(at.moment, at.k, at.repeat, before);
    if (team_.rank() == 0) {
      search_->poor = poor;
      search_->before = static_cast<double>(before);
    }
  }

  // Ends the search, for all.
  SPLIC_INLINE void conclude(const SearchStep &at) {
    if (!state_->running)
      return;
    if (search_->poor) {
      squared_ = search_->squared != 0;
      this->search(at.moment, at.repeat, static_cast<T>(search_->before));
    }
    const bool cold = at.moment.cold();
    const T delta = cold ? this->first_delta(theta_[0]) : static_cast<T>(state_->delta);
    this->weigh(delta);
    if (team_.rank() != 0)
      return;
    if (cold)
      state_->delta = static_cast<double>(delta);
    begin_search();
  }

  // ---- shared; each is one product ----

  SPLIC_INLINE void square() {
    if (searches() && !this->steep() && !search_->squared)
      this->square_matrix();
  }
  SPLIC_INLINE void apply(const SearchStep &at) {
    if (!searches())
      return;
    const bool is_steep = this->steep();
    const Grid<T> from = this->basis_before(at.step, is_steep);
    if (squares(at, is_steep))
      this->apply_square(at.k, at.step, at.steps, from, true);
    else
      this->apply_matrix(at.k, from);
  }
  SPLIC_INLINE void apply_back(const SearchStep &at) {
    if (!searches())
      return;
    const bool is_steep = this->steep();
    if (!squares(at, is_steep))
      this->apply_square(at.k, at.step, at.steps, this->basis_before(at.step, is_steep), false);
  }
  SPLIC_INLINE void square_basis(const SearchStep &at) {
    if (searches() && this->needs_basis(at.step, at.time, at.steps, this->steep()))
      gram(g_.n, at.k, this->raw_basis(at.step, at.time), c_);
  }
  SPLIC_INLINE void make_basis(const SearchStep &at) {
    if (!searches())
      return;
    const bool is_steep = this->steep();
    if (this->needs_basis(at.step, at.time, at.steps, is_steep))
      this->multiply_basis(at.k, this->raw_basis(at.step, at.time),
                           this->new_basis(at.step, at.time, is_steep),
                           search_->well || at.steps > 0);
  }
  SPLIC_INLINE void project(const SearchStep &at) {
    if (searches())
      this->project_basis(at.k);
  }
  SPLIC_INLINE void square_projected(const SearchStep &at) {
    if (searches())
      gram(g_.m, at.k, w_, c_);
  }
  SPLIC_INLINE void turn_left(const SearchStep &at) {
    if (searches())
      this->multiply_left(at.k);
  }
  SPLIC_INLINE void turn_rest(const SearchStep &at) {
    if (searches())
      this->multiply_rest(at.k);
  }
  SPLIC_INLINE void square_left() {
    if (searches())
      gram(g_.m, r_, u_, c_);
  }
  SPLIC_INLINE void make_left() {
    if (searches())
      this->multiply_kept();
  }
  SPLIC_INLINE void right() {
    if (searches())
      this->multiply_right();
  }

private:
  SPLIC_INLINE explicit Tiled(const Problem &problem) : Base(problem) {}

  SPLIC_INLINE std::size_t lay_out_all(unsigned char *memory) {
    this->sectors_ = true;
    return this->lay_out(memory);
  }

  SPLIC_INLINE bool searches() const { return state_->running && search_->poor; }
  SPLIC_INLINE void begin_search() {
    search_->before = static_cast<double>(Base::kNothingBefore);
    search_->poor = 1;
    search_->squared = 0;
  }
  // Whether this refinement works with X'X.
  SPLIC_INLINE bool squares(const SearchStep &at, bool is_steep) const {
    return !is_steep && (search_->squared || sizes_.square_pays(at.k, at.steps));
  }

  // The small problem of C, in other memory.
  SPLIC_INLINE void take_small(int k, unsigned char *memory) {
    const Grid<T> c = c_;
    this->sectors_ = false;
    Algebra::lay_out(memory, sizes_.most());
    each_entry(k, k, [&](int i, int j) { c_(i, j) = c(i, j); });
  }
  SPLIC_INLINE void factorise_small(int k, unsigned char *memory) {
    const Grid<T> t = t_;
    take_small(k, memory);
    const bool well = this->cholesky(k);
    each_entry(k, k, [&](int i, int j) { t(i, j) = t_(i, j); });
    if (team_.rank() == 0)
      search_->well = well;
  }

  SearchState *search_ = nullptr;
};

} // namespace splic
