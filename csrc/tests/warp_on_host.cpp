// Runs what the CUDA kernel of one warp a matrix runs, by the lanes of host_warp.hpp.
//
//   warp_on_host warp|count ... (see host_batch.hpp); what the kernel does not take is left with
//   status 3. With "count" the output is the bytes of shared memory, as -1, and how often each
//   marked place was met.
#include <cstring>
#include <memory>

#include "host_batch.hpp"
#include "host_warp.hpp"
#include "team/warp_solver.hpp"

namespace {

template <int Q, int R> bool complete(const HostBatch &batch) {
  using Solver = splic::WarpSolver<Q, R, host_warp::Warp>;
  const splic::Problem &problem = batch.problem;
  if (!Solver::takes(problem))
    return false;
  std::vector<splic::Record> records(static_cast<std::size_t>(problem.count * problem.planes()));
  const splic::WarpTables tables;
  std::vector<splic::Four> memory(Solver::kBytes / sizeof(splic::Four));
  const auto lanes = std::make_unique<host_warp::Lanes>();
  for (std::size_t i = 0; i < records.size(); ++i) {
    // What is read before it is written shows.
    std::memset(static_cast<void *>(memory.data()), 0xff, Solver::kBytes);
    lanes->run([&](int lane) {
      Solver solver(problem, tables, host_warp::Warp{lane}, memory[0].v);
      solver.run(batch.item(std::int64_t(i)), &records[i], nullptr);
    });
  }
  if (batch.method == "count") {
    using host_warp::Warp;
    std::printf("-1 %zu\n", Solver::kBytes);
    int number = 0;
    for (const std::uint64_t count : Warp::marks) {
      if (count)
        std::printf("%d %llu\n", number, static_cast<unsigned long long>(count));
      ++number;
    }
  } else {
    batch.print(records);
  }
  return true;
}

} // namespace

int main(int argc, char **argv) {
  HostBatch batch;
  if (!batch.read(argc, argv))
    return 2;
  if (!complete<3, 8>(batch) && !complete<1, 8>(batch) && !complete<3, 12>(batch) &&
      !complete<1, 12>(batch))
    return 3;
  return batch.write() ? 0 : 2;
}
