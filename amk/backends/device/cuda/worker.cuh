namespace amk {

constexpr unsigned kAllLanes = 0xffffffffu;

// Sum over a warp by the tree xor 16, 8, 4, 2, 1; every lane gets it.
AMK_DEVICE float warp_sum(float v) {
#pragma unroll
  for (int o = 16; o; o >>= 1) v = add(v, __shfl_xor_sync(kAllLanes, v, o));
  return v;
}
AMK_DEVICE float warp_max(float v) {
#pragma unroll
  for (int o = 16; o; o >>= 1) v = larger(v, __shfl_xor_sync(kAllLanes, v, o));
  return v;
}
AMK_DEVICE Best warp_best(Best b) {
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    const float value = __shfl_xor_sync(kAllLanes, b.value, o);
    b.take(value, __shfl_xor_sync(kAllLanes, b.index, o));
  }
  return b;
}

// Units of about a millisecond (2^20 ns).
AMK_DEVICE uint32_t clock_ms() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return static_cast<uint32_t>(t >> 20);
}

// How long one wait has lasted.
struct Patience {
  uint32_t spins = 0, since = 0;
};

// What a wait waits for, for the error message.
struct Awaited {
  int buffer;
  int index;
  uint32_t expected, seen;
};

// One thread of the consumer warps. Every thread holds the same values in the public part; the
// methods are called by whole warps.
struct Worker {
  int id, iteration = -1, pos;
  AMK_TRACE(Trace trace;)

  AMK_DEVICE Worker(const Launch* launch, Status* status)
      : id(blockIdx.x), pos(launch->pos - 1), thread(threadIdx.x), base(launch->base),
        launch(launch), status(status) {
    begin();
    slot = warp();
  }

  AMK_DEVICE uint32_t epoch(uint32_t uses, uint32_t use) const {
    return (base + static_cast<uint32_t>(iteration)) * uses + use + 1;
  }
  // Starts the next iteration, after all warps ended this one. All threads get the same answer.
  AMK_DEVICE bool next() {
    const bool ends = last || iteration + 1 >= launch->steps;
    if (consumers_any(ends || block().poisoned)) return false;
    ++iteration;
    ++pos;
    return true;
  }
  // Starts a task. The compiler must not see that the place of a thread is the same in all tasks:
  // it would keep what follows from it in registers, for all tasks at once.
  AMK_DEVICE void at(int number) {
    task = number;
    begin();
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(id));
    asm volatile("" : "+r"(iteration), "+r"(pos), "+r"(base));
  }
  AMK_DEVICE void sync() { consumers_sync(); }
  AMK_DEVICE bool leader() const { return thread == 0; }
  AMK_DEVICE void stop(bool done) { last = done; }
  template <class P>
  AMK_DEVICE P& shared() {
    return *reinterpret_cast<P*>(block().state);
  }

  // Starts a primitive, for the same reason.
  AMK_DEVICE void begin() {
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    // Through a shuffle, so that the compiler knows that it is the same in all lanes.
    uniform_warp = __shfl_sync(kAllLanes, thread >> 5, 0) & (kSlices - 1);
  }

  int thread, uniform_warp;
  AMK_DEVICE int lane() const { return thread & 31; }
  AMK_DEVICE int warp() const { return uniform_warp; }
  AMK_DEVICE unsigned char* slice() const { return block().scratch + warp() * kSliceBytes; }

  // After a failed attempt of a wait: true if the warp must go on without. describe() -> Awaited
  // is called on the failing lanes of a wait that lasted too long; `late` marks them.
  template <class Describe>
  AMK_DEVICE bool give_up(Patience& p, bool late, Describe describe) {
    if (__any_sync(kAllLanes, block().poisoned != 0)) return true;
    if (++p.spins % kSpinsPerCheck != 0) return false;
    const uint32_t now = clock_ms();
    if (p.spins == kSpinsPerCheck) p.since = now;
    const bool over = now - p.since > launch->timeout_ms;
    const bool failed = load_host(reinterpret_cast<const int*>(&status->code)) != 0;
    if (!__any_sync(kAllLanes, over || failed)) return false;
    const unsigned waiting = __ballot_sync(kAllLanes, late);
    if (!failed && lane() == __ffs(waiting) - 1) report(kTimeout, describe());
    block().poisoned = 1;
    __syncwarp();
    return true;
  }

  // Records the first failure of the launch and poisons this worker.
  AMK_DEVICE void report(uint32_t code, Awaited what) {
    block().poisoned = 1;
    if (atomicCAS(&status->code, 0u, code) != 0) return;
    status->worker = id;
    status->task = task;
    status->buffer = static_cast<uint32_t>(what.buffer);
    status->index = what.index;
    status->expected = what.expected;
    status->seen = what.seen;
    status->iteration = iteration;
    __threadfence_system();
  }

  // The ring: this warp's next stage.
  AMK_DEVICE bool wait_stage() {
    Patience patience;
    AMK_TRACE(const Waiting waiting(trace, true);)
    while (!__all_sync(kAllLanes, stage_done(&block().full[slot], parity))) {
      const auto describe = [&] { return Awaited{kRingBuffer, slot, parity, parity ^ 1}; };
      if (give_up(patience, true, describe)) return false;
    }
    return true;
  }
  AMK_DEVICE const unsigned char* stage() const {
    return block().ring + slot * config::kSlotBytes;
  }
  AMK_DEVICE void release_stage(bool arrived) {
    end_of_reads();
    __syncwarp();
    if (arrived) each_arriver(lane(), [&] { barrier_arrive(&block().empty[slot]); });
    slot += kSlices;
    if (slot >= kSlots) {
      slot -= kSlots;
      parity ^= 1;
    }
  }

  // Between two calls the ring leaves the memory to something else that is large.
  AMK_DEVICE void pause_ring() const {
    if (leader()) barrier_arrive(&block().paused);
  }

  // Batches: all warps write partial results, the last to arrive reduces them.
  AMK_DEVICE Reduction& reduction() const {
    unsigned char* first = block().scratch + kSlices * kSliceBytes;
    return reinterpret_cast<Reduction*>(first)[batch % kBatchBuffers];
  }

  // Before a batch is written. The warp that reduced the buffer's last batch, four batches ago,
  // arrived at the batch after it only when it had finished.
  AMK_DEVICE void open_batch() {
    constexpr uint32_t kBack = kBatchBuffers - 1;
    if (batch >= kBack) {
      while (!arrived(batch - kBack)) {
      }
    }
  }
  // True for the one warp that arrives last; it sees what all of them wrote.
  AMK_DEVICE bool close_batch() {
    __syncwarp();
    bool completes = false;
    each_arriver(lane(), [&] {
      completes = barrier_arrive_last(&block().arrived[batch % kBatchBuffers]);
    });
    if (!__any_sync(kAllLanes, completes)) return false;
    while (!arrived(batch)) {
    }
    return true;
  }
  AMK_DEVICE void next_batch() { ++batch; }

  // Where argmax leaves its result.
  AMK_DEVICE int& chosen() {
    turn ^= 1;
    return block().chosen[turn];
  }

 private:
  static constexpr uint32_t kSpinsPerCheck = 256;

  // Whether all warps arrived at batch b, which is at most one use of its buffer behind.
  AMK_DEVICE static bool arrived(uint32_t b) {
    return barrier_done(&block().arrived[b % kBatchBuffers], b / kBatchBuffers & 1);
  }

  uint32_t base;
  int task = 0, slot, turn = 0;
  uint32_t parity = 0, batch = 0;
  bool last = false;
  const Launch* launch;
  Status* status;
};

}  // namespace amk
