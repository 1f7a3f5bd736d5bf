// Tracing: a line of the headers that holds AMK_TRACE is left out of programs without this one.
#define AMK_TRACE(...) __VA_ARGS__

namespace amk {

// Nanoseconds, the same on all multiprocessors.
AMK_DEVICE uint64_t trace_clock() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t)::"memory");
  return t;
}

// One lane of a warp writes.
AMK_DEVICE bool trace_writes() { return threadIdx.x % 32 == 0; }
AMK_DEVICE int trace_warp() { return static_cast<int>(threadIdx.x / 32); }

}  // namespace amk
