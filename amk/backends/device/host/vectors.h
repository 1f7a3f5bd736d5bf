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
    const float v = x[i], inside = v >= -87.0f && v <= 88.0f ? v : 0.0f;
    const float n = round_even(mul(inside, 1.44269504088896341f));
    const float r = sub(sub(inside, mul(n, 0.693359375f)), mul(n, -2.12194440e-4f));
    float p = 1.0f / 720;
    p = add(mul(p, r), 1.0f / 120);
    p = add(mul(p, r), 1.0f / 24);
    p = add(mul(p, r), 1.0f / 6);
    p = add(mul(p, r), 0.5f);
    p = add(mul(p, r), 1.0f);
    p = add(mul(p, r), 1.0f);
    const float power = as_float(static_cast<uint32_t>(static_cast<int>(n) + 127) << 23);
    const float y = v < -87.0f ? 0.0f : mul(p, power);
    x[i] = v > 88.0f ? infinity() : v != v ? v : y;
  }
}

}  // namespace amk
