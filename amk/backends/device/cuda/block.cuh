namespace amk {

// Shared memory of a block.
constexpr int kProducers = config::kProducers;
constexpr int kThreads = (kSlices + kProducers) * 32;
constexpr int kSlots = config::kSlots;
constexpr int kWindow = config::kWindow / kProducers;  // stages in flight per producer
constexpr int kWideWindow = config::kWideWindow / kProducers;
constexpr int kPausedWindow = config::kPausedWindow / kProducers;
static_assert(kSlots % kSlices == 0, "a slot belongs to one consumer warp");
static_assert(kSlices % kProducers == 0, "a slot belongs to one producer warp");
static_assert(0 < kWindow && kWindow <= kWideWindow, "the window is not empty");
static_assert(kWideWindow * kProducers <= kSlots, "it fits the ring");
static_assert(config::kSlotBytes % 512 == 0, "a slot holds whole steps");
static_assert(config::kOperandBytes % 16 == 0, "slices start at multiples of 16 bytes");

constexpr int kBatchBlocks = 4;   // row blocks whose partial sums are reduced together
[[maybe_unused]] constexpr int kBatchRows = kBatchBlocks * 8;
constexpr int kBatchBuffers = 4;

// The operands of a product, one slice per warp.
constexpr int kSliceBytes = config::kOperandBytes;

// Partial results of a batch, one column per slice. Row stride 72: the four blocks of a warp's
// read fall into different banks.
struct Reduction {
  float row[kBatchBlocks][kSlices * 8 + 8];
  float stat[kSlices];
  float best_value[kSlices];
  int best_index[kSlices];
};

// What a product needs, and what attention needs, by turns.
constexpr int kProductBytes =
    kSlices * kSliceBytes + kBatchBuffers * static_cast<int>(sizeof(Reduction));
constexpr int kScratchBytes =
    kProductBytes > config::kScoreBytes ? kProductBytes : config::kScoreBytes;

struct alignas(128) Block {
  unsigned char ring[kSlots * config::kSlotBytes];
  alignas(128) unsigned char scratch[kScratchBytes];
  alignas(16) uint64_t full[kSlots], empty[kSlots];
  uint64_t arrived[kBatchBuffers];  // of the warps at a batch
  uint64_t leaving;                 // the consumers have ended
  uint64_t paused;                  // in every second phase the ring leaves memory to others
  volatile uint32_t poisoned;  // a wait of this worker timed out, or another worker failed
  int chosen[2];               // results of argmax, by turns
  alignas(16) unsigned char state[config::kPrivateBytes > 0 ? config::kPrivateBytes : 16];
};

AMK_CONSTEXPR int shared_bytes() { return static_cast<int>(sizeof(Block)); }

AMK_DEVICE Block& block() {
  extern __shared__ __align__(128) unsigned char amk_block[];
  return *reinterpret_cast<Block*>(amk_block);
}

}  // namespace amk
