// How hard the block iteration of both solvers tries: sizes, schedules and limits.
#pragma once

#include "splic/problem.hpp"

namespace splic {

struct JacobiLimits {
  // Off-diagonal entries are measured against the smaller of the geometric mean of their diagonal
  // entries and the gap between these: what is left of a pair with a small gap turns it further.
  double rotate; // pairs with a smaller one are left alone
  double stop;   // a sweep that met no larger one is the last
  double least;  // against the diagonal alone: rounding
  double floor;  // diagonal entries below this share of the largest count as zero
  int sweeps;    // at most
};

// In float64 for what will be float32: no more than that shows.
struct CloseEffort {
  static constexpr JacobiLimits jacobi = {1e-7, 1e-3, 1e-15, 1e-26, 20};
  static constexpr double residual = 3e-7;
};

// The same where the targets start at their values: the first iterate is no harder than the others,
// and they differ by little.
struct NearEffort {
  static constexpr JacobiLimits jacobi = {1e-7, 1e-2, 1e-15, 1e-26, 20};
  static constexpr double residual = 1e-6;
  static constexpr int applications = 2; // of X'X to a warm start, at most
};

// For pairs of which neither is kept, times the square of `rotate`.
template <class S> constexpr S kRestLooseness = S(1e6);
// And times the square of `stop`, in the one-sided rotations of a large matrix: the others need a
// basis of what they span, and no more.
template <class S> constexpr S kRestStop = S(25);

// What each iteration does before the residual test; the test decides what is good enough.
template <class S> struct Effort;
template <> struct Effort<float> {
  static constexpr JacobiLimits jacobi = {1e-5, 1e-3, 3e-7, 1e-12, 12};
  static constexpr JacobiLimits one_sided = {1e-5, 1e-2, 3e-7, 1e-12, 12};
  static constexpr JacobiLimits turned = {1e-6, 1e-3, 3e-7, 1e-12, 12}; // columns of L, C = L L'
  static constexpr double pivot_floor = 1e-6; // of the Cholesky factorisation
  static constexpr double dropped = 1e-6;     // singular values below this share of the first
  static constexpr double residual = 3e-6;    // of a kept triplet, root mean square per entry
  static constexpr double steep = 3e-5;       // theta_r / theta_1 below which X'X is too coarse
  static constexpr double deficient = 1e-5;   // theta_r / theta_1 below which more care is needed
  static constexpr double huge = 1e18;        // sum of theta whose square is still in range
  static constexpr int repeats = 30;          // of the block iteration, at most
  static constexpr double epsilon = 1.2e-7;   // rounding
  static constexpr double tie = 5e-3;         // gap of singular values, relative, that is none
  static constexpr double graded = 1e-2;      // share of the first below which squares are coarse
  static constexpr double weak = 2e-5;        // and below which they are rounding themselves
};
template <> struct Effort<double> {
  static constexpr JacobiLimits jacobi = {1e-11, 1e-5, 1e-15, 1e-26, 20};
  static constexpr JacobiLimits one_sided = jacobi, turned = jacobi;
  static constexpr double pivot_floor = 1e-13;
  static constexpr double dropped = 1e-13;
  static constexpr double residual = 1e-12;
  static constexpr double steep = 1e-12;
  static constexpr double deficient = 1e-13;
  static constexpr double huge = 1e150;
  static constexpr int repeats = 60;
  static constexpr double epsilon = 2.3e-16;
  static constexpr double tie = 1e-5;
  static constexpr double graded = 1e-6;
  static constexpr double weak = 1e-12;
};

constexpr int kEarlyLoops = 2;        // outer loops with more vectors
constexpr int kSchedule = 9;          // outer loops with a number of applications of their own
constexpr int kColdApplications = 10; // of X'X to the start of a pass
constexpr int kRepeatApplications = 3;

// Of a large matrix on the CPU, whose applications follow what the last step has left.
constexpr double kAimedAt = 0.7; // of the limit, both squared
constexpr double kSureGain = 5;  // of one application, at most, where one is to be left out
constexpr double kJump = 6;      // of the squared error, where delta has changed
constexpr int kLeastExtra = 4;   // vectors beyond the kept ones
constexpr double kFarBelow = 8;  // theta_r over the theta behind which vectors are left out

// Vectors beyond the kept ones: the further sigma_k is from sigma_r, the faster the convergence.
SPLIC_HD constexpr int extra_vectors(int rank, bool wide) {
  return rank < 8 ? 4 : rank < 16 ? rank / 2 : wide && rank >= 32 ? rank / 4 : 8;
}

// Block size for k wanted vectors of n: a block that is nearly the whole space may as well be it.
SPLIC_HD constexpr int block_size(int k, int n) { return 4 * k > 3 * n ? n : k; }

// Where in Algorithm 1 triplets are wanted: outer loop and iteration in it, both from 0, length of
// that loop, and iterations of the pass to come.
struct Moment {
  int outer, inner, length, left;
  SPLIC_INLINE bool cold() const { return outer == 0 && inner == 0; }
};

// Applications of X'X to a warm start.
SPLIC_HD int warm_applications(const Moment &moment, bool wide) {
  constexpr int schedule[kSchedule] = {3, 4, 4, 3, 3, 2, 2, 1, 1};
  constexpr int wide_schedule[kSchedule] = {3, 4, 4, 4, 4, 3, 2, 2, 1};
  const int outer = moment.outer < kSchedule ? moment.outer : kSchedule - 1;
  return wide ? wide_schedule[outer] : schedule[outer];
}

// How much larger than usual an error may be. Most of one made in the first two outer loops is
// forgotten when the pass ends; but it may end with any outer loop.
SPLIC_HD double looseness(const Moment &moment) {
  // Sums and doubles of these numbers may be too large for their type.
  if (moment.outer > 1 || moment.length - moment.inner <= 2 ||
      moment.left - moment.length <= moment.length)
    return 1.0;
  return moment.outer == 0 ? 10.0 : 3.0;
}

// cos(turns pi / (2 n)) for turns >= 0, reduced exactly and then by its Taylor series: |x| <= pi.
SPLIC_HD double cosine(std::int64_t turns, int n) {
  int a = static_cast<int>(turns % (4 * n));
  a = a > 2 * n ? 4 * n - a : a;
  const double x = a * 3.14159265358979323846 / (2 * n);
  double term = 1, sum = 1;
  for (int j = 1; j < 14; ++j) {
    term *= -x * x / ((2 * j - 1) * (2 * j));
    sum += term;
  }
  return sum;
}

// The i-th Chebyshev node of n, and entry j of column p of the discrete cosine transform, the cold
// start of the block iteration.
SPLIC_HD double chebyshev_node(int i, int n) { return cosine(2 * i + 1, n); }
SPLIC_HD double cosine_basis(int j, int p, int n) {
  return __builtin_sqrt((p == 0 ? 1.0 : 2.0) / n) * cosine((2 * std::int64_t{j} + 1) * p, n);
}

} // namespace splic
