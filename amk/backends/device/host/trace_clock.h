// Tracing: a line of the headers that holds AMK_TRACE is left out of programs without this one.
#define AMK_TRACE(...) __VA_ARGS__

namespace amk {

// Nanoseconds.
AMK_DEVICE uint64_t trace_clock() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

// A worker is one thread.
AMK_DEVICE bool trace_writes() { return true; }
AMK_DEVICE int trace_warp() { return 0; }

}  // namespace amk
