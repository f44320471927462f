// Runs splic/fused.hpp, the algorithm of the fused CUDA kernel, on threads of the host.
//
//   fused_host IN OUT COUNT CHANNELS HEIGHT WIDTH f32|f64 TEAM KEY=VALUE...
//
// IN holds the images, OUT gets the completed ones, both as raw arrays of shape (COUNT, CHANNELS,
// HEIGHT, WIDTH); iterations, residuals and deltas of both passes go to standard output, a matrix
// in each line. TEAM threads share the work on a matrix.
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "splic/fused.hpp"

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

template <class T> int complete(const splic::Problem &problem, int size) {
  std::vector<double> memory(splic::Fused<T, HostTeam>::bytes(problem) / 8 + 2);
  for (std::int64_t item = 0; item < problem.count * problem.planes(); ++item) {
    splic::Record record;
    const splic::FusedItem work = {item / problem.planes(), int(item % problem.planes()), 0};
    Shared shared(size);
    std::vector<std::thread> threads;
    for (int i = 0; i < size; ++i)
      threads.emplace_back([&, i] {
        splic::Fused<T, HostTeam> fused(problem, HostTeam{i, &shared});
        fused.run(reinterpret_cast<unsigned char *>(memory.data()), work, &record, nullptr);
      });
    for (auto &thread : threads)
      thread.join();
    for (int pass = 0; pass < problem.passes(); ++pass)
      std::printf("%d %.9g %.9g ", record.iterations[pass], record.residual[pass],
                  record.delta[pass]);
    std::printf("\n");
  }
  return 0;
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 9)
    return 2;
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
    else if (key == "seed")
      p.seed = std::uint64_t(value);
    else
      return 2;
  }
  const int bytes = wide ? 8 : 4;
  const std::size_t count = static_cast<std::size_t>(p.count) * p.channels * p.height * p.width;
  std::vector<unsigned char> in(count * bytes), out(count * bytes);
  std::FILE *file = std::fopen(argv[1], "rb");
  if (!file || std::fread(in.data(), bytes, count, file) != count)
    return 2;
  std::fclose(file);
  p.dtype = wide ? splic::DType::f64 : splic::DType::f32;
  p.source.data = in.data();
  p.target.data = out.data();
  const std::ptrdiff_t strides[] = {std::ptrdiff_t(p.channels) * p.height * p.width * bytes,
                                    std::ptrdiff_t(p.height) * p.width * bytes,
                                    std::ptrdiff_t(p.width) * bytes, bytes};
  for (int axis = 0; axis < 4; ++axis)
    p.source.stride[axis] = p.target.stride[axis] = strides[axis];
  if (wide)
    complete<double>(p, size);
  else
    complete<float>(p, size);
  file = std::fopen(argv[2], "wb");
  if (!file || std::fwrite(out.data(), bytes, count, file) != count || std::fclose(file) != 0)
    return 2;
  return 0;
}
