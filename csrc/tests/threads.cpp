// Calls the CPU solver from several threads at once: to be built with -fsanitize=thread.
//
//   splic_threads [SECONDS]
//
// Each call must give the bits of one on one thread: with several masks, with gradients, beside
// calls that are stopped or inpaint, and in a process that is forked in between. Exit code 1 where
// one does not, and what the sanitizer says where threads race.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "cpu/inpaint.hpp"
#include "cpu/solver.hpp"

namespace {

constexpr int kCallers = 4;

// How often this thread is asked until it stops its call; 0: never.
thread_local int patience = 0;
bool question() { return patience > 0 && --patience == 0; }

struct Case {
  splic::Problem problem;
  std::vector<float> images, cotangent;
  std::vector<unsigned char> mask, shown, expected, inpainted;

  Case(int count, int channels, int height, int width, int number) {
    splic::Problem &p = problem;
    p.count = count, p.channels = channels, p.height = height, p.width = width;
    p.seed = static_cast<std::uint64_t>(number);
    p.anchor_threshold = std::uint64_t{1} << 31;
    p.options.rank = 1 + std::min(height, width) / 4;
    p.options.max_iterations = 9;
    p.options.n_masks = number % 2 ? 3 : 1;
    p.options.stacked = number % 3 != 0;
    images.resize(static_cast<std::size_t>(count) * channels * height * width);
    std::mt19937 random(static_cast<unsigned>(number));
    for (float &x : images) // some images are sparse, which takes the careful paths
      x = random() % 4 < (number % 5 ? 4U : 1U) ? static_cast<float>(random() % 1000) / 1000 : 0;
    p.source = view<const unsigned char>(images.data(), 4);
    if (number % 4 == 1) {
      cotangent.assign(images.size(), 0.5F);
      p.cotangent = view<const unsigned char>(cotangent.data(), 4);
      p.cut_width = number % 8 == 1 ? 0.1 : 0.0;
    }
    if (number % 4 == 2) {
      mask.resize(images.size());
      for (unsigned char &m : mask)
        m = random() % 2;
      p.mask = view<const unsigned char>(mask.data(), 1);
    }
    shown.resize(images.size()); // of each image the first channel counts
    for (unsigned char &m : shown)
      m = random() % 3 > 0;
    expected = solve(1);
    inpainted = inpaint(1);
  }

  // All in one place for all calls, as in Python: only the target is a call's own.
  std::vector<unsigned char> solve(int threads) const {
    std::vector<unsigned char> result(images.size() * 4);
    std::vector<std::int32_t> iterations(static_cast<std::size_t>(2 * problem.count));
    std::vector<double> residual(iterations.size()), delta(iterations.size()),
        seconds(iterations.size());
    splic::Problem p = problem;
    p.target = view<unsigned char>(result.data(), 4);
    p.iterations = iterations.data();
    p.residual = residual.data(), p.delta = delta.data(), p.seconds = seconds.data();
    splic::solve_on_cpu(p, splic::chosen_kernels(), threads, &question);
    return result;
  }

  // The float32 values of the images, by total variation.
  std::vector<unsigned char> inpaint(int threads) const {
    std::vector<unsigned char> result(images.size() * 4);
    splic::Inpainting batch;
    batch.count = problem.count, batch.channels = problem.channels;
    batch.height = problem.height, batch.width = problem.width;
    batch.source = view<const unsigned char>(images.data(), 4);
    batch.target = view<unsigned char>(result.data(), 4);
    batch.mask = view<const unsigned char>(shown.data(), 1);
    batch.iterations = 20;
    splic::inpaint_tv(batch, threads, &question);
    return result;
  }

private:
  template <class Byte, class T> splic::View<Byte> view(T *data, std::ptrdiff_t item) const {
    const std::ptrdiff_t row = item * problem.width, plane = row * problem.height;
    return {reinterpret_cast<Byte *>(data), {plane * problem.channels, plane, row, item}};
  }
};

std::atomic<bool> wrong{false};
std::atomic<int> calls{0}, stops{0};

void expect(bool right, const char *what, int number) {
  if (!right) {
    std::printf("%s: case %d\n", what, number);
    wrong = true;
  }
}

void call(const std::vector<Case> &cases, int caller, int turn) {
  const int number = (caller + turn) % static_cast<int>(cases.size());
  const Case &one = cases[static_cast<std::size_t>(number)];
  const int threads = 1 + (caller + turn) % 5;
  // Gradients in lanes and one by one differ in rounding; the lanes of a batch are always the same.
  expect(one.solve(threads) == one.expected, "a call differs from one on one thread", number);
  expect(one.inpaint(threads) == one.inpainted, "inpainting differs from that on one thread",
         number);
  ++calls;
}

// A call that would take for ever, which the second question ends.
void stop(const Case &like, int threads) {
  Case one = like;
  one.problem.options.max_iterations = 1 << 30;
  one.problem.options.tolerance = 0;
  one.problem.options.inner_iterations = 1 << 30;
  patience = 2;
  bool stopped = false;
  try {
    one.solve(threads);
  } catch (const splic::Stopped &) {
    stopped = true;
  }
  patience = 0;
  expect(stopped, "a call was not stopped", threads);
  ++stops;
}

} // namespace

int main(int argc, char **argv) {
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration<double>(argc > 1 ? std::atof(argv[1]) : 10.0);
  std::vector<Case> cases;
  const int shapes[][4] = {{9, 3, 8, 10},  {5, 1, 12, 12}, {18, 1, 6, 9}, {3, 2, 16, 5},
                           {1, 1, 40, 33}, {2, 3, 1, 7},   {7, 1, 7, 1},  {4, 1, 70, 4}};
  for (int number = 0; number < 16; ++number) {
    const int *s = shapes[number % 8];
    cases.emplace_back(s[0], s[1], s[2], s[3], number);
    // The views lead into the vectors of the case, which a move keeps where they are.
  }
  int turn = 0, forks = 0;
  do {
    std::vector<std::thread> callers;
    for (int caller = 0; caller < kCallers; ++caller)
      callers.emplace_back([&, caller, turn] {
        for (int i = 0; i < 8; ++i)
          call(cases, caller, turn + i);
        if (caller == turn / 8 % kCallers)
          stop(cases[0], 1 + caller);
      });
    for (auto &caller : callers)
      caller.join();
    const pid_t child = fork();
    if (child == 0) {
      call(cases, 1, turn);
      std::fflush(stdout);
      _exit(wrong ? 1 : 0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0, "a call after a fork failed", turn);
    turn += 8, ++forks;
  } while (std::chrono::steady_clock::now() < end);
  std::printf("%d calls, %d stopped, %d forks: %s\n", calls.load(), stops.load(), forks,
              wrong ? "WRONG" : "right");
  return wrong ? 1 : 0;
}
