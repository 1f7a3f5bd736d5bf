namespace amk {

template <int I>
struct Index {
  static constexpr int value = I;
};
template <int I, int N, class F>
AMK_DEVICE void repeat(F body) {
  if constexpr (I < N) {
    body(Index<I>());
    repeat<I + 1, N>(body);
  }
}

// y = W x over the row blocks of this instance. A warp owns a slice of the columns: it waits for
// that part of x only, multiplies its stages, and leaves partial sums of 32 rows; the last warp to
// arrive adds them in slice order and runs the epilogue, one group of R rows a lane.
//
// load_k(k), load_r(r) and prologue run ahead of the epilogues of earlier tasks of this worker, so
// they read constants only; the epilogue may also read and write what earlier epilogues wrote.
template <class W, int K, int R, bool Argmax, class In, class LoadK, class Prologue, class LoadR,
          class Epilogue, class Finish>
AMK_DEVICE void product(Worker& w, Stream<W, K> s, In x, int rows, LoadK load_k, Prologue prologue,
                        LoadR load_r, Epilogue epilogue, Finish finish) {
  static_assert(kBatchRows % R == 0, "a group of rows lies in one batch");
  using Cut = Tiling<W, K>;
  using RowConstants = decltype(load_r(0));
  constexpr int kEarlyStages = Receipt<W, K, In, decltype(load_k(0))>::kEarlyStages;
  constexpr int J = Cut::kPerSlice;
  constexpr int kPeeled = (kEarlyStages + J - 1) / J;  // blocks that early stages belong to
  const int blocks = s.count();
  if (blocks <= 0) return;

  w.begin();
  const int lane = w.lane(), slice = w.warp();
  const auto steps_of = [&](int j) { return Cut::steps(j * kSlices + slice); };
  Stage<Cut> early[kEarlyStages];
  RowConstants constants{};
  const auto load_rows = [&](int first) {
    const int r = first + lane * R;
    if (lane < kBatchRows / R && r < rows) constants = load_r(r);
  };
  const float stat = receive<W, K>(w, x, load_k, prologue, [&] {
    load_rows(0);
    repeat<0, kEarlyStages>([&](auto i) {
      constexpr int n = decltype(i)::value, u = n / J, j = n % J;
      if (u == 0 || u < blocks) {
        early[n].take(w, steps_of(j));
      } else {
        early[n].clear();
      }
    });
  });

  Best best;
  const auto reduce = [&](int first) {
    const Reduction& part = w.reduction();
    float row = 0.0f, statistic = part.stat[0];
#pragma unroll
    for (int i = 0; i < kSlices; ++i) {
      const float p = part.row[lane / 8][i * 8 + lane % 8];
      row = i == 0 ? p : add(row, p);
      if (i > 0) statistic = add(statistic, part.stat[i]);
    }
    if (first + lane >= rows) row = 0.0f;
    float y[R];
#pragma unroll
    for (int j = 0; j < R; ++j) y[j] = __shfl_sync(kAllLanes, row, (lane * R + j) % 32);
    const int r = first + lane * R;
    if (lane < kBatchRows / R && r < rows) {
      epilogue(r, static_cast<const float(&)[R]>(y), statistic,
               static_cast<const RowConstants&>(constants), best);
    }
  };
  const auto finish_block = [&](int u, float total) {
    const int place = u % kBatchBlocks;
    if (place == 0) w.open_batch();
    if (lane % 4 == 0) w.reduction().row[place][slice * 8 + lane / 4] = total;
    if (place != kBatchBlocks - 1 && u + 1 < blocks) return;
    if (lane == 0) w.reduction().stat[slice] = stat;
    if (w.close_batch()) reduce((u - place) * 8);
    w.next_batch();
    if (u + 1 < blocks) load_rows((u + 1) * 8);
  };

  const unsigned char* operand = w.slice() + Dot<W>::operand_offset(lane);
  repeat<0, kPeeled>([&](auto block) {
    constexpr int u = decltype(block)::value;
    if (u > 0 && u >= blocks) return;
    Dot<W> dot;
    int step = 0;
    repeat<0, J>([&](auto chunk) {
      constexpr int j = decltype(chunk)::value, i = u * J + j;
      const int steps = steps_of(j);
      const unsigned char* at = operand + step * Cut::kOperandStep;
      if constexpr (i < kEarlyStages) {
        early[i].multiply(dot, steps, at);
      } else {
        Stage<Cut> stage;
        stage.take(w, steps);
        stage.multiply(dot, steps, at);
      }
      step += steps;
    });
    finish_block(u, dot.total());
  });
#pragma unroll 1
  for (int u = kPeeled; u < blocks; ++u) {
    Dot<W> dot;
    int step = 0;
#pragma unroll
    for (int j = 0; j < J; ++j) {
      const int steps = steps_of(j);
      Stage<Cut> stage;
      stage.take(w, steps);
      stage.multiply(dot, steps, operand + step * Cut::kOperandStep);
      step += steps;
    }
    finish_block(u, dot.total());
  }

  if constexpr (Argmax) {
    best = warp_best(best);
    w.open_batch();
    if (lane == 0) {
      w.reduction().best_value[slice] = best.value;
      w.reduction().best_index[slice] = best.index;
    }
    if (w.close_batch() && lane == 0) {
      for (int i = 0; i < kSlices; ++i) {
        best.take(w.reduction().best_value[i], w.reduction().best_index[i]);
      }
      finish(best);
    }
    w.next_batch();
  }
}

}  // namespace amk
