// The steps of team/tiled.hpp as kernels: products in tiles by many blocks, small problems by one.
#include "errors.hpp"
#include "team.cuh"
#include "team/tiled.hpp"

namespace splic {
namespace {

// What every step is handed.
struct Batch {
  Problem problem;
  Launch launch;
  TiledMemory memory;
  unsigned char *small; // memory of the small problems, where it is not shared memory
  std::size_t small_stride;
};

// Steps with a block to a matrix.
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

template <class T, Alone step>
__global__ void __launch_bounds__(kMostThreads)
    alone_kernel(const __grid_constant__ Batch batch, const SearchStep at, int pass, int t) {
  unsigned char *const shared = launch_shared();
  const BlockTeam block{{}, reinterpret_cast<double *>(shared)};
  const std::int64_t place = blockIdx.x;
  Record *record = batch.launch.records ? batch.launch.records + place : nullptr;
  Tiled<T, BlockTeam> matrix(batch.problem, block, batch.memory, place);
  unsigned char *const small =
      batch.small ? batch.small + place * batch.small_stride : shared + kScratchBytes;
  __syncthreads();
  if constexpr (step == Alone::load) {
    if (record && threadIdx.x == 0)
      *record = Record();
    __syncthreads();
    matrix.load(item_of(batch.problem, batch.launch, place), record);
  } else if constexpr (step == Alone::start) {
    matrix.start(pass);
  } else if constexpr (step == Alone::factorise) {
    matrix.factorise_basis(at, small);
  } else if constexpr (step == Alone::factorise_left) {
    matrix.factorise_left(small);
  } else if constexpr (step == Alone::diagonalise) {
    matrix.diagonalise(at, small);
  } else if constexpr (step == Alone::judge) {
    matrix.judge_all(at);
  } else if constexpr (step == Alone::conclude) {
    matrix.conclude(at);
  } else if constexpr (step == Alone::finish) {
    matrix.finish(pass, t, record);
  } else {
    matrix.store(item_of(batch.problem, batch.launch, place),
                 sum_of<T>(batch.problem, batch.launch, place));
  }
}

// Steps that blocks share; all but one are a product, of which each has a tile.
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

template <class T, Shared step>
__global__ void __launch_bounds__(Tile::kThreads)
    shared_kernel(const __grid_constant__ Batch batch, const SearchStep at, int tiles) {
  const int number = static_cast<int>(blockIdx.x) % tiles;
  const TileTeam team{{}, number, tiles};
  Tiled<T, TileTeam> matrix(batch.problem, team, batch.memory, blockIdx.x / tiles);
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
  } else if constexpr (step == Shared::sides) {
    matrix.sides();
  } else {
    const Block<Tile::kThreads> block{{}, reinterpret_cast<double *>(launch_shared())};
    const double change = block.sum(static_cast<double>(matrix.advance()));
    if (threadIdx.x == 0)
      matrix.keep_change(number, change);
  }
}

// Where the parts of a batch lie in its workspace.
struct Parts {
  std::size_t states, searches, changes, small, arrays, end, stride, small_stride;
  std::size_t shared; // of a small problem, and what it is summed up with
  int tiles;          // of X

  Parts(const Problem &problem, std::size_t shared_limit, int count) {
    const Geometry g(problem);
    const auto items = static_cast<std::size_t>(count);
    const bool wide = problem.dtype == DType::f64;
    stride =
        wide ? Tiled<double, BlockTeam>::bytes(problem) : Tiled<float, BlockTeam>::bytes(problem);
    small_stride = wide ? Tiled<double, BlockTeam>::small_bytes(problem)
                        : Tiled<float, BlockTeam>::small_bytes(problem);
    tiles = Tile::count(g.m, g.n);
    const bool fits = small_stride + kScratchBytes <= shared_limit;
    shared = kScratchBytes + (fits ? small_stride : 0);
    small_stride = fits ? 0 : small_stride;
    states = 0;
    searches = states + aligned(items * sizeof(StepState));
    changes = searches + aligned(items * sizeof(SearchState));
    small = changes + aligned(items * static_cast<std::size_t>(tiles) * sizeof(double));
    arrays = small + items * small_stride;
    end = arrays + items * stride;
  }
};

// Launches the steps in the order of run_steps() and find_by_tiles().
template <class T> class Runner {
public:
  Runner(const Problem &problem, const Launch &launch, std::size_t shared_limit,
         cudaStream_t stream)
      : parts_(problem, shared_limit, launch.count), sizes_(problem), rank_(problem.options.rank),
        stream_(stream) {
    unsigned char *const base = launch.workspace;
    batch_.problem = problem;
    batch_.launch = launch;
    batch_.memory.arrays = base + parts_.arrays;
    batch_.memory.stride = parts_.stride;
    batch_.memory.states = reinterpret_cast<StepState *>(base + parts_.states);
    batch_.memory.searches = reinterpret_cast<SearchState *>(base + parts_.searches);
    batch_.memory.changes = reinterpret_cast<double *>(base + parts_.changes);
    batch_.memory.blocks = parts_.tiles;
    batch_.small = parts_.small_stride ? base + parts_.small : nullptr;
    batch_.small_stride = parts_.small_stride;
    allow<Alone::factorise>();
    allow<Alone::factorise_left>();
    allow<Alone::diagonalise>();
  }
  const BlockSizes &sizes() const { return sizes_; }

  void load() { alone<Alone::load>(kScratchBytes); }
  void start(int pass) { alone<Alone::start>(kScratchBytes, pass); }
  void find(const Moment &moment) { find_by_tiles<T>(*this, moment); }
  void sides() { shared<Shared::sides>(parts_.tiles); }
  void advance() { shared<Shared::advance>(parts_.tiles); }
  void finish(int pass, int t) { alone<Alone::finish>(kScratchBytes, pass, t); }
  void store() { alone<Alone::store>(kScratchBytes); }

  void begin(const Moment &moment, int k, int repeat) {
    at_ = {};
    at_.moment = moment;
    at_.k = k;
    at_.repeat = repeat;
  }
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
    alone<Alone::factorise>(parts_.shared);
    product<Shared::make_basis>(sizes_.g.n, k);
  }
  void project(int k) { product<Shared::project>(sizes_.g.m, k); }
  void square_projected(int k) { product<Shared::square_projected>(k, k); }
  void diagonalise(int) { alone<Alone::diagonalise>(parts_.shared); }
  void turn_left(int) { product<Shared::turn_left>(sizes_.g.m, rank_); }
  void turn_rest(int k) {
    if (k > rank_)
      product<Shared::turn_rest>(sizes_.g.n, k - rank_);
  }
  void orthonormalise_left() {
    product<Shared::square_left>(rank_, rank_);
    alone<Alone::factorise_left>(parts_.shared);
    product<Shared::make_left>(sizes_.g.m, rank_);
  }
  void right() { product<Shared::right>(rank_, sizes_.g.n); }
  void judge() { alone<Alone::judge>(kScratchBytes); }
  void conclude() {
    ++at_.repeat;
    alone<Alone::conclude>(kScratchBytes);
  }

private:
  template <Alone which> void allow() const {
    check(allow_shared(reinterpret_cast<const void *>(alone_kernel<T, which>), parts_.shared),
          "completion kernel");
  }
  template <Alone which> void alone(std::size_t bytes, int pass = 0, int t = 0) const {
    check(launch(alone_kernel<T, which>, batch_.launch.count, kMostThreads, bytes, stream_, batch_,
                 at_, pass, t),
          "completion kernel");
  }
  template <Shared which> void shared(int tiles) const {
    check(launch(shared_kernel<T, which>, std::int64_t{batch_.launch.count} * tiles, Tile::kThreads,
                 kTileScratchBytes + Tile::bytes<T>, stream_, batch_, at_, tiles),
          "completion kernel");
  }
  template <Shared which> void product(int rows, int columns) const {
    shared<which>(Tile::count(rows, columns));
  }

  Parts parts_;
  BlockSizes sizes_;
  int rank_;
  cudaStream_t stream_;
  Batch batch_;
  SearchStep at_;
};

} // namespace

std::size_t tiled_workspace(const Problem &problem, std::size_t shared_limit, int count) {
  return Parts(problem, shared_limit, count).end;
}

int tiled_blocks(const Problem &problem) {
  const Geometry g(problem);
  return Tile::count(g.m, g.n);
}

void launch_tiled(const Problem &problem, const Launch &launch, std::size_t shared_limit,
                  cudaStream_t stream) {
  if (problem.dtype == DType::f64)
    run_steps(problem, Runner<double>(problem, launch, shared_limit, stream));
  else
    run_steps(problem, Runner<float>(problem, launch, shared_limit, stream));
}

} // namespace splic
