// The steps of team/tiled.hpp as kernels: products in tiles by many blocks, small problems by one.
#include "errors.hpp"
#include "steps.cuh"
#include "team/tiled_search.hpp"

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

template <class T, Alone step>
__global__ void __launch_bounds__(kMostThreads)
    alone_kernel(const __grid_constant__ Batch batch, const SearchStep at, int pass, int t) {
  unsigned char *const shared = launch_shared();
  const BlockTeam block{{}, reinterpret_cast<double *>(shared)};
  const std::int64_t place = blockIdx.x;
  Tiled<T, BlockTeam> matrix(batch.problem, block, batch.memory, place);
  __syncthreads();
  if constexpr (step == Alone::load)
    load_matrix(matrix, batch.problem, batch.launch, place);
  else if constexpr (step == Alone::start)
    matrix.start(pass);
  else if constexpr (step == Alone::finish)
    matrix.finish(pass, t, record_of(batch.launch, place));
  else if constexpr (step == Alone::store)
    store_matrix<T>(matrix, batch.problem, batch.launch, place);
  else
    search<step>(matrix, at,
                 batch.small ? batch.small + place * batch.small_stride : shared + kScratchBytes);
}

template <class T, Shared step>
__global__ void __launch_bounds__(Tile::kThreads)
    shared_kernel(const __grid_constant__ Batch batch, const SearchStep at, int tiles) {
  const int number = static_cast<int>(blockIdx.x) % tiles;
  const TileTeam team{{}, number, tiles};
  Tiled<T, TileTeam> matrix(batch.problem, team, batch.memory, blockIdx.x / tiles);
  if constexpr (step == Shared::advance)
    advance_matrix<Tile::kThreads>(matrix, number);
  else
    share<step>(matrix, at);
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

// Launches the steps in the order of run_steps() and TileSearch.
template <class T> class Runner : public TileSearch<T, Runner<T>> {
public:
  Runner(const Problem &problem, const Launch &launch, std::size_t shared_limit,
         cudaStream_t stream)
      : TileSearch<T, Runner>(problem), parts_(problem, shared_limit, launch.count),
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

  void load() { run_alone<Alone::load>({}); }
  void start(int pass) { run_alone<Alone::start>({}, pass); }
  void sides() { run_shared<Shared::sides>({}, parts_.tiles); }
  void advance() { run_shared<Shared::advance>({}, parts_.tiles); }
  void finish(int pass, int t) { run_alone<Alone::finish>({}, pass, t); }
  void store() { run_alone<Alone::store>({}); }

  template <Alone which> void run_alone(const SearchStep &at, int pass = 0, int t = 0) {
    check(launch(alone_kernel<T, which>, batch_.launch.count, kMostThreads,
                 kSmall<which> ? parts_.shared : kScratchBytes, stream_, batch_, at, pass, t),
          "completion kernel");
  }
  template <Shared which> void run_shared(const SearchStep &at, int tiles) {
    check(launch(shared_kernel<T, which>, std::int64_t{batch_.launch.count} * tiles, Tile::kThreads,
                 kTileScratchBytes + Tile::bytes<T>, stream_, batch_, at, tiles),
          "completion kernel");
  }

private:
  template <Alone which> void allow() const {
    check(allow_shared(reinterpret_cast<const void *>(alone_kernel<T, which>), parts_.shared),
          "completion kernel");
  }

  Parts parts_;
  cudaStream_t stream_;
  Batch batch_;
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
