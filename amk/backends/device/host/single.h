namespace amk {

// The payload of one packet.
AMK_DEVICE int receive(Worker& w, Packets<int> from) {
  return static_cast<int>(w.receive(from, 0));
}
AMK_DEVICE float receive(Worker& w, Packets<float> from) { return as_float(w.receive(from, 0)); }

}  // namespace amk
