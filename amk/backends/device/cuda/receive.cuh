namespace amk {

// Two neighbouring packets, and which of them a lane wants (bits 0, 1). An aligned pair starts at a
// multiple of 16 bytes and is read by one access.
struct Pair {
  int index, wanted;
};

template <bool Aligned>
AMK_DEVICE void load_pair(const uint64_t* p, Pair pair, uint64_t (&v)[2]) {
  if (!Aligned) {
    if (pair.wanted & 1) v[0] = load_packet(p + pair.index);
    if (pair.wanted & 2) v[1] = load_packet(p + pair.index + 1);
  } else if (pair.wanted == 3) {
    load_packets(p + pair.index, v[0], v[1]);
  } else if (pair.wanted == 1) {
    v[0] = load_packet(p + pair.index);
  } else if (pair.wanted == 2) {
    v[1] = load_packet(p + pair.index + 1);
  }
}
AMK_DEVICE bool missing(Pair pair, const uint64_t (&v)[2], uint32_t epoch) {
  return ((pair.wanted & 1) && epoch_of(v[0]) != epoch) ||
         ((pair.wanted & 2) && epoch_of(v[1]) != epoch);
}

// The first loads of N pairs a lane; pair_of(i) -> Pair. Packets that are not wanted read as 0.
template <bool Aligned = true, int N, class T, class PairOf>
AMK_DEVICE void request(Packets<T> from, uint64_t (&v)[N][2], PairOf pair_of) {
#pragma unroll
  for (int i = 0; i < N; ++i) {
    v[i][0] = v[i][1] = 0;
    load_pair<Aligned>(from.p, pair_of(i), v[i]);
  }
}

// Waits until all wanted packets carry their epoch; loads again those that do not.
template <bool Aligned = true, int N, class T, class PairOf>
AMK_DEVICE void await(Worker& w, Packets<T> from, uint64_t (&v)[N][2], PairOf pair_of) {
  Patience patience;
  AMK_TRACE(const Waiting waiting(w.trace, false);)
  while (true) {
    bool late = false;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const Pair pair = pair_of(i);
      if (!missing(pair, v[i], from.epoch)) continue;
      late = true;
      load_pair<Aligned>(from.p, pair, v[i]);
    }
    if (__all_sync(kAllLanes, !late)) return;
    const auto describe = [&] {
      Awaited what = {from.buffer, 0, from.epoch, 0};
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const Pair pair = pair_of(i);
        if (!missing(pair, v[i], from.epoch)) continue;
        const bool second = !(pair.wanted & 1) || epoch_of(v[i][0]) == from.epoch;
        what.index = from.first + pair.index + second;
        what.seen = second ? epoch_of(v[i][1]) : epoch_of(v[i][0]);
      }
      return what;
    };
    if (w.give_up(patience, late, describe)) return;
  }
}

// The values of N groups of four columns of a lane; the columns are multiples of four. The vector
// starts at a multiple of 16 bytes, unless it has an odd number of packets.
template <class In, int N>
struct Inbox;

template <class T, int N>
struct Inbox<Packets<T>, N> {
  static constexpr int kPairs = 2 / kPerPacket<T>;  // of packets, per group
  static constexpr int kRegisters = 4 * kPairs;     // per group
  uint64_t v[N * kPairs][2];

  template <int K, bool Full>
  AMK_DEVICE static Pair pair_of(const int (&column)[N], int i) {
    static_assert(K % kPerPacket<T> == 0, "bf16 packets carry pairs of columns");
    constexpr int kCount = K / kPerPacket<T>;
    const int index = column[i / kPairs] / kPerPacket<T> + i % kPairs * 2;
    if (kCount % 2 != 0 && index == kCount - 1) return {index, 1};
    return {index, Full || index < kCount ? 3 : 0};
  }
  template <int K>
  static constexpr bool kAligned = K / kPerPacket<T> % 2 == 0;
  template <int K, bool Full>
  AMK_DEVICE void request(Packets<T> x, const int (&column)[N]) {
    amk::request<kAligned<K>>(x, v, [&](int i) { return pair_of<K, Full>(column, i); });
  }
  template <int K, bool Full>
  AMK_DEVICE void await(Worker& w, Packets<T> x, const int (&column)[N]) {
    amk::await<kAligned<K>>(w, x, v, [&](int i) { return pair_of<K, Full>(column, i); });
  }
  AMK_DEVICE float value(int i, int j) const {
    if (kPerPacket<T> == 1) return as_float(payload_of(v[i * kPairs + j / 2][j % 2]));
    const uint32_t two = payload_of(v[i][j / 2]);
    return j % 2 ? high_half(two) : low_half(two);
  }
};

template <class T, int N>
struct Inbox<Plain<T>, N> {
  static constexpr int kRegisters = 4;
  float v[N][4];

  template <int K, bool Full>
  AMK_DEVICE void request(Plain<T> x, const int (&column)[N]) {
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        v[i][j] = Full || column[i] + j < K ? to_float(x.p[column[i] + j]) : 0.0f;
      }
    }
  }
  template <int K, bool Full>
  AMK_DEVICE void await(Worker&, Plain<T>, const int (&)[N]) {}
  AMK_DEVICE float value(int i, int j) const { return v[i][j]; }
};

// Four operand values in the slice of a warp.
AMK_DEVICE void store_operand(float* slice, int group, const float (&a)[4]) {
  reinterpret_cast<float4*>(slice)[group] = make_float4(a[0], a[1], a[2], a[3]);
}
AMK_DEVICE void store_operand(bf16* slice, int group, const float (&a)[4]) {
  reinterpret_cast<uint2*>(slice)[group] =
      make_uint2(bf16_pair(a[0], a[1]), bf16_pair(a[2], a[3]));
}

template <class T>
AMK_CONSTEXPR int registers_of() {
  return sizeof(T) < 4 ? 0 : static_cast<int>(sizeof(T) / 4);
}

// How a lane receives the operand of a product, within the registers of a thread (168 for 9 to 12
// warps): groups of four columns at once, and stages of weights that it reads before they come.
template <class W, int K, class In, class Constants>
struct Receipt {
  static constexpr int kEach = Inbox<In, 1>::kRegisters + 4 * registers_of<Constants>();
  static constexpr int kGroups = (Tiling<W, K>::kSliceQuads + 31) / 32;
  static constexpr int kMost = kEach >= 64 ? 1 : 64 / kEach;
  static constexpr int kAtOnce = kGroups < kMost ? kGroups : kMost;
  static constexpr int kEarlyStages = kAtOnce * kEach > 56 ? 1 : kMostEarlyStages;
};

// Receives the slice of this warp and leaves prologue(x) in it, rounded to W and padded with
// zeros. `meanwhile` runs once, between the first loads and the first wait. Returns the statistic
// of the slice, in every lane.
template <class W, int K, class In, class LoadK, class Prologue, class Meanwhile>
AMK_DEVICE float receive(Worker& w, In x, LoadK load_k, Prologue prologue, Meanwhile meanwhile) {
  using Cut = Tiling<W, K>;
  using Constants = decltype(load_k(0));
  using Plan = Receipt<W, K, In, Constants>;
  constexpr int kGroups = Plan::kGroups, N = Plan::kAtOnce;
  constexpr bool kFull = Cut::kFull && kGroups % N == 0;
  constexpr bool kRegular = Cut::kRegular && kGroups == N;
  static_assert(Cut::kSliceSteps * Cut::kOperandStep <= kSliceBytes, "config::kOperandBytes");
  W* slice = reinterpret_cast<W*>(w.slice());
  float stat = 0.0f;
#pragma unroll 1
  for (int first = 0; first < kGroups; first += N) {
    // Regular columns are constants relative to the first, so that loads need one address only.
    const int origin = kRegular ? Cut::column(w.warp(), w.lane()) : 0;
    const In from = x.at(origin);
    int column[N];
#pragma unroll
    for (int i = 0; i < N; ++i) {
      column[i] = kRegular ? Cut::round_offset(i)
                           : Cut::column(w.warp(), (first + i) * 32 + w.lane());
    }
    Inbox<In, N> inbox;
    inbox.template request<K, kFull>(from, column);
    Constants constants[N][4] = {};
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int k = origin + column[i] + j;
        if (kFull || k < K) constants[i][j] = load_k(k);
      }
    }
    if (first == 0) meanwhile();
    inbox.template await<K, kFull>(w, from, column);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      float a[4] = {0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int k = origin + column[i] + j;
        if (kFull || k < K) a[j] = prologue(k, inbox.value(i, j), constants[i][j], stat);
      }
      const int group = (first + i) * 32 + w.lane();
      if (kFull || group < Cut::kSliceQuads) store_operand(slice, group, a);
    }
  }
  __syncwarp();
  return warp_sum(stat);
}

}  // namespace amk
