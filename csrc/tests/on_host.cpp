// Runs what the CUDA kernels run, on threads of the host: team/fused.hpp, or team/stepwise.hpp
// with an eigensolver of its own in the place of cuSOLVER.
//
//   on_host fused|count|stepwise ... (see host_batch.hpp); TEAM threads share the work on a matrix.
//   With "count" the output is what the fused kernel has done, in four numbers: how often its
//   threads have waited for all, and those of a warp for each other; how often it has multiplied
//   and added (0 without -DSPLIC_COUNT); and the bytes of its state.
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <mutex>
#include <thread>
#include <vector>

#include "eigen.hpp"
#include "host_batch.hpp"
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

constexpr int kSpread = 128; // tiles of a product, for any team: results are the same

struct HostTeam {
  static constexpr int kLanes = 1; // of a warp
  static constexpr bool kTiles = false;
  int number = 0;
  Shared *shared = nullptr;
  int rank() const { return number; }
  int size() const { return shared ? shared->size : 1; }
  int spread() const { return kSpread; }
  bool leads() const { return number == 0; }
  void warp_sync() const {
    if (number == 0)
      ++warp_waits;
  }
  inline static std::uint64_t waits = 0, warp_waits = 0;
  bool warp_any(bool x) const { return x; }
  void sync() const {
    if (number == 0)
      ++waits;
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
  static constexpr int kLanes = 1;
  static constexpr bool kTiles = false;
  int number = 0, count = 1;
  int spread() const { return kSpread; }
  int rank() const { return number; }
  int size() const { return count; }
  void sync() const {}
  template <class T, class F> T reduce(T x, const F &) const { return x; }
  template <class T> T sum(T x) const { return x; }
  template <class T> T maximum(T x) const { return x; }
};

template <class T>
void complete_fused(const HostBatch &batch, std::vector<splic::Record> &records) {
  std::vector<double> memory(splic::Fused<T, HostTeam>::bytes(batch.problem) / 8 + 2);
  for (std::size_t i = 0; i < records.size(); ++i)
    together(batch.team, [&](const HostTeam &team) {
      splic::Fused<T, HostTeam> fused(batch.problem, team);
      fused.run(reinterpret_cast<unsigned char *>(memory.data()), batch.item(std::int64_t(i)),
                &records[i], nullptr);
    });
}

template <class T> class HostRunner {
  static constexpr int kBlocks = 3; // of `size` ranks, with a share of the change for each rank

public:
  HostRunner(const HostBatch &batch, std::vector<splic::Record> &records)
      : batch_(batch), problem_(batch.problem), n_(splic::Geometry(problem_).n), size_(batch.team),
        records_(records), states_(records.size()), squares_(records.size() * n_ * n_),
        values_(records.size() * n_), changes_(records.size() * kBlocks * size_),
        failed_(records.size()) {
    memory_.stride = splic::Stepwise<T, HostTeam>::bytes(problem_);
    arrays_.resize(records.size() * memory_.stride / 8);
    memory_.arrays = reinterpret_cast<unsigned char *>(arrays_.data());
    memory_.states = states_.data();
    memory_.squares = squares_.data();
    memory_.values = values_.data();
    memory_.changes = changes_.data();
    memory_.failed = failed_.data();
    memory_.blocks = kBlocks * size_;
  }
  void load() {
    alone([&](auto &steps, std::int64_t i) { steps.load(batch_.item(i), &records_[i]); });
  }
  void start(int pass) {
    alone([&](auto &steps, std::int64_t) { steps.start(pass); });
  }
  void find(const splic::Moment &moment) { splic::find_by_library(*this, moment); }
  void square() {
    shared([](auto &steps, int) { steps.square(); });
  }
  void guard() {
    alone([](auto &steps, std::int64_t) { steps.guard(); });
  }
  void decompose() {
    for (std::size_t i = 0; i < records_.size(); ++i) {
      eigen_by_jacobi(n_, memory_.squares + i * n_ * n_, memory_.values + i * n_);
      failed_[i] = int(i) == batch_.failing ? 7 : 0;
    }
  }
  void take_triplets(bool first) {
    alone([&](auto &steps, std::int64_t i) { steps.take_triplets(first, &records_[i]); });
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
    alone([&](auto &steps, std::int64_t i) { steps.store(batch_.item(i), nullptr); });
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

  const HostBatch &batch_;
  const splic::Problem &problem_;
  int n_, size_;
  std::vector<splic::Record> &records_;
  std::vector<splic::StepState> states_;
  std::vector<double> arrays_, squares_, values_, changes_;
  std::vector<std::int32_t> failed_;
  splic::LibraryMemory memory_;
};

void print_counts(std::size_t bytes) {
#if defined(SPLIC_COUNT)
  const std::uint64_t products = splic::multiply_adds;
#else
  const std::uint64_t products = 0;
#endif
  for (const std::uint64_t number :
       {HostTeam::waits, HostTeam::warp_waits, products, std::uint64_t{bytes}})
    std::printf("%llu ", static_cast<unsigned long long>(number));
  std::puts("");
}

template <class T> void complete(const HostBatch &batch) {
  const splic::Problem &problem = batch.problem;
  std::vector<splic::Record> records(static_cast<std::size_t>(problem.count * problem.planes()));
  if (batch.method != "stepwise")
    complete_fused<T>(batch, records);
  else
    splic::run_steps(problem, HostRunner<T>(batch, records));
  if (batch.method == "count")
    print_counts(splic::Fused<T, HostTeam>::bytes(problem));
  else
    batch.print(records);
}

} // namespace

int main(int argc, char **argv) {
  HostBatch batch;
  if (!batch.read(argc, argv))
    return 2;
  if (batch.wide)
    complete<double>(batch);
  else
    complete<float>(batch);
  return batch.write() ? 0 : 2;
}
