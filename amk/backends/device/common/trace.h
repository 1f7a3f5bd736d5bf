namespace amk {

// What one warp does in the traced iterations: a record for each of its tasks, in order.
struct Trace {
  // Words of a record: the task and 1; when it began; how much later its last wait for packets
  // ended (low half) and the task itself (high half); how long it waited for packets (low) and for
  // weights (high). All in nanoseconds.
  static constexpr int kWords = 4;

  uint64_t* rows = nullptr;
  uint64_t began = 0, arrived = 0;
  uint32_t for_packets = 0, for_weights = 0;
  int traced = -1, count = 0, task = -1;

  AMK_DEVICE void open(uint64_t* buffer, int worker) {
    const long warp = static_cast<long>(worker) * config::kTraceWarps + trace_warp();
    rows = buffer + warp * (config::kTraceTokens * config::kTraceTasks * kWords);
  }
  AMK_DEVICE void next(int iteration) {
    traced = iteration - config::kTraceFirst;
    count = 0;
  }
  // Ends the task under way and begins another.
  AMK_DEVICE void at(int number) {
    end();
    task = number;
    began = arrived = trace_clock();
    for_packets = for_weights = 0;
  }
  // Ends the task under way.
  AMK_DEVICE void end() {
    if (task < 0) return;
    const bool kept = traced >= 0 && traced < config::kTraceTokens && count < config::kTraceTasks;
    if (kept && trace_writes()) {
      uint64_t* row = rows + (traced * config::kTraceTasks + count) * kWords;
      row[0] = static_cast<uint64_t>(task + 1);
      row[1] = began;
      row[2] = (trace_clock() - began) << 32 | (arrived - began);
      row[3] = static_cast<uint64_t>(for_weights) << 32 | for_packets;
    }
    ++count;
    task = -1;
  }
};

// One wait of a task, while it lives.
struct Waiting {
  Trace& trace;
  const bool for_weights;
  const uint64_t since;

  AMK_DEVICE Waiting(Trace& trace, bool for_weights)
      : trace(trace), for_weights(for_weights), since(trace_clock()) {}
  AMK_DEVICE ~Waiting() {
    const uint64_t now = trace_clock();
    (for_weights ? trace.for_weights : trace.for_packets) += static_cast<uint32_t>(now - since);
    if (!for_weights) trace.arrived = now;
  }
};

}  // namespace amk
