namespace amk {

// How long a producer waited in each traced iteration, in nanoseconds: for a free slot of the ring
// (low half of a word), and for its window (high half).
struct ProducerTrace {
  uint64_t* rows = nullptr;
  uint64_t since = 0;
  uint32_t full = 0, window = 0;
  int traced = -1;

  AMK_DEVICE void open(uint64_t* buffer, int worker) {
    constexpr long kRecords =
        static_cast<long>(config::kTraceTokens) * config::kTraceTasks * Trace::kWords;
    if (threadIdx.x % 32 != 0) return;
    const long producer = worker * config::kProducers + (trace_warp() - config::kSlices);
    rows = buffer + config::kWorkers * config::kTraceWarps * kRecords +
           producer * config::kTraceTokens;
  }
  // Notes the waits of the iteration that has ended; `iteration` begins.
  AMK_DEVICE void next(int iteration) {
    if (rows != nullptr && traced >= 0 && traced < config::kTraceTokens) {
      rows[traced] = static_cast<uint64_t>(window) << 32 | full;
    }
    traced = iteration - config::kTraceFirst;
    full = window = 0;
  }
  AMK_DEVICE void begin() { since = trace_clock(); }
  AMK_DEVICE void end(uint32_t& total) { total += static_cast<uint32_t>(trace_clock() - since); }
};

}  // namespace amk
