namespace amk {

// How often a wait looks before it gives its core away, where there are cores enough.
constexpr uint32_t kSpins = 1000;
constexpr uint32_t kNoThread = 3;  // Status::code: the system lets no more threads start

// Runs body(worker, spins) for each worker in a thread of its own; returns when all have ended.
AMK_DEVICE void run_threads(int workers, Status* status,
                            const std::function<void(int, uint32_t)>& body) {
  // With more threads than cores, who is waited for may need the core.
  const bool crowded = static_cast<unsigned>(workers) > std::thread::hardware_concurrency();
  std::vector<std::thread> threads;
  try {
    for (int id = 0; id < workers; ++id) {
      threads.emplace_back(std::cref(body), id, crowded ? 0 : kSpins);
    }
  } catch (const std::system_error&) {
    // Those that run see the code in their next wait.
    status->worker = static_cast<uint32_t>(threads.size());
    std::atomic_ref<uint32_t>(status->code).store(kNoThread);
  }
  for (std::thread& t : threads) t.join();
}

// Runs the program: compute(Worker&, buffers) in one thread per worker.
template <class Private, auto compute, class Buffers>
AMK_DEVICE void run_host(int workers, const Buffers& buffers, const Launch* launch,
                         Status* status) {
  run_threads(workers, status, [&](int id, uint32_t spins) {
    const auto state = std::make_unique<Private>();
    Worker w(id, *launch, status, state.get(), spins);
    compute(w, buffers);
  });
}

}  // namespace amk
