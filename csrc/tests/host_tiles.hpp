// The steps of team/tiled_search.hpp on threads of the host.
#pragma once

#include <memory>
#include <numeric>

#include "host_team.hpp"
#include "team/tiled_search.hpp"

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
template <class T>
class HostTiles : public TiledSteps<T>, public splic::TileSearch<T, HostTiles<T>> {
  using Base = TiledSteps<T>;
  using Base::problem_, Base::records_, Base::memory_;

public:
  HostTiles(const HostBatch &batch, std::vector<splic::Record> &records, bool real)
      : Base(batch, records), splic::TileSearch<T, HostTiles>(batch.problem),
        searches_(records.size()),
        small_(splic::Tiled<T, HostTeam>::small_bytes(batch.problem) / 8 + 2), real_(real) {
    memory_.searches = searches_.data();
    if (real)
      this->divide(this->tiles());
  }

  void sides() { run_shared<splic::Shared::sides>({}, this->tiles()); }
  void advance() {
    if (!real_) {
      Base::advance();
      return;
    }
    std::vector<double> changes(static_cast<std::size_t>(this->tiles() * splic::Tile::kThreads));
    by_tiles(this->tiles(), [&](auto &steps, const TileThread &thread) {
      double *const own = changes.data() + thread.own * splic::Tile::kThreads;
      own[thread.place] = static_cast<double>(steps.advance());
      thread.barrier();
      if (thread.place == 0)
        steps.keep_change(thread.own, std::accumulate(own, own + splic::Tile::kThreads, 0.0));
    });
  }

  template <splic::Alone step> void run_alone(const splic::SearchStep &at) {
    if constexpr (step == splic::Alone::conclude)
      for (const splic::SearchState &search : searches_) {
        ++searched;
        left += search.poor;
      }
    this->alone([&](auto &matrix, std::size_t) {
      splic::search<step>(matrix, at, reinterpret_cast<unsigned char *>(small_.data()));
    });
  }
  template <splic::Shared step> void run_shared(const splic::SearchStep &at, int tiles) {
    const auto take = [&](auto &matrix, const auto &) { splic::share<step>(matrix, at); };
    if (real_)
      by_tiles(tiles, take);
    else
      this->shared(take);
  }

  // Iterations of all matrices, and those whose shared searches did not do.
  inline static std::uint64_t searched = 0, left = 0;

private:
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

  std::vector<splic::SearchState> searches_;
  std::vector<double> small_;
  bool real_;
};
