namespace amk {

// Attention by rows: kLanes lanes share a row, 16 bytes each, so a warp sees kAtOnce rows at once,
// for all query heads. The rows of a split go round the warps in units; each warp has kUnits of
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
  static constexpr int kUnits = config::kRowUnits;
  static constexpr int kUnitPieces = config::kUnitPieces;  // of a lane, of keys and of values
  static constexpr int kUnitRows = kUnitPieces * kAtOnce;
  static constexpr int kUnitBytes = 2 * kUnitRows * Scratch::kRowBytes;  // keys, then values
  static constexpr int kPartRow = Scratch::kRow + 4;  // values, largest score, weight
  static constexpr int kPartBytes = G * kPartRow * 4;
  static constexpr int kWarpBytes =
      kUnits * kUnitBytes > kPartBytes ? kUnits * kUnitBytes : kPartBytes;
  static constexpr int kBytes = Scratch::kFixedBytes + kSlices * kWarpBytes;

  AMK_DEVICE static unsigned char* unit(int warp, int place) {
    return Scratch::rest() + warp * kWarpBytes + place * kUnitBytes;
  }
  // What a warp found for one query head; in place of its units.
  AMK_DEVICE static float* part(int warp, int g) {
    return reinterpret_cast<float*>(unit(warp, 0)) + g * kPartRow;
  }
};

// Copies the units of a warp, one after the other; unit u of a split belongs to warp u % kSlices.
template <class Plan>
struct UnitCopies {
  const unsigned char *keys, *values;  // this lane's first piece of the next unit
  int left;                            // rows of the split from the next unit on
  int lane, warp;

  AMK_DEVICE UnitCopies(const Worker& w, const void* key_cache, const void* value_cache, int rows)
      : left(rows - w.warp() * Plan::kUnitRows), lane(w.lane()), warp(w.warp()) {
    const int first = warp * Plan::kUnitRows * Plan::kRowBytes + lane * 16;
    keys = static_cast<const unsigned char*>(key_cache) + first;
    values = static_cast<const unsigned char*>(value_cache) + first;
  }
  // Starts the copies of the next unit, if there is one, to a place.
  AMK_DEVICE void start(int place) {
    constexpr int kHalf = Plan::kUnitBytes / 2;
    const int bytes = left * Plan::kRowBytes < kHalf ? left * Plan::kRowBytes : kHalf;
    unsigned char* to = Plan::unit(warp, place) + lane * 16;
#pragma unroll
    for (int i = 0; i < Plan::kUnitPieces * 512; i += 512) {
      if (i + lane * 16 >= bytes) continue;
      copy_16(to + i, keys + i);
      copy_16(to + kHalf + i, values + i);
    }
    commit_copies();
    left -= kSlices * Plan::kUnitRows;
    keys += kSlices * kHalf;
    values += kSlices * kHalf;
  }
};

// A lane's pieces of a unit, in registers.
template <class Plan>
struct UnitPieces {
  uint4 key[Plan::kUnitPieces], value[Plan::kUnitPieces];

  // Reads a unit, all of it or the first `count` rows; pieces that are not there are zero.
  template <bool kAll>
  AMK_DEVICE void read(int lane, const unsigned char* keys, const unsigned char* values,
                       int count) {
    const int row = lane / Plan::kLanes, piece = lane % Plan::kLanes;
    const int first = row * Plan::kRowBytes + piece * 16;
#pragma unroll
    for (int n = 0; n < Plan::kUnitPieces; ++n) {
      key[n] = value[n] = make_uint4(0, 0, 0, 0);
      if (piece >= Plan::kPieces || (!kAll && n * Plan::kAtOnce + row >= count)) continue;
      const int at = first + n * Plan::kAtOnce * Plan::kRowBytes;
      key[n] = *reinterpret_cast<const uint4*>(keys + at);
      value[n] = *reinterpret_cast<const uint4*>(values + at);
    }
  }
};

// The running softmax of all query heads over the rows that a lane sees part of.
template <class KV, int D, int G, class Functions>
struct RowSoftmax {
  using Plan = RowsPlan<KV, D, G>;
  static constexpr int kElements = Plan::kElements, kTogether = Plan::kUnitPieces;
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

  // Adds a unit, all of it or the first `count` rows.
  template <bool kAll>
  AMK_DEVICE void take(const UnitPieces<Plan>& unit, int count) {
    float score[kTogether][G];
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      float key[kElements];
      widen(unit.key[n], key);
#pragma unroll
      for (int g = 0; g < G; ++g) score[n][g] = dot(query[g], key);
    }
#pragma unroll
    for (int o = Plan::kLanes / 2; o; o >>= 1) {
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
#pragma unroll
        for (int g = 0; g < G; ++g) score[n][g] += __shfl_xor_sync(kAllLanes, score[n][g], o);
      }
    }
    weigh<kAll>(score, count);
#pragma unroll
    for (int n = 0; n < kTogether; ++n) {
      float value[kElements];
      widen(unit.value[n], value);
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
  // Whether the row that this lane reads with its piece n is one of the first `count`.
  AMK_DEVICE bool there(int n, int count) const { return n * Plan::kAtOnce + row() < count; }
  // The values of a piece; zeros behind the end of a row.
  AMK_DEVICE void widen(const uint4& from, float (&v)[kElements]) const {
    read_piece(reinterpret_cast<const KV*>(&from), v);
    if constexpr (D % kElements != 0) {
#pragma unroll
      for (int i = 0; i < kElements; ++i) {
        if (piece() * kElements + i >= D) v[i] = 0.0f;
      }
    }
  }
  AMK_DEVICE static float dot(const float (&a)[kElements], const float (&b)[kElements]) {
    float sum = mul(a[0], b[0]);
#pragma unroll
    for (int i = 1; i < kElements; ++i) sum = Functions::mad(a[i], b[i], sum);
    return sum;
  }
  // Makes weights of scores.
  template <bool kAll>
  AMK_DEVICE void weigh(float (&score)[kTogether][G], int count) {
    float raised[G];
    bool higher = false;
#pragma unroll
    for (int g = 0; g < G; ++g) {
      raised[g] = top[g];
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        if (kAll || there(n, count)) raised[g] = larger(raised[g], score[n][g]);
      }
      higher = higher || raised[g] > top[g];
    }
    if (__any_sync(kAllLanes, higher)) {  // less and less often
#pragma unroll
      for (int g = 0; g < G; ++g) shrink(g, raised[g]);
    }
#pragma unroll
    for (int g = 0; g < G; ++g) {
#pragma unroll
      for (int n = 0; n < kTogether; ++n) {
        const float weight_of_row = Functions::exp(score[n][g] - top[g]);
        score[n][g] = kAll || there(n, count) ? weight_of_row : 0.0f;
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

// Attention in any order of the rows, as fast as memory brings them: a warp takes whole rows, for
// all heads of the group. The Z partial results of a split share the warps among themselves.
template <class KV, int D, int G, int Z, int S, class Functions, class Q>
AMK_DEVICE void attention_by_rows(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                                  KV* key_cache, KV* value_cache, int rows, float scale,
                                  Packets<float> partial) {
  using Plan = RowsPlan<KV, D, G>;
  static_assert(Plan::kBytes <= kScratchBytes, "config::kScoreBytes is too small");
  w.begin();
  const int lane = w.lane(), warp = w.warp();

  w.sync();  // the scratch memory is free, and earlier tasks of this worker are done
  UnitCopies<Plan> copies(w, key_cache, value_cache, rows);
  copies.start(0);  // more than one unit would delay the query of everybody
  KV* new_key = reinterpret_cast<KV*>(Plan::new_row());
  const long end = static_cast<long>(rows) * Plan::kRow;
  receive_attended<Plan, D, G>(w, q, k, v, own, new_key, new_key + Plan::kRow, key_cache + end,
                               value_cache + end);
  // Beside the ring, rows would get half of the memory's time, and not each worker an equal part of
  // it: all wait for the last one, and the ring can make up for it behind that.
  w.pause_ring();
  w.sync();
#pragma unroll
  for (int place = 1; place < Plan::kUnits; ++place) copies.start(place);

  RowSoftmax<KV, D, G, Functions> softmax(lane, scale);
  UnitPieces<Plan> unit;
  int left = rows - warp * Plan::kUnitRows, place = 0;
#pragma unroll 1
  for (; left >= Plan::kUnitRows; left -= kSlices * Plan::kUnitRows) {
    wait_copies<Plan::kUnits - 1>();
    __syncwarp();
    const unsigned char* keys = Plan::unit(warp, place);
    unit.template read<true>(lane, keys, keys + Plan::kUnitBytes / 2, Plan::kUnitRows);
    __syncwarp();  // the unit was read
    copies.start(place);
    place = place + 1 < Plan::kUnits ? place + 1 : 0;
    softmax.template take<true>(unit, Plan::kUnitRows);
  }
  w.pause_ring();
  wait_copies<0>();
  __syncwarp();
  // The rest of a unit, and the new row.
  const unsigned char* keys = Plan::unit(warp, place);
  const unsigned char* values = keys + Plan::kUnitBytes / 2;
#pragma unroll 1
  for (int turn = 0; turn < 2; ++turn) {
    if (left > 0) {
      unit.template read<false>(lane, keys, values, left);
      softmax.template take<false>(unit, left);
    }
    keys = Plan::new_row(), values = keys + Plan::kRowBytes;
    left = own && warp == kSlices - 1 ? 1 : 0;
  }
  softmax.meet();
  __syncwarp();  // the results take the place of the units
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
