namespace amk {

// Eight and four floats, operated on one by one; the compiler maps them to what the machine has.
typedef float Eight __attribute__((vector_size(32)));
typedef float Four __attribute__((vector_size(16)));

// The values at p, which need not be aligned.
AMK_DEVICE void load(const float* p, Eight& to) { std::memcpy(&to, p, sizeof(to)); }
AMK_DEVICE void load(const float* p, Four& to) { std::memcpy(&to, p, sizeof(to)); }

// bf16 values, widened.
AMK_DEVICE void load(const bf16* p, Eight& to) {
  typedef uint16_t Halves __attribute__((vector_size(16)));
  typedef uint32_t Words __attribute__((vector_size(32)));
  Halves bits;
  std::memcpy(&bits, p, sizeof(bits));
  to = reinterpret_cast<Eight>(__builtin_convertvector(bits, Words) << 16);
}
AMK_DEVICE void load(const bf16* p, Four& to) {
  typedef uint16_t Halves __attribute__((vector_size(8)));
  typedef uint32_t Words __attribute__((vector_size(16)));
  Halves bits;
  std::memcpy(&bits, p, sizeof(bits));
  to = reinterpret_cast<Four>(__builtin_convertvector(bits, Words) << 16);
}

constexpr int kLanes = 32;

// Sum over 32 lanes by the tree xor 16, 8, 4, 2, 1.
AMK_DEVICE float lanes_sum(const float* lanes) {
  float v[kLanes];
  std::copy(lanes, lanes + kLanes, v);
  for (int o = kLanes / 2; o; o /= 2) {
    for (int i = 0; i < o; ++i) v[i] = v[i] + v[i + o];
  }
  return v[0];
}

// `exp` of each value, without branches.
template <int N>
AMK_DEVICE void exp_each(float (&x)[N]) {
  for (int i = 0; i < N; ++i) {
    const float v = x[i];
    const float inside = exp_within(v >= -87.0f && v <= 88.0f ? v : 0.0f);
    const float y = v < -87.0f ? 0.0f : inside;
    x[i] = v > 88.0f ? infinity() : v != v ? v : y;
  }
}

}  // namespace amk
