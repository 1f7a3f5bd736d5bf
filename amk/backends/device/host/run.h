namespace amk {

constexpr uint32_t kSpins = 1000;

// Runs the program with one thread per worker and returns when all have ended:
// compute(Worker&, buffers).
template <class Private, class Buffers, class Compute>
AMK_DEVICE void run_host(int workers, const Buffers& buffers, const Launch* launch, Status* status,
                         Compute compute) {
  // With more threads than cores, who is waited for may need the core.
  const bool crowded = static_cast<unsigned>(workers) > std::thread::hardware_concurrency();
  const uint32_t spins = crowded ? 0 : kSpins;
  std::vector<std::thread> threads;
  for (int id = 0; id < workers; ++id) {
    threads.emplace_back([&, id] {
      const auto state = std::make_unique<Private>();
      Worker w(id, *launch, status, state.get(), spins);
      compute(w, buffers);
    });
  }
  for (std::thread& t : threads) t.join();
}

}  // namespace amk
