// All warps have equally many registers (at most 168 a thread).
namespace amk {

AMK_DEVICE void give_registers() {}
AMK_DEVICE void take_registers() {}

// What a consumer holds in registers while it waits.
constexpr int kMostEarlyStages = 1;  // of weights, before its operand comes
constexpr int kMostHeldPieces = 2;   // of 16 bytes, of the next tile of old keys

}  // namespace amk
