
extern "C" void amk_run(const Buffers* buffers, const amk::Launch* launch, amk::Status* status) {
  amk::run_host<Private, compute>(kWorkers, *buffers, launch, status);
}
