namespace amk {

// A packet is one 64-bit access, so it validates itself; a vector access is two packets.
AMK_DEVICE uint64_t packet(uint32_t payload, uint32_t epoch) {
  return static_cast<uint64_t>(epoch) << 32 | payload;
}
AMK_DEVICE uint32_t payload_of(uint64_t v) { return static_cast<uint32_t>(v); }
AMK_DEVICE uint32_t epoch_of(uint64_t v) { return static_cast<uint32_t>(v >> 32); }

AMK_DEVICE void store_packet(uint64_t* p, uint64_t v) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
AMK_DEVICE void store_packets(uint64_t* p, uint64_t v0, uint64_t v1) {
  asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(p), "l"(v0), "l"(v1)
               : "memory");
}
AMK_DEVICE uint64_t load_packet(const uint64_t* p) {
  uint64_t v;
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
AMK_DEVICE void load_packets(const uint64_t* p, uint64_t& v0, uint64_t& v1) {
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(v0), "=l"(v1)
               : "l"(p)
               : "memory");
}

AMK_DEVICE void send(Packets<float> to, int i, float v) {
  store_packet(to.p + i, packet(as_bits(v), to.epoch));
}
AMK_DEVICE void send(Packets<int> to, int i, int v) {
  store_packet(to.p + i, packet(static_cast<uint32_t>(v), to.epoch));
}
// Elements i, i+1 in one packet; i is even.
AMK_DEVICE void send(Packets<bf16> to, int i, float v0, float v1) {
  store_packet(to.p + i / 2, packet(bf16_pair(v0, v1), to.epoch));
}
// Elements i, i+1 in one access; their address is a multiple of 16 bytes.
AMK_DEVICE void send(Packets<float> to, int i, float v0, float v1) {
  store_packets(to.p + i, packet(as_bits(v0), to.epoch), packet(as_bits(v1), to.epoch));
}

// To and from memory of the host.
AMK_DEVICE void send_host(Packets<int> to, int i, int v) {
  const uint64_t p = packet(static_cast<uint32_t>(v), to.epoch);
  asm volatile("st.relaxed.sys.global.b64 [%0], %1;" ::"l"(to.p + i), "l"(p) : "memory");
}
AMK_DEVICE int load_host(const int* p) {
  int v;
  asm volatile("ld.relaxed.sys.global.b32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}

}  // namespace amk
