namespace amk {

// Adds one step to the sums [row][lane] of a row block: columns of a lane one after the other.
AMK_DEVICE void add_step(float (&sum)[32], const unsigned char* weights, const float* x) {
  float w[128];
  std::memcpy(w, weights, sizeof(w));
  for (int j = 0; j < 4; ++j) {
    for (int i = 0; i < 32; ++i) sum[i] = sum[i] + w[i * 4 + j] * x[i % 4 * 4 + j];
  }
}
// The same for bf16: products are exact, sums in float32.
AMK_DEVICE void add_step(float (&sum)[32], const unsigned char* weights, const float* x, bf16) {
  uint16_t w[256];
  std::memcpy(w, weights, sizeof(w));
  for (int j = 0; j < 8; ++j) {
    for (int i = 0; i < 32; ++i) {
      const float v = as_float(static_cast<uint32_t>(w[i * 8 + j]) << 16);
      sum[i] = sum[i] + v * x[i % 4 * 8 + j];
    }
  }
}

// The 8 rows of one block, slice by slice.
template <class W, int K>
AMK_DEVICE void block_product(const unsigned char* row, typename Stream<W, K>::Row shape,
                              const float* x, float (&y)[8]) {
  using Cut = Tiling<W, K>;
  for (int slice = 0; slice < kSlices; ++slice) {
    float sum[32] = {};
    for (int c = slice; c < Cut::kChunks; c += kSlices) {
      const unsigned char* weights = row + Stream<W, K>::chunk_offset(shape, c);
      const float* columns = x + Cut::start(c) * Cut::kStepColumns;
      for (int s = 0; s < Cut::steps(c); ++s) {
        const unsigned char* step = weights + s * Cut::kStepBytes;
        if constexpr (sizeof(W) == 4) {
          add_step(sum, step, columns + s * Cut::kStepColumns);
        } else {
          add_step(sum, step, columns + s * Cut::kStepColumns, bf16());
        }
      }
    }
    for (int g = 0; g < 8; ++g) {
      const float v = (sum[4 * g] + sum[4 * g + 1]) + (sum[4 * g + 2] + sum[4 * g + 3]);
      y[g] = slice == 0 ? v : y[g] + v;
    }
  }
}

// prologue(x), rounded to W and padded with zeros, and the statistic of all columns.
template <class W, int K, class LoadK, class Prologue>
AMK_DEVICE float prepare(const float* x, float* operand, LoadK load_k, Prologue prologue) {
  using Cut = Tiling<W, K>;
  float total = 0.0f;
  for (int slice = 0; slice < kSlices; ++slice) {
    float stat[kLanes] = {};
    int element = 0;
    for (int c = slice; c < Cut::kChunks; c += kSlices) {
      const int end = std::min(K, Cut::start(c + 1) * Cut::kStepColumns);
      for (int k = Cut::start(c) * Cut::kStepColumns; k < end; ++k, ++element) {
        const auto constants = load_k(k);
        const float v = prologue(k, x[k], constants, stat[element / 4 % kLanes]);
        operand[k] = to_float(from_float<W>(v));
      }
    }
    const float sum = lanes_sum(stat);
    total = slice == 0 ? sum : total + sum;
  }
  return total;
}

// y = W x over the row blocks of this instance, then epilogue(r, y[R], ...) for each group of rows.
template <class W, int K, int R, bool Argmax, class In, class LoadK, class Prologue, class LoadR,
          class Epilogue, class Finish>
AMK_DEVICE void product(Worker& w, Stream<W, K> s, In x, int rows, LoadK load_k, Prologue prologue,
                        LoadR load_r, Epilogue epilogue, Finish finish) {
  using Cut = Tiling<W, K>;
  const int blocks = s.count();
  if (blocks == 0) return;
  std::vector<float> values(K), operand(Cut::kSteps * Cut::kStepColumns), y(blocks * 8 + R);
  w.receive(x, K, values.data());
  const float stat = prepare<W, K>(values.data(), operand.data(), load_k, prologue);

  const unsigned char* row = s.base;
  for (int u = 0; u < blocks; ++u, row += s.row_bytes()) {
    float block[8];
    block_product<W, K>(row, s.row(u), operand.data(), block);
    std::copy(block, block + 8, y.begin() + u * 8);
  }
  std::fill(y.begin() + rows, y.end(), 0.0f);

  Best best;
  for (int r = 0; r < rows; r += R) {
    float group[R];
    std::copy(y.begin() + r, y.begin() + r + R, group);
    const auto constants = load_r(r);
    epilogue(r, static_cast<const float(&)[R]>(group), stat, constants, best);
  }
  if constexpr (Argmax) finish(best);
}

}  // namespace amk
