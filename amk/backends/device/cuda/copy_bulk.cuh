// Streaming with the bulk-copy engine (sm_90 and later). All lanes of a producer warp do the same,
// so that the compiler keeps what they know in uniform registers, as a copy wants it; one of them
// copies.
namespace amk {

constexpr int kCopyArrivals = 1;  // for a stage

AMK_DEVICE bool stage_done(uint64_t* bar, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      "selp.u32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(shared_address(bar)), "r"(parity)
      : "memory");
  return done != 0;
}

// Makes initialised barriers visible to the copy engine.
AMK_DEVICE void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// After ordinary reads of a slot, before its release: the copy engine may then overwrite it.
AMK_DEVICE void end_of_reads() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

struct Copier {
  uint64_t policy;

  AMK_DEVICE Copier() {
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  }
  // Fills a slot with `bytes` (a multiple of 16, may be 0) and completes a phase of `full`.
  AMK_DEVICE void copy(void* to, const unsigned char* from, int bytes, uint64_t* full) const {
    if (bytes == 0) {
      asm volatile(
          "{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\n"
          "@p mbarrier.arrive.shared::cta.b64 _, [%0];\n}" ::"r"(shared_address(full))
          : "memory");
      return;
    }
    asm volatile(
        "{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\n"
        "@p mbarrier.arrive.expect_tx.shared::cta.b64 _, [%3], %2;\n"
        "@p cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1], %2, [%3], %4;\n}" ::"r"(shared_address(to)),
        "l"(from), "r"(bytes), "r"(shared_address(full)), "l"(policy)
        : "memory");
  }
};

}  // namespace amk
