namespace amk {

// body(r) for r = 0, R, 2R, ... < n.
template <int R, class F>
AMK_DEVICE void map(Worker&, int n, F body) {
  for (int r = 0; r < n; r += R) body(r);
}

// The index that goes with the largest of n values (of equal ones, the smallest index).
AMK_DEVICE int argmax(Worker& w, Packets<float> value, Packets<int> index, int n) {
  Best best;
  for (int i = 0; i < n; ++i) {
    const float v = as_float(w.receive(value, i));
    best.take(v, static_cast<int>(w.receive(index, i)));
  }
  return best.index;
}

// Until the counter reaches the target, modulo 2^32; then all that its signals cover is visible.
AMK_DEVICE void wait(Worker& w, const uint32_t* counter, uint32_t target, int buffer) {
  Patience patience;
  AMK_STRESS(stress();)
  AMK_TRACE(const Waiting waiting(w.trace, false);)
  while (true) {
    const uint32_t seen = std::atomic_ref<uint32_t>(*const_cast<uint32_t*>(counter))
                              .load(std::memory_order_acquire);
    if (static_cast<int32_t>(seen - target) >= 0) return;
    if (w.give_up(patience, {buffer, 0, target, seen})) return;
  }
}

// After all writes of the worker so far.
AMK_DEVICE void signal(Worker&, uint32_t* counter, uint32_t amount) {
  AMK_STRESS(stress();)
  std::atomic_ref<uint32_t>(*counter).fetch_add(amount, std::memory_order_release);
}

}  // namespace amk
