// Streaming with cp.async (sm_80): all lanes of a producer warp copy 16 bytes at a time.
namespace amk {

constexpr int kCopyArrivals = 32;  // for a stage

AMK_DEVICE bool stage_done(uint64_t* bar, uint32_t parity) { return barrier_done(bar, parity); }

// cp.async and ordinary accesses share one proxy: nothing to fence.
AMK_DEVICE void publish_barriers() {}
AMK_DEVICE void end_of_reads() {}

struct Copier {
  uint64_t policy;
  int lane;

  AMK_DEVICE Copier() : lane(threadIdx.x % 32) {
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  }
  // Fills a slot with `bytes` (a multiple of 16, may be 0) and completes a phase of `full`.
  AMK_DEVICE void copy(void* to, const unsigned char* from, int bytes, uint64_t* full) const {
    const uint32_t target = shared_address(to);
    for (int i = lane * 16; i < bytes; i += 32 * 16) {
      asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(target + i),
                   "l"(from + i), "l"(policy)
                   : "memory");
    }
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(full))
                 : "memory");
  }
};

}  // namespace amk
