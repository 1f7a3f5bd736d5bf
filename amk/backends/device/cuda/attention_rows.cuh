namespace amk {

// Attention by rows: a warp takes whole rows for all query heads, on the matrix unit. The rows of a
// split go round the warps in units; each warp has kUnits of them in shared memory, copies the next
// one when it read one, and meets the others at the end. Of a unit, kLanes lanes copy a row, 16
// bytes each, and kAtOnce rows at once.
template <class KV, int D, int G>
struct RowsPlan : AttentionScratch<KV, D, G> {
  using Scratch = AttentionScratch<KV, D, G>;
  static constexpr int kPieces = Scratch::kRowBytes / 16;  // of a row
  static constexpr int kLanes = kPieces <= 1    ? 1
                                : kPieces <= 2  ? 2
                                : kPieces <= 4  ? 4
                                : kPieces <= 8  ? 8
                                : kPieces <= 16 ? 16
                                                : 32;
  static constexpr int kAtOnce = 32 / kLanes;
  static constexpr int kUnits = config::kRowUnits;
  static constexpr int kUnitRows = 2 * kAtOnce;
  static constexpr int kHalfUnit = 2 * 32 * 16;  // bytes of keys; values lie behind them
  static constexpr int kUnitBytes = 2 * kHalfUnit;
  static constexpr int kPartRow = Scratch::kRow + 4;  // values, largest score, weight
  static constexpr int kPartBytes = G * kPartRow * 4;
  static constexpr int kWarpBytes =
      kUnits * kUnitBytes > kPartBytes ? kUnits * kUnitBytes : kPartBytes;
  static constexpr int kBytes = Scratch::kFixedBytes + kSlices * kWarpBytes;

  AMK_DEVICE static unsigned char* unit(int warp, int place) {
    return Scratch::rest() + warp * kWarpBytes + place * kUnitBytes;
  }
  // Where a piece of a row lies in half a unit: so that the same piece of eight rows is in
  // different banks. Row 0 lies as in the cache.
  AMK_DEVICE static int place_of(int row, int piece) {
    const int linear = row * kLanes + piece;
    return (linear ^ (linear / (kLanes > 8 ? kLanes : 8) & 7)) * 16;
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
  int left;                            // rows of the split from this lane's first one on
  int row, piece, warp;

  AMK_DEVICE UnitCopies(const Worker& w, const void* key_cache, const void* value_cache, int rows)
      : row(w.lane() / Plan::kLanes), piece(w.lane() % Plan::kLanes), warp(w.warp()) {
    const int first = warp * Plan::kUnitRows + row;
    left = piece < Plan::kPieces ? rows - first : 0;
    keys = static_cast<const unsigned char*>(key_cache) + first * Plan::kRowBytes + piece * 16;
    values = static_cast<const unsigned char*>(value_cache) + first * Plan::kRowBytes + piece * 16;
  }
  // Starts the copies of the next unit, if there is one, to a place.
  AMK_DEVICE void start(int place) {
    constexpr int kStep = Plan::kAtOnce * Plan::kRowBytes;
    unsigned char* unit = Plan::unit(warp, place);
#pragma unroll
    for (int n = 0; n < 2; ++n) {
      if (n * Plan::kAtOnce >= left) continue;
      unsigned char* to = unit + Plan::place_of(n * Plan::kAtOnce + row, piece);
      copy_16(to, keys + n * kStep);
      copy_16(to + Plan::kHalfUnit, values + n * kStep);
    }
    commit_copies();
    left -= kSlices * Plan::kUnitRows;
    keys += kSlices * 2 * kStep;
    values += kSlices * 2 * kStep;
  }
};

// A unit in the registers of the matrix unit, by tiles of eight rows.
template <class Plan>
struct UnitMatrices {
  static constexpr int kTiles = (Plan::kUnitRows + 7) / 8;
  static constexpr int kQuads = (Plan::kPieces + 3) / 4;  // four pieces are 32 elements
  uint32_t key[kTiles][kQuads][4], value[kTiles][kQuads][4];

  // Reads a unit whose last row is `last`. Rows and pieces that are not there repeat the last one.
  AMK_DEVICE void read(int lane, const unsigned char* keys, const unsigned char* values, int last) {
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
      const int row = t * 8 + lane % 8 < last ? t * 8 + lane % 8 : last;
#pragma unroll
      for (int q = 0; q < kQuads; ++q) {
        int piece = q * 4 + lane / 8;
        if (kQuads * 4 > Plan::kPieces && piece >= Plan::kPieces) piece = Plan::kPieces - 1;
        load_matrices(keys + Plan::place_of(row, piece), key[t][q]);
        load_transposed(values + Plan::place_of(row, piece), value[t][q]);
      }
    }
  }
};

// The running softmax of all query heads. Lane l has the scores of head l / 4 for the rows
// 2 (l % 4) and the next of each tile, and the sums of weighted values of the heads 2 (l % 4) and
// the next at the elements 8 n + l / 4.
template <class KV, int D, int G, class Functions>
struct RowSoftmax {
  using Plan = RowsPlan<KV, D, G>;
  using Unit = UnitMatrices<Plan>;
  uint32_t query[Unit::kQuads][2][2];
  float out[Unit::kQuads][2][4] = {};
  float top = -infinity(), weight = 0.0f;
  float scale;
  int lane;

  AMK_DEVICE RowSoftmax(int lane, float scale) : scale(scale), lane(lane) {
    const int g = lane / 4;
#pragma unroll
    for (int i = 0; i < Unit::kQuads * 4; ++i) {
      const int d = i * 8 + lane % 4 * 2;
      const bool there = g < G && d < D;
      query[i / 4][i / 2 % 2][i % 2] =
          there ? bf16_pair(Plan::query(g)[d], Plan::query(g)[d + 1]) : 0;
    }
  }

  // Adds the first `count` rows of a unit, at least one.
  AMK_DEVICE void take(const Unit& unit, int count) {
    float score[Unit::kTiles][2];
#pragma unroll
    for (int t = 0; t < Unit::kTiles; ++t) {
      float even[4] = {}, odd[4] = {};
#pragma unroll
      for (int q = 0; q < Unit::kQuads; ++q) {
        multiply_rows(query[q][0], unit.key[t][q], even);
        multiply_rows(query[q][1], unit.key[t][q] + 2, odd);
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const bool there = t * 8 + lane % 4 * 2 + j < count;
        score[t][j] = there ? (even[j] + odd[j]) * scale : -infinity();
      }
    }
    raise(score);
#pragma unroll
    for (int t = 0; t < Unit::kTiles; ++t) {
      const float p0 = Functions::exp(score[t][0] - top), p1 = Functions::exp(score[t][1] - top);
      weight += p0 + p1;
      // Two bf16 a weight, so that it stays nearly as it is.
      const uint32_t high = bf16_pair(p0, p1);
      const uint32_t low = bf16_pair(p0 - low_half(high), p1 - high_half(high));
#pragma unroll
      for (int q = 0; q < Unit::kQuads; ++q) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          multiply_columns(unit.value[t][q] + 2 * n, high, out[q][n]);
          multiply_columns(unit.value[t][q] + 2 * n, low, out[q][n]);
        }
      }
    }
  }
  AMK_DEVICE void store(int warp) {
    weight += __shfl_xor_sync(kAllLanes, weight, 1);
    weight += __shfl_xor_sync(kAllLanes, weight, 2);
    __syncwarp();  // the results take the place of the units
    if (lane % 4 == 0 && lane / 4 < G) {
      float* to = Plan::part(warp, lane / 4) + Plan::kRow;
      to[0] = top, to[1] = weight;
    }
#pragma unroll
    for (int i = 0; i < Unit::kQuads * 4; ++i) {
      const int d = i * 8 + lane / 4;
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int g = lane % 4 * 2 + j;
        if (d < D && g < G) Plan::part(warp, g)[d] = out[i / 4][i / 2 % 2][i % 2 * 2 + j];
      }
    }
  }

 private:
  // Makes `top` at least as large as all scores.
  AMK_DEVICE void raise(const float (&score)[Unit::kTiles][2]) {
    float raised = top;
#pragma unroll
    for (int t = 0; t < Unit::kTiles; ++t) {
      raised = larger(raised, larger(score[t][0], score[t][1]));
    }
    if (!__any_sync(kAllLanes, raised > top)) return;  // more and more often
    raised = larger(raised, __shfl_xor_sync(kAllLanes, raised, 1));
    raised = larger(raised, __shfl_xor_sync(kAllLanes, raised, 2));
    const float by = Functions::exp(top - raised);
    top = raised;
    weight *= by;
    const float by_head[2] = {__shfl_sync(kAllLanes, by, lane % 4 * 8),
                              __shfl_sync(kAllLanes, by, lane % 4 * 8 + 4)};
#pragma unroll
    for (int q = 0; q < Unit::kQuads; ++q) {
#pragma unroll
      for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) out[q][n][i] *= by_head[i % 2];
      }
    }
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
  UnitMatrices<Plan> unit;
  // The new row first: it is there, old ones are still on their way.
  bool at_new = own && warp == kSlices - 1;
  int left = rows - warp * Plan::kUnitRows, place = 0;
#pragma unroll 1
  while (at_new || left > 0) {
    const unsigned char* keys = at_new ? Plan::new_row() : Plan::unit(warp, place);
    const unsigned char* values = keys + (at_new ? Plan::kRowBytes : Plan::kHalfUnit);
    const int count = at_new ? 1 : left < Plan::kUnitRows ? left : Plan::kUnitRows;
    if (!at_new) wait_copies<Plan::kUnits - 1>();
    __syncwarp();
    unit.read(lane, keys, values, count - 1);
    __syncwarp();  // the unit was read
    if (!at_new) {
      copies.start(place);
      place = place + 1 < Plan::kUnits ? place + 1 : 0;
      left -= kSlices * Plan::kUnitRows;
    }
    softmax.take(unit, count);
    at_new = false;
  }
  w.pause_ring();
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
