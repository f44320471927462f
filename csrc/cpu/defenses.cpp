#include "defenses.hpp"

#include "kernel_table.hpp"
#include "parallel.hpp"

namespace splic {
namespace {

// Runs the items with the kernel, `size` in a job, each thread with a workspace of that many bytes.
template <class Batch>
void run_items(const Batch &batch, std::int64_t items, int size, std::size_t bytes,
               void (*kernel)(const Batch &, const PeerJob &), int threads,
               Watch::Question question) {
  if (bytes == 0)
    throw std::bad_alloc();
  Watch watch(question);
  const std::int64_t jobs = (items + size - 1) / size;
  const auto most = std::min<std::int64_t>(std::min(threads, kMostThreads), jobs);
  const auto run = [&](std::int64_t number, unsigned char *workspace) {
    PeerJob job;
    job.item = number * size;
    job.count = static_cast<int>(std::min<std::int64_t>(size, items - job.item));
    job.workspace = workspace;
    job.watch = &watch;
    job.look = [](void *w) { static_cast<Watch *>(w)->look(); };
    kernel(batch, job);
  };
  parallel(jobs, static_cast<int>(most), bytes, watch, run);
}

} // namespace

void denoise_tv(const Denoising &batch, const Kernels &kernels, int threads,
                Watch::Question question) {
  if (batch.count * batch.channels == 0 || batch.height == 0 || batch.width == 0)
    return;
  const PeerKernels &peers = *kernels.peers;
  run_items(batch, batch.count * batch.channels, 1, peers.denoise_workspace[batch.wide](batch),
            peers.denoise[batch.wide], threads, question);
}

void estimate(const Estimation &given, const Kernels &kernels, int threads,
              Watch::Question question) {
  Estimation batch = given;
  if (batch.count == 0 || batch.height == 0 || batch.width == 0)
    return;
  if (batch.height > batch.width) {
    std::swap(batch.height, batch.width);
    for (ConstView *view : {&batch.source, &batch.mask, &batch.cotangent})
      std::swap(view->stride[2], view->stride[3]);
    std::swap(batch.target.stride[2], batch.target.stride[3]);
  }
  const PeerKernels &peers = *kernels.peers;
  int iterations = batch.iterations;
  if (batch.cotangent.data)
    iterations = *std::max_element(batch.done, batch.done + batch.count);
  run_items(batch, batch.count, peers.lanes, peers.estimate_workspace(batch, iterations),
            peers.estimate, threads, question);
}

} // namespace splic
