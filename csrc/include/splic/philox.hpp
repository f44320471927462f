// Philox4x32-10 (Salmon et al. 2011): the counter-based generator of the anchor masks.
#pragma once

#include "splic/problem.hpp"

namespace splic {

struct PhiloxBlock {
  std::uint32_t word[4];
};

SPLIC_HD PhiloxBlock philox4x32(PhiloxBlock counter, std::uint32_t key0, std::uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t first = std::uint64_t{0xD2511F53u} * counter.word[0];
    const std::uint64_t second = std::uint64_t{0xCD9E8D57u} * counter.word[2];
    counter = {{static_cast<std::uint32_t>(second >> 32) ^ counter.word[1] ^ key0,
                static_cast<std::uint32_t>(second),
                static_cast<std::uint32_t>(first >> 32) ^ counter.word[3] ^ key1,
                static_cast<std::uint32_t>(first)}};
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  return counter;
}

// Four mask bits of an image, entries 4 * block to 4 * block + 3; true = anchor.
SPLIC_HD PhiloxBlock mask_words(std::uint64_t seed, std::uint64_t image, std::uint32_t stream,
                                std::uint32_t block) {
  return philox4x32(
      {{block, stream, static_cast<std::uint32_t>(image), static_cast<std::uint32_t>(image >> 32)}},
      static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
}

} // namespace splic
