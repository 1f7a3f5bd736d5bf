namespace amk {

// Reads this instance's share of one layer of a product and throws it away.
template <class W, int K>
AMK_DEVICE void discard(Worker&, Stream<W, K> s) {
  constexpr long kBlockBytes = static_cast<long>(Tiling<W, K>::kSteps) * Tiling<W, K>::kStepBytes;
  const auto* words = reinterpret_cast<const uint64_t*>(s.base + s.before(s.instance) * kBlockBytes);
  const long count = s.count() * (kBlockBytes / static_cast<long>(sizeof(uint64_t)));
  uint64_t all = 0;
  for (long i = 0; i < count; ++i) all |= words[i];
  [[maybe_unused]] volatile uint64_t sink = all;  // else nothing would be read
}

}  // namespace amk
