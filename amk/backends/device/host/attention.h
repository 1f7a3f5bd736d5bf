namespace amk {

// The running softmax of one query head over the rows of one unit.
template <int D>
struct Softmax {
  float out[D] = {};
  float top = -infinity(), weight = 0.0f;

  // Adds `count` (1 to 32) rows of keys and values, each cache_row elements after the last.
  template <class KV>
  void take(const float* query, float scale, int count, const KV* keys, const KV* values) {
    float score[kLanes], raised = top;
    for (int i = 0; i < count; ++i) {
      score[i] = mul(dot(query, keys + i * cache_row<D>), scale);
      raised = larger(raised, score[i]);
    }
    const float shrink = top == -infinity() ? 0.0f : exp(sub(top, raised));
    float p[kLanes] = {};
    for (int i = 0; i < count; ++i) p[i] = exp(sub(score[i], raised));
    weight = add(mul(weight, shrink), lanes_sum(p));
    top = raised;
    for (int d = 0; d < D; ++d) out[d] = mul(out[d], shrink);
    for (int i = 0; i < count; ++i) {
      const KV* row = values + i * cache_row<D>;
      for (int d = 0; d < D; ++d) out[d] = add(out[d], mul(p[i], to_float(row[d])));
    }
  }
  void send_partial(Packets<float> to) const {
    for (int d = 0; d < D; ++d) send(to, d, out[d]);
    send(to, D, top, weight);
  }

 private:
  template <class KV>
  static float dot(const float* query, const KV* key) {
    float a[4] = {};
    for (int d = 0; d < D; ++d) a[d % 4] = add(a[d % 4], mul(query[d], to_float(key[d])));
    return add(add(a[0], a[1]), add(a[2], a[3]));
  }
};

// One key-value head and one of S splits of the positions; see the kernel's version.
template <class KV, int D, int G, int Z, int S, class Q>
AMK_DEVICE void attention(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                          KV* key_cache, KV* value_cache, int rows, float scale,
                          Packets<float> partial) {
  constexpr long kRow = cache_row<D>;
  float query[G * D];
  w.receive(q, G * D, query);
  if (own) {
    float key[D], value[D];
    w.receive(k, D, key);
    w.receive(v, D, value);
    for (int d = 0; d < D; ++d) {
      key_cache[rows * kRow + d] = from_float<KV>(key[d]);
      value_cache[rows * kRow + d] = from_float<KV>(value[d]);
    }
  }
  const int total = rows + (own ? 1 : 0);
  for (int g = 0; g < G; ++g) {
    for (int z = 0; z < Z; ++z) {
      Softmax<D> item;
      for (int first = z * 32; first < total; first += Z * 32) {
        item.take(query + g * D, scale, std::min(32, total - first),
                  key_cache + first * kRow, value_cache + first * kRow);
      }
      item.send_partial(partial.at((g * (S * Z) + z) * (D + 2L)));
    }
  }
}

// Elements first .. first + n of the attention output [heads * D], from P partial results a head.
template <int D, int P, int R, class E>
AMK_DEVICE void combine(Worker& w, Packets<float> partial, int first, int n, E epilogue) {
  std::vector<float> y(n + R);
  int head = -1;
  float factor[P], den = 0.0f;
  for (int e = 0; e < n; ++e) {
    const int d = (first + e) % D;
    const Packets<float> mine = partial.at(static_cast<long>((first + e) / D) * P * (D + 2));
    if ((first + e) / D != head) {
      head = (first + e) / D;
      float top = -infinity(), lanes[kLanes] = {};
      for (int p = 0; p < P; ++p) {
        factor[p] = as_float(w.receive(mine, p * (D + 2) + D));
        top = larger(top, factor[p]);
      }
      for (int p = 0; p < P; ++p) {
        factor[p] = factor[p] == -infinity() ? 0.0f : exp(sub(factor[p], top));
        const float weight = as_float(w.receive(mine, p * (D + 2) + D + 1));
        lanes[p % kLanes] = add(lanes[p % kLanes], mul(factor[p], weight));
      }
      den = lanes_sum(lanes);
    }
    float lanes[kLanes] = {};
    for (int p = 0; p < P; ++p) {
      const float o = as_float(w.receive(mine, p * (D + 2) + d));
      lanes[p % kLanes] = add(lanes[p % kLanes], mul(factor[p], o));
    }
    y[e] = div(lanes_sum(lanes), den);
  }
  for (int r = 0; r < n; r += R) {
    float group[R];
    std::copy(y.begin() + r, y.begin() + r + R, group);
    epilogue(r, static_cast<const float(&)[R]>(group));
  }
}

}  // namespace amk
