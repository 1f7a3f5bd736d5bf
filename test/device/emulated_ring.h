// The ring of an emulated block: copy warps of the device layer on one side, consumers and a memory
// that is written here on the other. simt.h and block.cuh come before this text, producer.cuh comes
// after it.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>

struct ThreadIndex {
  unsigned x;
};
// One fiber is a warp here: the consumers come first, then the producers.
inline ThreadIndex thread_index() { return {static_cast<unsigned>(simt::machine.current) * 32}; }
#define threadIdx thread_index()
#define blockIdx (ThreadIndex{0})

namespace ring {

inline long clock = 0;  // turns of all fibers

[[noreturn]] inline void fail(const char* what) {
  std::printf("%s\n", what);
  std::exit(1);
}
// A loop that waits. One that waits for ever is found by its turns.
inline void poll() {
  if (++clock > 3000000) fail("nothing goes on");
  simt::yield();
}

// mbarrier: a phase ends when all arrived and all expected bytes came.
struct Phases {
  int expected = 0, pending = 0;
  long bytes = 0;
  uint32_t ended = 0;

  void settle() {
    if (pending > 0 || bytes > 0) return;
    ++ended;
    pending = expected;
  }
};
inline std::map<const uint64_t*, Phases> barriers;

struct Request {
  int slot, producer, bytes;
  const unsigned char* from;
  uint64_t* full;
};
inline std::deque<Request> requests;
enum State { kFree, kFilling, kFilled };
inline std::vector<State> states;
inline std::vector<int> in_flight, late;  // by producer; late: copies beyond the window of a pause
inline bool paused = false, was_wide = false;

}  // namespace ring

namespace amk {

inline void barrier_init(uint64_t* bar, uint32_t arrivals) {
  const int n = static_cast<int>(arrivals);
  ring::barriers[bar] = {n, n};
}
inline void barrier_arrive(uint64_t* bar) {
  ring::Phases& b = ring::barriers[bar];
  --b.pending;
  b.settle();
}
inline bool barrier_done(uint64_t* bar, uint32_t parity) {
  if (simt::chance(4)) ring::poll();
  return (ring::barriers[bar].ended & 1) != parity;
}
inline bool stage_done(uint64_t* bar, uint32_t parity) {
  ring::poll();
  return (ring::barriers[bar].ended & 1) != parity;
}
// All lanes of a copy warp do the same: one fiber stands for them.
constexpr unsigned kAllLanes = 0xffffffffu;
inline bool __any_sync(unsigned, bool flag) { return flag; }
inline unsigned __shfl_sync(unsigned, unsigned v, int) { return v; }

// The clock of an instrumented ring, and the place of a warp.
inline uint64_t trace_clock() { return static_cast<uint64_t>(ring::clock); }
inline bool trace_writes() { return true; }
inline int trace_warp() { return simt::machine.current; }

struct Copier {
  void copy(void* to, const unsigned char* from, int bytes, uint64_t* full) const {
    const int slot = static_cast<int>(full - block().full);
    const int producer = simt::machine.current - kSlices;
    if (to != block().ring + slot * config::kSlotBytes) ring::fail("another slot's barrier");
    if (bytes > config::kSlotBytes) ring::fail("a stage that is larger than a slot");
    if (ring::states[slot] != ring::kFree) ring::fail("a slot that was not released");
    if (bytes == 0) {
      ring::states[slot] = ring::kFilled;
      return barrier_arrive(full);
    }
    // Where only a wide window is taken of the ring, the last slot behind it is free.
    const int behind = std::max(kSlots / kProducers - kWideWindow - 1, 0) * kProducers;
    if (++ring::in_flight[producer] > kWideWindow) ring::fail("more in flight than the window");
    if (ring::in_flight[producer] > kWindow) {
      ring::was_wide = true;
      const int last = (slot + behind) % kSlots;
      if (ring::states[last] != ring::kFree) ring::fail("a wide window for a ring that has stages");
    }
    // One copy may be on its way to be requested when a pause begins.
    if (ring::paused && ring::in_flight[producer] > kPausedWindow && ++ring::late[producer] > 1) {
      ring::fail("the ring did not pause");
    }
    ring::states[slot] = ring::kFilling;
    ring::barriers[full].bytes += bytes;
    barrier_arrive(full);
    ring::requests.push_back({slot, producer, bytes, from, full});
  }
};

}  // namespace amk
