namespace amk {

// What a wait waits for, for the error message.
struct Awaited {
  int buffer;
  int index;
  uint32_t expected, seen;
};

// How long one wait has lasted.
struct Patience {
  uint32_t attempts = 0;
  std::chrono::steady_clock::time_point since;
};

// One worker: a thread that does everything a block of the kernel does.
struct Worker {
  int id, iteration = -1, pos;
  AMK_TRACE(Trace trace;)

  // `spins`: how often a wait looks before it gives its core away.
  Worker(int id, const Launch& launch, Status* status, void* state, uint32_t spins)
      : id(id), pos(launch.pos - 1), launch(launch), status(status), state(state), spins(spins) {}

  uint32_t epoch(uint32_t uses, uint32_t use) const {
    return (launch.base + static_cast<uint32_t>(iteration)) * uses + use + 1;
  }
  // Starts the next iteration; false when there is none.
  bool next() {
    if (last || poisoned || iteration + 1 >= launch.steps) return false;
    ++iteration;
    ++pos;
    return true;
  }
  void at(int number) { task = number; }
  void sync() {}
  bool leader() const { return true; }
  void stop(bool done) { last = done; }
  template <class P>
  P& shared() {
    return *static_cast<P*>(state);
  }

  // After a failed attempt of a wait: true if the worker must go on without.
  bool give_up(Patience& p, Awaited what) {
    if (poisoned) return true;
    if (p.attempts++ < spins) {
      relax();
      return false;
    }
    std::this_thread::yield();
    const uint32_t yields = p.attempts - spins;
    if (yields % 64 != 1) return false;
    const auto now = std::chrono::steady_clock::now();
    if (yields == 1) p.since = now;
    if (std::atomic_ref<uint32_t>(status->code).load(std::memory_order_relaxed) != 0) {
      poisoned = true;
    } else if (now - p.since > std::chrono::milliseconds(launch.timeout_ms)) {
      report(what);
    }
    return poisoned;
  }
  // The payload of packet i once it has come.
  template <class T>
  uint32_t receive(const Packets<T>& from, int i) {
    AMK_STRESS(stress();)
    const uint64_t v = load_packet(from.p + i);
    if (static_cast<uint32_t>(v >> 32) == from.epoch) [[likely]] return static_cast<uint32_t>(v);
    return await(from.p + i, {from.buffer, from.first + i, from.epoch, 0});
  }
  // Values of n elements, which start at a whole packet.
  void receive(const Packets<float>& from, int n, float* to) {
    for (int i = 0; i < n; ++i) to[i] = as_float(receive(from, i));
  }
  void receive(const Packets<bf16>& from, int n, float* to) {
    for (int i = 0; i < n; i += 2) {
      const uint32_t pair = receive(from, i / 2);
      to[i] = low_half(pair);
      if (i + 1 < n) to[i + 1] = high_half(pair);
    }
  }
  template <class T>
  void receive(const Plain<T>& from, int n, float* to) {
    for (int i = 0; i < n; ++i) to[i] = to_float(from.p[i]);
  }

 private:
  // Waits for a packet that has not come yet.
  __attribute__((noinline)) uint32_t await(uint64_t* packet, Awaited what) {
    Patience patience;
    AMK_TRACE(const Waiting waiting(trace, false);)
    while (true) {
      const uint64_t v = load_packet(packet);
      what.seen = static_cast<uint32_t>(v >> 32);
      if (what.seen == what.expected || give_up(patience, what)) return static_cast<uint32_t>(v);
    }
  }
  // Records the first failure of the launch and poisons this worker.
  void report(Awaited what) {
    poisoned = true;
    uint32_t none = 0;
    if (!std::atomic_ref<uint32_t>(status->code).compare_exchange_strong(none, kTimeout)) return;
    status->worker = static_cast<uint32_t>(id);
    status->task = static_cast<uint32_t>(task);
    status->buffer = static_cast<uint32_t>(what.buffer);
    status->index = static_cast<uint32_t>(what.index);
    status->expected = what.expected;
    status->seen = what.seen;
    status->iteration = static_cast<uint32_t>(iteration);
  }
  const Launch launch;
  Status* status;
  void* state;
  const uint32_t spins;
  int task = 0;
  bool last = false, poisoned = false;
};

}  // namespace amk
