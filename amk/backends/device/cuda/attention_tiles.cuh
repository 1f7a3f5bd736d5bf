namespace amk {

// Shared memory of attention by tiles: a tile has 32 rows a unit. Key rows are 16 bytes further
// apart than they are long, so that 32 lanes can read 32 rows without conflicts.
template <class KV, int D, int G, int Z>
struct TilesPlan : AttentionScratch<KV, D, G> {
  using Scratch = AttentionScratch<KV, D, G>;
  static constexpr int kKeyStride = Scratch::kRowBytes + 16;
  static constexpr int kRows = 32 * Z;
  static constexpr int kBytes = Scratch::kFixedBytes + kRows * (kKeyStride + Scratch::kRowBytes);

  AMK_DEVICE static unsigned char* key(int row) { return Scratch::rest() + row * kKeyStride; }
  AMK_DEVICE static unsigned char* value(int row) {
    return key(kRows) + row * Scratch::kRowBytes;
  }
};

AMK_DEVICE void load_16(const void* from, uint4& v) {
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
}

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

// Whether the tile behind the one in use is on its way in registers; otherwise it is copied when
// the one before it was read. More tiles on their way would bring nothing: ptxas gives all loads of a
// warp one scoreboard, so a wait for one is a wait for all.
template <class Plan>
constexpr bool kHeldTile = OldRows<Plan>::kMine <= kMostHeldPieces;

// A thread's pieces of that tile.
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
    word(Plan::key(rows % Plan::kRows)) = word(Plan::new_row());
    word(Plan::value(rows % Plan::kRows)) = word(Plan::new_row() + Plan::kRowBytes);
  }
}

// The running softmax of one query head over the rows of one unit, in the order of the IR.
template <class KV, int D, class Functions>
struct TileSoftmax : Partial<D> {
  using Partial<D>::kPairs, Partial<D>::out, Partial<D>::top, Partial<D>::weight;

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

// Attention in the order of the IR: a (head, unit) pair belongs to a warp, which takes the rows of
// its unit tile by tile. With kOneTile there is never a second one.
template <class KV, int D, int G, int Z, int S, bool kOneTile, class Functions, class Q>
AMK_DEVICE void attention_by_tiles(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                                   KV* key_cache, KV* value_cache, int rows, float scale,
                                   Packets<float> partial) {
  using Plan = TilesPlan<KV, D, G, Z>;
  static_assert(Plan::kBytes <= kScratchBytes, "config::kScoreBytes is too small");
  constexpr int kItems = (G * Z + kSlices - 1) / kSlices;  // of a warp
  w.begin();
  const int lane = w.lane(), warp = w.warp();
  const int total = rows + (own ? 1 : 0);
  const int passes = (total + Plan::kRows - 1) / Plan::kRows, last_pass = rows / Plan::kRows;

  w.sync();  // the scratch memory is free, and earlier tasks of this worker are done
  const OldRows<Plan> old{reinterpret_cast<const unsigned char*>(key_cache),
                          reinterpret_cast<const unsigned char*>(value_cache), w.thread, rows};
  old.copy(0);  // one tile only: more of them would delay the query of everybody
  // The new row is received where it will lie, if that is in the first tile.
  const bool here = rows < Plan::kRows;
  unsigned char* new_key = here ? Plan::key(rows) : Plan::new_row();
  unsigned char* new_value = here ? Plan::value(rows) : Plan::new_row() + Plan::kRowBytes;
  const long end = static_cast<long>(rows) * Plan::kRow;
  receive_attended<Plan, D, G>(w, q, k, v, own, reinterpret_cast<KV*>(new_key),
                               reinterpret_cast<KV*>(new_value), key_cache + end,
                               value_cache + end);

  wait_copies<0>();
  w.sync();
  TileSoftmax<KV, D, Functions> item[kItems];
#pragma unroll 1
  for (int pass = 0;; ++pass) {
    HeldTile<Plan> next;
    if constexpr (!kOneTile && kHeldTile<Plan>) next.request(old, pass + 1);
#pragma unroll
    for (int n = 0; n < kItems; ++n) {
      const int g = (n * kSlices + warp) / Z, z = (n * kSlices + warp) % Z;
      const int first = pass * Plan::kRows + z * 32;
      const int count = total - first < 32 ? total - first : 32;
      if (g >= G || count <= 0) continue;
      item[n].template take<Plan>(lane, Plan::query(g), scale, count, Plan::key(z * 32),
                                  Plan::value(z * 32));
    }
    if (kOneTile || pass + 1 >= passes) break;
    w.sync();  // the tile was read
    if constexpr (kHeldTile<Plan>) {
      next.store(old, pass + 1);
    } else {
      old.copy(pass + 1);
      wait_copies<0>();
    }
    if (own && pass + 1 == last_pass && warp == 0) place_new_row<Plan>(w, rows);
    w.sync();
  }
#pragma unroll
  for (int n = 0; n < kItems; ++n) {
    const int i = n * kSlices + warp;
    if (i < G * Z) item[n].send_to(lane, partial.at((i / Z * (S * Z) + i % Z) * (D + 2L)));
  }
  w.sync();  // the scratch memory is free again
}

}  // namespace amk
