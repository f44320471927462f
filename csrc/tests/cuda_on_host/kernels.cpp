// Blocks of a kernel: their threads are fibers, which wait for each other at barriers and in warps.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <numeric>
#include <vector>

#include <sys/mman.h>

#include "fiber.hpp"
#include "kernel_side.hpp"
#include "runtime.hpp"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_on_host {
namespace {

enum class State { ready, waits, done };

struct Thread {
  Fiber fiber;
  State state = State::done;
  Meeting kind = Meeting::block;
  unsigned mask = 0, from = 0; // lanes that meet; the one that is read
  const void *site = nullptr;
  std::uint64_t given = 0, received = 0;
};

const char *name_of(Meeting kind) {
  switch (kind) {
  case Meeting::block:
    return "__syncthreads";
  case Meeting::warp:
    return "__syncwarp";
  case Meeting::shuffle:
    return "a shuffle";
  case Meeting::vote:
    return "a vote";
  }
  return "";
}

// Shared memory of a block: its end lies at the end of a page, and beyond there is nothing.
class SharedMemory {
public:
  SharedMemory() {
    base_ = static_cast<unsigned char *>(mmap(nullptr, kSize + kPage, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    mprotect(base_ + kSize, kPage, PROT_NONE);
  }
  // Poisons it for the next block. (What lies before has its guard as well.)
  void begin(std::size_t bytes) {
    bytes_ = (bytes + 15) / 16 * 16;
    poison(start() - kBefore, bytes_ + kBefore);
  }
  unsigned char *start() const { return base_ + kSize - bytes_; }
  void check() const {
    alignas(16) unsigned char expected[kBefore];
    poison(expected, kBefore);
    if (std::memcmp(start() - kBefore, expected, kBefore) != 0)
      violation("a kernel has written before its shared memory");
  }
  bool is_beyond(const void *p) const { return p >= base_ + kSize && p < base_ + kSize + kPage; }

private:
  static constexpr std::size_t kPage = 4096, kBefore = 256;
  static constexpr std::size_t kSize = (kShared + kBefore + kPage) / kPage * kPage;
  unsigned char *base_;
  std::size_t bytes_ = 0;
};

class Block {
public:
  bool runs() const { return current_ != nullptr; }
  unsigned char *shared() const { return shared_.start(); }
  bool is_beyond_shared(const void *p) const { return shared_.is_beyond(p); }

  cudaError_t run(const Kernel &kernel, unsigned number) {
    kernel_ = &kernel;
    status_ = cudaSuccess;
    blockIdx = {number, 0, 0};
    shared_.begin(kernel.shared);
    while (threads_.size() < kernel.threads)
      threads_.push_back(std::make_unique<Thread>());
    for (unsigned t = 0; t < kernel.threads; ++t) {
      threads_[t]->state = State::ready;
      threads_[t]->fiber.prepare(&Block::entry);
    }
    left_ = kernel.threads;
    while (left_ > 0 && status_ == cudaSuccess)
      sweep();
    shared_.check();
    current_ = nullptr;
    return status_;
  }

  // From within a thread.
  void wait(Meeting kind, unsigned mask, const void *site) {
    Thread &self = *current_;
    self.kind = kind;
    self.mask = mask;
    self.site = site;
    if (kind != Meeting::block && !(mask >> (threadIdx.x % kWarp) & 1))
      end(cudaErrorLaunchFailure, std::string("a thread is not in the mask of ") + name_of(kind));
    self.state = State::waits;
    self.fiber.leave();
  }
  Thread &current() const { return *current_; }
  [[noreturn]] void end(cudaError_t status, const std::string &why) {
    violation("block " + std::to_string(blockIdx.x) + ", thread " + std::to_string(threadIdx.x) +
              ": " + why);
    status_ = status;
    current_->fiber.leave(); // for ever
    __builtin_unreachable();
  }
  static Block &get() {
    static auto *block = new Block;
    return *block;
  }

private:
  static void entry() {
    Block &block = get();
    block.kernel_->body();
    block.current_->state = State::done;
    --block.left_;
    block.current_->fiber.leave();
  }

  // Runs all warps, in some order, as far as they get: lane after lane, or all to the end of what
  // a lane can do alone, so that what lacks a barrier comes out wrong.
  void sweep() {
    const unsigned warps = (kernel_->threads + kWarp - 1) / kWarp;
    std::vector<unsigned> order(warps);
    std::iota(order.begin(), order.end(), 0u);
    for (unsigned w = warps; w > 1; --w)
      std::swap(order[w - 1], order[draw(w)]);
    bool any = false;
    for (const unsigned warp : order) {
      any = run_warp(warp) || any;
      if (status_ != cudaSuccess)
        return;
    }
    if (left_ == 0 || release_block() || any)
      return;
    violation(stuck());
    status_ = cudaErrorLaunchTimeout;
  }

  bool run_warp(unsigned warp) {
    const unsigned first = warp * kWarp,
                   count = std::min<unsigned>(kWarp, kernel_->threads - first);
    bool any = false;
    for (bool again = true; again;) {
      again = false;
      const unsigned way = draw(3), turn = draw(count);
      for (unsigned i = 0; i < count; ++i) {
        const unsigned l = way == 0 ? i : way == 1 ? count - 1 - i : (i + turn) % count;
        Thread &thread = *threads_[first + l];
        if (thread.state != State::ready)
          continue;
        again = any = true;
        current_ = &thread;
        threadIdx = {first + l, 0, 0};
        thread.fiber.resume();
        if (status_ != cudaSuccess)
          return true;
      }
      again = release_warp(first, count) || again;
      if (status_ != cudaSuccess)
        return true;
    }
    return any;
  }

  // Lets go on the lanes of a warp whose partners have all come.
  bool release_warp(unsigned first, unsigned count) {
    bool any = false;
    for (unsigned l = 0; l < count; ++l) {
      const Thread &thread = *threads_[first + l];
      if (thread.state != State::waits || thread.kind == Meeting::block)
        continue;
      bool all = true;
      for (unsigned other = 0; other < kWarp && all; ++other)
        if (thread.mask >> other & 1)
          all = other < count && meets(thread, *threads_[first + other]);
      if (!all)
        continue;
      unsigned votes = 0;
      for (unsigned other = 0; other < count; ++other)
        if (thread.mask >> other & 1 && threads_[first + other]->given)
          votes |= 1u << other;
      const unsigned mask = thread.mask;
      for (unsigned other = 0; other < count; ++other) {
        Thread &partner = *threads_[first + other];
        if (!(mask >> other & 1))
          continue;
        if (partner.kind == Meeting::shuffle && !(mask >> partner.from & 1)) {
          violation("a shuffle reads lane " + std::to_string(partner.from) +
                    ", which is not in its mask");
          status_ = cudaErrorLaunchFailure;
          return true;
        }
        if (partner.kind == Meeting::shuffle)
          partner.received = threads_[first + partner.from]->given;
        else
          partner.received = votes;
        partner.state = State::ready;
      }
      any = true;
    }
    return any;
  }
  static bool meets(const Thread &a, const Thread &b) {
    return b.state == State::waits && a.kind == b.kind && a.mask == b.mask && a.site == b.site;
  }

  // Lets all go on if they have met at one barrier.
  bool release_block() {
    const Thread &first = *threads_[0];
    for (unsigned t = 0; t < kernel_->threads; ++t)
      if (threads_[t]->state != State::waits || threads_[t]->kind != Meeting::block ||
          threads_[t]->site != first.site)
        return false;
    for (unsigned t = 0; t < kernel_->threads; ++t)
      threads_[t]->state = State::ready;
    return true;
  }

  std::string stuck() const {
    std::string said = "block " + std::to_string(blockIdx.x) + " waits for ever:";
    const Thread *before = nullptr;
    for (unsigned t = 0; t < kernel_->threads; ++t) {
      const Thread &thread = *threads_[t];
      if (before && before->state == thread.state && before->kind == thread.kind &&
          before->mask == thread.mask && before->site == thread.site)
        continue;
      before = &thread;
      char text[120];
      if (thread.state == State::done)
        std::snprintf(text, sizeof text, " from thread %u on: ended;", t);
      else
        std::snprintf(text, sizeof text, " from thread %u on: at %s (mask %x, at %p);", t,
                      name_of(thread.kind), thread.mask, thread.site);
      said += text;
    }
    return said;
  }

  std::vector<std::unique_ptr<Thread>> threads_;
  SharedMemory shared_;
  const Kernel *kernel_ = nullptr;
  Thread *current_ = nullptr;
  unsigned left_ = 0;
  cudaError_t status_ = cudaSuccess;
};

thread_local bool kernel_thread = false;

// An access to where nothing is: the end of a kernel, or of the process if it is code of the host.
struct sigaction before_us;
void on_fault(int number, siginfo_t *info, void *context) {
  const void *const p = info->si_addr;
  if (kernel_thread) {
    const bool shared = Block::get().is_beyond_shared(p);
    end_kernel(cudaErrorIllegalAddress,
               shared ? "an access beyond the shared memory" : "an access to " + describe(p));
  }
  if (owner(p) >= 0) {
    const std::string said = "cuda_on_host: code of the host touches " + describe(p) + "\n";
    std::fputs(said.c_str(), stderr);
  }
  if (before_us.sa_flags & SA_SIGINFO) {
    before_us.sa_sigaction(number, info, context);
  } else if (before_us.sa_handler != SIG_DFL && before_us.sa_handler != SIG_IGN) {
    before_us.sa_handler(number);
  }
  signal(number, SIG_DFL); // and meets it again
}

} // namespace

unsigned char *shared_memory() { return Block::get().shared(); }

void meet(Meeting kind, unsigned mask, const void *site) { Block::get().wait(kind, mask, site); }
std::uint64_t exchange(Meeting kind, unsigned mask, std::uint64_t value, unsigned from,
                       const void *site) {
  Thread &self = Block::get().current();
  self.given = value;
  self.from = from;
  Block::get().wait(kind, mask, site);
  return self.received;
}
unsigned vote(unsigned mask, bool value, const void *site) {
  return static_cast<unsigned>(exchange(Meeting::vote, mask, value ? 1 : 0, 0, site));
}

bool in_kernel() { return kernel_thread; }
void end_kernel(cudaError_t status, const std::string &why) { Block::get().end(status, why); }

void watch_faults() {
  struct sigaction ours = {}, installed;
  ours.sa_sigaction = on_fault;
  ours.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
  sigaction(SIGSEGV, nullptr, &installed);
  if ((installed.sa_flags & SA_SIGINFO) && installed.sa_sigaction == on_fault)
    return;
  before_us = installed;
  sigaction(SIGSEGV, &ours, nullptr);
}

cudaError_t run_kernel(const Kernel &kernel) {
  watch_faults();
  blockDim = dim3(kernel.threads);
  gridDim = dim3(kernel.blocks);
  std::vector<unsigned> order(kernel.blocks);
  std::iota(order.begin(), order.end(), 0u);
  for (unsigned b = kernel.blocks; b > 1; --b)
    std::swap(order[b - 1], order[draw(b)]);
  kernel_thread = true;
  cudaError_t status = cudaSuccess;
  for (unsigned b = 0; b < kernel.blocks && status == cudaSuccess; ++b)
    status = Block::get().run(kernel, order[b]);
  kernel_thread = false;
  return status;
}

} // namespace cuda_on_host
