// A small decoder in the style of a printed program. The sizes, `Weight` and the flags come before.
constexpr int kQkv = (kHeads + 2 * kKvHeads) * kHead;
constexpr int kGroup = kHeads / kKvHeads;
constexpr int kParts = kSplits * kUnits;
constexpr int kSplitRows = (kContext + kSplits - 1) / kSplits;
constexpr long kCacheLayer = static_cast<long>(kKvHeads) * kSplits * kSplitRows * kHead;

template <class W>
AMK_CONSTEXPR long layer_bytes(int rows, int columns) {
  const int step = 64 / static_cast<int>(sizeof(W));
  return (rows + 7) / 8 * ((columns + step - 1) / step) * 512L;
}

struct Buffers {
  const unsigned char *wqkv, *wo, *wgu, *wd, *wlm;
  const float *norm1, *norm2, *norm, *cos, *sin;
  const Weight* embedding;
  Weight *keys, *values;
  uint64_t *x, *qkv, *partial, *att, *h, *act, *best, *index, *control;
  float* plain;
  uint32_t* counter;
  const int *forced, *stop;
  uint64_t* tokens;
  float* logits;
  int eos, mute;  // `mute`: a worker that sends no best row in iteration 1
};

struct Private {
  float residual[(kHidden / 8 / kWorkers + 2) * 8];
};

AMK_DEVICE float sigmoid(float v) {
  return amk::div(1.0f, amk::add(1.0f, amk::exp(amk::sub(0.0f, v))));
}

struct Nothing {};
AMK_DEVICE Nothing nothing(int) { return {}; }

AMK_DEVICE int before(int i, int n, int parts) { return i * n / parts; }

AMK_DEVICE void compute(amk::Worker& w, const Buffers& b) {
  using amk::bf16;
  using Mid = Weight;  // payload of the inner vectors
  int token = b.forced[w.pos + 1];  // the position of the first iteration
  const int lo = before(w.id, kHidden / 8, kWorkers), hi = before(w.id + 1, kHidden / 8, kWorkers);
  Private& mine = w.shared<Private>();
  while (w.next()) {
    const int pos = w.pos;
    w.at(0);
    const amk::Packets<float> x0 = {b.x, w.epoch(kLayers + 1, 0), 0};
    amk::map<1>(w, (hi - lo) * 8, [&](int r) {
      const float v = amk::to_float(b.embedding[token * kHidden + lo * 8 + r]);
      mine.residual[r] = v;
      amk::send(x0, lo * 8 + r, v);
    });
    for (int l = 0; l < kLayers; ++l) {
      w.at(1);
      const amk::Packets<float> x = {b.x, w.epoch(kLayers + 1, l), 0};
      const amk::Packets<Mid> qkv = {b.qkv, w.epoch(kLayers, l), 1};
      {
        const amk::Stream<Weight, kHidden> s = {
            b.wqkv + l * layer_bytes<Weight>(kQkv, kHidden), (kQkv + 7) / 8, kWorkers, w.id};
        const int first = s.before(w.id) * 8, last = s.before(w.id + 1) * 8;
        amk::product<Weight, kHidden, 2, false>(
            w, s, x, (last < kQkv ? last : kQkv) - first,
            [&](int k) {
              struct { float v0; } c;
              c.v0 = b.norm1[l * kHidden + k];
              return c;
            },
            [&](int, float v, const auto& c, float& stat) {
              stat = amk::add(stat, amk::mul(v, v));
              return amk::mul(v, c.v0);
            },
            [&](int r) {
              struct { float v0, v1; } c;
              const int row = first + r, d = row % kHead / 2;
              const bool turn = row < (kHeads + kKvHeads) * kHead;
              c.v0 = turn ? b.cos[pos * (kHead / 2) + d] : 1.0f;
              c.v1 = turn ? b.sin[pos * (kHead / 2) + d] : 0.0f;
              return c;
            },
            [&](int r, const float (&y)[2], float stat, const auto& c, amk::Best&) {
              const float n =
                  amk::rsqrt(amk::add(amk::div(stat, static_cast<float>(kHidden)), 1e-5f));
              const float a = amk::mul(y[0], n), v = amk::mul(y[1], n);
              const float o0 = amk::sub(amk::mul(a, c.v0), amk::mul(v, c.v1));
              const float o1 = amk::add(amk::mul(v, c.v0), amk::mul(a, c.v1));
              amk::send(qkv, first + r, o0, o1);
            },
            [](amk::Best) {});
      }
      w.at(2);
      const amk::Packets<float> partial = {b.partial, w.epoch(kLayers, l), 2};
      for (int t = w.id; t < kKvHeads * kSplits; t += kWorkers) {
        const int kv = t / kSplits, s = t % kSplits;
        const long cache = l * kCacheLayer + static_cast<long>(t) * kSplitRows * kHead;
        amk::attention<Weight, kHead, kGroup, kUnits, kSplits, amk::Exact>(
            w, qkv.at(kv * kGroup * kHead), qkv.at((kHeads + kv) * kHead),
            qkv.at((kHeads + kKvHeads + kv) * kHead), pos % kSplits == s, b.keys + cache,
            b.values + cache, (pos + kSplits - 1 - s) / kSplits, kScale,
            partial.at((kv * kGroup * kParts + s * kUnits) * (kHead + 2)));
      }
      w.at(3);
      const amk::Packets<Mid> att = {b.att, w.epoch(kLayers, l), 3};
      {
        const int first = before(w.id, kHeads * kHead / 2, kWorkers) * 2;
        const int last = before(w.id + 1, kHeads * kHead / 2, kWorkers) * 2;
        amk::combine<kHead, kParts, 2, kHead, amk::Exact>(w, partial, first, last - first,
                                       [&](int r, const float (&y)[2]) {
                                         amk::send(att, first + r, y[0], y[1]);
                                       });
      }
      w.at(4);
      const amk::Packets<float> h = {b.h, w.epoch(kLayers, l), 4};
      amk::product<Weight, kHeads * kHead, 1, false>(
          w,
          amk::Stream<Weight, kHeads * kHead>{b.wo + l * layer_bytes<Weight>(kHidden, kHeads * kHead),
                                              kHidden / 8, kWorkers, w.id},
          att, (hi - lo) * 8, nothing, [&](int, float v, const auto&, float&) { return v; }, nothing,
          [&](int r, const float (&y)[1], float, const auto&, amk::Best&) {
            mine.residual[r] = amk::add(mine.residual[r], y[0]);
            amk::send(h, lo * 8 + r, mine.residual[r]);
          },
          [](amk::Best) {});
      w.at(5);
      const amk::Packets<Mid> act = {b.act, w.epoch(kLayers, l), 5};
      {
        const amk::Stream<Weight, kHidden> s = {
            b.wgu + l * layer_bytes<Weight>(2 * kInner, kHidden), (2 * kInner + 7) / 8, kWorkers,
            w.id};
        const int first = s.before(w.id) * 8, last = s.before(w.id + 1) * 8;
        amk::product<Weight, kHidden, 4, false>(
            w, s, h, (last < 2 * kInner ? last : 2 * kInner) - first,
            [&](int k) {
              struct { float v0; } c;
              c.v0 = b.norm2[l * kHidden + k];
              return c;
            },
            [&](int, float v, const auto& c, float& stat) {
              stat = amk::add(stat, amk::mul(v, v));
              return amk::mul(v, c.v0);
            },
            nothing,
            [&](int r, const float (&y)[4], float stat, const auto&, amk::Best&) {
              const float n =
                  amk::rsqrt(amk::add(amk::div(stat, static_cast<float>(kHidden)), 1e-5f));
              float o[2];
              for (int i = 0; i < 2; ++i) {
                const float g = amk::mul(y[2 * i], n), u = amk::mul(y[2 * i + 1], n);
                o[i] = amk::mul(amk::mul(g, sigmoid(g)), u);
              }
              if (kPlain) {
                b.plain[(first + r) / 2] = o[0];
                b.plain[(first + r) / 2 + 1] = o[1];
              } else {
                amk::send(act, (first + r) / 2, o[0], o[1]);
              }
            },
            [](amk::Best) {});
      }
      w.at(6);
      const amk::Packets<float> out = {b.x, w.epoch(kLayers + 1, l + 1), 0};
      const auto down = [&](auto in) {
        amk::product<Weight, kInner, 1, false>(
            w,
            amk::Stream<Weight, kInner>{b.wd + l * layer_bytes<Weight>(kHidden, kInner), kHidden / 8,
                                        kWorkers, w.id},
            in, (hi - lo) * 8, nothing, [&](int, float v, const auto&, float&) { return v; }, nothing,
            [&](int r, const float (&y)[1], float, const auto&, amk::Best&) {
              mine.residual[r] = amk::add(mine.residual[r], y[0]);
              amk::send(out, lo * 8 + r, mine.residual[r]);
            },
            [](amk::Best) {});
      };
      if constexpr (kPlain) {
        amk::signal(w, b.counter, 1);
        amk::wait(w, b.counter, w.epoch(kLayers, l) * kWorkers, 6);
        down(amk::Plain<float>{b.plain});
      } else {
        down(act);
      }
    }
    w.at(7);
    const amk::Packets<float> best = {b.best, w.epoch(1, 0), 7};
    const amk::Packets<int> index = {b.index, w.epoch(1, 0), 8};
    const amk::Packets<int> control = {b.control, w.epoch(1, 0), 9};
    {
      const amk::Packets<float> x = {b.x, w.epoch(kLayers + 1, kLayers), 0};
      const amk::Stream<Weight, kHidden> s = {b.wlm, (kVocabulary + 7) / 8, kWorkers, w.id};
      const int first = s.before(w.id) * 8, last = s.before(w.id + 1) * 8;
      float* logits = b.logits + static_cast<long>(w.iteration) * kVocabulary + first;
      amk::product<Weight, kHidden, 1, true>(
          w, s, x, (last < kVocabulary ? last : kVocabulary) - first,
          [&](int k) {
            struct { float v0; } c;
            c.v0 = b.norm[k];
            return c;
          },
          [&](int, float v, const auto& c, float& stat) {
            stat = amk::add(stat, amk::mul(v, v));
            return amk::mul(v, c.v0);
          },
          nothing,
          [&](int r, const float (&y)[1], float stat, const auto&, amk::Best& top) {
            const float n =
                amk::rsqrt(amk::add(amk::div(stat, static_cast<float>(kHidden)), 1e-5f));
            logits[r] = amk::mul(y[0], n);
            top.take(logits[r], first + r);
          },
          [&](amk::Best top) {
            if (w.id == b.mute && w.iteration == 1) return;
            amk::send(best, w.id, top.value);
            amk::send(index, w.id, top.index);
          });
    }
    w.at(8);
    const int chosen = amk::argmax(w, best, index, kWorkers);
    if (w.id == 0 && w.leader()) {
      amk::send(control, 0, amk::load_host(b.stop));
      amk::send_host({b.tokens, w.epoch(1, 0), 10}, pos, chosen);
    }
    const int forced = b.forced[pos + 1];
    const int stop = amk::receive(w, control);
    token = forced >= 0 ? forced : chosen;
    w.stop(stop != 0 || (forced < 0 && chosen == b.eos));
  }
}
