namespace amk {

// The payload of one packet, in every thread of the calling warps.
template <class T>
AMK_DEVICE uint32_t receive_payload(Worker& w, Packets<T> from) {
  uint64_t v[1][2];
  const auto only = [&](int) { return Pair{0, 1}; };
  request(from, v, only);
  await(w, from, v, only);
  return payload_of(v[0][0]);
}
AMK_DEVICE int receive(Worker& w, Packets<int> from) {
  return static_cast<int>(receive_payload(w, from));
}
AMK_DEVICE float receive(Worker& w, Packets<float> from) {
  return as_float(receive_payload(w, from));
}

}  // namespace amk
