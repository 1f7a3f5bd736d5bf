namespace amk {

// One launch. `pos` is the position of the first token, `steps` the most iterations, `base` the
// iterations that earlier launches ran since the packets were cleared.
struct Launch {
  int pos, steps;
  uint32_t base, timeout_ms;
  int reserved;
};

// Why a launch ended early; the first worker that fails writes it. code 0: no error, 1: a wait
// timed out, 2: `combine` got more elements than config::kOperandBytes can hold.
// buffer: the id of the packet or counter buffer, kRingBuffer for a stage of weights.
// index: packet in the buffer (or slot of the ring). expected, seen: epochs, counts or parities.
struct Status {
  uint32_t code, worker, task, buffer, index, expected, seen, iteration;
};
[[maybe_unused]] constexpr uint32_t kTimeout = 1, kTooWide = 2;
constexpr int kRingBuffer = -1;

constexpr int kSlices = config::kSlices;
static_assert(kSlices == 8, "the numerics fix eight slices");

struct bf16 {
  uint16_t bits;
};

template <class T>
constexpr int kPerPacket = 1;
template <>
constexpr int kPerPacket<bf16> = 2;

// A run of packets {32-bit payload, 32-bit epoch}. `first` counts packets from the start of the
// buffer, for diagnostics only.
template <class T>
struct Packets {
  uint64_t* p;
  uint32_t epoch;
  int buffer;
  int first = 0;

  AMK_DEVICE Packets at(long element) const {
    const long packets = element / kPerPacket<T>;
    return {p + packets, epoch, buffer, first + static_cast<int>(packets)};
  }
};

// Values in ordinary memory that a counter wait (or the worker itself) made visible.
template <class T>
struct Plain {
  const T* p;

  AMK_DEVICE Plain at(long element) const { return {p + element}; }
};

// The best row so far: larger value, then smaller index. Starts with an index that is always legal.
struct Best {
  float value = as_float(0xff800000u);
  int index = 0;

  AMK_DEVICE void take(float v, int i) {
    if (v > value || (v == value && i < index)) {
      value = v;
      index = i;
    }
  }
};

}  // namespace amk
