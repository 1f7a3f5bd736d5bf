namespace amk {

constexpr uint32_t kInfinityBits = 0x7f800000u;

AMK_DEVICE float infinity() { return as_float(kInfinityBits); }

AMK_DEVICE float rsqrt(float x) { return div(1.0f, sqrt(x)); }

// e^x by the polynomial of AMK, for -87 <= x <= 88.
AMK_DEVICE float exp_within(float x) {
  const float n = round_even(mul(x, 1.44269504088896341f));
  const float r = sub(sub(x, mul(n, 0.693359375f)), mul(n, -2.12194440e-4f));
  float p = 1.0f / 720;
  p = add(mul(p, r), 1.0f / 120);
  p = add(mul(p, r), 1.0f / 24);
  p = add(mul(p, r), 1.0f / 6);
  p = add(mul(p, r), 0.5f);
  p = add(mul(p, r), 1.0f);
  p = add(mul(p, r), 1.0f);
  return mul(p, as_float(static_cast<uint32_t>(static_cast<int>(n) + 127) << 23));
}

// e^x: 0 below -87, infinity above 88.
AMK_DEVICE float exp(float x) {
  if (!(x <= 88.0f)) return x > 88.0f ? infinity() : x;
  return x < -87.0f ? 0.0f : exp_within(x);
}

// Where a primitive takes its functions from.
struct Exact {
  static constexpr bool kOrdered = true;  // sums are those of the IR, one after the other
  AMK_DEVICE static float mad(float a, float b, float c) { return amk::add(c, amk::mul(a, b)); }
  AMK_DEVICE static float exp(float x) { return amk::exp(x); }
  AMK_DEVICE static float div(float a, float b) { return amk::div(a, b); }
  AMK_DEVICE static float rsqrt(float x) { return amk::rsqrt(x); }
};

AMK_DEVICE float larger(float a, float b) { return a > b ? a : b; }

// These keep a NaN of either operand.
AMK_DEVICE float maximum(float a, float b) { return a > b || a != a ? a : b; }
AMK_DEVICE float minimum(float a, float b) { return a < b || a != a ? a : b; }
AMK_DEVICE float absolute(float x) { return as_float(as_bits(x) & 0x7fffffffu); }

AMK_DEVICE float to_float(float v) { return v; }
AMK_DEVICE float to_float(bf16 v) { return as_float(static_cast<uint32_t>(v.bits) << 16); }

// The two values of a packet payload that holds a bf16 pair.
AMK_DEVICE float low_half(uint32_t pair) { return as_float(pair << 16); }
AMK_DEVICE float high_half(uint32_t pair) { return as_float(pair & 0xffff0000u); }

template <class T>
AMK_DEVICE T from_float(float v);
template <>
AMK_DEVICE float from_float<float>(float v) {
  return v;
}
template <>
AMK_DEVICE bf16 from_float<bf16>(float v) {
  return {static_cast<uint16_t>(bf16_pair(v, 0.0f))};
}

}  // namespace amk
