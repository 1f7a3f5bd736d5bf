namespace amk {

// A packet is one 64-bit access, so it validates itself; it orders nothing else.
AMK_DEVICE void store_packet(uint64_t* p, uint32_t payload, uint32_t epoch) {
  const uint64_t v = static_cast<uint64_t>(epoch) << 32 | payload;
  AMK_STRESS(stress();)
  std::atomic_ref<uint64_t>(*p).store(v, std::memory_order_relaxed);
}
AMK_DEVICE uint64_t load_packet(uint64_t* p) {
  return std::atomic_ref<uint64_t>(*p).load(std::memory_order_relaxed);
}

AMK_DEVICE void send(Packets<float> to, int i, float v) {
  store_packet(to.p + i, as_bits(v), to.epoch);
}
AMK_DEVICE void send(Packets<int> to, int i, int v) {
  store_packet(to.p + i, static_cast<uint32_t>(v), to.epoch);
}
// Elements i, i+1 in one packet; i is even.
AMK_DEVICE void send(Packets<bf16> to, int i, float v0, float v1) {
  store_packet(to.p + i / 2, bf16_pair(v0, v1), to.epoch);
}
// Elements i, i+1.
AMK_DEVICE void send(Packets<float> to, int i, float v0, float v1) {
  send(to, i, v0);
  send(to, i + 1, v1);
}

// To and from memory that another thread of the process polls or sets.
AMK_DEVICE void send_host(Packets<int> to, int i, int v) { send(to, i, v); }
AMK_DEVICE int load_host(const int* p) {
  return std::atomic_ref<int>(*const_cast<int*>(p)).load(std::memory_order_relaxed);
}

}  // namespace amk
