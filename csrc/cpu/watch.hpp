// Whether a call is to end before its work is done.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

namespace splic {

// Ends the work of a thread.
struct Stopped {};

// The thread that has made the call asks for it now and then; the others hear of it.
class Watch {
public:
  // True: stop. Called by the thread that makes the watch, and by no other.
  using Question = bool (*)();
  static constexpr auto pause = std::chrono::milliseconds(50);

  explicit Watch(Question question) : question_(question) {}

  // Throws Stopped where the work is to end.
  void look() {
    if (!stopped() && question_ != nullptr && std::this_thread::get_id() == caller_) {
      const auto now = Clock::now();
      if (now - asked_ >= pause) {
        asked_ = now;
        if (question_())
          stop_.store(true, std::memory_order_relaxed);
      }
    }
    if (stopped())
      throw Stopped();
  }
  bool stopped() const { return stop_.load(std::memory_order_relaxed); }

private:
  using Clock = std::chrono::steady_clock;
  Question question_;
  std::thread::id caller_ = std::this_thread::get_id();
  Clock::time_point asked_ = Clock::now();
  std::atomic<bool> stop_{false};
};

} // namespace splic
