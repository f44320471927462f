// Which matrices the usual kernels may get wrong, and how they are completed instead.
//
// The block iteration in float32 is as good as LAPACK on photographs with about half of the pixels
// as anchors. It is not where a matrix is sparse (its zeros hold only as long as no rounding error
// touches them), where neighbouring pixels have little to do with each other (singular values then
// lie close together), and with options that forget little of an error. What is asked of a
// matrix is its own affair: neither the batch nor the threads play a part. Pixels that no pass may
// see are not looked at.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "splic/convert.hpp"
#include "splic/philox.hpp"
#include "splic/problem.hpp"

namespace splic {

// Beyond these a matrix is completed wide, beyond the second whole. What is beyond nothing but the
// number of anchors or the strength of the TV term of a single pass has rounding errors in float32
// that are a little too large: float64 will do.
struct Doubt {
  static constexpr double anchors[] = {0.2, 0.08};   // least share that are not 0, of a pass
  static constexpr double variance[] = {1e-3, 1e-5}; // least, in squares of the mean
  static constexpr double most_anchors = 0.9;        // share, of a pass
  static constexpr double most_single = 0.75;        // share, of a pass that is the only one
  static constexpr double roughness = 0.7;   // squared difference of neighbours, in variances
  static constexpr int least_inner = 5;      // iterations between two changes of delta
  static constexpr double least_decay = 0.4; // of delta
  static constexpr double most_decay = 0.65;
  static constexpr double most_step = 0.7;
  static constexpr double most_tv = 0.25;
  static constexpr double most_close_tv = 0.5; // of a single pass
};

// What care the options ask for, whatever the matrix. `closely`: Care::close is to be had. It is
// enough where the targets start at their values, and short loops do not matter then.
inline Care care_of(const Options &o, bool closely) {
  const bool near = closely && o.from_image;
  const bool doubt = (o.inner_iterations < Doubt::least_inner && !(near && !o.alternate)) ||
                     o.delta_decay < Doubt::least_decay || o.delta_decay > Doubt::most_decay ||
                     o.step_size > Doubt::most_step || o.literal;
  if (doubt || o.tv_weight > (o.alternate ? Doubt::most_tv : Doubt::most_close_tv))
    return Care::wide;
  return near || o.tv_weight > Doubt::most_tv ? Care::close : Care::usual;
}

// What is counted of a matrix, of the pixels that a pass sees.
struct PixelCounts {
  double entries = 0, anchors = 0, seen = 0, nonzero = 0, pairs = 0;
  double sum = 0, squares = 0, differences = 0;

  Care care(bool alternate) const {
    if (seen == 0)
      return Care::usual; // nothing moves
    const double share = anchors / entries, rest = alternate ? 1 - share : share;
    const double mean = sum / seen, variance = squares / seen - mean * mean;
    const double filled = std::min(share, rest) * nonzero / seen;
    const auto beyond = [&](int limit) {
      return filled < Doubt::anchors[limit] || !(variance > Doubt::variance[limit] * mean * mean);
    };
    const bool smooth = differences <= 2 * Doubt::roughness * variance * pairs;
    const double most = alternate ? Doubt::most_anchors : Doubt::most_single;
    return beyond(1)                      ? Care::whole
           : beyond(0) || !smooth         ? Care::wide
           : std::max(share, rest) > most ? Care::close
                                          : Care::usual;
  }
};

// What care a matrix needs, by its first mask.
inline Care care_of(const Problem &p, std::int64_t matrix, std::vector<float> &scratch) {
  const std::int64_t image = matrix / p.planes();
  const int width = p.width, channel = static_cast<int>(matrix % p.planes());
  const bool drawn = p.mask.data == nullptr, alternate = p.options.alternate;
  const bool all = alternate || p.options.from_image; // pixels are seen
  scratch.resize(static_cast<std::size_t>(4) * width);
  float *now = scratch.data(), *before = now + width, *seen = before + width,
        *seen_before = seen + width;
  // Squares stay in range.
  const double unit = 1.0 / p.data_range;
  const auto value_at = [&, narrow = static_cast<float>(unit)](int c, int h, int x) {
    const unsigned char *at = p.source.at(image, c, h, x);
    return p.dtype == DType::f64 ? static_cast<float>(read<double>(at, p.dtype) * unit)
                                 : read<float>(at, p.dtype) * narrow;
  };
  PixelCounts counts;
  PhiloxBlock words = {};
  std::uint32_t number = 0;
  for (int row = 0; row < p.stacked_channels() * p.height; ++row) {
    const int c = channel + row / p.height, h = row % p.height;
    float anchors = 0, nonzero = 0, count = 0, sum = 0, squares = 0, pairs = 0, differences = 0;
    for (int x = 0; x < width; ++x, ++number) {
      if (drawn && number % 4 == 0)
        words =
            mask_words(p.seed, p.first_index + static_cast<std::uint64_t>(image), 0, number / 4);
      const bool anchor =
          drawn ? words.word[number % 4] < p.anchor_threshold : *p.mask.at(image, c, h, x) != 0;
      anchors += anchor ? 1.0f : 0.0f;
      seen[x] = anchor || all ? 1.0f : 0.0f;
      now[x] = seen[x] != 0.0f ? value_at(c, h, x) : 0.0f;
    }
    for (int x = 0; x < width; ++x) {
      count += seen[x];
      nonzero += now[x] != 0.0f ? 1.0f : 0.0f;
      sum += now[x];
      squares += now[x] * now[x];
    }
    const auto neighbours = [&](int size, const float *value, const float *there) {
      for (int x = 0; x < size; ++x) {
        const float both = seen[x] * there[x], d = now[x] - value[x];
        pairs += both;
        differences += both * d * d;
      }
    };
    neighbours(width - 1, now + 1, seen + 1);
    if (h > 0)
      neighbours(width, before, seen_before);
    counts.anchors += anchors;
    counts.seen += count;
    counts.nonzero += nonzero;
    counts.sum += sum;
    counts.squares += squares;
    counts.pairs += pairs;
    counts.differences += differences;
    std::swap(now, before);
    std::swap(seen, seen_before);
  }
  counts.entries = number;
  return counts.care(alternate);
}

} // namespace splic
