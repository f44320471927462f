// What a load finds out about a matrix, and what is decided after an outer loop: the same whoever
// holds the entries.
#pragma once

#include "splic/convert.hpp"
#include "splic/geometry.hpp"

namespace splic {

// The matrix that a team works on.
struct MatrixItem {
  std::int64_t image;
  int channel;          // the first one, where the channels are separate
  std::uint32_t stream; // number of the mask
};

// Of the pixels that a thread has loaded: all of them, and the anchors.
template <class T> struct PixelRange {
  T top = 0, top_anchor = 0;
  T bottom = static_cast<T>(__builtin_huge_val()), bottom_anchor = bottom;
  bool finite = true, finite_anchors = true, any_anchor = false, all_anchors = true;

  SPLIC_INLINE void see(T value, bool anchor) {
    const bool number = value - value == T(0);
    finite = finite && number;
    finite_anchors = finite_anchors && (number || !anchor);
    any_anchor = any_anchor || anchor;
    all_anchors = all_anchors && anchor;
    top = value > top ? value : top;
    bottom = value < bottom ? value : bottom;
    top_anchor = anchor && value > top_anchor ? value : top_anchor;
    bottom_anchor = anchor && value < bottom_anchor ? value : bottom_anchor;
  }
};

// The power of two that a matrix is divided by, the data range after that, and whether there is
// anything to complete.
template <class T> struct Scale {
  T unit, range;
  bool sound; // false where a value is no number or out of range
};

// Of what all threads of a team have seen. Hidden pixels that the result does not depend on may be
// anything, and do not count.
template <class T, class Team>
SPLIC_INLINE Scale<T> settle(const Problem &p, const Team &team, PixelRange<T> seen,
                             Record *record) {
  const T huge = static_cast<T>(__builtin_huge_val());
  bool empty = false, full = false;
  if (p.hides() || p.fills()) {
    empty = !(team.maximum(seen.any_anchor ? T(1) : T(0)) > T(0));
    full = !(team.maximum(seen.all_anchors ? T(0) : T(1)) > T(0));
  }
  const bool blind = p.hides() && (!empty || p.fills());
  if (blind) {
    seen.top = seen.top_anchor;
    seen.bottom = seen.bottom_anchor;
    seen.finite = seen.finite_anchors;
  }
  const T top = team.maximum(seen.top), lowest = -team.maximum(-seen.bottom);
  const T bottom = lowest < huge ? lowest : T(0); // nothing counts
  const T top_anchor = team.maximum(seen.top_anchor);
  const bool finite = !(team.maximum(seen.finite ? T(0) : T(1)) > T(0));
  if (record && team.rank() == 0) {
    record->low = finite ? static_cast<double>(bottom) : __builtin_nan("");
    record->high = finite ? static_cast<double>(top) : __builtin_nan("");
  }
  // Scaling by a power of two is exact, and keeps the squares in range.
  double size = static_cast<double>(top_anchor > 0 && !p.options.from_image ? top_anchor : top);
  const bool fills = p.fills() && (empty || (full && p.options.alternate));
  if (fills || (blind && !(top_anchor > 0))) // by nothing that is hidden
    size = p.data_range;
  Scale<T> scale;
  scale.unit = static_cast<T>(unit_of<T>(size));
  scale.range = static_cast<T>(p.data_range / static_cast<double>(scale.unit));
  scale.sound = finite && bottom >= T(0) && static_cast<double>(top) <= p.data_range;
  return scale;
}

// An entry of the result. Of an image that is not sound, or has diverged, all are NaN (0 where the
// type has none): nobody shall take it for a completed one.
template <class T> SPLIC_INLINE T result_entry(T value, T unit, T largest, bool sound) {
  value *= unit;
  value = value > 0 ? value : T(0);
  value = value < largest ? value : largest;
  return sound ? value : static_cast<T>(__builtin_nan(""));
}

// Line 12 of Algorithm 1 and what is recorded, after iteration t of a pass: whether the pass goes
// on. `record`: null for all threads but one. `diverged`: it stops because the change is beyond
// all bounds.
template <class T>
SPLIC_INLINE bool goes_on(const Problem &p, T range, Record *record, int pass, int t,
                          T root_of_change, T &delta, bool &diverged) {
  const T entries = static_cast<T>(Geometry(p).entries());
  const T tolerance = static_cast<T>(p.options.tolerance) * range;
  const T residual = root_of_change / entries;
  const double size = static_cast<double>(residual) / static_cast<double>(range);
  diverged = !(size <= kDiverged);
  if (record) {
    record->iterations[pass] = t;
    record->residual[pass] = diverged ? __builtin_huge_val() : size;
    record->delta[pass] = static_cast<double>(delta) / static_cast<double>(range);
  }
  if (diverged || !(residual > tolerance))
    return false;
  delta *= static_cast<T>(p.options.delta_decay);
  return true;
}

} // namespace splic
