// Memory of the devices, and pinned memory of the host.
//
// Each has a range of addresses of its own, in which none is given out twice. Nobody can reach the
// memory of a device but the work that runs on it (Open). An allocation ends, up to its alignment,
// where a page does; what lies around it is poisoned and looked at after each work; what is freed
// cannot be reached any more.
#include <cstring>
#include <map>
#include <new>
#include <vector>

#include <sys/mman.h>

#include "runtime.hpp"

namespace cuda_on_host {

namespace {

constexpr std::size_t kPage = 4096, kAlign = 256, kRange = std::size_t{64} << 30;

using Address = std::uintptr_t;
Address address(const void *p) { return reinterpret_cast<Address>(p); }
unsigned char *bytes_at(Address at) { return reinterpret_cast<unsigned char *>(at); }
Address pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

struct Allocation {
  std::size_t bytes = 0;
  Address begin = 0, end = 0; // of its pages
  bool lives = false;
};

// A page that is never given out lies before and behind each allocation.
class Range {
public:
  explicit Range(bool open) : open_(open) {
    void *const base =
        mmap(nullptr, kRange, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
      throw std::bad_alloc();
    base_ = address(base);
    next_ = base_ + kPage;
  }

  void *allocate(std::size_t bytes) {
    if (limit_ && used_ + bytes > limit_)
      return nullptr;
    Allocation made;
    made.bytes = bytes;
    made.begin = next_;
    made.end = next_ + pages(bytes + kAlign);
    made.lives = true;
    next_ = made.end + kPage;
    if (next_ > base_ + kRange ||
        mprotect(bytes_at(made.begin), made.end - made.begin, PROT_READ | PROT_WRITE) != 0)
      return nullptr;
    poison(bytes_at(made.begin), made.end - made.begin);
    if (!open_)
      mprotect(bytes_at(made.begin), made.end - made.begin, PROT_NONE);
    const Address at = (made.end - bytes) / kAlign * kAlign;
    lives_[at] = &(all_[at] = made);
    used_ += bytes;
    return bytes_at(at);
  }

  bool release(const void *p) {
    const auto found = all_.find(address(p));
    if (found == all_.end() || !found->second.lives)
      return false;
    const Allocation &gone = found->second;
    mprotect(bytes_at(gone.begin), gone.end - gone.begin, PROT_READ | PROT_WRITE);
    check(found->first, gone);
    madvise(bytes_at(gone.begin), gone.end - gone.begin, MADV_DONTNEED);
    mprotect(bytes_at(gone.begin), gone.end - gone.begin, PROT_NONE);
    used_ -= gone.bytes;
    found->second.lives = false;
    lives_.erase(found->first);
    return true;
  }
  void release_all() {
    while (!lives_.empty())
      release(bytes_at(lives_.begin()->first));
  }

  // Lets everybody reach it, or nobody.
  void open(bool yes) {
    for (const auto &[at, one] : lives_) {
      if (!yes)
        check(at, *one);
      mprotect(bytes_at(one->begin), one->end - one->begin,
               yes ? PROT_READ | PROT_WRITE : PROT_NONE);
    }
  }
  void check_all() const {
    for (const auto &[at, one] : lives_)
      check(at, *one);
  }

  bool holds(const void *p) const { return address(p) - base_ < kRange; }
  bool inside(const void *p, std::size_t bytes) const {
    const auto found = at_or_before(p);
    return found != all_.end() && found->second.lives &&
           address(p) + bytes <= found->first + found->second.bytes;
  }
  std::size_t bytes_of(const void *p) const {
    const auto found = all_.find(address(p));
    return found != all_.end() && found->second.lives ? found->second.bytes : 0;
  }
  std::string describe(const void *p) const {
    auto found = at_or_before(p);
    const auto next = all_.upper_bound(address(p));
    if (found == all_.end())
      found = next;
    if (next != all_.end() && address(p) >= next->second.begin - kPage)
      found = next;
    if (found == all_.end())
      return "memory that was never allocated";
    const Allocation &one = found->second;
    const std::string size = " of " + std::to_string(one.bytes) + " bytes";
    if (!one.lives)
      return "freed memory" + size;
    if (address(p) < found->first)
      return std::to_string(found->first - address(p)) + " bytes before memory" + size;
    const std::size_t at = address(p) - found->first;
    return (at < one.bytes ? "byte " + std::to_string(at) + " of memory"
                           : std::to_string(at - one.bytes) + " bytes beyond memory") +
           size;
  }

  std::size_t count(std::size_t *bytes) const {
    *bytes = used_;
    return lives_.size();
  }
  void limit(std::size_t bytes) { limit_ = bytes; }

private:
  using All = std::map<Address, Allocation>;
  All::const_iterator at_or_before(const void *p) const {
    const auto next = all_.upper_bound(address(p));
    return next == all_.begin() ? all_.end() : std::prev(next);
  }
  // Whether what lies beside an allocation is as it was.
  static void check(Address at, const Allocation &one) {
    const auto whole = [](Address from, Address to, const char *where, std::size_t bytes) {
      unsigned char expected[sizeof kPoison];
      std::memcpy(expected, &kPoison, sizeof kPoison);
      for (Address i = from; i < to; ++i)
        if (*bytes_at(i) != expected[i % sizeof kPoison]) {
          violation(std::string("something was written ") + where + " memory of " +
                    std::to_string(bytes) + " bytes");
          poison(bytes_at(from), to - from); // and is told of once
          return;
        }
    };
    const Address before = at - one.begin < kAlign ? one.begin : at - kAlign;
    whole(before, at, "before", one.bytes);
    whole(at + one.bytes, one.end, "behind", one.bytes);
  }

  bool open_;
  Address base_, next_;
  std::size_t used_ = 0, limit_ = 0;
  All all_;
  std::map<Address, const Allocation *> lives_;
};

Range &range(int device) {
  static auto *const all =
      new std::vector<Range *>{new Range(false), new Range(false), new Range(true)};
  return *(*all)[static_cast<std::size_t>(device)];
}

} // namespace

void poison(void *from, std::size_t bytes) {
  // In step with the addresses, whatever the place: all sides see one pattern.
  auto *p = static_cast<unsigned char *>(from);
  unsigned char pattern[sizeof kPoison];
  std::memcpy(pattern, &kPoison, sizeof kPoison);
  std::size_t i = 0;
  for (; i < bytes && (address(p + i) % sizeof kPoison != 0); ++i)
    p[i] = pattern[address(p + i) % sizeof kPoison];
  for (; i + sizeof kPoison <= bytes; i += sizeof kPoison)
    std::memcpy(p + i, pattern, sizeof kPoison);
  for (; i < bytes; ++i)
    p[i] = pattern[address(p + i) % sizeof kPoison];
}

void *allocate(int device, std::size_t bytes) {
  watch_faults();
  return range(device).allocate(bytes);
}
bool release(int device, void *p) { return range(device).release(p); }
void release_all(int device) { range(device).release_all(); }
bool inside(int device, const void *p, std::size_t bytes) { return range(device).inside(p, bytes); }
std::size_t bytes_of(int device, const void *p) { return range(device).bytes_of(p); }
int owner(const void *p) {
  for (int device = 0; device <= kHost; ++device)
    if (range(device).holds(p))
      return device;
  return -1;
}
std::string describe(const void *p) {
  const int device = owner(p);
  if (device < 0)
    return "memory of the host";
  return range(device).describe(p) +
         (device == kHost ? ", pinned" : " of device " + std::to_string(device));
}
std::size_t living(int device, std::size_t *bytes) { return range(device).count(bytes); }
void limit_memory(int device, std::size_t bytes) { range(device).limit(bytes); }

Open::Open(int device) : device_(device) { range(device_).open(true); }
Open::~Open() {
  range(device_).open(false);
  range(kHost).check_all();
}

} // namespace cuda_on_host
