// Runs programs of a batch: one job after another, each with memory of its own.
#include <cstdio>
#include <cstdlib>

struct Program {
  int (*entry)(void**, const amk::Launch*, amk::Status*);
};
extern const Program kPrograms[];

static int reports = 0, overwrites = 0;

#if defined(__SANITIZE_THREAD__)
// Called by ThreadSanitizer: counts reports, and those of a write after an unordered read.
extern "C" int __tsan_get_report_mop(void*, unsigned long, int*, void**, int*, int*, int*, void**,
                                     unsigned long);
extern "C" void __tsan_on_report(void* report) {
  int thread, size, writes[2] = {}, atomic;
  void *address, *trace[1];
  for (unsigned long i = 0; i < 2; ++i) {
    __tsan_get_report_mop(report, i, &thread, &address, &size, &writes[i], &atomic, trace, 1);
  }
  ++reports;
  overwrites += writes[0] != 0 && writes[1] == 0;
}
#endif

// A job is nine numbers (program, launches, position, steps, base, timeout in ms, buffers, two
// unused) and its buffers, each with its size in front. The answer is the status, the two counts
// of reports, and the buffers after the last launch; every launch starts with the same memory.
int main() {
  int64_t job[9];
  while (std::fread(job, sizeof(job), 1, stdin) == 1) {
    const int count = static_cast<int>(job[6]);
    std::vector<std::vector<uint64_t>> given(count), memory;
    std::vector<int64_t> sizes(count);
    for (int i = 0; i < count; ++i) {
      if (std::fread(&sizes[i], sizeof(int64_t), 1, stdin) != 1) return 2;
      given[i].resize(sizes[i] / 8 + 1);
      if (sizes[i] > 0 && std::fread(given[i].data(), sizes[i], 1, stdin) != 1) return 2;
    }
    reports = overwrites = 0;
    amk::Status status = {};
    for (int64_t launch = 0; launch < job[1] && status.code == 0; ++launch) {
      memory = given;
      std::vector<void*> arguments;
      for (auto& buffer : memory) arguments.push_back(buffer.data());
      const amk::Launch l = {static_cast<int>(job[2]), static_cast<int>(job[3]),
                             static_cast<uint32_t>(job[4]), static_cast<uint32_t>(job[5]), 0};
      kPrograms[job[0]].entry(arguments.data(), &l, &status);
    }
    std::fwrite(&status, sizeof(status), 1, stdout);
    std::fwrite(&reports, sizeof(int), 1, stdout);
    std::fwrite(&overwrites, sizeof(int), 1, stdout);
    for (int i = 0; i < count; ++i) std::fwrite(memory[i].data(), 1, sizes[i], stdout);
    std::fflush(stdout);
  }
  return 0;
}
