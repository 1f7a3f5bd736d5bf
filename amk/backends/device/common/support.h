namespace amk {

// What a lambda returns that has nothing to load early.
struct Nothing {};

// Division towards minus infinity, for operands that may be negative; d > 0.
template <class T>
AMK_DEVICE T floordiv(T a, int d) {
  return a >= 0 ? a / d : -1 - (-1 - a) / d;
}
template <class T>
AMK_DEVICE T floormod(T a, int d) {
  const T m = a % d;
  return m < 0 ? m + d : m;
}

// Packed bytes of one layer of a product: `rows` is a multiple of eight.
template <class W, int K>
AMK_DEVICE constexpr long layer_bytes(int rows) {
  return static_cast<long>(rows / 8) * Tiling<W, K>::kSteps * Tiling<W, K>::kStepBytes;
}

}  // namespace amk
