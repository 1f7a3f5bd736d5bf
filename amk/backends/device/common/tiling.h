namespace amk {

// How K columns of weights of type W are cut: steps of 64 operand bytes, chunks of at most eight
// steps, chunk c in slice c % 8. Steps of a chunk differ by at most one between chunks.
template <class W, int K>
struct Tiling {
  static constexpr int kStepBytes = 512;    // packed weights of one step, 8 rows
  static constexpr int kOperandStep = 64;   // operand bytes of one step
  static constexpr int kStepColumns = kOperandStep / static_cast<int>(sizeof(W));
  static constexpr int kStepQuads = kStepColumns / 4;
  static constexpr int kSteps = (K + kStepColumns - 1) / kStepColumns;

  AMK_CONSTEXPR static int count_chunks() {
    int n = kSlices;
    while ((kSteps + n - 1) / n > 8) n += kSlices;
    return n;
  }
  static constexpr int kChunks = count_chunks();
  static constexpr int kPerSlice = kChunks / kSlices;  // chunks of a slice
  static constexpr int kFewest = kSteps / kChunks;
  static constexpr bool kEven = kSteps % kChunks == 0;
  static constexpr int kMost = kFewest + (kEven ? 0 : 1);

  AMK_CONSTEXPR static int start(int chunk) {
    return kEven ? chunk * kFewest : chunk * kSteps / kChunks;
  }
  AMK_CONSTEXPR static int steps(int chunk) {
    return kEven ? kFewest : start(chunk + 1) - start(chunk);
  }
  AMK_CONSTEXPR static int slice_steps(int slice) {
    int n = 0;
    for (int c = slice; c < kChunks; c += kSlices) n += steps(c);
    return n;
  }
  AMK_CONSTEXPR static int most_slice_steps() {
    int most = 0;
    for (int s = 0; s < kSlices; ++s) most = slice_steps(s) > most ? slice_steps(s) : most;
    return most;
  }
  static constexpr int kSliceSteps = most_slice_steps();
  static constexpr int kSliceQuads = kSliceSteps * kStepQuads;
  // Every lane of a warp has columns in every round of 32 groups of four.
  static constexpr bool kFull = kEven && K % kStepColumns == 0 && kSliceQuads % 32 == 0;

  // If also a round lies in one chunk: columns from a lane's group in round 0 to that in round i.
  static constexpr bool kRegular = kFull && kFewest * kStepQuads % 32 == 0;
  AMK_CONSTEXPR static int round_offset(int i) {
    constexpr int kRounds = kRegular ? kFewest * kStepQuads / 32 : 1;  // in a chunk
    return (i / kRounds * kSlices * kRounds + i % kRounds) * 32 * 4;
  }

  // First column of the q-th group of four columns of a slice; at least K where there is none.
  AMK_CONSTEXPR static int column(int slice, int q) {
    if (kEven) {
      constexpr int kQuads = kFewest > 0 ? kFewest * kStepQuads : 1;
      const int chunk = static_cast<unsigned>(q) / kQuads * kSlices + slice;
      const int result = (chunk * kQuads + static_cast<unsigned>(q) % kQuads) * 4;
      return kFull || chunk < kChunks ? result : kSteps * kStepColumns;
    }
    int rest = q, result = kSteps * kStepColumns;
    for (int j = 0; j < kPerSlice; ++j) {
      const int chunk = j * kSlices + slice;
      const int quads = steps(chunk) * kStepQuads;
      if (rest >= 0 && rest < quads) result = start(chunk) * kStepColumns + rest * 4;
      rest -= quads;
    }
    return result;
  }
};

// Elements from one row of a key or value cache to the next: D, rounded up so that rows start at
// multiples of 16 bytes in either type.
template <int D>
constexpr int cache_row = (D + 7) / 8 * 8;

// The packed weights of one layer of one product, seen by one of its `instances`.
template <class W, int K>
struct Stream {
  using Cut = Tiling<W, K>;
  const unsigned char* base;
  int blocks, instances, instance;

  // Row blocks before instance i.
  AMK_DEVICE int before(int i) const {
    return static_cast<int>(static_cast<unsigned>(i * blocks) / static_cast<unsigned>(instances));
  }
  AMK_DEVICE int count() const { return before(instance + 1) - before(instance); }

  // How the u-th blocks of the instances lie in memory: `width` of them, this one at `place`.
  struct Row {
    int width, place;
  };
  AMK_DEVICE Row row(int u) const {
    const int full = static_cast<int>(static_cast<unsigned>(blocks) / static_cast<unsigned>(instances));
    if (u < full) return {instances, instance};
    return {blocks - full * instances, before(instance) - instance * full};
  }
  // Bytes between the u-th and the next blocks, for u < blocks / instances.
  AMK_DEVICE long row_bytes() const {
    return static_cast<long>(instances) * (Cut::kSteps * Cut::kStepBytes);
  }
  // Bytes from the start of a row to a chunk of this instance.
  AMK_DEVICE static int chunk_offset(Row r, int chunk) {
    return (r.width * Cut::start(chunk) + r.place * Cut::steps(chunk)) * Cut::kStepBytes;
  }
};

}  // namespace amk
