// What kernels of team/steps.hpp have in common: the steps that read an image, write it, and change
// the iterate.
#pragma once

#include "team.cuh"
#include "team/steps.hpp"

namespace splic {

// By one block; all its threads have come here.
template <class Matrix>
__device__ void load_matrix(Matrix &matrix, const Problem &problem, const Launch &launch,
                            std::int64_t place) {
  Record *record = record_of(launch, place);
  if (record && threadIdx.x == 0)
    *record = Record();
  __syncthreads();
  matrix.load(item_of(problem, launch, place), record);
}
template <class T, class Matrix>
__device__ void store_matrix(Matrix &matrix, const Problem &problem, const Launch &launch,
                             std::int64_t place) {
  matrix.store(item_of(problem, launch, place), sum_of<T>(problem, launch, place));
}

// By one block of several, of that number.
template <int threads, class Matrix> __device__ void advance_matrix(Matrix &matrix, int number) {
  const Block<threads> block{{}, reinterpret_cast<double *>(launch_shared())};
  const double change = block.sum(static_cast<double>(matrix.advance()));
  if (threadIdx.x == 0)
    matrix.keep_change(number, change);
}

} // namespace splic
