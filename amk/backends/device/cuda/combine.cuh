namespace amk {

// Elements of a head that a warp combines at once: few enough that all warps share a task of
// `elements`, but no more than a lane has registers for (it holds them for each of its partial
// results).
AMK_CONSTEXPR int combine_batch(int head, int group, int rounds, int elements) {
  int n = group < 2 ? 2 : group;
  while (n * kSlices < elements && n * 2 <= 8 && head % (n * 2) == 0 &&
         rounds * (n * 4 + 4) <= 96) {
    n *= 2;
  }
  return n;
}

// The partial results of N elements, from element `begin` on: lane p takes p, p+32, ...; all lanes
// return the same values. Elements outside [first, last) are not waited for and read as garbage.
template <int D, int P, int N, class Functions>
AMK_DEVICE void combine_elements(Worker& w, Packets<float> partial, int begin, int first, int last,
                                 float (&y)[N]) {
  constexpr int kRounds = (P + 31) / 32;
  constexpr int kPairs = N / 2 + 1;  // of a partial result; the last pair is {maximum, weight}
  const int head = begin / D, d = begin % D;
  const Packets<float> mine = partial.at(static_cast<long>(head) * P * (D + 2));
  uint64_t v[kRounds * kPairs][2];
  const auto pair_of = [&](int i) {
    const int p = i / kPairs * 32 + w.lane(), j = i % kPairs;
    const int at = p * (D + 2);
    if (p >= P) return Pair{at, 0};
    if (j == N / 2) return Pair{at + D, 3};
    const int element = begin + 2 * j;
    const int wanted = (element >= first && element < last ? 1 : 0) |
                       (element + 1 >= first && element + 1 < last ? 2 : 0);
    return Pair{at + d + 2 * j, wanted};
  };
  request(mine, v, pair_of);
  await(w, mine, v, pair_of);

  float top = -infinity();
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    if (i * 32 + w.lane() < P) top = larger(top, as_float(payload_of(v[i * kPairs + N / 2][0])));
  }
  top = warp_max(top);
  float sum[N] = {}, weights = 0.0f;
#pragma unroll
  for (int i = 0; i < kRounds; ++i) {
    if (i * 32 + w.lane() >= P) continue;
    const float m = as_float(payload_of(v[i * kPairs + N / 2][0]));
    const float factor = m == -infinity() ? 0.0f : Functions::exp(sub(m, top));
    weights = add(weights, mul(factor, as_float(payload_of(v[i * kPairs + N / 2][1]))));
#pragma unroll
    for (int j = 0; j < N; ++j) {
      sum[j] = add(sum[j], mul(factor, as_float(payload_of(v[i * kPairs + j / 2][j % 2]))));
    }
  }
  weights = warp_sum(weights);
#pragma unroll
  for (int j = 0; j < N; ++j) y[j] = Functions::div(warp_sum(sum[j]), weights);
}

// Elements first .. first + n of the attention output [heads * D], from P partial results a head;
// n is about E. All warps have read their partial results before any of them runs its epilogues.
template <int D, int P, int R, int E, class Functions, class Epilogue>
AMK_DEVICE void combine(Worker& w, Packets<float> partial, int first, int n,
                        Epilogue epilogue) {
  constexpr int N = combine_batch(D, R, (P + 31) / 32, E);
  static_assert(D % N == 0 && N % R == 0 && N % 2 == 0, "groups of 1, 2, 4 or 8 within a head");
  w.begin();
  const int last = first + n, lane = w.lane();
  const int begin = first / N + w.warp(), end = (last + N - 1) / N;  // batches of this warp
  float* kept = reinterpret_cast<float*>(w.slice());
  int held = 0;
#pragma unroll 1
  for (int b = begin; b < end; b += kSlices, held += N) {
    if ((held + N) * 4 > kSliceBytes) {
      if (lane == 0) w.report(kTooWide, {partial.buffer, held + N, kSliceBytes / 4, 0});
      __syncwarp();
      break;
    }
    float y[N];
    combine_elements<D, P, N, Functions>(w, partial, b * N, first, last, y);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      if (lane == j) kept[held + j] = y[j];
    }
  }
  w.sync();
  for (int i = lane; i * R < held; i += 32) {
    const int element = (begin + i * R / N * kSlices) * N + i * R % N;
    if (element < first || element >= last) continue;
    float y[R];
#pragma unroll
    for (int j = 0; j < R; ++j) y[j] = element + j < last ? kept[i * R + j] : 0.0f;
    epilogue(element - first, static_cast<const float(&)[R]>(y));
  }
  __syncwarp();  // before the slice is written again
}

}  // namespace amk
