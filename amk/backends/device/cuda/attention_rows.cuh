namespace amk {

constexpr int kRowPieces = 1;  // of 16 bytes, of a unit's keys in a lane
constexpr int kRowUnits = 3;   // of a warp in shared memory
// Units that are copied before the query comes: more would delay the query of everybody.
[[maybe_unused]] constexpr int kEarlyUnits = 1;

// Attention by rows: kLanes lanes share a row, 16 bytes each, so a warp sees kAtOnce rows at once,
// for all query heads. The rows of a split go round the warps in units; each warp has kRowUnits of
// them in shared memory, copies the next one when it read one, and meets the others at the end.
template <class KV, int D, int G>
struct RowsPlan : AttentionScratch<KV, D, G> {
  using Scratch = AttentionScratch<KV, D, G>;
  static constexpr int kElements = 16 / static_cast<int>(sizeof(KV));  // of a piece
  static constexpr int kPieces = Scratch::kRowBytes / 16;              // of a row
  static constexpr int kLanes = kPieces <= 1    ? 1
                                : kPieces <= 2  ? 2
                                : kPieces <= 4  ? 4
                                : kPieces <= 8  ? 8
                                : kPieces <= 16 ? 16
                                                : 32;
  static constexpr int kAtOnce = 32 / kLanes;
  static constexpr int kUnitRows = kRowPieces * kAtOnce;
  static constexpr int kUnitBytes = 2 * kUnitRows * Scratch::kRowBytes;  // keys, then values
  static constexpr int kPartRow = Scratch::kRow + 4;  // values, largest score, weight
  static constexpr int kPartBytes = G * kPartRow * 4;
  static constexpr int kWarpBytes =
      kRowUnits * kUnitBytes > kPartBytes ? kRowUnits * kUnitBytes : kPartBytes;
  static constexpr int kBytes = Scratch::kFixedBytes + kSlices * kWarpBytes;

  AMK_DEVICE static unsigned char* unit(int warp, int place) {
    return Scratch::rest() + warp * kWarpBytes + place * kUnitBytes;
  }
  // What a warp found for one query head; in place of its units.
  AMK_DEVICE static float* part(int warp, int g) {
    return reinterpret_cast<float*>(unit(warp, 0)) + g * kPartRow;
  }
};

// Copies units of old rows, of which unit u belongs to warp u % kSlices.
template <class Plan>
struct UnitCopies {
  const unsigned char *keys, *values;
  int rows, lane, warp;

  AMK_DEVICE int first_row(int n) const { return (n * kSlices + warp) * Plan::kUnitRows; }
  // Starts the copies of unit n of this warp, if there is one.
  AMK_DEVICE void start(int n) const {
    const int first = first_row(n);
    const int count = rows - first < Plan::kUnitRows ? rows - first : Plan::kUnitRows;
    const long offset = static_cast<long>(first) * Plan::kRowBytes;
    unsigned char* to = Plan::unit(warp, n % kRowUnits);
#pragma unroll
    for (int i = 0; i < kRowPieces; ++i) {
      const int at = (i * 32 + lane) * 16;
      if (at >= count * Plan::kRowBytes) continue;
      copy_16(to + at, keys + offset + at);
      copy_16(to + Plan::kUnitBytes / 2 + at, values + offset + at);
    }
    commit_copies();
  }
};

// The running softmax of all query heads over the rows that a lane sees part of.
template <class KV, int D, int G, class Functions>
struct RowSoftmax {
  using Plan = RowsPlan<KV, D, G>;
  static constexpr int kElements = Plan::kElements;
  float query[G][kElements], out[G][kElements] = {};
  float top[G], weight[G] = {};
  int lane;

  AMK_DEVICE RowSoftmax(int lane, float scale) : lane(lane) {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      top[g] = -infinity();
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        const int d = piece() * kElements + i;
        query[g][i] = d < D ? mul(Plan::query(g)[d], scale) : 0.0f;
      }
    }
  }
  AMK_DEVICE int piece() const { return lane % Plan::kLanes; }
  AMK_DEVICE int row() const { return lane / Plan::kLanes; }

  // Adds `count` rows of a unit.
  AMK_DEVICE void take(const unsigned char* keys, const unsigned char* values, int count) {
    float score[kRowPieces][G];
#pragma unroll
    for (int n = 0; n < kRowPieces; ++n) {
      float key[kElements];
      read(keys, n, count, key);
#pragma unroll
      for (int g = 0; g < G; ++g) score[n][g] = dot(query[g], key);
    }
#pragma unroll
    for (int o = Plan::kLanes / 2; o; o >>= 1) {
#pragma unroll
      for (int n = 0; n < kRowPieces; ++n) {
#pragma unroll
        for (int g = 0; g < G; ++g) score[n][g] += __shfl_xor_sync(kAllLanes, score[n][g], o);
      }
    }
    weigh(score, count);
#pragma unroll
    for (int n = 0; n < kRowPieces; ++n) {
      float value[kElements];
      read(values, n, count, value);
#pragma unroll
      for (int g = 0; g < G; ++g) {
#pragma unroll
        for (int i = 0; i < kElements; ++i) {
          out[g][i] = Functions::mad(score[n][g], value[i], out[g][i]);
        }
      }
    }
  }
  // Adds what the other lanes with this piece found.
  AMK_DEVICE void meet() {
#pragma unroll
    for (int o = Plan::kLanes; o < 32; o <<= 1) {
#pragma unroll
      for (int g = 0; g < G; ++g) {
        const float raised = larger(top[g], __shfl_xor_sync(kAllLanes, top[g], o));
        shrink(g, raised);
        weight[g] += __shfl_xor_sync(kAllLanes, weight[g], o);
#pragma unroll
        for (int i = 0; i < kElements; ++i) out[g][i] += __shfl_xor_sync(kAllLanes, out[g][i], o);
      }
    }
  }
  AMK_DEVICE void store(int warp) const {
    if (row() != 0 || piece() >= Plan::kPieces) return;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float* to = Plan::part(warp, g);
#pragma unroll
      for (int i = 0; i < kElements; i += 4) {
        *reinterpret_cast<float4*>(to + piece() * kElements + i) =
            make_float4(out[g][i], out[g][i + 1], out[g][i + 2], out[g][i + 3]);
      }
      if (piece() == 0) to[Plan::kRow] = top[g], to[Plan::kRow + 1] = weight[g];
    }
  }

 private:
  // This lane's piece of row n * kAtOnce + row(); zeros where there is none.
  AMK_DEVICE void read(const unsigned char* rows, int n, int count, float (&v)[kElements]) const {
    const int place = n * Plan::kAtOnce + row();
    const bool there = place < count && piece() < Plan::kPieces;
    if (there) {
      read_piece(reinterpret_cast<const KV*>(rows + place * Plan::kRowBytes + piece() * 16), v);
    }
#pragma unroll
    for (int i = 0; i < kElements; ++i) {
      if (!there || (D % kElements != 0 && piece() * kElements + i >= D)) v[i] = 0.0f;
    }
  }
  AMK_DEVICE static float dot(const float (&a)[kElements], const float (&b)[kElements]) {
    float sum = mul(a[0], b[0]);
#pragma unroll
    for (int i = 1; i < kElements; ++i) sum = Functions::mad(a[i], b[i], sum);
    return sum;
  }
  // Makes weights of scores.
  AMK_DEVICE void weigh(float (&score)[kRowPieces][G], int count) {
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float raised = top[g];
#pragma unroll
      for (int n = 0; n < kRowPieces; ++n) {
        if (n * Plan::kAtOnce + row() < count) raised = larger(raised, score[n][g]);
      }
      shrink(g, raised);
#pragma unroll
      for (int n = 0; n < kRowPieces; ++n) {
        const bool there = n * Plan::kAtOnce + row() < count;
        score[n][g] = there ? Functions::exp(score[n][g] - raised) : 0.0f;
        weight[g] += score[n][g];
      }
    }
  }
  AMK_DEVICE void shrink(int g, float raised) {
    const float by = top[g] == -infinity() ? 0.0f : Functions::exp(top[g] - raised);
    top[g] = raised;
    weight[g] *= by;
#pragma unroll
    for (int i = 0; i < kElements; ++i) out[g][i] *= by;
  }
};

// What the warps first, first + Z and so on found for query head g, together.
template <class Functions, class Plan, int D, int Z>
AMK_DEVICE Partial<D> sum_of_parts(int lane, int first, int g) {
  constexpr int kParts = (kSlices + Z - 1) / Z;
  Partial<D> sum;
  float top[kParts];
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    const int warp = first + i * Z;
    top[i] = warp < kSlices ? Plan::part(warp, g)[Plan::kRow] : -infinity();
    sum.top = larger(sum.top, top[i]);
  }
#pragma unroll
  for (int i = 0; i < kParts; ++i) {
    if (top[i] == -infinity()) continue;  // no rows
    const float* part = Plan::part(first + i * Z, g);
    const float share = Functions::exp(top[i] - sum.top);
    sum.weight += part[Plan::kRow + 1] * share;
#pragma unroll
    for (int j = 0; j < Partial<D>::kPairs; ++j) {
      const int d = (lane + 32 * j) * 2;
      if (d >= D) continue;
      const float2 v = read_two(part + d);
      sum.out[j][0] += v.x * share;
      sum.out[j][1] += v.y * share;
    }
  }
  return sum;
}

// Attention in any order of the rows, as fast as memory brings them: a warp takes whole rows, for all
// heads of the group. The Z partial results of a split share the warps among themselves.
template <class KV, int D, int G, int Z, int S, class Functions, class Q>
AMK_DEVICE void attention_by_rows(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                                  KV* key_cache, KV* value_cache, int rows, float scale,
                                  Packets<float> partial) {
  using Plan = RowsPlan<KV, D, G>;
  static_assert(Plan::kBytes <= kScratchBytes, "config::kScoreBytes is too small");
  w.begin();
  const int lane = w.lane(), warp = w.warp();

  w.sync();  // the scratch memory is free, and earlier tasks of this worker are done
  const UnitCopies<Plan> copies{reinterpret_cast<const unsigned char*>(key_cache),
                                reinterpret_cast<const unsigned char*>(value_cache), rows, lane,
                                warp};
#pragma unroll
  for (int n = 0; n < kEarlyUnits; ++n) copies.start(n);
  KV* new_key = reinterpret_cast<KV*>(Plan::new_row());
  const long end = static_cast<long>(rows) * Plan::kRow;
  receive_attended<Plan, D, G>(w, q, k, v, own, new_key, new_key + Plan::kRow, key_cache + end,
                               value_cache + end);
  // Until all copies are on their way, the memory is left to them: the ring has time after that.
  const int units = (rows + Plan::kUnitRows - 1) / Plan::kUnitRows - kEarlyUnits * kSlices;
  if (w.leader()) w.claim_memory(units < kSlices ? (units > 0 ? units : 0) : kSlices);
  w.sync();
  bool claims = copies.first_row(kEarlyUnits) < rows;
  const auto start = [&](int n) {
    copies.start(n);
    if (!claims || copies.first_row(n + 1) < rows) return;
    w.leave_memory();
    claims = false;
  };
#pragma unroll
  for (int n = kEarlyUnits; n < kRowUnits; ++n) start(n);

  RowSoftmax<KV, D, G, Functions> softmax(lane, scale);
  int left = rows - warp * Plan::kUnitRows;
#pragma unroll 1
  for (int n = 0; left > 0; ++n, left -= kSlices * Plan::kUnitRows) {
    wait_copies<kRowUnits - 1>();
    __syncwarp();
    const unsigned char* keys = Plan::unit(warp, n % kRowUnits);
    softmax.take(keys, keys + Plan::kUnitBytes / 2, left);
    __syncwarp();  // the unit was read
    start(n + kRowUnits);
  }
  if (own && warp == kSlices - 1) {
    softmax.take(Plan::new_row(), Plan::new_row() + Plan::kRowBytes, 1);
  }
  softmax.meet();
  softmax.store(warp);
  w.sync();
#pragma unroll 1
  for (int i = warp; i < G * Z; i += kSlices) {
    const auto sum = sum_of_parts<Functions, Plan, D, Z>(lane, i % Z, i / Z);
    sum.send_to(lane, partial.at((i / Z * (S * Z) + i % Z) * (D + 2L)));
  }
  w.sync();  // the scratch memory is free again
}

}  // namespace amk
