namespace amk {

// The body of the kernel: blocks of kThreads threads, one per worker, with shared_bytes() of
// dynamic shared memory. compute(Worker&, buffers) runs on the consumer warps, feed(Producer&,
// buffers) on the producers; as parameters of the template both are inlined, whatever their size.
template <class Private, auto compute, auto feed, class Buffers>
AMK_DEVICE void run(const Buffers& buffers, const Launch* launch, Status* status) {
  static_assert(sizeof(Private) <= sizeof(Block::state), "config::kPrivateBytes");
  Block& b = block();
  const int thread = threadIdx.x;
  for (int i = thread; i < kSlots; i += kThreads) {
    barrier_init(&b.full[i], kCopyArrivals);
    barrier_init(&b.empty[i], config::kArrivers);
  }
  if (thread < kBatchBuffers) barrier_init(&b.arrived[thread], kSlices * config::kArrivers);
  if (thread == 0) {
    barrier_init(&b.leaving, 1);
    barrier_init(&b.paused, 1);
    b.poisoned = 0;
  }
  publish_barriers();
  __syncthreads();

  if (thread < kConsumerThreads) {
    take_registers();
    Worker w(launch, status);
    compute(w, buffers);
    if (w.leader()) barrier_arrive(&b.leaving);
  } else {
    give_registers();
    Producer p(launch);
    feed(p, buffers);
    p.drain();
  }
}

}  // namespace amk
