// Tasks shared among threads, each with a workspace of its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "watch.hpp"

namespace splic {

constexpr int kMostThreads = 1 << 12;

struct AlignedDelete {
  void operator()(unsigned char *p) const { ::operator delete[](p, std::align_val_t{64}); }
};
using Workspace = std::unique_ptr<unsigned char[], AlignedDelete>;
inline Workspace make_workspace(std::size_t bytes) {
  return Workspace(static_cast<unsigned char *>(::operator new[](bytes, std::align_val_t{64})));
}

// Runs task(i, workspace) for i < count on at most `threads` threads, this one among them, as long
// as `watch` lets it, and rethrows the first exception. Threads are made for each call: nothing
// lives on that a fork could break, and calls from several threads do not meet.
template <class Task>
void parallel(std::int64_t count, int threads, std::size_t workspace_bytes, Watch &watch,
              const Task &task) {
  std::atomic<std::int64_t> next{0};
  std::exception_ptr error;
  std::mutex lock;
  std::condition_variable ended;
  int running = 0;
  const auto work = [&] {
    try {
      const Workspace workspace = make_workspace(workspace_bytes);
      for (std::int64_t i; (i = next.fetch_add(1)) < count;) {
        watch.look();
        task(i, workspace.get());
      }
    } catch (...) {
      const std::lock_guard<std::mutex> guard(lock);
      if (!error)
        error = std::current_exception();
      next.store(count);
    }
  };
  const auto help = [&] {
    work();
    const std::lock_guard<std::mutex> guard(lock);
    --running;
    ended.notify_one();
  };
  std::vector<std::thread> helpers;
  const std::int64_t wanted = std::min<std::int64_t>(threads, count) - 1;
  try {
    for (std::int64_t i = 0; i < wanted; ++i) {
      const std::lock_guard<std::mutex> guard(lock);
      helpers.emplace_back(help);
      ++running;
    }
  } catch (const std::exception &) {
    // No more threads, or no memory for them: those there are do the work. (A thread that is not
    // joined would end the process.)
  }
  work();
  {
    std::unique_lock<std::mutex> guard(lock);
    while (!ended.wait_for(guard, Watch::pause, [&] { return running == 0; })) {
      guard.unlock();
      try {
        watch.look();
      } catch (const Stopped &) {
        // The others hear of it, and end.
      }
      guard.lock();
    }
  }
  for (auto &helper : helpers)
    helper.join();
  if (watch.stopped()) // perhaps after the last task
    throw Stopped();
  if (error)
    std::rethrow_exception(error);
}

} // namespace splic
