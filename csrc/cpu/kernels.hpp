// What a build of the kernels offers the dispatcher.
#pragma once

#include "derivative.hpp"

namespace splic {
namespace SPLIC_ISA {

template <class E> std::size_t workspace_bytes(const Problem &problem) {
  return problem.cotangent.data ? Derivative<E>::workspace_bytes(problem)
                                : Completion<E>::workspace_bytes(problem);
}
template <class E> void complete_job(const Job &job) {
  current_job = &job;
  if (job.problem->cotangent.data)
    Derivative<E>().run(job);
  else
    Completion<E>().run(job);
}

extern const PeerKernels kPeerKernels;

inline constexpr Kernels make_kernels(const char *name) {
  return {name,
          {Lanes<VecF>::count, Lanes<VecD>::count},
          {workspace_bytes<VecF>, workspace_bytes<VecD>},
          {complete_job<VecF>, complete_job<VecD>},
          {workspace_bytes<float>, workspace_bytes<double>},
          {complete_job<float>, complete_job<double>},
          &kPeerKernels};
}

} // namespace SPLIC_ISA
} // namespace splic
