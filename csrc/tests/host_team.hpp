// Teams of threads of the host, in the place of CUDA's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

#include "host_batch.hpp"
#include "team/steps.hpp"

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
  if (size == 1) {
    f(HostTeam{0, &shared});
    return;
  }
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

// The steps of a batch in both ways: `Alone` by a HostTeam, `Loose` by the LooseTeam of several
// blocks of so many threads.
template <class Alone, class Loose, class Memory> class HostSteps {
public:
  HostSteps(const HostBatch &batch, std::vector<splic::Record> &records)
      : batch_(batch), problem_(batch.problem), records_(records), states_(records.size()) {
    memory_.stride = Alone::bytes(problem_);
    arrays_.resize(records.size() * memory_.stride / 8 + 4);
    memory_.arrays = reinterpret_cast<unsigned char *>(
        (reinterpret_cast<std::uintptr_t>(arrays_.data()) + 31) / 32 * 32);
    memory_.states = states_.data();
    divide(kBlocks * batch.team);
  }

  void load() {
    alone([&](auto &steps, std::size_t i) { steps.load(item(i), &records_[i]); });
  }
  void start(int pass) {
    alone([&](auto &steps, std::size_t) { steps.start(pass); });
  }
  void finish(int pass, int t) {
    alone([&](auto &steps, std::size_t i) { steps.finish(pass, t, &records_[i]); });
  }
  void store() {
    alone([&](auto &steps, std::size_t i) { steps.store(item(i), nullptr); });
  }
  void sides() {
    shared([](auto &steps, int) { steps.sides(); });
  }
  void advance() {
    shared([](auto &steps, int rank) { steps.keep_change(rank, steps.advance()); });
  }

protected:
  static constexpr int kBlocks = 3; // of as many ranks as a team has, each with its share

  void divide(int shares) {
    changes_.assign(records_.size() * static_cast<std::size_t>(shares), 0.0);
    memory_.changes = changes_.data();
    memory_.blocks = shares;
  }
  template <class F> void alone(const F &f) {
    for (std::size_t i = 0; i < records_.size(); ++i)
      together(batch_.team, [&](const HostTeam &team) {
        Alone steps(problem_, team, memory_, std::int64_t(i));
        team.sync(); // all have read what one of them is about to write
        f(steps, i);
      });
  }
  // At once where a team has more than one thread, else one after the other, the last first.
  template <class F> void shared(const F &f) {
    const int count = kBlocks * batch_.team;
    for (std::size_t i = 0; i < records_.size(); ++i) {
      const auto step = [&](int rank) {
        LooseTeam team;
        team.number = rank;
        team.count = count;
        Loose steps(problem_, team, memory_, std::int64_t(i));
        f(steps, rank);
      };
      std::vector<std::thread> threads;
      for (int rank = count - 1; rank >= 0; --rank)
        if (batch_.team > 1)
          threads.emplace_back(step, rank);
        else
          step(rank);
      for (auto &thread : threads)
        thread.join();
    }
  }

  const HostBatch &batch_;
  const splic::Problem &problem_;
  std::vector<splic::Record> &records_;
  Memory memory_;

private:
  splic::MatrixItem item(std::size_t i) const { return batch_.item(std::int64_t(i)); }

  std::vector<splic::StepState> states_;
  std::vector<double> arrays_, changes_;
};
