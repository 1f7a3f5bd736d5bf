namespace amk {

// The running softmax of one query head over the rows of one unit.
template <int D>
struct Softmax {
  static constexpr int kRow = cache_row<D>;
  alignas(32) float out[kRow] = {};
  float top = -infinity(), weight = 0.0f;

  // Adds `count` (1 to 32) rows of keys and values, each kRow elements after the last.
  template <class KV>
  void take(const float* query, float scale, int count, const KV* keys, const KV* values) {
    float score[kLanes], raised = top;
    for (int i = 0; i < count; ++i) {
      score[i] = mul(dot(query, keys + i * kRow), scale);
      raised = larger(raised, score[i]);
    }
    const float shrink = top == -infinity() ? 0.0f : exp(sub(top, raised));
    float p[kLanes];
    for (int i = 0; i < kLanes; ++i) p[i] = i < count ? sub(score[i], raised) : -infinity();
    exp_each(p);
    weight = add(mul(weight, shrink), lanes_sum(p));
    top = raised;
    for (int d = 0; d < kRow; d += 8) {
      Eight sum, row;
      load(out + d, sum);
      sum = sum * shrink;
      for (int i = 0; i < count; ++i) {
        load(values + i * kRow + d, row);
        sum = sum + row * p[i];
      }
      std::memcpy(out + d, &sum, sizeof(sum));
    }
  }
  void send_partial(Packets<float> to) const {
    for (int d = 0; d < D; ++d) send(to, d, out[d]);
    send(to, D, top, weight);
  }

 private:
  // Lane d % 4 adds the products of column d.
  template <class KV>
  static float dot(const float* query, const KV* key) {
    Four sum = {}, a, b;
    for (int d = 0; d + 4 <= D; d += 4) {
      load(query + d, a);
      load(key + d, b);
      sum = sum + a * b;
    }
    for (int d = D / 4 * 4; d < D; ++d) sum[d % 4] = add(sum[d % 4], mul(query[d], to_float(key[d])));
    return add(add(sum[0], sum[1]), add(sum[2], sum[3]));
  }
};

// One key-value head and one of S splits of the positions; see the kernel's version.
template <class KV, int D, int G, int Z, int S, class Functions, class Q>
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

}  // namespace amk
