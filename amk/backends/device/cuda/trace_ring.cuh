namespace amk {

// What a producer did in each traced iteration, and in the one behind them, which it begins while
// the last of them ends. The first word says how long it waited, in nanoseconds: for a free slot of
// the ring (low half), and for its window (high half). Then there is a word for each copy: the bytes
// in units of 16 (low 16 bits), and when they were asked for.
struct ProducerTrace {
  static constexpr long kWords = 1 + config::kTraceCopies;
  static constexpr int kIterations = config::kTraceTokens + 1;

  uint64_t* rows = nullptr;
  uint64_t since = 0;
  uint32_t full = 0, window = 0;
  int traced = -1, copies = 0;

  AMK_DEVICE void open(uint64_t* buffer, int worker) {
    constexpr long kRecords =
        static_cast<long>(config::kTraceTokens) * config::kTraceTasks * Trace::kWords;
    if (threadIdx.x % 32 != 0) return;
    const long producer = worker * config::kProducers + (trace_warp() - config::kSlices);
    rows = buffer + config::kWorkers * config::kTraceWarps * kRecords +
           producer * kIterations * kWords;
  }
  // Notes the waits of the iteration that has ended; `iteration` begins.
  AMK_DEVICE void next(int iteration) {
    if (kept()) rows[traced * kWords] = static_cast<uint64_t>(window) << 32 | full;
    traced = iteration - config::kTraceFirst;
    full = window = 0;
    copies = 0;
  }
  AMK_DEVICE void begin() { since = trace_clock(); }
  AMK_DEVICE void end(uint32_t& total) { total += static_cast<uint32_t>(trace_clock() - since); }
  AMK_DEVICE void copied(int bytes) {
    if (!kept() || copies == config::kTraceCopies) return;
    rows[traced * kWords + ++copies] = trace_clock() << 16 | static_cast<uint64_t>(bytes / 16);
  }

 private:
  AMK_DEVICE bool kept() const {
    return rows != nullptr && traced >= 0 && traced < kIterations;
  }
};

}  // namespace amk
