// A plane denoised by total variation (Rudin, Osher & Fatemi 1992), by Chambolle's projected steps
// (2004), and the derivative of that: what splic_ext.defenses.TotalVariation computes in torch.
//
//   p' = (p - d / 4) / (1 + |d| / (4 w)),   d = D u,   u = x + D'p,   p = 0 at first,
//
// D the forward differences down and right, 0 across the border. No products are fused: the bits
// are the same on every processor; torch takes its roots from a library, and differs by rounding.
#pragma once

#include "lanes.hpp"
#include "peers.hpp"

namespace splic {
namespace SPLIC_ISA {

// V is a vector of neighbours in a row.
template <class V> class Denoiser {
  using T = Scalar<V>;
  static constexpr int kWidth = Lanes<V>::count;
  static constexpr T kStep = T(0.25);

public:
  // Bytes for a plane, or 0 where they are too many.
  static std::size_t workspace_bytes(const Denoising &batch) {
    std::size_t bytes = 0;
    const Denoiser like(batch);
    const std::size_t fields = 2 * (like.back() ? std::size_t(batch.iterations) + 2 : 1);
    if (__builtin_mul_overflow(fields + 2, like.plane_ * sizeof(T), &bytes) ||
        __builtin_add_overflow(bytes, 9 * like.row_ * sizeof(T), &bytes))
      return 0;
    return bytes;
  }

  explicit Denoiser(const Denoising &batch) : batch_(batch) {
    height_ = batch.height;
    packets_ = (batch.width + kWidth - 1) / kWidth;
    // A vector of zeros before each row and after the last one, a row of zeros before the first.
    row_ = (std::size_t(packets_) + 1) * kWidth;
    plane_ = (std::size_t(height_) + 1) * row_ + kWidth;
  }

  void run(const PeerJob &job) {
    T *at = static_cast<T *>(job.workspace);
    const auto take = [&](std::size_t count) {
      T *const taken = at;
      at += count;
      return taken;
    };
    x_ = take(plane_) + row_ + kWidth;
    T *const gradient = take(plane_) + row_ + kWidth;
    inside_ = take(row_);
    for (T *&row : rows_)
      row = take(row_) + kWidth;
    take(row_);
    T *const field = take(2 * plane_) + row_ + kWidth;
    const T *const end = back() ? at + 2 * plane_ * (std::size_t(batch_.iterations) + 1) : at;
    for (T *p = static_cast<T *>(job.workspace); p != end; p += kWidth)
      put(p, V{});
    for (int j = 0; j + 1 < batch_.width; ++j)
      inside_[j] = T(1);
    ratio_ = splat<V>(static_cast<T>(0.25 / batch_.weight));
    read(batch_.source, job.item, x_);
    T *now = field;
    for (int t = 0; t < batch_.iterations; ++t) {
      job.look(job.watch);
      T *const next = back() ? now + 2 * plane_ : now;
      back() ? step<false>(now, next) : step<true>(now, next);
      now = next;
    }
    if (!back()) {
      for (int i = 0; i < height_; ++i)
        restore(now, i, x_ + i * row_); // row i of x is not needed any more
      return write(x_, job.item);
    }
    T *const dual = now + 2 * plane_;
    read(batch_.cotangent, job.item, gradient);
    for (int i = 0; i < height_; ++i)
      add_differences(gradient + i * row_, i + 1 < height_ ? gradient + (i + 1) * row_ : nullptr,
                      dual + i * row_);
    for (int t = batch_.iterations; t > 0; --t, now -= 2 * plane_) {
      job.look(job.watch);
      step_back(now - 2 * plane_, now, dual, gradient);
    }
    write(gradient, job.item);
  }

private:
  bool back() const { return batch_.cotangent.data != nullptr; }
  static SPLIC_INLINE V get(const T *p) {
    V x;
    __builtin_memcpy(&x, p, sizeof x);
    return x;
  }
  static SPLIC_INLINE void put(T *p, V x) { __builtin_memcpy(p, &x, sizeof x); }
  // The part of a field (down, right) that goes right.
  T *right(T *field) const { return field + plane_; }
  const T *right(const T *field) const { return field + plane_; }

  // Row i of u = x + D'p.
  SPLIC_INLINE void restore(const T *field, int i, T *u) const {
    const T *down = field + i * row_, *above = down - row_, *across = right(field) + i * row_;
    const T *x = x_ + i * row_;
    for (int p = 0, j = 0; p < packets_; ++p, j += kWidth)
      put(u + j,
          get(x + j) - (get(down + j) - get(above + j)) - (get(across + j) - get(across + j - 1)));
  }

  // The differences at place j of a row of u, and 1 + |d| / (4 w).
  struct Slope {
    V down, right, squares, norm, scale;
  };
  SPLIC_INLINE Slope slope(const T *u, const T *below, int j) const {
    Slope s;
    const V here = get(u + j);
    s.right = (get(u + j + 1) - here) * get(inside_ + j);
    s.down = below == nullptr ? V{} : get(below + j) - here;
    s.squares = s.down * s.down + s.right * s.right;
    s.norm = sqrt(s.squares);
    s.scale = splat<V>(1) + ratio_ * s.norm;
    return s;
  }

  // A step from one field to another, or in place: a row of u is computed before the row of the
  // field above it is overwritten. `exact`: by two quotients, as torch.
  template <bool exact> void step(const T *from, T *to) {
    const V size = splat<V>(kStep);
    T *u = rows_[0], *below = rows_[1];
    restore(from, 0, u);
    for (int i = 0; i < height_; ++i) {
      const bool last = i + 1 == height_;
      if (!last)
        restore(from, i + 1, below);
      const std::size_t row = i * row_;
      const T *down = from + row, *across = right(from) + row;
      for (int p = 0, j = 0; p < packets_; ++p, j += kWidth) {
        const Slope s = slope(u, last ? nullptr : below, j);
        const V by_down = get(down + j) - size * s.down;
        const V by_right = get(across + j) - size * s.right;
        const V inverse = exact ? V{} : splat<V>(1) / s.scale;
        put(to + row + j, exact ? by_down / s.scale : by_down * inverse);
        put(right(to) + row + j, exact ? by_right / s.scale : by_right * inverse);
      }
      T *const freed = u;
      u = below;
      below = freed;
    }
  }

  // dual, the cotangent of the field p', becomes that of p; what goes by u is added to `gradient`.
  void step_back(const T *before, const T *after, T *dual, T *gradient) {
    const V size = splat<V>(kStep);
    T *u = rows_[0], *below = rows_[1], *pulled = rows_[2], *pulled_above = rows_[3];
    T *down = rows_[4], *down_above = rows_[5], *across = rows_[6];
    for (int j = -kWidth; j + kWidth < static_cast<int>(row_); ++j)
      down_above[j] = across[j] = T(0);
    restore(before, 0, u);
    for (int i = 0; i < height_; ++i) {
      const bool last = i + 1 == height_;
      if (!last)
        restore(before, i + 1, below);
      const std::size_t row = i * row_;
      T *const dual_down = dual + row, *const dual_across = right(dual) + row;
      const T *p_down = after + row, *p_across = right(after) + row;
      for (int p = 0, j = 0; p < packets_; ++p, j += kWidth) {
        const Slope s = slope(u, last ? nullptr : below, j);
        const V inverse = splat<V>(1) / s.scale;
        const V by_down = get(dual_down + j) * inverse;
        const V by_across = get(dual_across + j) * inverse;
        const V by_norm = by_down * get(p_down + j) + by_across * get(p_across + j);
        const auto any_slope = s.squares > V{};
        // |d| has no derivative at 0, where the step is 0 whatever it is.
        const V turn =
            select(any_slope, ratio_ * by_norm / select(any_slope, s.norm, splat<V>(1)), V{});
        put(dual_down + j, by_down);
        put(dual_across + j, by_across);
        put(down + j, -(size * by_down) - turn * s.down);
        put(across + j, -(size * by_across) - turn * s.right);
      }
      for (int p = 0, j = 0; p < packets_; ++p, j += kWidth) {
        const V by_u =
            get(down_above + j) - get(down + j) + (get(across + j - 1) - get(across + j));
        put(pulled + j, by_u);
        put(gradient + row + j, get(gradient + row + j) + by_u);
      }
      if (i > 0)
        add_differences(pulled_above, pulled, dual + row - row_);
      if (last)
        add_differences(pulled, nullptr, dual + row);
      swap(u, below);
      swap(pulled, pulled_above);
      swap(down, down_above);
    }
  }

  static SPLIC_INLINE void swap(T *&a, T *&b) {
    T *const c = a;
    a = b;
    b = c;
  }

  // Adds D u to a row of a field, given that row of u and the one below.
  SPLIC_INLINE void add_differences(const T *u, const T *below, T *field) const {
    for (int p = 0, j = 0; p < packets_; ++p, j += kWidth) {
      const V here = get(u + j);
      if (below != nullptr)
        put(field + j, get(field + j) + (get(below + j) - here));
      put(right(field) + j, get(right(field) + j) + (get(u + j + 1) - here) * get(inside_ + j));
    }
  }

  void read(const ConstView &view, std::int64_t item, T *plane) const {
    for (int i = 0; i < height_; ++i)
      for (int j = 0; j < batch_.width; ++j)
        __builtin_memcpy(plane + i * row_ + j,
                         view.at(item / batch_.channels, item % batch_.channels, i, j), sizeof(T));
  }
  void write(const T *plane, std::int64_t item) const {
    for (int i = 0; i < height_; ++i)
      for (int j = 0; j < batch_.width; ++j)
        __builtin_memcpy(batch_.target.at(item / batch_.channels, item % batch_.channels, i, j),
                         plane + i * row_ + j, sizeof(T));
  }

  const Denoising &batch_;
  int height_, packets_;
  std::size_t row_, plane_;
  T *x_ = nullptr, *inside_ = nullptr, *rows_[7] = {};
  V ratio_ = {};
};

} // namespace SPLIC_ISA
} // namespace splic
