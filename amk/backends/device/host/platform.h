#include <algorithm>
#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <system_error>
#include <thread>
#include <vector>

#define AMK_DEVICE inline
#define AMK_CONSTEXPR inline constexpr

namespace amk {

AMK_CONSTEXPR float as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
AMK_DEVICE uint32_t as_bits(float v) { return std::bit_cast<uint32_t>(v); }

// Arithmetic rounded operation by operation: the program is built with -ffp-contract=off.
AMK_DEVICE float add(float a, float b) { return a + b; }
AMK_DEVICE float sub(float a, float b) { return a - b; }
AMK_DEVICE float mul(float a, float b) { return a * b; }
AMK_DEVICE float div(float a, float b) { return a / b; }
AMK_DEVICE float sqrt(float a) { return std::sqrt(a); }
AMK_DEVICE float round_even(float a) { return std::nearbyint(a); }

// Rounded to nearest even; a NaN becomes 0x7fff.
AMK_DEVICE uint32_t bf16_bits(float v) {
  const uint32_t bits = as_bits(v);
  return v != v ? 0x7fffu : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
// Two floats rounded to bf16, `low` in the low half.
AMK_DEVICE uint32_t bf16_pair(float low, float high) {
  return bf16_bits(high) << 16 | bf16_bits(low);
}

// Tells the core that this is a loop that waits.
AMK_DEVICE void relax() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace amk
