// Registers that move between warps (sm_90): the producers, one group of four warps, leave theirs to
// the consumers, two groups.
namespace amk {

static_assert(config::kProducers == 4, "a group of four warps gives its registers");
AMK_DEVICE void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 40;"); }
AMK_DEVICE void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 232;"); }

// What a consumer holds in registers while it waits.
constexpr int kMostEarlyStages = 2;  // of weights, before its operand comes
constexpr int kMostHeldPieces = 4;   // of 16 bytes, of the next tile of old keys

}  // namespace amk
