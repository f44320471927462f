// Runs what the CUDA kernels run, on threads of the host: team/fused.hpp, or team/stepwise.hpp
// with an eigensolver of its own in the place of cuSOLVER.
//
//   on_host fused|stepwise IN OUT COUNT CHANNELS HEIGHT WIDTH f32|f64 TEAM KEY=VALUE...
//
// IN holds the images, and with masked=1 their masks after them, a byte for each entry; OUT gets
// the completed ones; all as raw arrays of shape (COUNT, CHANNELS, HEIGHT, WIDTH). Iterations,
// residuals and deltas of both passes go to standard output, a matrix in each line. TEAM threads
// share the work on a matrix.
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "eigen.hpp"
#include "team/fused.hpp"
#include "team/stepwise.hpp"

namespace {

struct Shared {
  explicit Shared(int size) : size(size), values(static_cast<std::size_t>(size)) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex);
    const unsigned turn = turns;
    if (++arrived == size) {
      arrived = 0;
      ++turns;
      changed.notify_all();
    } else {
      changed.wait(lock, [&] { return turns != turn; });
    }
  }
  int size;
  std::vector<double> values;
  std::mutex mutex;
  std::condition_variable changed;
  int arrived = 0;
  unsigned turns = 0;
};

struct HostTeam {
  int number = 0;
  Shared *shared = nullptr;
  int rank() const { return number; }
  int size() const { return shared ? shared->size : 1; }
  void sync() const {
    if (shared)
      shared->wait();
  }
  template <class T, class F> T reduce(T x, const F &f) const {
    if (!shared)
      return x;
    shared->values[static_cast<std::size_t>(number)] = static_cast<double>(x);
    sync();
    T total = static_cast<T>(shared->values[0]);
    for (int i = 1; i < shared->size; ++i)
      total = f(total, static_cast<T>(shared->values[static_cast<std::size_t>(i)]));
    sync();
    return total;
  }
  template <class T> T sum(T x) const {
    return reduce(x, [](T a, T b) { return a + b; });
  }
  template <class T> T maximum(T x) const {
    return reduce(x, [](T a, T b) { return a > b ? a : b; });
  }
};

// Runs f(team) on all threads of a team.
template <class F> void together(int size, const F &f) {
  Shared shared(size);
  std::vector<std::thread> threads;
  for (int i = 0; i < size; ++i)
    threads.emplace_back([&, i] { f(HostTeam{i, &shared}); });
  for (auto &thread : threads)
    thread.join();
}

// Threads of several blocks, which cannot wait for each other.
struct LooseTeam {
  int number = 0, count = 1;
  int rank() const { return number; }
  int size() const { return count; }
  void sync() const {}
  template <class T, class F> T reduce(T x, const F &) const { return x; }
  template <class T> T sum(T x) const { return x; }
  template <class T> T maximum(T x) const { return x; }
};

splic::MatrixItem item_of(const splic::Problem &problem, std::int64_t number) {
  return {number / problem.planes(), int(number % problem.planes()), 0};
}

template <class T>
void complete_fused(const splic::Problem &problem, int size, std::vector<splic::Record> &records) {
  std::vector<double> memory(splic::Fused<T, HostTeam>::bytes(problem) / 8 + 2);
  for (std::size_t i = 0; i < records.size(); ++i)
    together(size, [&](const HostTeam &team) {
      splic::Fused<T, HostTeam> fused(problem, team);
      fused.run(reinterpret_cast<unsigned char *>(memory.data()), item_of(problem, std::int64_t(i)),
                &records[i], nullptr);
    });
}

template <class T> class HostRunner {
  static constexpr int kBlocks = 3; // of `size` ranks, with a share of the change for each rank

public:
  HostRunner(const splic::Problem &problem, int size, int failing,
             std::vector<splic::Record> &records)
      : problem_(problem), n_(splic::Geometry(problem).n), size_(size), failing_(failing),
        records_(records), states_(records.size()), squares_(records.size() * n_ * n_),
        values_(records.size() * n_), changes_(records.size() * kBlocks * size),
        failed_(records.size()) {
    memory_.stride = splic::Stepwise<T, HostTeam>::bytes(problem);
    arrays_.resize(records.size() * memory_.stride / 8);
    memory_.arrays = reinterpret_cast<unsigned char *>(arrays_.data());
    memory_.states = states_.data();
    memory_.squares = squares_.data();
    memory_.values = values_.data();
    memory_.changes = changes_.data();
    memory_.failed = failed_.data();
    memory_.blocks = kBlocks * size;
  }
  void load() {
    alone([&](auto &steps, std::int64_t i) { steps.load(item_of(problem_, i), &records_[i]); });
  }
  void start(int pass) {
    alone([&](auto &steps, std::int64_t) { steps.start(pass); });
  }
  void square() {
    shared([](auto &steps, int) { steps.square(); });
  }
  void guard() {
    alone([](auto &steps, std::int64_t) { steps.guard(); });
  }
  void decompose() {
    for (std::size_t i = 0; i < records_.size(); ++i) {
      eigen_by_jacobi(n_, memory_.squares + i * n_ * n_, memory_.values + i * n_);
      failed_[i] = int(i) == failing_ ? 7 : 0;
    }
  }
  void take_triplets(int t) {
    alone([&](auto &steps, std::int64_t i) { steps.take_triplets(t, &records_[i]); });
  }
  void project() {
    shared([](auto &steps, int) { steps.project(); });
  }
  void sides() {
    shared([](auto &steps, int) { steps.sides(); });
  }
  void advance() {
    shared([](auto &steps, int rank) { steps.keep_change(rank, steps.advance()); });
  }
  void finish(int pass, int t) {
    alone([&](auto &steps, std::int64_t i) { steps.finish(pass, t, &records_[i]); });
  }
  void store() {
    alone([&](auto &steps, std::int64_t i) { steps.store(item_of(problem_, i), nullptr); });
  }

private:
  template <class F> void alone(const F &f) {
    for (std::size_t i = 0; i < records_.size(); ++i)
      together(size_, [&](const HostTeam &team) {
        splic::Stepwise<T, HostTeam> steps(problem_, team, memory_, std::int64_t(i));
        f(steps, std::int64_t(i));
      });
  }
  // At once where a team has more than one thread, else one after the other, the last first.
  template <class F> void shared(const F &f) {
    const int count = kBlocks * size_;
    for (std::size_t i = 0; i < records_.size(); ++i) {
      const auto step = [&](int rank) {
        splic::Stepwise<T, LooseTeam> steps(problem_, {rank, count}, memory_, std::int64_t(i));
        f(steps, rank);
      };
      std::vector<std::thread> threads;
      for (int rank = count - 1; rank >= 0; --rank)
        if (size_ > 1)
          threads.emplace_back(step, rank);
        else
          step(rank);
      for (auto &thread : threads)
        thread.join();
    }
  }

  const splic::Problem &problem_;
  int n_, size_, failing_;
  std::vector<splic::Record> &records_;
  std::vector<splic::StepState> states_;
  std::vector<double> arrays_, squares_, values_, changes_;
  std::vector<std::int32_t> failed_;
  splic::StepMemory memory_;
};

template <class T>
void complete(const std::string &method, const splic::Problem &problem, int size, int failing) {
  std::vector<splic::Record> records(static_cast<std::size_t>(problem.count * problem.planes()));
  if (method == "fused")
    complete_fused<T>(problem, size, records);
  else
    splic::run_steps(problem, HostRunner<T>(problem, size, failing, records));
  for (const splic::Record &record : records) {
    for (int pass = 0; pass < problem.passes(); ++pass)
      std::printf("%d %.9g %.9g ", record.iterations[pass], record.residual[pass],
                  record.delta[pass]);
    std::printf("%.9g %.9g %d\n", record.low, record.high, record.failed);
  }
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 10)
    return 2;
  const std::string method = argv[1];
  ++argv, --argc;
  int failing = -1;
  bool masked = false;
  splic::Problem p;
  p.count = std::atoi(argv[3]);
  p.channels = std::atoi(argv[4]);
  p.height = std::atoi(argv[5]);
  p.width = std::atoi(argv[6]);
  const bool wide = std::strcmp(argv[7], "f64") == 0;
  const int size = std::atoi(argv[8]);
  p.anchor_threshold = std::uint64_t{1} << 31;
  for (int i = 9; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::string key = argument.substr(0, argument.find('='));
    const double value = std::atof(argument.substr(key.size() + 1).c_str());
    splic::Options &o = p.options;
    if (key == "rank")
      o.rank = int(value);
    else if (key == "inner_iterations")
      o.inner_iterations = int(value);
    else if (key == "max_iterations")
      o.max_iterations = int(value);
    else if (key == "tv_weight")
      o.tv_weight = value;
    else if (key == "delta_decay")
      o.delta_decay = value;
    else if (key == "step_size")
      o.step_size = value;
    else if (key == "tolerance")
      o.tolerance = value;
    else if (key == "first_delta")
      o.first_delta = value;
    else if (key == "from_image")
      o.from_image = value != 0;
    else if (key == "masked")
      masked = value != 0;
    else if (key == "empty")
      p.empty = value;
    else if (key == "anchor_fraction")
      p.anchor_threshold = std::uint64_t(std::llround(value * 4294967296.0));
    else if (key == "alternate")
      o.alternate = value != 0;
    else if (key == "stacked")
      o.stacked = value != 0;
    else if (key == "literal")
      o.literal = value != 0;
    else if (key == "forward")
      o.forward = value != 0;
    else if (key == "failing") // a matrix that the eigensolver shall fail on
      failing = int(value);
    else if (key == "seed")
      p.seed = std::uint64_t(value);
    else
      return 2;
  }
  const int bytes = wide ? 8 : 4;
  const std::size_t count = static_cast<std::size_t>(p.count) * p.channels * p.height * p.width;
  std::vector<unsigned char> in(count * bytes), out(count * bytes), mask(masked ? count : 0);
  std::FILE *file = std::fopen(argv[1], "rb");
  if (!file || std::fread(in.data(), bytes, count, file) != count ||
      std::fread(mask.data(), 1, mask.size(), file) != mask.size())
    return 2;
  std::fclose(file);
  p.dtype = wide ? splic::DType::f64 : splic::DType::f32;
  p.source.data = in.data();
  p.target.data = out.data();
  const std::ptrdiff_t strides[] = {std::ptrdiff_t(p.channels) * p.height * p.width * bytes,
                                    std::ptrdiff_t(p.height) * p.width * bytes,
                                    std::ptrdiff_t(p.width) * bytes, bytes};
  if (masked)
    p.mask.data = mask.data();
  for (int axis = 0; axis < 4; ++axis) {
    p.source.stride[axis] = p.target.stride[axis] = strides[axis];
    p.mask.stride[axis] = strides[axis] / bytes;
  }
  if (wide)
    complete<double>(method, p, size, failing);
  else
    complete<float>(method, p, size, failing);
  file = std::fopen(argv[2], "wb");
  if (!file || std::fwrite(out.data(), bytes, count, file) != count || std::fclose(file) != 0)
    return 2;
  return 0;
}
