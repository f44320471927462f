// The CPU solver: picks the kernels, spreads the work over threads, averages over masks.
#pragma once

#include <string>
#include <vector>

#include "splic/problem.hpp"

namespace splic {

// Completes the batch on at most `threads` threads. Throws std::bad_alloc, std::system_error.
void solve_on_cpu(const Problem &problem, int threads);

// Instruction sets that were built and that this processor has, best last; the one in use.
std::vector<std::string> available_instruction_sets();
std::string instruction_set();

} // namespace splic
