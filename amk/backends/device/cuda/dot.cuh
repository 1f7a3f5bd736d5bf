namespace amk {

// One row block times the slice of a warp, step by step. Lane 4g+t holds the columns t of row g.
template <class W>
struct Dot;

template <>
struct Dot<float> {
  float sum = 0.0f;

  AMK_DEVICE static int operand_offset(int lane) { return lane % 4 * 16; }
  // `operand`: the step's 64 bytes, moved to the place of this lane.
  AMK_DEVICE void step(int, uint4 weights, const unsigned char* operand) {
    const float4 x = *reinterpret_cast<const float4*>(operand);
    sum = add(sum, mul(as_float(weights.x), x.x));
    sum = add(sum, mul(as_float(weights.y), x.y));
    sum = add(sum, mul(as_float(weights.z), x.z));
    sum = add(sum, mul(as_float(weights.w), x.w));
  }
  AMK_DEVICE float total() const {
    const float pair = add(sum, __shfl_xor_sync(kAllLanes, sum, 1));
    return add(pair, __shfl_xor_sync(kAllLanes, pair, 2));
  }
};

// One mma does 8 rows and 32 columns: rows g and g+8 of its A operand are the columns 8t..8t+3 and
// 8t+4..8t+7 of weight row g; the even columns of B hold the operand for the former, the odd ones
// that for the latter. The sum of row g is C[g][even] + C[g+8][odd].
template <>
struct Dot<bf16> {
  float c[2][4] = {};

  AMK_DEVICE static int operand_offset(int lane) { return lane % 4 * 16 + lane / 4 % 2 * 8; }
  AMK_DEVICE void step(int i, uint4 weights, const unsigned char* operand) {
    const uint2 x = *reinterpret_cast<const uint2*>(operand);
    float(&d)[4] = c[i % 2];
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(weights.x), "r"(weights.z), "r"(weights.y), "r"(weights.w), "r"(x.x), "r"(x.y));
  }
  AMK_DEVICE float total() const { return add(add(c[0][0], c[1][0]), add(c[0][3], c[1][3])); }
};

// The weights of one stage in registers. All of them are always written: a register that is set on
// some paths only stays live around every loop.
template <class Cut>
struct Stage {
  static_assert(Cut::kMost * Cut::kStepBytes <= config::kSlotBytes, "a stage fits its slot");
  uint4 weights[Cut::kMost];

  // Waits for the next stage of this warp, reads it, and releases its slot.
  AMK_DEVICE void take(Worker& w, int steps) {
    const bool arrived = w.wait_stage();
    const uint4* p = reinterpret_cast<const uint4*>(w.stage()) + w.lane();
#pragma unroll
    for (int i = 0; i < Cut::kMost; ++i) {
      weights[i] = i < Cut::kFewest || i < steps ? p[i * 32] : make_uint4(0, 0, 0, 0);
    }
    w.release_stage(arrived);
  }
  AMK_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < Cut::kMost; ++i) weights[i] = make_uint4(0, 0, 0, 0);
  }
  template <class W>
  AMK_DEVICE void multiply(Dot<W>& dot, int steps, const unsigned char* operand) const {
#pragma unroll
    for (int i = 0; i < Cut::kMost; ++i) {
      if (i < Cut::kFewest || i < steps) dot.step(i, weights[i], operand + i * Cut::kOperandStep);
    }
  }
};

}  // namespace amk
