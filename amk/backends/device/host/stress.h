// Random delays: a line of the headers that holds AMK_STRESS is left out of programs without them.
#define AMK_STRESS(...) __VA_ARGS__

namespace amk {

// Delays its thread now and then; every thread of every launch has a sequence of its own.
AMK_DEVICE void stress() {
  static std::atomic<uint32_t> threads{config::kStressSeed};
  thread_local uint32_t state = threads.fetch_add(0x9e3779b9u) * 0x846ca68bu;
  state = state * 1664525u + 1013904223u;
  const uint32_t dice = state >> 20;  // 4096 faces
  if (dice < 8) {
    std::this_thread::sleep_for(std::chrono::microseconds(20 + dice * 10));
  } else if (dice < 128) {
    std::this_thread::yield();
  } else if (dice < 256) {
    for (uint32_t i = 0; i < dice; ++i) relax();
  }
}

}  // namespace amk
