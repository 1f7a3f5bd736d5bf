namespace amk {

// Shared memory of an attention task: the query heads, the new key and value, and one or two tiles
// of 32 rows per unit. Rows are padded to 16 bytes, key rows by 16 more so that 32 lanes can read 32
// rows without conflicts.
template <class KV, int D, int G, int Z>
struct AttentionPlan {
  static constexpr int kRow = cache_row<D>;
  static constexpr int kRowBytes = kRow * static_cast<int>(sizeof(KV));
  static constexpr int kKeyStride = kRowBytes + 16;
  static constexpr int kRows = 32 * Z;
  static constexpr int kTileBytes = kRows * (kKeyStride + kRowBytes);
  static constexpr int kQueryRow = (D + 3) / 4 * 4;
  static constexpr int kQueryBytes = G * kQueryRow * 4;
  static constexpr int kFixedBytes = kQueryBytes + 2 * kRowBytes;
  static constexpr int kDepth = kFixedBytes + 2 * kTileBytes <= kScratchBytes ? 2 : 1;
  static_assert(kFixedBytes + kTileBytes <= kScratchBytes, "config::kScoreBytes is too small");

  AMK_DEVICE static float* query(int g) {
    return reinterpret_cast<float*>(block().scratch) + g * kQueryRow;
  }
  AMK_DEVICE static KV* fresh_key() {
    return reinterpret_cast<KV*>(block().scratch + kQueryBytes);
  }
  AMK_DEVICE static KV* fresh_value() { return fresh_key() + kRow; }
  AMK_DEVICE static unsigned char* keys(int pass) {
    return block().scratch + kFixedBytes + pass % kDepth * kTileBytes;
  }
  AMK_DEVICE static unsigned char* values(int pass) { return keys(pass) + kRows * kKeyStride; }
};

AMK_DEVICE void copy_16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}

// Starts the copy of a tile: rows first .. first + 32 Z of `rows` old ones. Always one group.
template <class Plan, class KV>
AMK_DEVICE void fetch_tile(Worker& w, const KV* keys, const KV* values, int pass, int rows) {
  constexpr int kPieces = Plan::kRowBytes / 16;
  const int first = pass * Plan::kRows;
  const int count = (rows - first < Plan::kRows ? rows - first : Plan::kRows) * kPieces;
  for (int i = w.thread; i < count; i += kConsumerThreads) {
    const int row = i / kPieces, piece = i % kPieces * 16;
    const long from = static_cast<long>(first + row) * Plan::kRowBytes + piece;
    copy_16(Plan::keys(pass) + row * Plan::kKeyStride + piece,
            reinterpret_cast<const unsigned char*>(keys) + from);
    copy_16(Plan::values(pass) + row * Plan::kRowBytes + piece,
            reinterpret_cast<const unsigned char*>(values) + from);
  }
  asm volatile("cp.async.commit_group;" ::: "memory");
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

// Four values of a row in shared memory, and two.
AMK_DEVICE void read_four(const float* p, float (&v)[4]) {
  const float4 x = *reinterpret_cast<const float4*>(p);
  v[0] = x.x, v[1] = x.y, v[2] = x.z, v[3] = x.w;
}
AMK_DEVICE void read_four(const bf16* p, float (&v)[4]) {
  const uint2 x = *reinterpret_cast<const uint2*>(p);
  v[0] = low_half(x.x), v[1] = high_half(x.x), v[2] = low_half(x.y), v[3] = high_half(x.y);
}
AMK_DEVICE float2 read_two(const float* p) { return *reinterpret_cast<const float2*>(p); }
AMK_DEVICE float2 read_two(const bf16* p) {
  const uint32_t x = *reinterpret_cast<const uint32_t*>(p);
  return make_float2(low_half(x), high_half(x));
}

// The running softmax of one query head over the rows of one unit, held by a warp. A lane owns the
// elements 2 (lane + 32 j) and the next.
template <class KV, int D, class Functions>
struct Softmax {
  static constexpr int kPairs = (D + 63) / 64;
  float out[kPairs][2] = {};
  float top = -infinity(), weight = 0.0f;

  // Adds `count` (1 to 32) rows; key(i) and value(i) point to row i.
  template <class Key, class Value>
  AMK_DEVICE void take(int lane, const float* query, float scale, int count, Key key, Value value) {
    const float score = lane < count ? mul(dot(query, key(lane)), scale) : -infinity();
    const float raised = larger(top, warp_max(score));
    const float shrink = top == -infinity() ? 0.0f : Functions::exp(sub(top, raised));
    const float p = lane < count ? Functions::exp(sub(score, raised)) : 0.0f;
    weight = add(mul(weight, shrink), warp_sum(p));
    top = raised;
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      out[j][0] = mul(out[j][0], shrink);
      out[j][1] = mul(out[j][1], shrink);
    }
#pragma unroll 4
    for (int i = 0; i < count; ++i) {
      const float pi = __shfl_sync(kAllLanes, p, i);
      const KV* row = value(i);
#pragma unroll
      for (int j = 0; j < kPairs; ++j) {
        const int d = (lane + 32 * j) * 2;
        if (d >= D) continue;
        const float2 v = read_two(row + d);
        out[j][0] = add(out[j][0], mul(pi, v.x));
        out[j][1] = add(out[j][1], mul(pi, v.y));
      }
    }
  }
  AMK_DEVICE void send_partial(int lane, Packets<float> to) const {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int d = (lane + 32 * j) * 2;
      if (d < D) send(to, d, out[j][0], out[j][1]);
    }
    if (lane == 0) send(to, D, top, weight);
  }

 private:
  AMK_DEVICE static float dot(const float* query, const KV* key) {
    float a[4] = {};
    const auto add_four = [&](int d, int count) {
      float q[4], k[4];
      read_four(query + d, q);
      read_four(key + d, k);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (i < count) a[i] = add(a[i], mul(q[i], k[i]));
      }
    };
#pragma unroll 4
    for (int d = 0; d < D / 4 * 4; d += 4) add_four(d, 4);
    if (D % 4 != 0) add_four(D / 4 * 4, D % 4);
    return add(add(a[0], a[1]), add(a[2], a[3]));
  }
};

// One key-value head and one of S splits of the positions: G query heads attend over the rows of
// the split, each by Z units. Old rows come from the cache, by copies that start before the query
// arrives; the owner of the new position also receives its key and value and appends them.
// A (head, unit) pair belongs to a warp; partial index ((g * S * Z) + z) * (D + 2) + d.
template <class KV, int D, int G, int Z, int S, class Functions, class Q>
AMK_DEVICE void attention(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                          KV* key_cache, KV* value_cache, int rows, float scale,
                          Packets<float> partial) {
  using Plan = AttentionPlan<KV, D, G, Z>;
  constexpr int kItems = (G * Z + kSlices - 1) / kSlices;  // of a warp
  w.begin();
  const int lane = w.lane(), warp = w.warp();
  const int total = rows + (own ? 1 : 0);
  const int passes = (total + Plan::kRows - 1) / Plan::kRows;

  w.sync();  // the scratch memory is free, and earlier tasks of this worker are done
  for (int pass = 0; pass < Plan::kDepth; ++pass) {
    fetch_tile<Plan>(w, key_cache, value_cache, pass, rows);
  }
#pragma unroll 1
  for (int job = warp; job < G + (own ? 2 : 0); job += kSlices) {
    if (job < G) {
      float* to = Plan::query(job);
      receive_vector<D>(w, q.at(job * D), [&](int d, float x) { to[d] = x; });
      continue;
    }
    KV* to = job == G ? Plan::fresh_key() : Plan::fresh_value();
    KV* cache = (job == G ? key_cache : value_cache) + static_cast<long>(rows) * Plan::kRow;
    receive_vector<D>(w, job == G ? k : v, [&](int d, float x) {
      to[d] = cache[d] = from_float<KV>(x);
    });
  }

  Softmax<KV, D, Functions> item[kItems];
#pragma unroll 1
  for (int pass = 0; pass == 0 || pass < passes; ++pass) {
    asm volatile("cp.async.wait_group %0;" ::"n"(Plan::kDepth - 1) : "memory");
    w.sync();
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const int g = (n * kSlices + warp) / Z, z = (n * kSlices + warp) % Z;
      const int first = pass * Plan::kRows + z * 32;
      const int count = total - first < 32 ? total - first : 32;
      if (g >= G || count <= 0) continue;
      item[n].take(
          lane, Plan::query(g), scale, count,
          [&](int i) {
            return first + i == rows ? Plan::fresh_key()
                                     : reinterpret_cast<const KV*>(
                                           Plan::keys(pass) + (z * 32 + i) * Plan::kKeyStride);
          },
          [&](int i) {
            return first + i == rows ? Plan::fresh_value()
                                     : reinterpret_cast<const KV*>(
                                           Plan::values(pass) + (z * 32 + i) * Plan::kRowBytes);
          });
    }
    if (pass + 1 >= passes) break;
    w.sync();  // the tile was read
    fetch_tile<Plan>(w, key_cache, value_cache, pass + Plan::kDepth, rows);
  }
#pragma unroll
  for (int n = 0; n < kItems; ++n) {
    const int i = n * kSlices + warp;
    if (i < G * Z) item[n].send_partial(lane, partial.at((i / Z * (S * Z) + i % Z) * (D + 2L)));
  }
  w.sync();  // the scratch memory is free again
}

}  // namespace amk
