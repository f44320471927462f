// The order of the steps of team/tiled.hpp, for all matrices of a batch, and which of their
// functions each step is. Kernels run them, or threads of the host.
#pragma once

#include "team/tiled.hpp"

namespace splic {

// Steps with a team to a matrix.
enum class Alone {
  load,
  start,
  factorise,
  factorise_left,
  diagonalise,
  judge,
  conclude,
  finish,
  store
};
// Whether a step solves a small problem, in memory of its own.
template <Alone step>
constexpr bool kSmall =
    step == Alone::factorise || step == Alone::factorise_left || step == Alone::diagonalise;

// Steps that several teams share; all but two are a product, of which each team has a tile.
enum class Shared {
  square,
  apply,
  apply_back,
  square_basis,
  make_basis,
  project,
  square_projected,
  turn_left,
  turn_rest,
  square_left,
  make_left,
  right,
  sides,
  advance
};

// Takes a step of the search. `small`: memory of a small problem.
template <Alone step, class Matrix>
SPLIC_INLINE void search(Matrix &matrix, const SearchStep &at, unsigned char *small) {
  if constexpr (step == Alone::factorise) {
    matrix.factorise_basis(at, small);
  } else if constexpr (step == Alone::factorise_left) {
    matrix.factorise_left(small);
  } else if constexpr (step == Alone::diagonalise) {
    matrix.diagonalise(at, small);
  } else if constexpr (step == Alone::judge) {
    matrix.judge_all(at);
  } else {
    static_assert(step == Alone::conclude, "no step of the search");
    matrix.conclude(at);
  }
}
// Takes a step that is shared.
template <Shared step, class Matrix> SPLIC_INLINE void share(Matrix &matrix, const SearchStep &at) {
  if constexpr (step == Shared::square) {
    matrix.square();
  } else if constexpr (step == Shared::apply) {
    matrix.apply(at);
  } else if constexpr (step == Shared::apply_back) {
    matrix.apply_back(at);
  } else if constexpr (step == Shared::square_basis) {
    matrix.square_basis(at);
  } else if constexpr (step == Shared::make_basis) {
    matrix.make_basis(at);
  } else if constexpr (step == Shared::project) {
    matrix.project(at);
  } else if constexpr (step == Shared::square_projected) {
    matrix.square_projected(at);
  } else if constexpr (step == Shared::turn_left) {
    matrix.turn_left(at);
  } else if constexpr (step == Shared::turn_rest) {
    matrix.turn_rest(at);
  } else if constexpr (step == Shared::square_left) {
    matrix.square_left();
  } else if constexpr (step == Shared::make_left) {
    matrix.make_left();
  } else if constexpr (step == Shared::right) {
    matrix.right();
  } else {
    static_assert(step == Shared::sides, "its result is not handed on here");
    matrix.sides();
  }
}

// Finds the triplets. A Runner derives from it: run_alone<step>(at) and run_shared<step>(at, tiles)
// take a step for all matrices.
template <class T, class Runner> class TileSearch {
public:
  explicit TileSearch(const Problem &problem) : sizes_(problem), rank_(problem.options.rank) {}

  void find(const Moment &moment) {
    const int k = sizes_.vectors(moment);
    const int searches = k == sizes_.g.n ? 1 : shared_searches<T>(moment);
    for (int repeat = 0; repeat < searches; ++repeat) {
      at_ = {};
      at_.moment = moment;
      at_.k = k;
      at_.repeat = repeat;
      refine(*this, k, repeat == 0 ? sizes_.applications(moment) : kRepeatApplications);
      rayleigh_ritz(*this, k);
      by_one<Alone::judge>();
    }
    ++at_.repeat;
    by_one<Alone::conclude>();
  }

  // ---- as refine() and rayleigh_ritz() ask ----

  void square(int k, int steps) {
    if (sizes_.square_pays(k, steps))
      product<Shared::square>(sizes_.g.n, sizes_.g.n);
  }
  // Some matrix may be steep.
  int first_step(int) const { return -1; }
  int times(int step) const { return step < 0 ? 1 : 2; }
  void apply(int k, int step, int steps) {
    at_.step = step;
    at_.steps = steps;
    product<Shared::apply>(sizes_.g.m, k);
    product<Shared::apply_back>(sizes_.g.n, k);
  }
  void orthonormalise(int k, int step, int time, int steps) {
    at_.step = step;
    at_.steps = steps;
    at_.time = time;
    product<Shared::square_basis>(k, k);
    by_one<Alone::factorise>();
    product<Shared::make_basis>(sizes_.g.n, k);
  }
  void project(int k) { product<Shared::project>(sizes_.g.m, k); }
  void square_projected(int k) { product<Shared::square_projected>(k, k); }
  void diagonalise(int) { by_one<Alone::diagonalise>(); }
  void turn_left(int) { product<Shared::turn_left>(sizes_.g.m, rank_); }
  void turn_rest(int k) {
    if (k > rank_)
      product<Shared::turn_rest>(sizes_.g.n, k - rank_);
  }
  void orthonormalise_left() {
    product<Shared::square_left>(rank_, rank_);
    by_one<Alone::factorise_left>();
    product<Shared::make_left>(sizes_.g.m, rank_);
  }
  void right() { product<Shared::right>(rank_, sizes_.g.n); }

protected:
  int tiles() const { return Tile::count(sizes_.g.m, sizes_.g.n); } // of X

private:
  Runner &runner() { return static_cast<Runner &>(*this); }
  template <Alone which> void by_one() { runner().template run_alone<which>(at_); }
  template <Shared step> void product(int rows, int columns) {
    runner().template run_shared<step>(at_, Tile::count(rows, columns));
  }

  BlockSizes sizes_;
  int rank_;
  SearchStep at_;
};

} // namespace splic
