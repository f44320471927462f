// Which instruction sets this x86-64 processor has, and the operating system keeps the registers
// of. The processor itself is asked: __builtin_cpu_supports needs a library that is not linked on
// Windows.
#pragma once

#include <cpuid.h>

namespace splic {

class Processor {
public:
  Processor() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d))
      return;
    basic_ = c;
    if (bit(basic_, 27)) { // XGETBV may be asked
      unsigned high = 0;
      __asm__ volatile("xgetbv" : "=a"(kept_), "=d"(high) : "c"(0));
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
      extended_ = b;
  }

  // AVX, FMA and AVX2, with the registers XMM and YMM.
  bool avx2() const {
    return keeps(0x06) && bit(basic_, 28) && bit(basic_, 12) && bit(extended_, 5);
  }

  // AVX-512 F, DQ, BW and VL, with the mask registers and all of ZMM.
  bool avx512() const {
    return avx2() && keeps(0xe6) && bit(extended_, 16) && bit(extended_, 17) &&
           bit(extended_, 30) && bit(extended_, 31);
  }

private:
  static bool bit(unsigned word, int place) { return word >> place & 1; }
  bool keeps(unsigned registers) const { return (kept_ & registers) == registers; }

  unsigned basic_ = 0, extended_ = 0, kept_ = 0;
};

} // namespace splic
