#include "fiber.hpp"

#include <cstdint>
#include <new>

#include <sys/mman.h>

namespace {

constexpr std::size_t kStack = 256 << 10, kGuard = 4096;

} // namespace

#if defined(__x86_64__)
// What swapcontext() does, without its system call: keeps the registers that a function must, and
// goes on with another stack.
extern "C" void cuda_on_host_switch(void **keep, void *go_on);
asm(R"(
.text
.hidden cuda_on_host_switch
.globl cuda_on_host_switch
.type cuda_on_host_switch, @function
cuda_on_host_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size cuda_on_host_switch, .-cuda_on_host_switch
)");
#endif

namespace cuda_on_host {

Fiber::Fiber() {
  void *const memory = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED)
    throw std::bad_alloc();
  stack_ = static_cast<unsigned char *>(memory);
  mprotect(stack_, kGuard, PROT_NONE);
}
Fiber::~Fiber() { munmap(stack_, kGuard + kStack); }

#if defined(__x86_64__)

void Fiber::prepare(void (*entry)()) {
  constexpr int kRegisters = 6;
  auto **top = reinterpret_cast<void **>(stack_ + kGuard + kStack);
  *--top = nullptr; // (entry() finds the stack as a call leaves it)
  *--top = reinterpret_cast<void *>(entry);
  for (int i = 0; i < kRegisters; ++i)
    *--top = nullptr;
  inside_ = top;
}
void Fiber::resume() { cuda_on_host_switch(&outside_, inside_); }
void Fiber::leave() { cuda_on_host_switch(&inside_, outside_); }

#else

void Fiber::prepare(void (*entry)()) {
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_ + kGuard;
  inside_.uc_stack.ss_size = kStack;
  inside_.uc_link = nullptr;
  makecontext(&inside_, entry, 0);
}
void Fiber::resume() { swapcontext(&outside_, &inside_); }
void Fiber::leave() { swapcontext(&inside_, &outside_); }

#endif

} // namespace cuda_on_host
