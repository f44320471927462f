// A thread of a kernel, as a stack of its own in a thread of the host.
#pragma once

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace cuda_on_host {

class Fiber {
public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber &) = delete;
  Fiber &operator=(const Fiber &) = delete;

  // Lets entry() begin at the next resume(). It must never return.
  void prepare(void (*entry)());
  // Runs it until it leaves.
  void resume();
  // From within: back to whoever has resumed it.
  void leave();

private:
  unsigned char *stack_;
#if defined(__x86_64__)
  void *inside_ = nullptr, *outside_ = nullptr; // stack pointers
#else
  ucontext_t inside_, outside_;
#endif
};

} // namespace cuda_on_host
