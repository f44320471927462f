// Minimises, in each channel, with the visible pixels fixed,
//
//   sum over pixels of w^-1,   w = 1 / sqrt(right^2 + down^2 + epsilon^2),
//
// right and down the forward differences, 0 across the border. Where the gradient vanishes, a
// hidden pixel is the mean of its four neighbours, weighted by w of the pixel that the difference
// is of. One iteration computes all w anew, and makes one sweep of red-black successive
// over-relaxation with them (lagged diffusivity: Vogel & Oman 1996).
//
// Channels lie in the lanes of 16-byte vectors: two or four of them cost as much as one. The bits
// are the same on every processor: no products are fused, roots and quotients are rounded
// correctly.
#include "inpaint.hpp"

#include <vector>

#include "parallel.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace splic {
namespace {

constexpr double kRelaxation = 1.8;

template <class T> struct VectorOf {
  typedef T type __attribute__((vector_size(16)));
};
template <class T> using Vector = typename VectorOf<T>::type;
template <class T> constexpr int kLanes = 16 / static_cast<int>(sizeof(T));

#if defined(__SSE2__)
inline Vector<float> root(Vector<float> x) { return (Vector<float>)_mm_sqrt_ps((__m128)x); }
inline Vector<double> root(Vector<double> x) { return (Vector<double>)_mm_sqrt_pd((__m128d)x); }
#else
template <class V> inline V root(V x) {
  for (int i = 0; i < static_cast<int>(sizeof(V) / sizeof(x[0])); ++i)
    x[i] = sizeof(x[0]) == 4 ? __builtin_sqrtf(x[i]) : __builtin_sqrt(x[i]);
  return x;
}
#endif

// A pixel and its neighbours, itself beyond the border. by_*: whose w the difference has; the last
// entry, which is always 0, beyond the border.
struct Place {
  std::int32_t at, up, left, down, right, by_up, by_left, by_down, by_right;
};

// What the mask of an image says.
struct Plan {
  std::vector<Place> weights;       // pixels whose differences a hidden one takes part in
  std::vector<Place> hidden;        // red ones first: of even row + column
  std::vector<std::int32_t> border; // visible pixels beside hidden ones
  bool empty = true;                // nothing is visible
};

Plan plan_of(const Inpainting &batch, std::int64_t index) {
  const std::int32_t height = batch.height, width = batch.width, none = height * width;
  // With a border of visible pixels, which nothing is computed from.
  const std::ptrdiff_t stride = static_cast<std::ptrdiff_t>(width) + 2;
  std::vector<char> hidden(static_cast<std::size_t>(stride) * (height + 2));
  Plan plan;
  for (std::int32_t row = 0; row < height; ++row) {
    char *h = &hidden[(row + 1) * stride + 1];
    for (std::int32_t column = 0; column < width; ++column) {
      h[column] = *batch.mask.at(index, 0, row, column) == 0;
      plan.empty = plan.empty && h[column];
    }
  }
  if (plan.empty) // nothing to compute from
    return plan;
  std::vector<Place> black;
  for (std::int32_t row = 0, at = 0; row < height; ++row) {
    const char *h = &hidden[(row + 1) * stride + 1];
    for (std::int32_t column = 0; column < width; ++column, ++at, ++h) {
      const bool after = h[stride] || h[1];
      if (!*h && !after && !h[-stride] && !h[-1])
        continue;
      const bool up = row > 0, left = column > 0;
      const bool down = row + 1 < height, right = column + 1 < width;
      const Place place = {at,
                           up ? at - width : at,
                           left ? at - 1 : at,
                           down ? at + width : at,
                           right ? at + 1 : at,
                           up ? at - width : none,
                           left ? at - 1 : none,
                           down ? at : none,
                           right ? at : none};
      if (*h || after)
        plan.weights.push_back(place);
      if (!*h)
        plan.border.push_back(at);
      else
        ((row + column) % 2 == 0 ? plan.hidden : black).push_back(place);
    }
  }
  plan.hidden.insert(plan.hidden.end(), black.begin(), black.end());
  return plan;
}

// Some channels of an image, in the lanes.
template <class T> class Channels {
public:
  Channels(const Inpainting &batch, std::int64_t index, const Plan &plan)
      : batch_(batch), index_(index), plan_(plan),
        pixels_(static_cast<std::size_t>(batch_.height) * batch_.width),
        weights_(pixels_.size() + 1) {}

  void run(int first, Watch &watch) {
    first_ = first;
    read();
    start();
    const T epsilon = static_cast<T>(batch_.epsilon);
    for (int i = 0; i < batch_.iterations; ++i) {
      watch.look();
      weigh(epsilon * epsilon);
      sweep();
    }
    write();
  }

private:
  using V = Vector<T>;
  // An item that no allocator has to align.
  struct Item {
    T lane[kLanes<T>] = {};
    V load() const {
      V x;
      __builtin_memcpy(&x, lane, sizeof x);
      return x;
    }
    void store(V x) { __builtin_memcpy(lane, &x, sizeof x); }
  };

  int lanes() const { return std::min(kLanes<T>, batch_.channels - first_); }

  void read() {
    for (int lane = 0; lane < lanes(); ++lane)
      for (int row = 0, at = 0; row < batch_.height; ++row)
        for (int column = 0; column < batch_.width; ++column, ++at)
          __builtin_memcpy(&pixels_[at].lane[lane],
                           batch_.source.at(index_, first_ + lane, row, column), sizeof(T));
  }

  // The mean of what surrounds the holes.
  void start() {
    for (int lane = 0; lane < lanes(); ++lane) {
      double sum = 0.0;
      for (const std::int32_t at : plan_.border)
        sum += pixels_[at].lane[lane];
      const T mean = static_cast<T>(sum / static_cast<double>(plan_.border.size()));
      for (const Place &p : plan_.hidden)
        pixels_[p.at].lane[lane] = mean;
    }
  }

  void weigh(T least) {
    for (const Place &p : plan_.weights) {
      const V here = pixels_[p.at].load();
      const V right = pixels_[p.right].load() - here, down = pixels_[p.down].load() - here;
      weights_[p.at].store(T(1) / root(right * right + down * down + least));
    }
  }

  void sweep() {
    const T omega = static_cast<T>(kRelaxation);
    for (const Place &p : plan_.hidden) {
      const V up = weights_[p.by_up].load(), left = weights_[p.by_left].load();
      const V down = weights_[p.by_down].load(), right = weights_[p.by_right].load();
      const V sum = up * pixels_[p.up].load() + left * pixels_[p.left].load() +
                    down * pixels_[p.down].load() + right * pixels_[p.right].load();
      const V here = pixels_[p.at].load();
      pixels_[p.at].store(here + omega * (sum / (up + left + down + right) - here));
    }
  }

  void write() const {
    for (int lane = 0; lane < lanes(); ++lane)
      for (int row = 0, at = 0; row < batch_.height; ++row)
        for (int column = 0; column < batch_.width; ++column, ++at)
          __builtin_memcpy(batch_.target.at(index_, first_ + lane, row, column),
                           &pixels_[at].lane[lane], sizeof(T));
  }

  const Inpainting &batch_;
  std::int64_t index_;
  const Plan &plan_;
  int first_ = 0;
  std::vector<Item> pixels_, weights_;
};

template <class T> void inpaint(const Inpainting &batch, std::int64_t index, Watch &watch) {
  const Plan plan = plan_of(batch, index);
  Channels<T> channels(batch, index, plan);
  for (int first = 0; first < batch.channels; first += kLanes<T>)
    channels.run(first, watch);
}

} // namespace

void inpaint_tv(const Inpainting &batch, int threads, Watch::Question question) {
  Watch watch(question);
  const auto most = std::min<std::int64_t>(std::min(threads, kMostThreads), batch.count);
  parallel(batch.count, static_cast<int>(most), 64, watch, [&](std::int64_t i, unsigned char *) {
    (batch.wide ? inpaint<double> : inpaint<float>)(batch, i, watch);
  });
}

} // namespace splic
