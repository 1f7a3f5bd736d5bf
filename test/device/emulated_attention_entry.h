// Attention tasks of one emulated block, one after the other. The device layer comes before, the
// list `AMK_SHAPES(X)` of X(KV, Q, D, G, Z, F) too.
struct Task {
  int rows, own;
  void *key_cache, *value_cache;
  uint64_t *q, *k, *v, *partial;           // packets; q, k and v are empty at first
  const uint64_t *sent_q, *sent_k, *sent_v;  // what is sent, from the outside
  int q_packets, row_packets;
};
#define AMK_TEST_EXPORT extern "C" __attribute__((visibility("default")))

constexpr uint32_t kEpoch = 7;
constexpr int kSplits = 2;  // of which this is the first

// Sends a vector in pieces, while the block runs.
inline void send_slowly(const uint64_t* from, uint64_t* to, int count) {
  for (int i = 0; i < count; ++i) {
    to[i] = from[i];
    if (simt::chance(4)) simt::yield();
  }
}

template <class KV, class Q, int D, int G, int Z, class F>
int run(const Task* tasks, int count, float scale, unsigned seed) {
  using Tiles = amk::TilesPlan<KV, D, G, Z>;
  using Rows = amk::RowsPlan<KV, D, G>;
  constexpr int kBytes =
      amk::kByRows<KV, Q, D, G, F> && Rows::kBytes > Tiles::kBytes ? Rows::kBytes : Tiles::kBytes;
  const unsigned char* scratch = amk::block().scratch;
  std::memset(amk::block().scratch, 0xff, sizeof(amk::Block));  // NaN in either type
  simt::machine.tile = Tiles::rest();
  simt::machine.tile_end = scratch + kBytes;
  const auto packets = [](auto tag, uint64_t* p) {
    return amk::Packets<decltype(tag)>{p, kEpoch, 0};
  };
  simt::launch(seed, [&](int thread) {
    amk::Worker w;
    for (const Task* t = tasks; t != tasks + count; ++t) {
      if (thread == simt::kThreads) {
        send_slowly(t->sent_v, t->v, t->own ? t->row_packets : 0);
        send_slowly(t->sent_q, t->q, t->q_packets);
        send_slowly(t->sent_k, t->k, t->own ? t->row_packets : 0);
      } else {
        amk::attention<KV, D, G, Z, kSplits, F>(
            w, packets(Q{}, t->q), packets(Q{}, t->k), packets(Q{}, t->v), t->own != 0,
            static_cast<KV*>(t->key_cache), static_cast<KV*>(t->value_cache), t->rows, scale,
            packets(0.0f, t->partial));
      }
    }
  });
  const unsigned char* end = scratch + sizeof(amk::Block);
  if (std::any_of(simt::machine.tile_end, end, [](int byte) { return byte != 0xff; })) {
    simt::fail(simt::kOverrun);
  }
  return simt::machine.error;
}

// The error of the launch, -1 for a shape that was not compiled.
AMK_TEST_EXPORT int run_tasks(const char* shape, const Task* tasks, int count, float scale,
                         unsigned seed) {
#define AMK_RUN(KV, Q, D, G, Z, F) \
  if (!std::strcmp(shape, #KV " " #Q " " #D " " #G " " #Z " " #F)) \
    return run<KV, Q, D, G, Z, F>(tasks, count, scale, seed);
  AMK_SHAPES(AMK_RUN)
#undef AMK_RUN
  return -1;
}
// How a shape is computed: by rows, by tiles with the next one held in registers, or by tiles that
// are copied; -1 if it was not compiled.
enum Way { kRows, kHeld, kCopied };
AMK_TEST_EXPORT int way(const char* shape) {
#define AMK_WAY(KV, Q, D, G, Z, F) \
  if (!std::strcmp(shape, #KV " " #Q " " #D " " #G " " #Z " " #F)) \
    return amk::kByRows<KV, Q, D, G, F>                           ? kRows \
           : amk::kHeldTile<amk::TilesPlan<KV, D, G, Z>> ? kHeld \
                                                         : kCopied;
  AMK_SHAPES(AMK_WAY)
#undef AMK_WAY
  return -1;
}
