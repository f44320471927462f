// The declarations of csrc/cuda/cusolver_api.hpp against the real headers: compiles if they agree.
#include <type_traits>

#include <cusolverDn.h>

#include "cuda/cusolver_api.hpp"

namespace {

// What a type is when it is passed: enumerations as int, pointers as pointers.
template <class T>
using Passed =
    std::conditional_t<std::is_pointer_v<T>, void *,
                       typename std::conditional_t<std::is_enum_v<T>, std::underlying_type<T>,
                                                   std::enable_if<true, T>>::type>;
template <class T> struct AsInt {
  using type = std::conditional_t<sizeof(T) == sizeof(int) && std::is_integral_v<T>, int, T>;
};
template <class F> struct Signature;
template <class R, class... A> struct Signature<R (*)(A...)> {
  using type = typename AsInt<Passed<R>>::type (*)(typename AsInt<Passed<A>>::type...);
};
template <class Ours, class Theirs>
constexpr bool agree =
    std::is_same_v<typename Signature<Ours>::type, typename Signature<Theirs>::type>;

using Api = splic::CusolverApi;
static_assert(agree<decltype(Api::property), decltype(&cusolverGetProperty)>);
static_assert(agree<decltype(Api::create), decltype(&cusolverDnCreate)>);
static_assert(agree<decltype(Api::destroy), decltype(&cusolverDnDestroy)>);
static_assert(agree<decltype(Api::set_stream), decltype(&cusolverDnSetStream)>);
static_assert(agree<decltype(Api::create_params), decltype(&cusolverDnCreateParams)>);
static_assert(agree<decltype(Api::destroy_params), decltype(&cusolverDnDestroyParams)>);
static_assert(agree<decltype(Api::eigen_size), decltype(&cusolverDnXsyevBatched_bufferSize)>);
static_assert(agree<decltype(Api::eigen), decltype(&cusolverDnXsyevBatched)>);
static_assert(Api::kVectors == CUSOLVER_EIG_MODE_VECTOR);
static_assert(Api::kLower == CUBLAS_FILL_MODE_LOWER);
static_assert(Api::kFloat64 == CUDA_R_64F);
static_assert(MAJOR_VERSION == 0 && MINOR_VERSION == 1 && PATCH_LEVEL == 2);

} // namespace
