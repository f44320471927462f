// The steps of team/stepwise.hpp as kernels, with cuSOLVER's batched eigensolver between them.
#include <algorithm>

#include "cusolver_api.hpp"
#include "errors.hpp"
#include "steps.cuh"
#include "team/stepwise.hpp"

namespace splic {
namespace {

constexpr int kThreads = kMostThreads; // of a block
constexpr int kMostBlocks = 64;

// What every step is handed.
struct Batch {
  Problem problem;
  Launch launch;
  LibraryMemory memory;
};

// Each step is a function of the steps of one matrix. Those with kAlone have a block to a
// matrix, in the others memory.blocks blocks share one.
enum class Step { load, start, square, guard, take, project, sides, advance, finish, store };

template <Step step>
constexpr bool kAlone =
    step != Step::square && step != Step::project && step != Step::sides && step != Step::advance;

template <class T, Step step>
__global__ void __launch_bounds__(kThreads)
    step_kernel(const __grid_constant__ Batch batch, int pass, int t) {
  if constexpr (kAlone<step>) {
    const BlockTeam block{{}, reinterpret_cast<double *>(launch_shared())};
    const std::int64_t place = blockIdx.x;
    Stepwise<T, BlockTeam> steps(batch.problem, block, batch.memory, place);
    __syncthreads();
    if constexpr (step == Step::load) {
      load_matrix(steps, batch.problem, batch.launch, place);
    } else if constexpr (step == Step::start) {
      steps.start(pass);
    } else if constexpr (step == Step::guard) {
      steps.guard();
    } else if constexpr (step == Step::take) {
      steps.take_triplets(t == 0, record_of(batch.launch, place));
    } else if constexpr (step == Step::finish) {
      steps.finish(pass, t, record_of(batch.launch, place));
    } else {
      store_matrix<T>(steps, batch.problem, batch.launch, place);
    }
  } else {
    const int blocks = batch.memory.blocks, number = static_cast<int>(blockIdx.x) % blocks;
    const GridTeam team{{}, number * kThreads, blocks * kThreads};
    Stepwise<T, GridTeam> steps(batch.problem, team, batch.memory, blockIdx.x / blocks);
    if constexpr (step == Step::square) {
      steps.square();
    } else if constexpr (step == Step::project) {
      steps.project();
    } else if constexpr (step == Step::sides) {
      steps.sides();
    } else {
      advance_matrix<kThreads>(steps, number);
    }
  }
}

// Never launched: that it prefers so much shared memory, in percent, is the mark of a device, which
// a reset takes back.
__global__ void mark_kernel() {}
constexpr int kMark = 37;

// Where the parts of a batch lie in its workspace.
struct Parts {
  std::size_t states, squares, values, changes, failed, arrays, solver, end, solver_bytes, stride;
  int blocks;

  Parts(const Problem &problem, const EigenSolver &eigen, int count) {
    const Geometry g(problem);
    const auto items = static_cast<std::size_t>(count), n = static_cast<std::size_t>(g.n);
    stride = problem.dtype == DType::f64 ? Stepwise<double, BlockTeam>::bytes(problem)
                                         : Stepwise<float, BlockTeam>::bytes(problem);
    // As many as the tiles of 4 x 4 entries keep busy: a matter of the size of the matrix alone, so
    // that results do not depend on the batch.
    const std::int64_t tiles = std::int64_t{g.m} * g.n / 16;
    blocks = static_cast<int>(std::clamp<std::int64_t>(tiles / kThreads, 1, kMostBlocks));
    states = 0;
    squares = states + aligned(items * sizeof(StepState));
    values = squares + aligned(items * n * n * sizeof(double));
    changes = values + aligned(items * n * sizeof(double));
    failed = changes + aligned(items * static_cast<std::size_t>(blocks) * sizeof(double));
    arrays = failed + aligned(items * sizeof(std::int32_t));
    solver = arrays + items * stride;
    solver_bytes = eigen.workspace(g.n, count);
    end = solver + aligned(solver_bytes);
  }
};

// Launches the steps in the order of run_steps().
template <class T> class Runner {
public:
  Runner(const Problem &problem, const Launch &launch, EigenSolver &eigen, cudaStream_t stream)
      : parts_(problem, eigen, launch.count), n_(Geometry(problem).n), eigen_(eigen),
        stream_(stream) {
    unsigned char *const base = launch.workspace;
    batch_.problem = problem;
    batch_.launch = launch;
    batch_.memory.arrays = base + parts_.arrays;
    batch_.memory.stride = parts_.stride;
    batch_.memory.states = reinterpret_cast<StepState *>(base + parts_.states);
    batch_.memory.squares = reinterpret_cast<double *>(base + parts_.squares);
    batch_.memory.values = reinterpret_cast<double *>(base + parts_.values);
    batch_.memory.changes = reinterpret_cast<double *>(base + parts_.changes);
    batch_.memory.failed = reinterpret_cast<std::int32_t *>(base + parts_.failed);
    batch_.memory.blocks = parts_.blocks;
    // What no step has written, such as X'X of a matrix that is never started, is 0.
    check(cudaMemsetAsync(base, 0, parts_.arrays, stream), "clearing of the workspace");
  }
  void load() { step<Step::load>(0, 0); }
  void start(int pass) { step<Step::start>(pass, 0); }
  void find(const Moment &moment) { find_by_library(*this, moment); }
  void square() { step<Step::square>(0, 0); }
  void guard() { step<Step::guard>(0, 0); }
  void decompose() {
    eigen_.decompose(n_, batch_.memory.squares, batch_.memory.values, batch_.memory.failed,
                     batch_.launch.count, batch_.launch.workspace + parts_.solver,
                     parts_.solver_bytes);
  }
  void take_triplets(bool first) { step<Step::take>(0, first ? 0 : 1); }
  void project() { step<Step::project>(0, 0); }
  void sides() { step<Step::sides>(0, 0); }
  void advance() { step<Step::advance>(0, 0); }
  void finish(int pass, int t) { step<Step::finish>(pass, t); }
  void store() { step<Step::store>(0, 0); }

private:
  template <Step which> void step(int pass, int t) {
    const std::int64_t blocks =
        std::int64_t{batch_.launch.count} * (kAlone<which> ? 1 : parts_.blocks);
    check(launch(step_kernel<T, which>, blocks, kThreads, kScratchBytes, stream_, batch_, pass, t),
          "completion kernel");
  }

  Parts parts_;
  int n_;
  EigenSolver &eigen_;
  cudaStream_t stream_;
  Batch batch_;
};

} // namespace

cudaError_t mark_device(bool &fresh) {
  const void *const kernel = reinterpret_cast<const void *>(mark_kernel);
  cudaFuncAttributes now;
  const cudaError_t status = cudaFuncGetAttributes(&now, kernel);
  fresh = status == cudaSuccess && now.preferredShmemCarveout != kMark;
  if (!fresh)
    return status;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, kMark);
}

std::size_t steps_workspace(const Problem &problem, const EigenSolver &solver, int count) {
  return Parts(problem, solver, count).end;
}

void launch_steps(const Problem &problem, const Launch &launch, EigenSolver &solver,
                  cudaStream_t stream) {
  if (problem.dtype == DType::f64)
    run_steps(problem, Runner<double>(problem, launch, solver, stream));
  else
    run_steps(problem, Runner<float>(problem, launch, solver, stream));
}

} // namespace splic
