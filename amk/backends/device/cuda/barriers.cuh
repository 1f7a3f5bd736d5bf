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

// Counters in shared memory: the arrivals of warps.
AMK_DEVICE uint32_t count_arrival(uint32_t* counter) {
  uint32_t before;
  asm volatile("atom.acq_rel.cta.shared::cta.add.u32 %0, [%1], 1;"
               : "=r"(before)
               : "r"(shared_address(counter))
               : "memory");
  return before;
}
AMK_DEVICE uint32_t arrivals(const uint32_t* counter) {
  uint32_t n;
  asm volatile("ld.acquire.cta.shared::cta.u32 %0, [%1];"
               : "=r"(n)
               : "r"(shared_address(counter))
               : "memory");
  return n;
}

}  // namespace amk
