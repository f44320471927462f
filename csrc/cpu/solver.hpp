// The CPU solver: picks the kernels, spreads the work over threads, averages over masks.
#pragma once

#include <string>
#include <vector>

#include "splic/problem.hpp"
#include "watch.hpp"

namespace splic {

struct Kernels;

// The best kernels that were built and that this processor has, or those that the environment
// variable SPLIC_SIMD names. Throws std::invalid_argument where it names none.
const Kernels &chosen_kernels();

// Completes the batch, or computes the gradient if there is a cotangent, on at most `threads`
// threads. `question` is asked about every 50 ms by the thread that calls, unless it is null: true
// ends the work, and the target is then undefined. Throws std::bad_alloc, and Stopped.
void solve_on_cpu(const Problem &problem, const Kernels &kernels, int threads,
                  Watch::Question question);

// Instruction sets that were built and that this processor has, best last; that of the kernels.
std::vector<std::string> available_instruction_sets();
std::string instruction_set(const Kernels &kernels);

} // namespace splic
