// Runs launches of the emulated ring. Weights are a run of chunks, as the documentation of
// `StreamLayout` orders them, each filled with its own number.
namespace ring {

constexpr int kIterations = 3;
constexpr int kMemory = amk::kSlices + amk::kProducers;  // the fiber that brings what was requested

inline uint32_t tag(int layer, int instance, int u, int c) {
  return static_cast<uint32_t>(((layer * 64 + instance) * 64 + u) * 512 + c + 1);
}

// Appends a layer: the u-th blocks of all instances that have one, chunk by chunk.
template <class W, int K>
void append_layer(std::vector<unsigned char>& memory, int layer, int blocks, int instances) {
  using Cut = amk::Tiling<W, K>;
  const auto first = [&](int i) { return i * blocks / instances; };
  const auto count = [&](int i) { return first(i + 1) - first(i); };
  for (int u = 0; u * instances < blocks; ++u) {
    for (int c = 0; c < Cut::kChunks; ++c) {
      for (int i = 0; i < instances; ++i) {
        if (u >= count(i)) continue;
        const std::vector<uint32_t> chunk(Cut::steps(c) * Cut::kStepBytes / 4, tag(layer, i, u, c));
        const auto* bytes = reinterpret_cast<const unsigned char*>(chunk.data());
        memory.insert(memory.end(), bytes, bytes + chunk.size() * 4);
      }
    }
  }
}

// Takes the next stage of a slice out of the ring, and looks at what is in it.
struct Consumer {
  int slice, slot = slice;
  uint32_t parity = 0;

  void take(uint32_t expected, int bytes) {
    amk::Block& b = amk::block();
    while (!amk::stage_done(&b.full[slot], parity)) {
    }
    if (states[slot] != kFilled) fail("a stage that has not come");
    const auto* words = reinterpret_cast<const uint32_t*>(b.ring + slot * amk::config::kSlotBytes);
    if (bytes > 0 && std::any_of(words, words + bytes / 4, [&](auto w) { return w != expected; })) {
      fail("another stage");
    }
    while (simt::chance(2)) poll();
    states[slot] = kFree;
    amk::barrier_arrive(&b.empty[slot]);
    slot += amk::kSlices;
    if (slot >= amk::kSlots) slot -= amk::kSlots, parity ^= 1;
  }
};

inline void toggle() {
  amk::barrier_arrive(&amk::block().paused);
  paused = !paused;
  std::fill(late.begin(), late.end(), 0);
}

template <class W, int K>
void consume(Consumer& consumer, int layer, int blocks, int instances, int instance) {
  using Cut = amk::Tiling<W, K>;
  const int count = (instance + 1) * blocks / instances - instance * blocks / instances;
  for (int u = 0; u < count; ++u) {
    for (int c = consumer.slice; c < Cut::kChunks; c += amk::kSlices) {
      if (consumer.slice == 0 && simt::chance(3)) {
        toggle();
        for (int i = 0; i < 400; ++i) poll();
        toggle();
      }
      consumer.take(tag(layer, instance, u, c), Cut::steps(c) * Cut::kStepBytes);
    }
  }
}

// The outside: brings requests in any order until nobody is left.
inline void bring(const int& left) {
  while (left > 0 || !requests.empty()) {
    poll();
    if (requests.empty() || simt::chance(2)) continue;
    const size_t n = simt::machine.random() % requests.size();
    const Request r = requests[n];
    requests.erase(requests.begin() + static_cast<long>(n));
    std::memcpy(amk::block().ring + r.slot * amk::config::kSlotBytes, r.from, r.bytes);
    states[r.slot] = kFilled;
    --in_flight[r.producer];
    Phases& full = barriers[r.full];
    full.bytes -= r.bytes;
    full.settle();
  }
}

#ifdef TRACED
// The records of a launch: every copy of each producer, in order, in the traced iterations and the
// one behind them.
template <class W, int K>
void check_records(const uint64_t* word, int layers, int blocks, int instances, int instance) {
  using Cut = amk::Tiling<W, K>;
  const int count = (instance + 1) * blocks / instances - instance * blocks / instances;
  for (int producer = 0; producer < amk::kProducers; ++producer) {
    uint64_t before = 0;
    for (int i = 0; i < amk::config::kTraceTokens + 1; ++i) {
      const uint64_t* end = word + amk::ProducerTrace::kWords;
      ++word;  // the waits
      for (int n = 0; n < layers * count; ++n) {
        for (int c = producer; c < Cut::kChunks; c += amk::kProducers, ++word) {
          const uint64_t bytes = (*word & 0xffff) * 16;
          if (word == end || bytes != Cut::steps(c) * Cut::kStepBytes) fail("another copy's record");
          if (*word >> 16 < before) fail("records in another order");
          before = *word >> 16;
        }
      }
      while (word < end) {
        if (*word++ != 0) fail("a record of no copy");
      }
    }
  }
}
#endif

// A launch that the consumers end after `iterations` of kIterations.
template <class W, int K>
void run(unsigned seed, int layers, int blocks, int instances, int instance, int iterations) {
  amk::Block& b = amk::block();
  std::memset(b.ring, 0, sizeof(b.ring));
  for (int i = 0; i < amk::kSlots; ++i) {
    amk::barrier_init(&b.full[i], 1);
    amk::barrier_init(&b.empty[i], 1);
  }
  amk::barrier_init(&b.leaving, 1);
  amk::barrier_init(&b.paused, 1);
  states.assign(amk::kSlots, kFree);
  in_flight.assign(amk::kProducers, 0);
  late.assign(amk::kProducers, 0);

  std::vector<unsigned char> memory;
  for (int l = 0; l < layers; ++l) append_layer<W, K>(memory, l, blocks, instances);
  const size_t layer_bytes = memory.size() / layers;
#ifdef TRACED
  constexpr int kRecords = amk::config::kTraceWarps * amk::config::kTraceTokens *
                           amk::config::kTraceTasks * amk::Trace::kWords;
  std::vector<uint64_t> records(kRecords + amk::kProducers * (amk::config::kTraceTokens + 1) *
                                               amk::ProducerTrace::kWords);
#endif
  int consuming = amk::kSlices, left = amk::kSlices + amk::kProducers;
  simt::launch(seed, [&](int fiber) {
    if (fiber == kMemory) return bring(left);
    if (fiber > kMemory) return;
    if (fiber < amk::kSlices) {
      Consumer consumer{fiber};
      for (int i = 0; i < iterations; ++i) {
        for (int l = 0; l < layers; ++l) consume<W, K>(consumer, l, blocks, instances, instance);
      }
      if (--consuming == 0) amk::barrier_arrive(&b.leaving);
    } else {
      const amk::Launch launch{0, kIterations, 0, 0, 0};
      amk::Producer p(&launch);
      AMK_TRACE(p.trace.open(records.data(), p.id);)
      while (p.next()) {
        AMK_TRACE(p.trace.next(p.iteration);)
        for (int l = 0; l < layers; ++l) {
          const unsigned char* base = memory.data() + l * layer_bytes;
          amk::stream(p, amk::Stream<W, K>{base, blocks, instances, instance});
        }
      }
      AMK_TRACE(p.trace.next(p.iteration);)
      p.drain();
      if (in_flight[p.index] > 0) fail("a copy that nobody waits for");
    }
    --left;
  });
  if (simt::machine.error != simt::kNone) fail("the fibers stopped");
#ifdef TRACED
  if (iterations == kIterations) {
    check_records<W, K>(records.data() + kRecords, layers, blocks, instances, instance);
  }
#endif
}

}  // namespace ring

int main(int, char** arguments) {
  const unsigned first = static_cast<unsigned>(std::atoi(arguments[1]));
  for (unsigned seed = first; seed < first + 12; ++seed) {
    const int iterations = seed % 4 == 3 ? 1 : ring::kIterations;  // a launch may end early
    ring::run<amk::bf16, 512>(seed, 2, 11, 4, static_cast<int>(seed % 4), iterations);
    ring::run<float, 300>(seed, 3, 5, 2, static_cast<int>(seed % 2), iterations);
  }
  if (amk::kWideWindow > amk::kWindow && !ring::was_wide) ring::fail("never a wide window");
  std::printf("good\n");
}
