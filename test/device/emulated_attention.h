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

// Lane 8 j + i points to row i of matrix j, of 16-bit values.
inline uint16_t matrix_element(const unsigned char* const* rows, int matrix, int row, int column) {
  const unsigned char* p = rows[8 * matrix + row];
  if (reinterpret_cast<uintptr_t>(p) % 16) simt::fail(simt::kMisaligned);
  uint16_t element;
  std::memcpy(&element, p + 2 * column, 2);
  return element;
}
inline void load_matrices(const unsigned char* row, uint32_t (&m)[4]) {
  const unsigned char* const* rows = simt::gather(row);
  const int lane = simt::machine.current & 31;
  const auto element = [&](int j, int i) {
    return uint32_t{matrix_element(rows, j, lane / 4, lane % 4 * 2 + i)};
  };
  for (int j = 0; j < 4; ++j) m[j] = element(j, 0) | element(j, 1) << 16;
}
inline void load_transposed(const unsigned char* row, uint32_t (&m)[4]) {
  const unsigned char* const* rows = simt::gather(row);
  const int lane = simt::machine.current & 31;
  const auto element = [&](int j, int i) {
    return uint32_t{matrix_element(rows, j, lane % 4 * 2 + i, lane / 4)};
  };
  for (int j = 0; j < 4; ++j) m[j] = element(j, 0) | element(j, 1) << 16;
}

// Row i of a matrix that the lanes of a warp hold, times row j of another.
inline float dot_of_rows(const uint32_t* a, int i, const uint32_t* b, int j) {
  float sum = 0.0f;
  for (int k = 0; k < 4; ++k) {
    const uint32_t x = a[i * 4 + k], y = b[j * 4 + k];
    sum += low_half(x) * low_half(y) + high_half(x) * high_half(y);
  }
  return sum;
}
inline void multiply_rows(const uint32_t (&a)[2], const uint32_t* b, float (&c)[4]) {
  const int lane = simt::machine.current & 31;
  for (int h = 0; h < 2; ++h) {
    // Two of them are there at a time: the second one is written behind the first.
    const uint32_t* left = simt::gather(a[h]);
    const uint32_t* right = simt::gather(b[h]);
    for (int j = 0; j < 2; ++j) c[j] += dot_of_rows(left, lane / 4, right, lane % 4 * 2 + j);
    __syncwarp();
  }
}
inline void multiply_columns(const uint32_t* a, uint32_t b, float (&c)[4]) {
  const int lane = simt::machine.current & 31;
  for (int h = 0; h < 2; ++h) {
    const uint32_t* columns = simt::gather(b);
    const uint32_t* left = simt::gather(a[h]);
    for (int j = 0; j < 2; ++j) {
      c[2 * h + j] += dot_of_rows(left, lane / 4, columns, lane % 4 * 2 + j);
    }
    __syncwarp();
  }
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
