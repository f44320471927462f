// Runs what the CUDA kernels run, on threads of the host: team/fused.hpp, team/tiled.hpp, or
// team/stepwise.hpp with an eigensolver of its own in the place of cuSOLVER.
//
//   on_host fused|tiled|tiles|stepwise|count|left ... (see host_batch.hpp)
//
//   TEAM threads share the work on a matrix; with "tiles" products have a thread for each that CUDA
//   has, all at the same time.
//   With "left" the output is how many iterations there were, and how many were left to one team.
//   With "count" the output is what the fused kernel has done, in four numbers: how often its
//   threads have waited for all, and those of a warp for each other; how often it has multiplied
//   and added (0 without -DSPLIC_COUNT); and the bytes of its state.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <vector>

#include "eigen.hpp"
#include "host_batch.hpp"
#include "host_tiles.hpp"
#include "team/fused.hpp"
#include "team/stepwise.hpp"

namespace {

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

template <class T>
using LibrarySteps =
    HostSteps<splic::Stepwise<T, HostTeam>, splic::Stepwise<T, LooseTeam>, splic::LibraryMemory>;

template <class T> class HostRunner : public LibrarySteps<T> {
  using Base = LibrarySteps<T>;
  using Base::alone, Base::shared, Base::batch_, Base::memory_, Base::records_;

public:
  HostRunner(const HostBatch &batch, std::vector<splic::Record> &records)
      : Base(batch, records), n_(splic::Geometry(batch.problem).n),
        squares_(records.size() * n_ * n_), values_(records.size() * n_), failed_(records.size()) {
    memory_.squares = squares_.data();
    memory_.values = values_.data();
    memory_.failed = failed_.data();
  }
  void find(const splic::Moment &moment) { splic::find_by_library(*this, moment); }
  void square() {
    shared([](auto &steps, int) { steps.square(); });
  }
  void guard() {
    alone([](auto &steps, std::size_t) { steps.guard(); });
  }
  void decompose() {
    for (std::size_t i = 0; i < records_.size(); ++i) {
      eigen_by_jacobi(n_, memory_.squares + i * n_ * n_, memory_.values + i * n_);
      failed_[i] = int(i) == batch_.failing ? 7 : 0;
    }
  }
  void take_triplets(bool first) {
    alone([&](auto &steps, std::size_t i) { steps.take_triplets(first, &records_[i]); });
  }
  void project() {
    shared([](auto &steps, int) { steps.project(); });
  }

private:
  int n_;
  std::vector<double> squares_, values_;
  std::vector<std::int32_t> failed_;
};

void print_numbers(std::initializer_list<std::uint64_t> numbers) {
  for (const std::uint64_t number : numbers)
    std::printf("%llu ", static_cast<unsigned long long>(number));
  std::puts("");
}

void print_counts(std::size_t bytes) {
#if defined(SPLIC_COUNT)
  const std::uint64_t products = splic::multiply_adds;
#else
  const std::uint64_t products = 0;
#endif
  print_numbers({HostTeam::waits, HostTeam::warp_waits, products, std::uint64_t{bytes}});
}

template <class T> void complete(const HostBatch &batch) {
  const splic::Problem &problem = batch.problem;
  std::vector<splic::Record> records(static_cast<std::size_t>(problem.count * problem.planes()));
  if (batch.method == "stepwise")
    splic::run_steps(problem, HostRunner<T>(batch, records));
  else if (batch.method == "fused" || batch.method == "count")
    complete_fused<T>(batch, records);
  else
    splic::run_steps(problem, HostTiles<T>(batch, records, batch.method == "tiles"));
  if (batch.method == "count")
    print_counts(splic::Fused<T, HostTeam>::bytes(problem));
  else if (batch.method == "left")
    print_numbers({HostTiles<T>::searched, HostTiles<T>::left});
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
