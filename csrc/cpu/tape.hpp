// What a completion leaves for its derivative: the triplets of each iteration of a pass.
#pragma once

#include "gemm.hpp"

namespace splic {
namespace SPLIC_ISA {

template <class E> struct Iteration {
  Matrix<E> left, right; // U (m x r) and Z' = U'X (r x n)
  E *theta, *delta;
  Mask<E> *active;
};

// One iteration after the other in memory; where they begin is found by their number.
template <class E> class Tape {
public:
  void lay_out(int m, int r, std::ptrdiff_t left_row, std::ptrdiff_t right_row, int iterations,
               Arena &arena) {
    const std::size_t before = arena.used();
    first_.left = {arena.take<E>(static_cast<std::size_t>(m) * left_row), left_row, 1};
    first_.right = {arena.take<E>(static_cast<std::size_t>(r) * right_row), right_row, 1};
    first_.theta = arena.take<E>(r);
    first_.delta = arena.take<E>(1);
    first_.active = arena.take<Mask<E>>(1);
    bytes_ = arena.used() - before;
    arena.template take<unsigned char>(bytes_, static_cast<std::size_t>(iterations - 1));
  }

  Iteration<E> operator[](int t) const {
    const auto moved = [&](auto *p) {
      using T = decltype(p);
      return reinterpret_cast<T>(reinterpret_cast<unsigned char *>(p) + t * bytes_);
    };
    Iteration<E> now = first_;
    now.left.p = moved(now.left.p);
    now.right.p = moved(now.right.p);
    now.theta = moved(now.theta);
    now.delta = moved(now.delta);
    now.active = moved(now.active);
    return now;
  }

private:
  Iteration<E> first_;
  std::size_t bytes_ = 0;
};

} // namespace SPLIC_ISA
} // namespace splic
