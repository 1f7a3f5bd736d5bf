namespace amk {

// body(r) for r = 0, R, 2R, ... < n, spread over the threads, after all earlier tasks of the worker.
// A body that sends packets reads only constants and what earlier tasks of its worker wrote.
template <int R, class F>
AMK_DEVICE void map(Worker& w, int n, F body) {
  w.begin();
  w.sync();
  for (int r = w.thread * R; r < n; r += kConsumerThreads * R) body(r);
}

// The index that goes with the largest of n values (of equal ones, the smallest index), in every
// thread.
AMK_DEVICE int argmax(Worker& w, Packets<float> value, Packets<int> index, int n) {
  constexpr int N = 4;  // pairs of a lane at once
  w.begin();
  int& chosen = w.chosen();
  if (w.warp() == 0) {
    Best best;
#pragma unroll 1
    for (int first = 0; first < n; first += N * 64) {
      const auto pair_of = [&](int i) {
        const int at = first + (i * 32 + w.lane()) * 2;
        return Pair{at, at + 1 < n ? 3 : at < n ? 1 : 0};
      };
      uint64_t values[N][2], indices[N][2];
      request<false>(value, values, pair_of);
      request<false>(index, indices, pair_of);
      await<false>(w, value, values, pair_of);
      await<false>(w, index, indices, pair_of);
#pragma unroll
      for (int i = 0; i < N; ++i) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          if (pair_of(i).wanted >> j & 1) {
            best.take(as_float(payload_of(values[i][j])),
                      static_cast<int>(payload_of(indices[i][j])));
          }
        }
      }
    }
    best = warp_best(best);
    if (w.lane() == 0) chosen = best.index;
  }
  w.sync();
  return chosen;
}

// Until the counter reaches the target; then everything that its signals cover is visible. Counts
// are compared modulo 2^32, so a target below 0 is met at once.
AMK_DEVICE void wait(Worker& w, const uint32_t* counter, uint32_t target, int buffer) {
  w.begin();
  if (w.warp() == 0) {
    Patience patience;
    AMK_TRACE(const Waiting waiting(w.trace, false);)
    while (true) {
      uint32_t seen;
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
      const bool late = static_cast<int>(seen - target) < 0;
      if (__all_sync(kAllLanes, !late)) break;
      if (w.give_up(patience, late, [&] { return Awaited{buffer, 0, target, seen}; })) break;
    }
  }
  w.sync();
}

// After all writes of the worker so far.
AMK_DEVICE void signal(Worker& w, uint32_t* counter, uint32_t amount) {
  w.sync();
  if (w.leader()) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(counter), "r"(amount) : "memory");
  }
}

}  // namespace amk
