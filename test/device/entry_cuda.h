
AMK_DEVICE void feed(amk::Producer& p, const Buffers& b) {
  while (p.next()) {
    for (int l = 0; l < kLayers; ++l) {
      amk::stream(p, amk::Stream<Weight, kHidden>{b.wqkv + l * layer_bytes<Weight>(kQkv, kHidden),
                                                  (kQkv + 7) / 8, kWorkers, p.id});
      amk::stream(p, amk::Stream<Weight, kHeads * kHead>{
                         b.wo + l * layer_bytes<Weight>(kHidden, kHeads * kHead), kHidden / 8,
                         kWorkers, p.id});
      amk::stream(p, amk::Stream<Weight, kHidden>{
                         b.wgu + l * layer_bytes<Weight>(2 * kInner, kHidden), (2 * kInner + 7) / 8,
                         kWorkers, p.id});
      amk::stream(p, amk::Stream<Weight, kInner>{b.wd + l * layer_bytes<Weight>(kHidden, kInner),
                                                 kHidden / 8, kWorkers, p.id});
    }
    amk::stream(p, amk::Stream<Weight, kHidden>{b.wlm, (kVocabulary + 7) / 8, kWorkers, p.id});
  }
}

extern "C" __global__ void __launch_bounds__(amk::kThreads, 1)
    amk_run(Buffers buffers, const amk::Launch* launch, amk::Status* status) {
  amk::run<Private, compute, feed>(buffers, launch, status);
}
