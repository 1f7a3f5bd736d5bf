
extern "C" void amk_run(const Buffers* buffers, const amk::Launch* launch, amk::Status* status) {
  amk::run_host<Private>(kWorkers, *buffers, launch, status,
                         [](amk::Worker& w, const Buffers& b) { compute(w, b); });
}
