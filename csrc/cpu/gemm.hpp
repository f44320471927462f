// Small matrix products on elements E, with an epilogue for what happens to the result.
//
// C(i, p) = sum over k of A(i, k) B(k, p), each entry one chain of fma in the order of k, whatever
// the element and the tile: an interleaved and a dense product give the same bits.
#pragma once

#include "kernel_table.hpp"
#include "lanes.hpp"

namespace splic {
namespace SPLIC_ISA {

// The job of this thread, for what takes long to look whether it is to end.
inline thread_local const Job *current_job = nullptr;
SPLIC_NOINLINE inline void look() { current_job->look(current_job->watch); }
constexpr int kLongSide = 128; // of matrices that take long

// A packet is what one instruction makes of a row of the result: one entry (of every lane) when
// interleaved, a vector of neighbouring entries when dense. A tile keeps its sums in registers, of
// which AVX-512 has 32 and the others 16.
template <class E> struct Engine {
  using Packet = E;
  static constexpr int width = 1; // entries of a packet
  static constexpr int tile_rows = 4;
  static constexpr int tile_packets = kVectorBytes == 64 ? 4 : 3;
};
template <class P> struct DenseEngine {
  using Packet = P;
  static constexpr int width = Lanes<P>::count;
  static constexpr int tile_rows = kVectorBytes == 64 ? 7 : 4;
  static constexpr int tile_packets = 3;
};
template <> struct Engine<float> : DenseEngine<VecF> {};
template <> struct Engine<double> : DenseEngine<VecD> {};
template <class E> using Packet = typename Engine<E>::Packet;

template <class E> SPLIC_INLINE int packets(int entries) {
  return (entries + Engine<E>::width - 1) / Engine<E>::width;
}
// Row length that holds whole packets.
template <class E> SPLIC_INLINE int padded(int entries) {
  return packets<E>(entries) * Engine<E>::width;
}
template <class E> SPLIC_INLINE Packet<E> load(const E *p) {
  return *reinterpret_cast<const Packet<E> *>(p);
}
template <class E> SPLIC_INLINE void store(E *p, Packet<E> x) {
  *reinterpret_cast<Packet<E> *>(p) = x;
}

// A matrix in memory: entry (i, j) at p[i * row + j * col].
template <class E> struct Matrix {
  E *p;
  std::ptrdiff_t row, col;
  SPLIC_INLINE E *at(int i, int j) const { return p + i * row + j * col; }
  SPLIC_INLINE E &operator()(int i, int j) const { return *at(i, j); }
  SPLIC_INLINE Matrix<const E> transposed() const { return {p, col, row}; }
  SPLIC_INLINE operator Matrix<const E>() const { return {p, row, col}; }
};

// Of whole rows, which hold whole packets.
template <class E> inline void clear(Matrix<E> a, int rows) {
  for (std::ptrdiff_t e = 0; e < rows * a.row; e += Engine<E>::width)
    store(a.p + e, Packet<E>{});
}
template <class E> inline void copy(Matrix<E> from, Matrix<E> to, int rows) {
  for (std::ptrdiff_t e = 0; e < rows * to.row; e += Engine<E>::width)
    store(to.p + e, load(from.p + e));
}

// Calls f(j, P{}) for a piece of type P at j of a row: whole packets, then entry by entry what is
// left. (Left to the compiler, such loops take it much longer, and it may not find them worth it.)
// `anywhere`: the row may begin at any entry and be short: with short vectors for the rest, and for
// all of it where a packet is a cache line, of which it would touch two.
template <class E, bool anywhere = false, class F>
SPLIC_INLINE void each_piece(int count, const F &f) {
  int j = 0;
  if constexpr (Engine<E>::width > 1) {
    using Short = ShortVector<E>;
    if constexpr (!anywhere || sizeof(Packet<E>) < 64)
      for (; j + Engine<E>::width <= count; j += Engine<E>::width)
        f(j, Packet<E>{});
    if constexpr (anywhere && sizeof(Packet<E>) > sizeof(Short))
      for (; j + Lanes<Short>::count <= count; j += Lanes<Short>::count)
        f(j, Short{});
  }
  for (; j < count; ++j)
    f(j, E{});
}
template <class P, class E> SPLIC_INLINE P piece(const E *p) {
  P x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
template <class P, class E> SPLIC_INLINE void put(E *p, P x) { __builtin_memcpy(p, &x, sizeof x); }

// Epilogues: called with the row, the packet's number in the row, and the packet.

template <class E> struct Store {
  Matrix<E> c;
  SPLIC_INLINE void operator()(int i, int p, Packet<E> sum) const {
    store(c.at(i, p * Engine<E>::width), sum);
  }
};

// C = factor V + sign A B, with a sign of 1 or -1, times which a number is exact.
template <class E> struct Combine {
  Matrix<E> c, v;
  Packet<E> factor, sign;
  SPLIC_INLINE void operator()(int i, int p, Packet<E> sum) const {
    const int j = p * Engine<E>::width;
    store(c.at(i, j), fma(factor, load(v.at(i, j)), sign * sum));
  }
};
template <class E>
SPLIC_INLINE Combine<E> combination(Matrix<E> c, E factor, Matrix<E> v, Scalar<E> sign) {
  return {c, v, broadcast<Packet<E>>(factor), splat<Packet<E>>(sign)};
}
template <class E> SPLIC_INLINE Combine<E> add_to(Matrix<E> c) {
  return combination<E>(c, splat<E>(1), c, 1);
}
template <class E> SPLIC_INLINE Combine<E> subtract_from(Matrix<E> c) {
  return combination<E>(c, splat<E>(1), c, -1);
}

// X = mask ? X : A B, with one bit for each lane of a packet.
template <class E> struct StoreTargets {
  Matrix<E> x;
  const std::uint16_t *anchors;
  int row_packets;
  SPLIC_INLINE void operator()(int i, int p, Packet<E> sum) const {
    E *entry = x.at(i, p * Engine<E>::width);
    store(entry, select(from_bits<Packet<E>>(anchors[i * row_packets + p]), load(entry), sum));
  }
};

template <int I, int P, class E, class Epilogue>
SPLIC_INLINE void tile(int depth, const Matrix<const E> &a, const Matrix<const E> &b, int i0,
                       int p0, const Epilogue &epilogue) {
  constexpr int w = Engine<E>::width;
  Packet<E> sum[I][P];
#pragma GCC unroll 8
  for (int i = 0; i < I; ++i)
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      sum[i][p] = Packet<E>{};
  const E *pa = a.at(i0, 0);
  const E *pb = b.at(0, p0 * w);
  const std::ptrdiff_t ar = a.row, ac = a.col, br = b.row, bc = b.col * w;
  for (int k = 0; k < depth; ++k) {
    Packet<E> vb[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      vb[p] = load(pb + p * bc);
#pragma GCC unroll 8
    for (int i = 0; i < I; ++i) {
      const Packet<E> va = broadcast<Packet<E>>(pa[i * ar]);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p)
        sum[i][p] = fma(va, vb[p], sum[i][p]);
    }
    pa += ac;
    pb += br;
  }
#pragma GCC unroll 8
  for (int i = 0; i < I; ++i)
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
      epilogue(i0 + i, p0 + p, sum[i][p]);
}

// What part of a product is wanted, or of its second factor is not zero.
enum class Part { full, upper_result, upper_factor };

// Whether an epilogue does nothing but store: the products that have an upper part alone, and are
// large.
template <class Epilogue> struct Stores {
  static constexpr bool plainly = false;
};
template <class E> struct Stores<Store<E>> {
  static constexpr bool plainly = true;
};

// The tiles of a strip from row i on in which the last L of its P packets are not wholly below the
// diagonal; returns the row after them.
template <int P, int L, class E, class Epilogue>
SPLIC_INLINE int upper_rows(int i, int rows, int depth, const Matrix<const E> &a,
                            const Matrix<const E> &b, int p, const Epilogue &epilogue) {
  constexpr int I = Engine<E>::tile_rows, skip = P - L;
  const int end = (p + skip + 1) * Engine<E>::width;
  for (; i + I <= rows && i < end; i += I)
    tile<I, L, E>(depth, a, b, i, p + skip, epilogue);
  return i;
}

// P packets of every row, from packet p on: that part of B stays in the first cache.
template <int P, class E, class Epilogue>
SPLIC_NOINLINE inline void strip(int rows, int depth, const Matrix<const E> &a,
                                 const Matrix<const E> &b, int p, const Epilogue &epilogue,
                                 Part part) {
  constexpr int I = Engine<E>::tile_rows;
  const int end = (p + P) * Engine<E>::width;
  if (part == Part::upper_factor && end < depth)
    depth = end;
  if (part == Part::upper_result && end < rows)
    rows = end;
  int i = 0;
  if constexpr (Engine<E>::width > 1 && Stores<Epilogue>::plainly)
    if (part == Part::upper_result) {
      i = upper_rows<P, P, E>(i, rows, depth, a, b, p, epilogue);
      if constexpr (P > 1)
        i = upper_rows<P, P - 1, E>(i, rows, depth, a, b, p, epilogue);
      if constexpr (P > 2)
        i = upper_rows<P, P - 2, E>(i, rows, depth, a, b, p, epilogue);
    }
  for (; i + I <= rows; i += I)
    tile<I, P, E>(depth, a, b, i, p, epilogue);
  for (; i + 2 <= rows; i += 2)
    tile<2, P, E>(depth, a, b, i, p, epilogue);
  if (i < rows)
    tile<1, P, E>(depth, a, b, i, p, epilogue);
}

// rows x columns result of depth products. upper_result leaves out what lies wholly below the
// diagonal of C; upper_factor skips what lies wholly below the diagonal of B.
template <class E, class Epilogue>
SPLIC_INLINE void multiply(int rows, int columns, int depth, Matrix<const E> a, Matrix<const E> b,
                           const Epilogue &epilogue, Part part = Part::full) {
  constexpr int P = Engine<E>::tile_packets;
  const int last = packets<E>(columns);
  int p = 0;
  // No strip of a single packet where two can share the rest.
  for (; last - p >= P && last - p != P + 1; p += P) {
    if constexpr (Engine<E>::width > 1)
      if (static_cast<std::int64_t>(rows) * depth >= kLongSide * kLongSide)
        look();
    strip<P, E>(rows, depth, a, b, p, epilogue, part);
  }
  for (; last - p >= 2; p += 2)
    strip<2, E>(rows, depth, a, b, p, epilogue, part);
  if (p < last)
    strip<1, E>(rows, depth, a, b, p, epilogue, part);
}

// The same, as a function of its own, which is compiled once: for where a call costs little.
template <class E, class Epilogue>
SPLIC_NOINLINE inline void multiply_apart(int rows, int columns, int depth, Matrix<const E> a,
                                          Matrix<const E> b, const Epilogue &epilogue,
                                          Part part = Part::full) {
  multiply<E>(rows, columns, depth, a, b, epilogue, part);
}

} // namespace SPLIC_ISA
} // namespace splic
