// A block of CUDA threads on one thread of the host: each is a fiber that runs until it must wait,
// for the other lanes of its warp or at a barrier. A random scheduler picks who goes on, so that
// threads drift apart as far as the barriers of the program let them.
#include <ucontext.h>

#include <random>
#include <utility>

namespace simt {

constexpr int kThreads = 256, kWarp = 32, kStackBytes = 64 * 1024;

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStackBytes);
  std::vector<std::vector<std::pair<void*, const void*>>> copies{1};  // by groups, not waited for
  unsigned collectives = 0;
  bool done = false;
};

// The first error of a launch; it ends with its code.
enum Error { kNone, kDeadlock, kMisaligned, kOutside, kCopyLost, kOverrun };

struct Machine {
  std::vector<Fiber> fibers = std::vector<Fiber>(kThreads + 1);  // the last one is the outside
  ucontext_t start;
  std::vector<int> ready;
  std::vector<int> speed = std::vector<int>(kThreads / kWarp + 1);  // by warp, for one launch
  std::mt19937 random;
  std::function<void(int)> body;
  int current = 0;
  Error error = kNone;
  const unsigned char *tile = nullptr, *tile_end = nullptr;  // where copies may go
} machine;

inline void fail(Error e) {
  if (machine.error == kNone) machine.error = e;
}
inline bool chance(unsigned one_in) { return machine.random() % one_in == 0; }

// Runs another fiber; this one goes on when somebody puts it back into the ready list.
inline void suspend() {
  Machine& m = machine;
  ucontext_t* from = &m.fibers[m.current].context;
  if (m.ready.empty()) {
    for (const Fiber& f : m.fibers) {
      if (!f.done) fail(kDeadlock);
    }
    swapcontext(from, &m.start);
    return;
  }
  // The fastest of three, so that some warps run ahead of others.
  size_t pick = m.random() % m.ready.size();
  for (int i = 0; i < 2; ++i) {
    const size_t other = m.random() % m.ready.size();
    if (m.speed[m.ready[other] / kWarp] > m.speed[m.ready[pick] / kWarp]) pick = other;
  }
  const int to = std::exchange(m.ready[pick], m.ready.back());
  m.ready.pop_back();
  if (to == m.current) return;
  m.current = to;
  swapcontext(from, &m.fibers[to].context);
}
inline void yield() {
  machine.ready.push_back(machine.current);
  suspend();
}

struct Barrier {
  int expected;
  std::vector<int> waiting = {};

  void wait() {
    if (static_cast<int>(waiting.size()) + 1 < expected) {
      waiting.push_back(machine.current);
      suspend();
      return;
    }
    machine.ready.insert(machine.ready.end(), waiting.begin(), waiting.end());
    waiting.clear();
    yield();
  }
};
inline Barrier block_barrier, warp_barriers[kThreads / kWarp];

inline void run_fiber() {
  const int thread = machine.current;
  machine.body(thread);
  for (const auto& group : machine.fibers[thread].copies) {
    if (!group.empty()) fail(kCopyLost);
  }
  machine.fibers[thread].done = true;
  suspend();
}

// Runs body(thread) for 256 threads, and body(256) for the outside.
inline Error launch(unsigned seed, std::function<void(int)> body) {
  Machine& m = machine;
  m.random.seed(seed);
  m.error = kNone;
  m.body = std::move(body);
  m.ready.clear();
  for (int& s : m.speed) s = seed % 2 ? static_cast<int>(m.random() % 8) : 0;
  m.speed.back() = 8;  // others may poll for what the outside sends
  block_barrier = {kThreads};
  for (Barrier& b : warp_barriers) b = {kWarp};
  for (int i = 0; i <= kThreads; ++i) {
    Fiber& f = m.fibers[i];
    f.copies.assign(1, {});
    f.done = false;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    makecontext(&f.context, run_fiber, 0);
    if (i > 0) m.ready.push_back(i);
  }
  m.current = 0;
  swapcontext(&m.start, &m.fibers[0].context);
  return m.error;
}

// The values of all lanes of this warp. Two buffers by turns: a lane that writes one again has met,
// at the collective between, all lanes that read it.
template <class T>
const T* gather(T v) {
  static T values[2][kThreads];
  const int thread = machine.current, warp = thread / kWarp;
  T* row = values[machine.fibers[thread].collectives++ % 2];
  row[thread] = v;
  warp_barriers[warp].wait();
  return row + warp * kWarp;
}

// An asynchronous copy takes effect at once or when it is waited for.
inline void copy_16(void* to, const void* from) {
  if (reinterpret_cast<uintptr_t>(to) % 16 || reinterpret_cast<uintptr_t>(from) % 16) {
    fail(kMisaligned);
  }
  const auto* p = static_cast<const unsigned char*>(to);
  if (p < machine.tile || p + 16 > machine.tile_end) return fail(kOutside);
  if (chance(2)) {
    std::memcpy(to, from, 16);
  } else {
    machine.fibers[machine.current].copies.back().emplace_back(to, from);
  }
  if (chance(8)) yield();
}
inline void commit_copies() { machine.fibers[machine.current].copies.emplace_back(); }
// Waits for all groups but the last `left` that were committed.
inline void wait_copies(size_t left) {
  auto& groups = machine.fibers[machine.current].copies;  // the last one is not committed
  while (groups.size() > left + 1) {
    for (const auto& [to, from] : groups.front()) std::memcpy(to, from, 16);
    groups.erase(groups.begin());
  }
  yield();
}

}  // namespace simt
