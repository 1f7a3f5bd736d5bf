namespace amk {

// Like Exact, but a few units in the last place off: what the GPU has instructions for, and sums in
// any order.
struct Fast {
  static constexpr bool kOrdered = false;
  AMK_DEVICE static float mad(float a, float b, float c) { return __fmaf_rn(a, b, c); }
  AMK_DEVICE static float exp(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.44269504f));
    return y;
  }
  AMK_DEVICE static float div(float a, float b) { return __fdividef(a, b); }
  AMK_DEVICE static float rsqrt(float x) {
    float y;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
};

}  // namespace amk
