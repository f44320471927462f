// A warp on the host: 32 lanes on stacks of their own, of which one runs at a time. At a barrier,
// and wherever lanes exchange values, the next one takes over; the order turns round each time.
#pragma once

#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include <ucontext.h>

#include "team/warp_algebra.hpp"

namespace host_warp {

constexpr int kLanes = 32;
enum class Act { none, sync, shuffle, vote };

// What the lanes of the warp that is running share.
class Lanes {
public:
  void run(const std::function<void(int)> &body) {
    body_ = &body;
    turn_ = 0;
    ended_ = 0;
    for (int lane = 0; lane < kLanes; ++lane) {
      Lane &l = lanes_[lane];
      l.started = false;
      l.act = Act::none;
      if (!l.stack)
        l.stack.reset(new char[kStack]);
    }
    now_ = this;
    if (_setjmp(home_) == 0)
      enter(0);
  }

  static Lanes &now() { return *now_; }
  int lane() const { return lane_; }

  // All lanes come here; returns the values of all of them.
  const double *meet(Act act, double value) {
    Lane &own = lanes_[lane_];
    own.act = act;
    // Those of the time before last: nobody reads them any more.
    double *const values = values_[turn_ % 2];
    values[lane_] = value;
    const int place = turn_ % 2 ? kLanes - 1 - lane_ : lane_;
    if (place + 1 < kLanes) {
      const int next = turn_ % 2 ? lane_ - 1 : lane_ + 1;
      if (_setjmp(own.context) == 0)
        enter(next);
    } else { // the last one of all: it goes on, and the others follow
      for (const Lane &other : lanes_)
        if (other.act != act)
          fail("lanes of a warp have gone different ways");
      ++turn_;
    }
    lane_ = static_cast<int>(&own - lanes_);
    return values;
  }

private:
  static constexpr std::size_t kStack = 256 << 10;
  struct Lane {
    std::jmp_buf context;
    std::unique_ptr<char[]> stack;
    bool started = false;
    Act act = Act::none;
  };

  [[noreturn]] static void fail(const char *why) {
    std::fprintf(stderr, "%s\n", why);
    std::abort();
  }

  void enter(int lane) {
    lane_ = lane;
    Lane &l = lanes_[lane];
    if (l.started)
      _longjmp(l.context, 1);
    l.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = l.stack.get();
    context.uc_stack.ss_size = kStack;
    context.uc_link = nullptr;
    makecontext(&context, begin, 0);
    setcontext(&context);
  }

  static void begin() {
    Lanes &lanes = now();
    const int lane = lanes.lane_;
    (*lanes.body_)(lane);
    lanes.lane_ = lane;
    lanes.end();
  }
  void end() {
    lanes_[lane_].act = Act::none;
    if (++ended_ == kLanes)
      _longjmp(home_, 1);
    const int next = turn_ % 2 ? lane_ - 1 : lane_ + 1;
    if (next < 0 || next >= kLanes)
      fail("some lanes of a warp have ended, others wait");
    enter(next);
  }

  inline static Lanes *now_ = nullptr;
  const std::function<void(int)> *body_ = nullptr;
  Lane lanes_[kLanes];
  std::jmp_buf home_;
  double values_[2][kLanes];
  unsigned turn_ = 0;
  int lane_ = 0, ended_ = 0;
};

// As team/warp_algebra.hpp wants a warp.
struct Warp {
  int number = 0;
  int lane() const { return number; }
  int rank() const { return number; }
  int hidden_lane() const { return number; }
  void sync() const { Lanes::now().meet(Act::sync, 0); }
  float shuffle(float x, int from) const {
    return static_cast<float>(Lanes::now().meet(Act::shuffle, x)[from & (kLanes - 1)]);
  }
  float shuffle_xor(float x, int bits) const { return shuffle(x, number ^ bits); }
  std::uint32_t ballot(bool x) const {
    const double *all = Lanes::now().meet(Act::vote, x);
    std::uint32_t bits = 0;
    for (int lane = 0; lane < kLanes; ++lane)
      bits |= all[lane] != 0 ? 1u << lane : 0u;
    return bits;
  }
  bool any(bool x) const { return ballot(x) != 0; }
  template <class F> float reduce(float x, const F &f) const {
    for (int bits = 16; bits > 0; bits /= 2)
      x = f(x, shuffle_xor(x, bits));
    return x;
  }
  float sum(float x) const {
    return reduce(x, [](float a, float b) { return a + b; });
  }
  float maximum(float x) const {
    return reduce(x, [](float a, float b) { return a > b ? a : b; });
  }
  // How often each marked place was met, by the first lane.
  template <int place, int k = 0, int q = 0> void mark() const {
    if (number == 0)
      ++marks[splic::mark_number(place, k, q)];
  }
  inline static std::uint64_t marks[splic::mark_number(splic::kPlaces, 0, 0)] = {};
  // That of the device takes subnormal numbers for 0.
  static float inverse_root(float x) { return 1.0f / __builtin_sqrtf(x < 0x1p-126f ? 0.0f : x); }
};

} // namespace host_warp
