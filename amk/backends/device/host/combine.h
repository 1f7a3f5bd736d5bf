namespace amk {

// What the P partial results of one query head weigh, and the sum of the weights.
template <int D, int P>
struct Shares {
  float factor[P], sum;

  Shares(Worker& w, const Packets<float>& head) {
    float top = -infinity(), lanes[kLanes] = {};
    for (int p = 0; p < P; ++p) {
      factor[p] = as_float(w.receive(head, p * (D + 2) + D));
      top = larger(top, factor[p]);
    }
    for (int p = 0; p < P; ++p) {
      factor[p] = factor[p] == -infinity() ? 0.0f : exp(sub(factor[p], top));
      const float weight = as_float(w.receive(head, p * (D + 2) + D + 1));
      lanes[p % kLanes] = add(lanes[p % kLanes], mul(factor[p], weight));
    }
    sum = lanes_sum(lanes);
  }
};

// y[0..n) = elements d .. d + n of one head: partial p goes to lane p % 32. A lane that gets none
// stays +0, and no lane is ever -0, so the tree may leave such lanes out.
template <int D, int P>
AMK_DEVICE void add_partials(Worker& w, const Packets<float>& head, const Shares<D, P>& shares,
                             int d, int n, float* y) {
  constexpr int kUsed = std::bit_ceil(static_cast<unsigned>(std::min(P, kLanes)));
  float lanes[kUsed][D] = {}, value[D];
  for (int p = 0; p < P; ++p) {
    w.receive(head.at(p * (D + 2) + d), n, value);
    float* lane = lanes[p % kLanes];
    for (int i = 0; i < n; ++i) lane[i] = add(lane[i], mul(shares.factor[p], value[i]));
  }
  for (int o = kUsed / 2; o; o /= 2) {
    for (int l = 0; l < o; ++l) {
      for (int i = 0; i < n; ++i) lanes[l][i] = add(lanes[l][i], lanes[l + o][i]);
    }
  }
  for (int i = 0; i < n; ++i) y[i] = div(lanes[0][i], shares.sum);
}

// Elements first .. first + n of the attention output [heads * D], from P partial results a head.
template <int D, int P, int R, int E, class Functions, class Epilogue>
AMK_DEVICE void combine(Worker& w, Packets<float> partial, int first, int n, Epilogue epilogue) {
  std::vector<float> y(n + R);
  for (int e = 0; e < n;) {
    const int head = (first + e) / D, d = (first + e) % D, count = std::min(n - e, D - d);
    const Packets<float> mine = partial.at(static_cast<long>(head) * P * (D + 2));
    add_partials<D, P>(w, mine, Shares<D, P>(w, mine), d, count, y.data() + e);
    e += count;
  }
  for (int r = 0; r < n; r += R) {
    float group[R];
    std::copy(y.begin() + r, y.begin() + r + R, group);
    epilogue(r, static_cast<const float(&)[R]>(group));
  }
}

}  // namespace amk
