#ifdef __CUDACC_RTC__
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long uint64_t;
typedef long int64_t;
#else
#include <cstdint>
#endif

#define AMK_DEVICE __device__ __forceinline__
#define AMK_CONSTEXPR __host__ __device__ __forceinline__ constexpr

namespace amk {

AMK_DEVICE float as_float(uint32_t bits) { return __uint_as_float(bits); }
AMK_DEVICE uint32_t as_bits(float v) { return __float_as_uint(v); }

// Arithmetic that the compiler can neither fuse nor reorder.
AMK_DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
AMK_DEVICE float sub(float a, float b) { return __fsub_rn(a, b); }
AMK_DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
AMK_DEVICE float div(float a, float b) { return __fdiv_rn(a, b); }
AMK_DEVICE float sqrt(float a) { return __fsqrt_rn(a); }
AMK_DEVICE float round_even(float a) { return rintf(a); }

// Two floats rounded to bf16, `low` in the low half.
AMK_DEVICE uint32_t bf16_pair(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

}  // namespace amk
