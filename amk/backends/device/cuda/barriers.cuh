namespace amk {

AMK_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

AMK_DEVICE void barrier_init(uint64_t* bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(arrivals)
               : "memory");
}
AMK_DEVICE void barrier_arrive(uint64_t* bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}

// Named barrier over the consumer warps; the second form also ORs a flag over all of them.
constexpr int kConsumerThreads = kSlices * 32;

AMK_DEVICE void consumers_sync() {
  __syncwarp();
  asm volatile("bar.sync 1, %0;" ::"n"(kConsumerThreads) : "memory");
}
AMK_DEVICE bool consumers_any(bool flag) {
  uint32_t any;
  __syncwarp();
  asm volatile(
      "{\n.reg .pred p, q;\nsetp.ne.u32 p, %1, 0;\nbar.red.or.pred q, 1, %2, p;\n"
      "selp.u32 %0, 1, 0, q;\n}"
      : "=r"(any)
      : "r"(static_cast<uint32_t>(flag)), "n"(kConsumerThreads)
      : "memory");
  return any != 0;
}

// Calls arrive() on the lanes of a warp that arrive for it, one after the other. One is enough, but
// racecheck knows only about threads that arrive themselves: for its sake all can.
template <class F>
AMK_DEVICE void each_arriver(int lane, F arrive) {
#pragma unroll 1
  for (int i = 0; i < config::kArrivers; ++i) {
    if (lane == i) arrive();
  }
}

// Arrives like `barrier_arrive`; true for the arrival that completes the phase.
AMK_DEVICE bool barrier_arrive_last(uint64_t* bar) {
  uint32_t pending;
  asm volatile(
      "{\n.reg .b64 before;\nmbarrier.arrive.shared::cta.b64 before, [%1];\n"
      "mbarrier.pending_count.b64 %0, before;\n}"
      : "=r"(pending)
      : "r"(shared_address(bar))
      : "memory");
  return pending == 1;
}
// Whether the phase of that parity has ended; what its arrivals released is then visible.
AMK_DEVICE bool barrier_done(uint64_t* bar, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(shared_address(bar)), "r"(parity)
      : "memory");
  return done != 0;
}

}  // namespace amk
