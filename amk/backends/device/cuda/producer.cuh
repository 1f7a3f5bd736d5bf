namespace amk {

// A producer warp: copies every kProducers-th stage of the worker into the ring, ahead of the
// consumers. A slot is refilled after its consumer released it; at most kWindow copies are in
// flight, since every small load and store of the block queues behind them, or kWideWindow where
// the consumers took what there was: workers that are behind get more of the memory than those that
// are ahead, since all wait for the last one. While the consumers pause the ring it is kPausedWindow.
struct Producer {
  int id, iteration = -1;
  AMK_TRACE(ProducerTrace trace;)

  AMK_DEVICE Producer(const Launch* launch)
      : id(blockIdx.x),
        index(__shfl_sync(kAllLanes, threadIdx.x / 32, 0) - kSlices),
        steps(launch->steps) {
    slot = oldest = index;
  }
  AMK_DEVICE bool next() { return !left && ++iteration < steps; }

  // Copies one stage; false when the consumers have ended.
  AMK_DEVICE bool push(const unsigned char* from, int bytes) {
    Block& b = block();
    AMK_TRACE(trace.begin();)
    // Asked for with the slot: one latency for all.
    const bool paused = is_paused(), starved = is_starved();
    while (any_lane(!stage_done(&b.empty[slot], parity ^ 1))) {
      if (!any_lane(barrier_done(&b.leaving, 0))) continue;
      left = true;
      return false;
    }
    AMK_TRACE(trace.end(trace.full);)
    AMK_TRACE(trace.begin();)
    if (paused) pause();
    while (in_flight >= (starved ? kWideWindow : kWindow)) retire();
    AMK_TRACE(trace.end(trace.window);)
    ++in_flight;
    copier.copy(b.ring + slot * config::kSlotBytes, from, bytes, &b.full[slot]);
    AMK_TRACE(trace.copied(bytes);)
    advance(slot, parity);
    return true;
  }
  // Waits for the copies in flight: the block must not end before them.
  AMK_DEVICE void drain() {
    while (in_flight > 0) retire();
  }

  const int index;

 private:
  // The lanes decide together, else a barrier would miss arrivals.
  AMK_DEVICE static bool any_lane(bool flag) { return __any_sync(kAllLanes, flag); }
  AMK_DEVICE static bool is_paused() { return any_lane(!barrier_done(&block().paused, 1)); }
  // Whether so many slots are free that the others can all be in flight.
  AMK_DEVICE bool is_starved() const {
    constexpr int kLeft = kSlots / kProducers - kWideWindow - 1;
    int far = slot + (kLeft > 0 ? kLeft : 0) * kProducers;
    uint32_t far_parity = parity;
    if (far >= kSlots) {
      far -= kSlots;
      far_parity ^= 1;
    }
    return any_lane(barrier_done(&block().empty[far], far_parity ^ 1));
  }
  AMK_DEVICE void pause() {
    while (in_flight >= kPausedWindow && is_paused()) {
      if (in_flight > 0) retire();
    }
  }
  AMK_DEVICE void retire() {
    while (any_lane(!stage_done(&block().full[oldest], oldest_parity))) {
    }
    advance(oldest, oldest_parity);
    --in_flight;
  }
  AMK_DEVICE static void advance(int& place, uint32_t& phase) {
    place += kProducers;
    if (place >= kSlots) {
      place -= kSlots;
      phase ^= 1;
    }
  }
  Copier copier;
  int steps, slot, oldest, in_flight = 0;
  uint32_t parity = 0, oldest_parity = 0;
  bool left = false;
};

// Copies the stages of one layer of a product, in the order in which `product` consumes them.
template <class W, int K>
AMK_DEVICE void stream(Producer& p, Stream<W, K> s) {
  using Cut = Tiling<W, K>;
  const int blocks = s.count();
  const unsigned char* row = s.base;
#pragma unroll 1
  for (int u = 0; u < blocks; ++u, row += s.row_bytes()) {
    const auto shape = s.row(u);
#pragma unroll 1
    for (int c = p.index; c < Cut::kChunks; c += kProducers) {
      if (!p.push(row + Stream<W, K>::chunk_offset(shape, c), Cut::steps(c) * Cut::kStepBytes)) {
        return;
      }
    }
  }
}

}  // namespace amk
