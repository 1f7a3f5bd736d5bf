namespace amk {

// What both kinds of attention have in shared memory: the query heads, and the new key and value
// while they do not lie behind old ones. Rows are padded to 16 bytes.
template <class KV, int D, int G>
struct AttentionScratch {
  static constexpr int kRow = cache_row<D>;
  static constexpr int kRowBytes = kRow * static_cast<int>(sizeof(KV));
  static constexpr int kQueryRow = (D + 3) / 4 * 4;
  static constexpr int kQueryBytes = G * kQueryRow * 4;
  static constexpr int kFixedBytes = kQueryBytes + 2 * kRowBytes;

  AMK_DEVICE static float* query(int g) {
    return reinterpret_cast<float*>(block().scratch) + g * kQueryRow;
  }
  AMK_DEVICE static unsigned char* new_row() { return block().scratch + kQueryBytes; }
  AMK_DEVICE static unsigned char* rest() { return block().scratch + kFixedBytes; }
};

AMK_DEVICE void copy_16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}
AMK_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits for all copies of this thread but the last N groups.
template <int N>
AMK_DEVICE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Receives n values in a warp; store(i, v) gets each of them.
template <int N, class T, class Store>
AMK_DEVICE void receive_vector(Worker& w, Packets<T> from, Store store) {
  constexpr int kCount = N / kPerPacket<T>;  // packets
  constexpr int kPairs = (kCount + 63) / 64;
  static_assert(kCount % 2 == 0, "packets are read in pairs");
  uint64_t v[kPairs][2];
  const auto pair_of = [&](int i) {
    const int index = (i * 32 + w.lane()) * 2;
    return Pair{index, index < kCount ? 3 : 0};
  };
  request(from, v, pair_of);
  await(w, from, v, pair_of);
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const Pair pair = pair_of(i);
    if (pair.wanted == 0) continue;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const uint32_t payload = payload_of(v[i][j]);
      const int element = (pair.index + j) * kPerPacket<T>;
      if (kPerPacket<T> == 1) {
        store(element, as_float(payload));
      } else {
        store(element, low_half(payload));
        store(element + 1, high_half(payload));
      }
    }
  }
}

// Receives the query heads, and the key and value of the new row where it is owned, which go to
// shared memory and to the end of the cache.
template <class Scratch, int D, int G, class KV, class Q>
AMK_DEVICE void receive_attended(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                                 KV* new_key, KV* new_value, KV* key_end, KV* value_end) {
#pragma unroll 1
  for (int job = w.warp(); job < G + (own ? 2 : 0); job += kSlices) {
    if (job < G) {
      float* to = Scratch::query(job);
      receive_vector<D>(w, q.at(job * D), [&](int d, float x) { to[d] = x; });
      continue;
    }
    KV* to = job == G ? new_key : new_value;
    KV* end = job == G ? key_end : value_end;
    receive_vector<D>(w, job == G ? k : v, [&](int d, float x) {
      to[d] = end[d] = from_float<KV>(x);
    });
  }
}

// 16 bytes of a row in shared memory, and two values.
AMK_DEVICE void read_piece(const float* p, float (&v)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
AMK_DEVICE void read_piece(const bf16* p, float (&v)[8]) {
  const uint4 x = *reinterpret_cast<const uint4*>(p);
  v[0] = low_half(x.x), v[1] = high_half(x.x), v[2] = low_half(x.y), v[3] = high_half(x.y);
  v[4] = low_half(x.z), v[5] = high_half(x.z), v[6] = low_half(x.w), v[7] = high_half(x.w);
}
AMK_DEVICE float2 read_two(const float* p) { return *reinterpret_cast<const float2*>(p); }
AMK_DEVICE float2 read_two(const bf16* p) {
  const uint32_t x = *reinterpret_cast<const uint32_t*>(p);
  return make_float2(low_half(x), high_half(x));
}

// A softmax over some rows for one query head, held by a warp: the largest score, the weights
// relative to it, and the weighted values. A lane owns the elements 2 (lane + 32 j) and the next.
template <int D>
struct Partial {
  static constexpr int kPairs = (D + 63) / 64;
  float out[kPairs][2] = {};
  float top = -infinity(), weight = 0.0f;

  AMK_DEVICE void send_to(int lane, Packets<float> to) const {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int d = (lane + 32 * j) * 2;
      if (d < D) send(to, d, out[j][0], out[j][1]);
    }
    if (lane == 0) send(to, D, top, weight);
  }
};

}  // namespace amk
