namespace amk {

// Takes the stages of one layer of a product out of the ring and throws them away: with nothing
// else to do, a launch is as fast as memory fills the ring.
template <class W, int K>
AMK_DEVICE void discard(Worker& w, Stream<W, K> s) {
  const int stages = s.count() * Tiling<W, K>::kPerSlice;
#pragma unroll 1
  for (int i = 0; i < stages; ++i) w.release_stage(w.wait_stage());
}

}  // namespace amk
