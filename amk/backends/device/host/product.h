namespace amk {

// How the weights of a block of eight rows lie in memory: one step after another, and in a step
// value (column j of lane, lane, row) at j * 32 + lane * 8 + row. So one load brings a column of
// eight rows, and the weights of a worker are one run of memory that it reads where it is.
template <class W, int K>
struct Block {
  using Cut = Tiling<W, K>;
  static constexpr int kLaneColumns = Cut::kStepColumns / 4;
  static constexpr long kBytes = static_cast<long>(Cut::kSteps) * Cut::kStepBytes;
  static constexpr int kAhead = 4096;  // bytes; further than a core looks ahead by itself

  // y = block x, in the order of the IR: four lanes in each of eight slices.
  static void multiply(const W* weights, const float* x, float* y) {
    Eight sum[kSlices][4] = {};
    for (int c = 0; c < Cut::kChunks; ++c) {
      Eight lane[4];
      std::memcpy(lane, sum[c % kSlices], sizeof(lane));
      for (int s = Cut::steps(c); s > 0; --s) {
        for (int line = 0; line < Cut::kStepBytes; line += 64) {
          __builtin_prefetch(reinterpret_cast<const char*>(weights) + kAhead + line);
        }
        for (int j = 0; j < kLaneColumns; ++j) {
          for (int l = 0; l < 4; ++l) {
            Eight w;
            load(weights + j * 32 + l * 8, w);
            lane[l] = lane[l] + w * x[l * kLaneColumns + j];
          }
        }
        weights += Cut::kStepColumns * 8;
        x += Cut::kStepColumns;
      }
      std::memcpy(sum[c % kSlices], lane, sizeof(lane));
    }
    Eight total = (sum[0][0] + sum[0][1]) + (sum[0][2] + sum[0][3]);
    for (int i = 1; i < kSlices; ++i) {
      total = total + ((sum[i][0] + sum[i][1]) + (sum[i][2] + sum[i][3]));
    }
    std::memcpy(y, &total, sizeof(total));
  }
};

// prologue(x), rounded to W and padded with zeros, and the statistic of all columns: groups of four
// columns of a slice go to its lanes in turn.
template <class W, int K, class LoadK, class Prologue>
AMK_DEVICE float prepare(const float* x, float* operand, LoadK load_k, Prologue prologue) {
  using Cut = Tiling<W, K>;
  float lanes[kSlices][kLanes] = {};
  int quads[kSlices] = {};
  for (int c = 0; c < Cut::kChunks; ++c) {
    const int slice = c % kSlices, end = std::min(K, Cut::start(c + 1) * Cut::kStepColumns);
    for (int k = Cut::start(c) * Cut::kStepColumns; k < end; k += 4) {
      float& lane = lanes[slice][quads[slice]++ % kLanes];
      float stat = lane;
      for (int i = k; i < std::min(k + 4, end); ++i) {
        const auto constants = load_k(i);
        operand[i] = to_float(from_float<W>(prologue(i, x[i], constants, stat)));
      }
      lane = stat;
    }
  }
  std::fill(operand + K, operand + Cut::kSteps * Cut::kStepColumns, 0.0f);
  float total = lanes_sum(lanes[0]);
  for (int slice = 1; slice < kSlices; ++slice) total = total + lanes_sum(lanes[slice]);
  return total;
}

// y = W x over the row blocks of this instance, and epilogue(r, y[R], ...) for each group of rows.
template <class W, int K, int R, bool Argmax, class In, class LoadK, class Prologue, class LoadR,
          class Epilogue, class Finish>
AMK_DEVICE void product(Worker& w, Stream<W, K> s, In x, int rows, LoadK load_k, Prologue prologue,
                        LoadR load_r, Epilogue epilogue, Finish finish) {
  constexpr int kBatch = std::lcm(8, R);  // rows of whole blocks and whole groups
  const int blocks = s.count();
  if (blocks == 0) return;
  alignas(64) float operand[Tiling<W, K>::kSteps * Tiling<W, K>::kStepColumns];
  float stat;
  {
    alignas(64) float values[K];
    w.receive(x, K, values);
    stat = prepare<W, K>(values, operand, load_k, prologue);
  }
  const unsigned char* weights = s.base + s.before(s.instance) * Block<W, K>::kBytes;
  Best best;
  for (int first = 0; first < rows; first += kBatch) {
    alignas(32) float y[kBatch] = {};
    const int count = std::min(kBatch, rows - first);
    for (int r = 0; r < count; r += 8, weights += Block<W, K>::kBytes) {
      Block<W, K>::multiply(reinterpret_cast<const W*>(weights), operand, y + r);
    }
    std::fill(y + count, y + kBatch, 0.0f);
    for (int r = 0; r < count; r += R) {
      float group[R];
      std::copy(y + r, y + r + R, group);
      const auto constants = load_r(first + r);
      epilogue(first + r, static_cast<const float(&)[R]>(group), stat, constants, best);
    }
  }
  if constexpr (Argmax) finish(best);
}

}  // namespace amk
