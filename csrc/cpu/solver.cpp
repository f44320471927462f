#include "solver.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <stdexcept>

#include "doubt.hpp"
#include "kernel_table.hpp"
#include "parallel.hpp"
#include "splic/convert.hpp"
#include "splic/effort.hpp"
#if defined(SPLIC_X86_KERNELS)
#include "processor.hpp"
#endif

namespace splic {
namespace {

// A remainder of at most this share of the lanes is completed one matrix at a time.
constexpr int kDenseShare = 3;
// Completions that are in flight before their records, or their sum over masks, are collected.
constexpr std::int64_t kChunkItems = 1 << 15;
constexpr std::size_t kChunkBytes = std::size_t{1} << 25;

std::vector<const Kernels *> available_kernels() {
  std::vector<const Kernels *> found = {&baseline::kKernels};
#if defined(SPLIC_X86_KERNELS)
  const Processor processor;
  if (processor.avx2())
    found.push_back(&avx2::kKernels);
  if (processor.avx512())
    found.push_back(&avx512::kKernels);
#endif
  return found;
}

std::vector<double> basis_of(int n) {
  std::vector<double> basis(static_cast<std::size_t>(n) * n);
  for (int p = 0; p < n; ++p)
    for (int j = 0; j < n; ++j)
      basis[static_cast<std::size_t>(p) * n + j] = cosine_basis(j, p, n);
  return basis;
}

// Some matrices of a batch, by their numbers, in one precision (0: float32, 1: float64).
class Chunk {
public:
  Chunk(const Problem &problem, const Kernels &kernels, const std::vector<double> &basis,
        int threads, Watch &watch, int precision, std::vector<std::int64_t> matrices)
      : problem_(problem), kernels_(kernels), basis_(basis), threads_(threads), watch_(watch),
        precision_(precision), matrices_(std::move(matrices)), left_(matrices_.size()) {
    const Geometry g(problem);
    interleave_ = g.interleaves();
    bytes_ = kernels.dense_workspace[precision_](problem);
    if (interleave_)
      bytes_ = std::max(bytes_, kernels.interleaved_workspace[precision_](problem));
    item_bytes_ = static_cast<std::size_t>(g.m) * g.n * (precision_ ? 8 : 4);
  }

  std::size_t item_bytes() const { return item_bytes_; }
  std::int64_t count() const { return static_cast<std::int64_t>(matrices_.size()); }
  std::int64_t matrix(std::int64_t place) const {
    return matrices_[static_cast<std::size_t>(place)];
  }

  // Whether more care turned out to be needed for a matrix: it has no result.
  bool left(std::int64_t place) const { return left_[static_cast<std::size_t>(place)]; }

  // The matrices at the places [first_place, + places), with the masks [first_stream, + streams).
  void run(std::int64_t first_place, std::int64_t places, int first_stream, int streams,
           void *sums) {
    const std::int64_t first = first_place * streams, items = places * streams;
    const int lanes = interleave_ ? kernels_.lanes[precision_] : 1;
    const std::int64_t remainder = items % lanes;
    // A few matrices are faster one by one than in lanes that are mostly idle; the bits are equal
    // (those of gradients to rounding).
    const bool spread = remainder > 0 && remainder * kDenseShare <= lanes;
    const std::int64_t groups = items / lanes + (remainder > 0 && !spread ? 1 : 0);
    const std::int64_t jobs = groups + (spread ? remainder : 0);
    records_.assign(static_cast<std::size_t>(items), Record{});
    seconds_.assign(static_cast<std::size_t>(items), 0.0);
    parallel(jobs, threads_, bytes_, watch_, [&](std::int64_t i, unsigned char *workspace) {
      const auto began = std::chrono::steady_clock::now();
      const std::int64_t start = i < groups ? i * lanes : groups * lanes + (i - groups);
      Job job;
      job.problem = &problem_;
      job.basis = basis_.data();
      job.matrices = matrices_.data();
      job.first = first + start;
      job.count = i < groups ? static_cast<int>(std::min<std::int64_t>(lanes, items - start)) : 1;
      job.first_stream = first_stream;
      job.streams = streams;
      job.records = records_.data() + start;
      job.sums =
          sums == nullptr ? nullptr : static_cast<unsigned char *>(sums) + start * item_bytes_;
      job.workspace = workspace;
      job.watch = &watch_;
      job.look = [](void *watch) { static_cast<Watch *>(watch)->look(); };
      const bool interleaved = interleave_ && i < groups;
      (interleaved ? kernels_.interleaved : kernels_.dense)[precision_](job);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
      for (int k = 0; k < job.count; ++k)
        seconds_[static_cast<std::size_t>(start + k)] = took.count() / job.count;
    });
    for (std::int64_t i = 0; i < items; ++i) {
      const std::int64_t place = first_place + i / streams;
      if (records_[static_cast<std::size_t>(i)].doubt != 0)
        left_[static_cast<std::size_t>(place)] = true;
      if (!left(place))
        collect(matrix(place) / problem_.planes(), static_cast<std::size_t>(i));
    }
  }

private:
  void collect(std::int64_t image, std::size_t item) const {
    const Record &record = records_[item];
    if (problem_.seconds)
      problem_.seconds[image] += seconds_[item];
    const int passes = problem_.passes();
    for (int pass = 0; pass < passes; ++pass) {
      const std::int64_t at = image * passes + pass;
      if (problem_.iterations)
        problem_.iterations[at] = std::max(problem_.iterations[at], record.iterations[pass]);
      if (problem_.residual)
        problem_.residual[at] = std::max(problem_.residual[at], record.residual[pass]);
      if (problem_.delta)
        problem_.delta[at] = std::max(problem_.delta[at], record.delta[pass]);
    }
  }

  const Problem &problem_;
  const Kernels &kernels_;
  const std::vector<double> &basis_;
  int threads_;
  Watch &watch_;
  int precision_;
  std::vector<std::int64_t> matrices_;
  std::vector<bool> left_;
  bool interleave_ = false;
  std::size_t bytes_ = 0, item_bytes_ = 0;
  std::vector<Record> records_;
  std::vector<double> seconds_;
};

// The care that each matrix needs.
std::vector<Care> find_cares(const Problem &problem, int threads, Watch &watch) {
  constexpr std::int64_t batch = 16;
  const std::int64_t count = problem.count * problem.planes();
  std::vector<Care> found(static_cast<std::size_t>(count));
  const auto find = [&](std::int64_t job, unsigned char *) {
    std::vector<float> scratch;
    for (std::int64_t i = job * batch; i < std::min(count, (job + 1) * batch); ++i)
      found[static_cast<std::size_t>(i)] = care_of(problem, i, scratch);
  };
  parallel((count + batch - 1) / batch, threads, 64, watch, find);
  return found;
}

template <class T> void store_mean(const Problem &p, std::int64_t matrix, const T *sum) {
  const std::int64_t image = matrix / p.planes();
  const int plane = static_cast<int>(matrix % p.planes());
  const T masks = static_cast<T>(p.options.n_masks);
  const T top = p.cotangent.data ? std::numeric_limits<T>::infinity() : static_cast<T>(p.largest);
  for (int row = 0; row < p.stacked_channels() * p.height; ++row)
    for (int column = 0; column < p.width; ++column, ++sum)
      write<T>(p.target.at(image, plane + row / p.height, row % p.height, column), p.dtype,
               std::min(*sum / masks, top));
}

// The mean over masks, in the order of the masks whatever the chunks: results do not depend on it.
template <class T> void solve_mean(const Problem &problem, Chunk &chunk, int threads) {
  const int masks = problem.options.n_masks;
  const std::size_t size = chunk.item_bytes() / sizeof(T);
  const auto fitting = std::max<std::int64_t>( // large images: work for each thread at least
      threads, static_cast<std::int64_t>(kChunkBytes / chunk.item_bytes()));
  const int streams = static_cast<int>(std::min<std::int64_t>(masks, fitting));
  const std::int64_t places = std::min(chunk.count(), std::max<std::int64_t>(1, fitting / streams));
  std::vector<T> items(static_cast<std::size_t>(places) * streams * size);
  std::vector<T> sums(static_cast<std::size_t>(places) * size);
  for (std::int64_t first = 0; first < chunk.count(); first += places) {
    const std::int64_t now = std::min(places, chunk.count() - first);
    std::fill(sums.begin(), sums.end(), T(0));
    for (int stream = 0, taken; stream < masks; stream += taken) { // never beyond the largest int
      taken = std::min(streams, masks - stream);
      chunk.run(first, now, stream, taken, items.data());
      for (std::int64_t place = 0; place < now; ++place)
        for (int s = 0; s < taken; ++s)
          for (std::size_t e = 0; e < size; ++e)
            sums[place * size + e] += items[(place * taken + s) * size + e];
    }
    for (std::int64_t place = 0; place < now; ++place)
      if (!chunk.left(first + place))
        store_mean<T>(problem, chunk.matrix(first + place), sums.data() + place * size);
  }
}

} // namespace

const Kernels &chosen_kernels() {
  const auto found = available_kernels();
  const char *wanted = std::getenv("SPLIC_SIMD");
  if (wanted == nullptr || *wanted == '\0')
    return *found.back();
  std::string names;
  for (const Kernels *k : found) {
    if (std::string(k->name) == wanted)
      return *k;
    names += std::string(names.empty() ? "" : ", ") + k->name;
  }
  throw std::invalid_argument("the environment variable SPLIC_SIMD must name an instruction set of "
                              "this processor (" +
                              names + "), got \"" + wanted + "\"; unset it to use the best one");
}

void solve_on_cpu(const Problem &problem, const Kernels &kernels, int threads,
                  Watch::Question question) {
  // No more threads than completions, whatever is asked for.
  const double work =
      static_cast<double>(problem.count) * problem.planes() * problem.options.n_masks;
  threads =
      static_cast<int>(std::max(1.0, std::min({work, double(threads), double(kMostThreads)})));
  Watch watch(question);
  const std::vector<double> basis = basis_of(Geometry(problem).n);
  const bool double_at_least = problem.dtype == DType::f64;
  const bool small = Geometry(problem).opens();
  // Of what is interleaved, for float32 results.
  const bool closely =
      !double_at_least && Geometry(problem).interleaves() && !problem.cotangent.data;
  std::vector<std::int64_t> groups[2][kCares]; // by precision and care
  const std::vector<Care> cares = find_cares(problem, threads, watch);
  for (std::size_t i = 0; i < cares.size(); ++i) {
    Care care = std::max(cares[i], care_of(problem.options, closely));
    if (care == Care::close && !closely)
      care = Care::wide;
    groups[double_at_least || care != Care::usual][small ? static_cast<int>(care) : 0].push_back(
        static_cast<std::int64_t>(i));
  }
  for (int precision = 0; precision < 2; ++precision) {
    for (int care = 0; care < kCares; ++care) {
      Problem part = problem;
      part.care = static_cast<Care>(care);
      Chunk chunk(part, kernels, basis, threads, watch, precision,
                  std::move(groups[precision][care]));
      if (problem.options.n_masks == 1)
        for (std::int64_t first = 0; first < chunk.count(); first += kChunkItems)
          chunk.run(first, std::min(kChunkItems, chunk.count() - first), 0, 1, nullptr);
      else if (precision == 1)
        solve_mean<double>(part, chunk, threads);
      else
        solve_mean<float>(part, chunk, threads);
      for (std::int64_t place = 0; place < chunk.count(); ++place)
        if (chunk.left(place))
          groups[1][small ? static_cast<int>(precision == 0 ? Care::wide : Care::whole) : 0]
              .push_back(chunk.matrix(place));
    }
  }
}

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels *k : available_kernels())
    names.emplace_back(k->name);
  return names;
}

std::string instruction_set(const Kernels &kernels) { return kernels.name; }

} // namespace splic
