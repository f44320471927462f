// The steps of team/tiled.hpp on threads of the host.
#pragma once

#include <memory>

#include "host_batch.hpp"
#include "host_team.hpp"
#include "team/tiled.hpp"

// A thread of a block that has a tile of each product. All blocks run at the same time.
struct TileThread {
  struct Block {
    explicit Block(std::size_t bytes) : all(splic::Tile::kThreads), memory(bytes / 8 + 2) {}
    Shared all;
    std::vector<double> memory;
    unsigned char *start() {
      const auto first = reinterpret_cast<std::uintptr_t>(memory.data());
      return reinterpret_cast<unsigned char *>((first + 15) / 16 * 16);
    }
  };
  static constexpr int kLanes = 1;
  static constexpr bool kTiles = true;
  int own = 0, count = 1, place = 0;
  Block *block = nullptr;

  int number() const { return own; }
  int thread() const { return place; }
  int rank() const { return own * splic::Tile::kThreads + place; }
  int size() const { return count * splic::Tile::kThreads; }
  void sync() const {}
  void barrier() const { block->all.wait(); }
  unsigned char *memory() const { return block->start(); }
};

template <class T>
using TiledSteps =
    HostSteps<splic::Tiled<T, HostTeam>, splic::Tiled<T, LooseTeam>, splic::TiledMemory>;

// real: products by blocks of TileThreads, which takes long; else by a LooseTeam.
template <class T> class HostTiles : TiledSteps<T> {
  using Base = TiledSteps<T>;
  using Base::alone, Base::memory_, Base::problem_;

public:
  HostTiles(const HostBatch &batch, std::vector<splic::Record> &records, bool real)
      : Base(batch.problem, batch.team, records.size()), batch_(batch), records_(records),
        sizes_(batch.problem), searches_(records.size()),
        small_(splic::Tiled<T, HostTeam>::small_bytes(batch.problem) / 8 + 2), real_(real) {
    memory_.searches = searches_.data();
    if (real)
      this->divide(tiles());
  }
  const splic::BlockSizes &sizes() const { return sizes_; }

  void load() {
    alone([&](auto &steps, std::size_t i) { steps.load(item(i), &records_[i]); });
  }
  void start(int pass) {
    alone([&](auto &steps, std::size_t) { steps.start(pass); });
  }
  void find(const splic::Moment &moment) { splic::find_by_tiles<T>(*this, moment); }
  void sides() {
    shared(tiles(), [](auto &steps) { steps.sides(); });
  }
  void advance() {
    if (!real_) {
      Base::shared([](auto &steps, int rank) { steps.keep_change(rank, steps.advance()); });
      return;
    }
    std::vector<double> changes(static_cast<std::size_t>(tiles() * splic::Tile::kThreads));
    by_tiles(tiles(), [&](auto &steps, const TileThread &thread) {
      changes[static_cast<std::size_t>(thread.rank())] = static_cast<double>(steps.advance());
      thread.barrier();
      double sum = 0;
      for (int i = 0; thread.place == 0 && i < splic::Tile::kThreads; ++i)
        sum += changes[static_cast<std::size_t>(thread.rank() + i)];
      if (thread.place == 0)
        steps.keep_change(thread.own, sum);
    });
  }
  void finish(int pass, int t) {
    alone([&](auto &steps, std::size_t i) { steps.finish(pass, t, &records_[i]); });
  }
  void store() {
    alone([&](auto &steps, std::size_t i) { steps.store(item(i), nullptr); });
  }

  void begin(const splic::Moment &moment, int k, int repeat) {
    at_ = {};
    at_.moment = moment;
    at_.k = k;
    at_.repeat = repeat;
  }
  void square(int k, int steps) {
    if (sizes_.square_pays(k, steps))
      product(n(), n(), [](auto &one) { one.square(); });
  }
  int first_step(int) const { return -1; }
  int times(int step) const { return step < 0 ? 1 : 2; }
  void apply(int k, int step, int steps) {
    at_.step = step;
    at_.steps = steps;
    product(m(), k, [&](auto &one) { one.apply(at_); });
    product(n(), k, [&](auto &one) { one.apply_back(at_); });
  }
  void orthonormalise(int k, int step, int time, int steps) {
    at_.step = step;
    at_.steps = steps;
    at_.time = time;
    product(k, k, [&](auto &one) { one.square_basis(at_); });
    alone([&](auto &one, std::size_t) { one.factorise_basis(at_, small()); });
    product(n(), k, [&](auto &one) { one.make_basis(at_); });
  }
  void project(int k) {
    product(m(), k, [&](auto &one) { one.project(at_); });
  }
  void square_projected(int k) {
    product(k, k, [&](auto &one) { one.square_projected(at_); });
  }
  void diagonalise(int) {
    alone([&](auto &one, std::size_t) { one.diagonalise(at_, small()); });
  }
  void turn_left(int) {
    product(m(), rank(), [&](auto &one) { one.turn_left(at_); });
  }
  void turn_rest(int k) {
    if (k > rank())
      product(n(), k - rank(), [&](auto &one) { one.turn_rest(at_); });
  }
  void orthonormalise_left() {
    product(rank(), rank(), [](auto &one) { one.square_left(); });
    alone([&](auto &one, std::size_t) { one.factorise_left(small()); });
    product(m(), rank(), [](auto &one) { one.make_left(); });
  }
  void right() {
    product(rank(), n(), [](auto &one) { one.right(); });
  }
  void judge() {
    alone([&](auto &one, std::size_t) { one.judge_all(at_); });
  }
  void conclude() {
    ++at_.repeat;
    for (const splic::SearchState &search : searches_) {
      ++searched;
      left += search.poor;
    }
    alone([&](auto &one, std::size_t) { one.conclude(at_); });
  }

  // Iterations of all matrices, and those whose shared searches did not do.
  inline static std::uint64_t searched = 0, left = 0;

private:
  int m() const { return sizes_.g.m; }
  int n() const { return sizes_.g.n; }
  int rank() const { return problem_.options.rank; }
  int tiles() const { return splic::Tile::count(m(), n()); }
  unsigned char *small() { return reinterpret_cast<unsigned char *>(small_.data()); }
  splic::MatrixItem item(std::size_t i) const { return batch_.item(std::int64_t(i)); }

  template <class F> void by_tiles(int tiles, const F &f) {
    for (std::size_t i = 0; i < records_.size(); ++i) {
      std::vector<std::unique_ptr<TileThread::Block>> blocks;
      std::vector<std::thread> threads;
      for (int own = 0; own < tiles; ++own) {
        blocks.push_back(std::make_unique<TileThread::Block>(splic::Tile::bytes<T>));
        for (int place = 0; place < splic::Tile::kThreads; ++place)
          threads.emplace_back([&, own, place, i, block = blocks.back().get()] {
            const TileThread thread{own, tiles, place, block};
            splic::Tiled<T, TileThread> steps(problem_, thread, memory_, std::int64_t(i));
            f(steps, thread);
          });
      }
      for (auto &thread : threads)
        thread.join();
    }
  }
  template <class F> void shared(int tiles, const F &f) {
    if (real_)
      by_tiles(tiles, [&](auto &steps, const TileThread &) { f(steps); });
    else
      Base::shared([&](auto &steps, int) { f(steps); });
  }
  template <class F> void product(int rows, int columns, const F &f) {
    shared(splic::Tile::count(rows, columns), f);
  }

  const HostBatch &batch_;
  std::vector<splic::Record> &records_;
  splic::BlockSizes sizes_;
  std::vector<splic::SearchState> searches_;
  std::vector<double> small_;
  bool real_;
  splic::SearchStep at_;
};
