#include "solver.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <thread>

#include "kernel_table.hpp"
#include "splic/convert.hpp"
#include "splic/effort.hpp"

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
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found.push_back(&avx2::kKernels);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
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

struct AlignedDelete {
  void operator()(unsigned char *p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Workspace = std::unique_ptr<unsigned char[], AlignedDelete>;
Workspace make_workspace(std::size_t bytes) {
  return Workspace(static_cast<unsigned char *>(::operator new[](bytes, std::align_val_t{64})));
}

// Runs task(i, workspace) for i < count on at most `threads` threads, this one among them, and
// rethrows the first exception. Threads are made for each call: nothing lives on that a fork could
// break, and calls from several threads do not meet.
template <class Task>
void parallel(std::int64_t count, int threads, std::size_t workspace_bytes, const Task &task) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;
  std::mutex error_lock;
  const auto work = [&] {
    try {
      const Workspace workspace = make_workspace(workspace_bytes);
      for (std::int64_t i; (i = next.fetch_add(1)) < count;)
        task(i, workspace.get());
    } catch (...) {
      const std::lock_guard<std::mutex> guard(error_lock);
      if (!error)
        error = std::current_exception();
      next.store(count);
    }
  };
  std::vector<std::thread> helpers;
  const std::int64_t wanted = std::min<std::int64_t>(threads, count) - 1;
  try {
    for (std::int64_t i = 0; i < wanted; ++i)
      helpers.emplace_back(work);
  } catch (const std::exception &) {
    // No more threads, or no memory for them: those there are do the work. (A thread that is not
    // joined would end the process.)
  }
  work();
  for (auto &helper : helpers)
    helper.join();
  if (error)
    std::rethrow_exception(error);
}

// A run over the images [first_image, first_image + images) and the masks [first_stream, +
// streams).
class Chunk {
public:
  Chunk(const Problem &problem, const Kernels &kernels, const std::vector<double> &basis,
        int threads)
      : problem_(problem), kernels_(kernels), basis_(basis), threads_(threads),
        precision_(problem.dtype == DType::f64 ? 1 : 0) {
    const Geometry g(problem);
    interleave_ = g.interleaves();
    bytes_ = kernels.dense_workspace[precision_](problem);
    if (interleave_)
      bytes_ = std::max(bytes_, kernels.interleaved_workspace[precision_](problem));
    item_bytes_ = static_cast<std::size_t>(g.m) * g.n * (precision_ ? 8 : 4);
  }

  std::size_t item_bytes() const { return item_bytes_; }

  void run(std::int64_t first_image, std::int64_t images, int first_stream, int streams,
           void *sums) {
    const std::int64_t per_image = static_cast<std::int64_t>(problem_.planes()) * streams;
    const std::int64_t first = first_image * per_image, items = images * per_image;
    const int lanes = interleave_ ? kernels_.lanes[precision_] : 1;
    const std::int64_t remainder = items % lanes;
    // A few matrices are faster one by one than in lanes that are mostly idle; the bits are equal
    // (those of gradients to rounding).
    const bool spread = remainder > 0 && remainder * kDenseShare <= lanes;
    const std::int64_t groups = items / lanes + (remainder > 0 && !spread ? 1 : 0);
    const std::int64_t jobs = groups + (spread ? remainder : 0);
    records_.assign(static_cast<std::size_t>(items), Record{});
    seconds_.assign(static_cast<std::size_t>(items), 0.0);
    parallel(jobs, threads_, bytes_, [&](std::int64_t i, unsigned char *workspace) {
      const auto began = std::chrono::steady_clock::now();
      const std::int64_t start = i < groups ? i * lanes : groups * lanes + (i - groups);
      Job job;
      job.problem = &problem_;
      job.basis = basis_.data();
      job.first = first + start;
      job.count = i < groups ? static_cast<int>(std::min<std::int64_t>(lanes, items - start)) : 1;
      job.first_stream = first_stream;
      job.streams = streams;
      job.records = records_.data() + start;
      job.sums =
          sums == nullptr ? nullptr : static_cast<unsigned char *>(sums) + start * item_bytes_;
      job.workspace = workspace;
      const bool interleaved = interleave_ && i < groups;
      (interleaved ? kernels_.interleaved : kernels_.dense)[precision_](job);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
      for (int k = 0; k < job.count; ++k)
        seconds_[static_cast<std::size_t>(start + k)] = took.count() / job.count;
    });
    for (std::int64_t i = 0; i < items; ++i)
      collect(first_image + i / per_image, static_cast<std::size_t>(i));
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
  int threads_, precision_;
  bool interleave_ = false;
  std::size_t bytes_ = 0, item_bytes_ = 0;
  std::vector<Record> records_;
  std::vector<double> seconds_;
};

template <class T> void store_mean(const Problem &p, std::int64_t image, int plane, const T *sum) {
  const T masks = static_cast<T>(p.options.n_masks);
  const T top = p.cotangent.data ? std::numeric_limits<T>::infinity() : static_cast<T>(p.largest);
  for (int row = 0; row < p.stacked_channels() * p.height; ++row)
    for (int column = 0; column < p.width; ++column, ++sum)
      write<T>(p.target.at(image, plane + row / p.height, row % p.height, column), p.dtype,
               std::min(*sum / masks, top));
}

// The mean over masks, in the order of the masks whatever the chunks: results do not depend on it.
template <class T> void solve_mean(const Problem &problem, Chunk &chunk, int threads) {
  const int masks = problem.options.n_masks, planes = problem.planes();
  const std::size_t size = chunk.item_bytes() / sizeof(T);
  const auto fitting = std::max<std::int64_t>( // large images: work for each thread at least
      (threads + planes - 1) / planes,
      static_cast<std::int64_t>(kChunkBytes / chunk.item_bytes() / planes));
  const int streams = static_cast<int>(std::min<std::int64_t>(masks, fitting));
  const std::int64_t images = std::min(problem.count, std::max<std::int64_t>(1, fitting / streams));
  std::vector<T> items(static_cast<std::size_t>(images) * planes * streams * size);
  std::vector<T> sums(static_cast<std::size_t>(images) * planes * size);
  for (std::int64_t first = 0; first < problem.count; first += images) {
    const std::int64_t now = std::min(images, problem.count - first);
    std::fill(sums.begin(), sums.end(), T(0));
    for (int stream = 0; stream < masks; stream += streams) {
      const int taken = std::min(streams, masks - stream);
      chunk.run(first, now, stream, taken, items.data());
      for (std::int64_t plane = 0; plane < now * planes; ++plane)
        for (int s = 0; s < taken; ++s)
          for (std::size_t e = 0; e < size; ++e)
            sums[plane * size + e] += items[(plane * taken + s) * size + e];
    }
    for (std::int64_t plane = 0; plane < now * planes; ++plane)
      store_mean<T>(problem, first + plane / planes, static_cast<int>(plane % planes),
                    sums.data() + plane * size);
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

void solve_on_cpu(const Problem &problem, const Kernels &kernels, int threads) {
  const std::vector<double> basis = basis_of(Geometry(problem).n);
  Chunk chunk(problem, kernels, basis, threads);
  if (problem.options.n_masks > 1) {
    if (problem.dtype == DType::f64)
      solve_mean<double>(problem, chunk, threads);
    else
      solve_mean<float>(problem, chunk, threads);
    return;
  }
  const std::int64_t images = std::max<std::int64_t>(1, kChunkItems / problem.planes());
  for (std::int64_t first = 0; first < problem.count; first += images)
    chunk.run(first, std::min(images, problem.count - first), 0, 1, nullptr);
}

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> names;
  for (const Kernels *k : available_kernels())
    names.emplace_back(k->name);
  return names;
}

std::string instruction_set(const Kernels &kernels) { return kernels.name; }

} // namespace splic
