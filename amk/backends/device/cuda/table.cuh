// Tables of constants.
#define AMK_TABLE __device__ constexpr
