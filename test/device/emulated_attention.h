// What attention of the device layer needs of a GPU, on the fibers of simt.h. A warp collective is
// a barrier of its lanes here: a missing __syncwarp next to one does not show. The platform of the
// host and simt.h come before this text, device code whose PTX is replaced comes after it.
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }

template <class T>
T __shfl_sync(unsigned, T v, int lane) {
  return simt::gather(v)[lane & 31];
}
template <class T>
T __shfl_xor_sync(unsigned, T v, int mask) {
  return simt::gather(v)[(simt::machine.current & 31) ^ mask];
}
inline bool __any_sync(unsigned, bool v) {
  const bool* all = simt::gather(v);
  return std::any_of(all, all + 32, [](bool b) { return b; });
}
inline bool __all_sync(unsigned mask, bool v) { return !__any_sync(mask, !v); }
inline void __syncwarp() { simt::gather(0); }

namespace amk {

// What the replaced PTX does.
inline void store_packet(uint64_t* p, uint64_t v) { *p = v; }
inline void store_packets(uint64_t* p, uint64_t v0, uint64_t v1) {
  if (reinterpret_cast<uintptr_t>(p) % 16) simt::fail(simt::kMisaligned);
  p[0] = v0, p[1] = v1;
}
inline uint64_t load_packet(const uint64_t* p) {
  if (simt::chance(8)) simt::yield();
  return *p;
}
inline void load_packets(const uint64_t* p, uint64_t& v0, uint64_t& v1) {
  if (reinterpret_cast<uintptr_t>(p) % 16) simt::fail(simt::kMisaligned);
  v0 = load_packet(p), v1 = load_packet(p + 1);
}
inline void load_16(const void* from, uint4& v) {
  if (reinterpret_cast<uintptr_t>(from) % 16) simt::fail(simt::kMisaligned);
  std::memcpy(&v, from, 16);
}
inline void copy_16(void* to, const void* from) { simt::copy_16(to, from); }
inline void commit_copies() { simt::commit_copies(); }
template <int N>
void wait_copies() {
  simt::wait_copies(N);
}

// Like the instructions of a GPU, a little off.
struct Fast {
  static constexpr bool kOrdered = false;
  static float mad(float a, float b, float c) { return std::fma(a, b, c); }
  static float exp(float x) { return std::exp2(x * 1.44269504f); }
};

// As much of a block and of a worker as attention needs.
constexpr int kConsumerThreads = simt::kThreads;
constexpr int kSliceBytes = 0, kScratchBytes = config::kScoreBytes;
struct Block {
  alignas(128) unsigned char scratch[kScratchBytes];
};
inline Block& block() {
  static Block b;
  return b;
}

struct Patience {};
struct Awaited {
  int buffer, index;
  uint32_t expected, seen;
};
struct Worker {
  int thread = 0;
  void begin() { thread = simt::machine.current; }
  void sync() { simt::block_barrier.wait(); }
  int lane() const { return thread & 31; }
  int warp() const { return thread >> 5; }
  unsigned char* slice() const { return block().scratch; }
  void pause_ring() const {}
  template <class Describe>
  bool give_up(Patience&, bool, Describe) {
    simt::yield();
    return false;
  }
};

}  // namespace amk
