namespace amk {

// Shared memory of an attention task: the query heads, the new key and value, and a tile of 32 rows
// per unit. Rows are padded to 16 bytes, key rows by 16 more so that 32 lanes can read 32
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
  static_assert(kFixedBytes + kTileBytes <= kScratchBytes, "config::kScoreBytes is too small");

  AMK_DEVICE static float* query(int g) {
    return reinterpret_cast<float*>(block().scratch) + g * kQueryRow;
  }
  AMK_DEVICE static unsigned char* key(int row) {
    return block().scratch + kFixedBytes + row * kKeyStride;
  }
  AMK_DEVICE static unsigned char* value(int row) { return key(kRows) + row * kRowBytes; }

  // Where the new row is received, behind `rows` old ones: in the first tile, if that is its place.
  AMK_DEVICE static unsigned char* waiting() { return block().scratch + kQueryBytes; }
  AMK_DEVICE static KV* new_key(int rows) {
    return reinterpret_cast<KV*>(rows < kRows ? key(rows) : waiting());
  }
  AMK_DEVICE static KV* new_value(int rows) {
    return reinterpret_cast<KV*>(rows < kRows ? value(rows) : waiting() + kRowBytes);
  }
};

AMK_DEVICE void load_16(const void* from, uint4& v) {
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
}
AMK_DEVICE void copy_16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from)
               : "memory");
}
AMK_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
AMK_DEVICE void wait_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// The old rows of a task, by tiles: tile p holds the rows p * kRows to (p + 1) * kRows.
template <class Plan>
struct OldRows {
  static constexpr int kPieces = Plan::kRowBytes / 16;
  static constexpr int kMine = (Plan::kRows * kPieces + kConsumerThreads - 1) / kConsumerThreads;
  const unsigned char *keys, *values;
  int thread, rows;

  // Starts copies of tile p to its place.
  AMK_DEVICE void copy(int p) const {
    each(p, [&](int, int piece, long offset) {
      copy_16(key_at(piece), keys + offset);
      copy_16(value_at(piece), values + offset);
    });
    commit_copies();
  }
  // body(i, piece, offset) for each piece of 16 bytes of tile p that this thread moves.
  template <class F>
  AMK_DEVICE void each(int p, F body) const {
    const int first = p * Plan::kRows;
    const int count = (rows - first < Plan::kRows ? rows - first : Plan::kRows) * kPieces;
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
      const int piece = thread + i * kConsumerThreads;
      if (piece < count) body(i, piece, static_cast<long>(first) * Plan::kRowBytes + piece * 16);
    }
  }
  AMK_DEVICE static unsigned char* key_at(int piece) {
    return Plan::key(piece / kPieces) + piece % kPieces * 16;
  }
  AMK_DEVICE static unsigned char* value_at(int piece) {
    return Plan::value(piece / kPieces) + piece % kPieces * 16;
  }
};

// Tiles that are on their way in registers while those before them are in use; without any, a tile is
// copied when the one before it was read. ptxas gives all loads of a warp one scoreboard: it waits
// for all of them once in so many tiles, and the other tiles are there without a wait.
template <class Plan>
constexpr int kTilesAhead = kMostHeldPieces / OldRows<Plan>::kMine < 4
                                ? kMostHeldPieces / OldRows<Plan>::kMine
                                : 4;

// A thread's pieces of such a tile.
template <class Plan>
struct HeldTile {
  uint4 key[OldRows<Plan>::kMine], value[OldRows<Plan>::kMine];

  AMK_DEVICE void request(const OldRows<Plan>& old, int p) {
    old.each(p, [&](int i, int, long offset) {
      load_16(old.keys + offset, key[i]);
      load_16(old.values + offset, value[i]);
    });
  }
  AMK_DEVICE void store(const OldRows<Plan>& old, int p) const {
    old.each(p, [&](int i, int piece, long) {
      *reinterpret_cast<uint4*>(old.key_at(piece)) = key[i];
      *reinterpret_cast<uint4*>(old.value_at(piece)) = value[i];
    });
  }
};

// Copies the new row, behind `rows` old ones, into the tile; called by one warp.
template <class Plan>
AMK_DEVICE void place_new_row(Worker& w, int rows) {
  for (int i = w.lane() * 4; i < Plan::kRowBytes; i += 32 * 4) {
    const auto word = [&](unsigned char* p) -> uint32_t& {
      return *reinterpret_cast<uint32_t*>(p + i);
    };
    word(Plan::key(rows % Plan::kRows)) = word(Plan::waiting());
    word(Plan::value(rows % Plan::kRows)) = word(Plan::waiting() + Plan::kRowBytes);
  }
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

// The running softmax of one query head over the rows of one unit, held by a warp. A lane owns the
// elements 2 (lane + 32 j) and the next.
template <class KV, int D, class Functions>
struct Softmax {
  static constexpr int kPairs = (D + 63) / 64;
  float out[kPairs][2] = {};
  float top = -infinity(), weight = 0.0f;

  // Adds `count` (1 to 32) rows of a tile.
  template <class Plan>
  AMK_DEVICE void take(int lane, const float* query, float scale, int count,
                       const unsigned char* keys, const unsigned char* values) {
    const KV* key = reinterpret_cast<const KV*>(keys + lane * Plan::kKeyStride);
    const float score = lane < count ? mul(dot(query, key), scale) : -infinity();
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
    constexpr int kTogether = 8;  // rows, to hide the latency of their loads
    int i = 0;
#pragma unroll 1
    for (; i + kTogether <= count; i += kTogether) {
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        add_row(lane, __shfl_sync(kAllLanes, p, i + n), values + (i + n) * Plan::kRowBytes);
      }
    }
#pragma unroll 1
    for (; i < count; ++i) {
      add_row(lane, __shfl_sync(kAllLanes, p, i), values + i * Plan::kRowBytes);
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
  AMK_DEVICE void add_row(int lane, float p, const unsigned char* row) {
#pragma unroll
    for (int j = 0; j < kPairs; ++j) {
      const int d = (lane + 32 * j) * 2;
      if (d >= D) continue;
      const float2 v = read_two(reinterpret_cast<const KV*>(row) + d);
      out[j][0] = Functions::mad(p, v.x, out[j][0]);
      out[j][1] = Functions::mad(p, v.y, out[j][1]);
    }
  }
  AMK_DEVICE static float dot(const float* query, const KV* key) {
    constexpr int kPiece = 16 / static_cast<int>(sizeof(KV));
    float a[4] = {};
#pragma unroll 4
    for (int first = 0; first < D; first += kPiece) {
      float k[kPiece];
      read_piece(key + first, k);
#pragma unroll
      for (int quad = 0; quad < kPiece; quad += 4) {
        if (first + quad >= D) continue;
        float q[4];
        read_piece(query + first + quad, q);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (first + quad + i < D) a[i] = Functions::mad(q[i], k[quad + i], a[i]);
        }
      }
    }
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
  const int passes = (total + Plan::kRows - 1) / Plan::kRows, last_pass = rows / Plan::kRows;

  w.sync();  // the scratch memory is free, and earlier tasks of this worker are done
  const OldRows<Plan> old{reinterpret_cast<const unsigned char*>(key_cache),
                          reinterpret_cast<const unsigned char*>(value_cache), w.thread, rows};
  old.copy(0);  // one tile only: more of them would delay the query of everybody
#pragma unroll 1
  for (int job = warp; job < G + (own ? 2 : 0); job += kSlices) {
    if (job < G) {
      float* to = Plan::query(job);
      receive_vector<D>(w, q.at(job * D), [&](int d, float x) { to[d] = x; });
      continue;
    }
    KV* to = job == G ? Plan::new_key(rows) : Plan::new_value(rows);
    KV* cache = (job == G ? key_cache : value_cache) + static_cast<long>(rows) * Plan::kRow;
    receive_vector<D>(w, job == G ? k : v, [&](int d, float x) {
      to[d] = cache[d] = from_float<KV>(x);
    });
  }

  wait_copies();
  w.sync();
  constexpr int kAhead = kTilesAhead<Plan>;
  constexpr int kTogether = kAhead > 0 ? kAhead : 1;
  HeldTile<Plan> held[kTogether];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) held[i].request(old, i + 1);
  Softmax<KV, D, Functions> item[kItems];
  bool more = true;
#pragma unroll 1
  for (int first = 0; more; first += kTogether) {
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      const int pass = first + i;
#pragma unroll
      for (int n = 0; n < kItems; ++n) {
        const int g = (n * kSlices + warp) / Z, z = (n * kSlices + warp) % Z;
        const int row = pass * Plan::kRows + z * 32;
        const int count = total - row < 32 ? total - row : 32;
        if (g >= G || count <= 0) continue;
        item[n].template take<Plan>(lane, Plan::query(g), scale, count, Plan::key(z * 32),
                                    Plan::value(z * 32));
      }
      more = pass + 1 < passes;
      if (!more) break;
      w.sync();  // the tile was read
      if constexpr (kAhead == 0) {
        old.copy(pass + 1);
        wait_copies();
      } else {
        held[i].store(old, pass + 1);
        held[i].request(old, pass + 1 + kAhead);
      }
      if (own && pass + 1 == last_pass && warp == 0) place_new_row<Plan>(w, rows);
      w.sync();
    }
  }
#pragma unroll
  for (int n = 0; n < kItems; ++n) {
    const int i = n * kSlices + warp;
    if (i < G * Z) item[n].send_partial(lane, partial.at((i / Z * (S * Z) + i % Z) * (D + 2L)));
  }
  w.sync();  // the scratch memory is free again
}

}  // namespace amk
