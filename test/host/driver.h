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
extern "C" __attribute__((no_sanitize("thread"))) void __tsan_on_report(void* report) {
  int thread, size, writes[2] = {}, atomic;
  void *address, *trace[1];
  for (unsigned long i = 0; i < 2; ++i) {
    __tsan_get_report_mop(report, i, &thread, &address, &size, &writes[i], &atomic, trace, 1);
  }
  ++reports;
  overwrites += writes[0] != 0 && writes[1] == 0;
}
#endif

// Tasks that are held back between their waits and their accesses, so that they meet if they can:
// rows of the table, each with an iteration.
static int held[2][2] = {{-1, 0}, {-1, 0}};

void amk::hold(int task, int iteration) {
  for (const auto& h : held) {
    if (h[0] == task && h[1] == iteration) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
}

// A job is eleven numbers (program, launches, position, steps, base, timeout in ms, buffers, and
// the two tasks to hold back) and its buffers, each with its size in front. Every launch starts with the same memory; launches end with
// the first that fails, is reported, or leaves other memory than the one before. The answer is the
// status, the two counts of reports, whether memory differed, and the buffers after the last launch.
int main() {
  int64_t job[11];
  while (std::fread(job, sizeof(job), 1, stdin) == 1) {
    const int count = static_cast<int>(job[6]);
    std::vector<std::vector<uint64_t>> given(count), memory;
    std::vector<int64_t> sizes(count);
    for (int i = 0; i < count; ++i) {
      if (std::fread(&sizes[i], sizeof(int64_t), 1, stdin) != 1) return 2;
      given[i].resize(sizes[i] / 8 + 1);
      if (sizes[i] > 0 && std::fread(given[i].data(), sizes[i], 1, stdin) != 1) return 2;
    }
    for (int i = 0; i < 4; ++i) held[i / 2][i % 2] = static_cast<int>(job[7 + i]);
    reports = overwrites = 0;
    int different = 0;
    std::vector<std::vector<uint64_t>> first;
    amk::Status status = {};
    for (int64_t launch = 0; launch < job[1]; ++launch) {
      memory = given;
      std::vector<void*> arguments;
      for (auto& buffer : memory) arguments.push_back(buffer.data());
      const amk::Launch l = {static_cast<int>(job[2]), static_cast<int>(job[3]),
                             static_cast<uint32_t>(job[4]), static_cast<uint32_t>(job[5]), 0};
      kPrograms[job[0]].entry(arguments.data(), &l, &status);
      if (launch == 0) first = memory;
      different += memory != first;
      if (status.code != 0 || reports > 0 || different > 0) break;
    }
    std::fwrite(&status, sizeof(status), 1, stdout);
    std::fwrite(&reports, sizeof(int), 1, stdout);
    std::fwrite(&overwrites, sizeof(int), 1, stdout);
    std::fwrite(&different, sizeof(int), 1, stdout);
    for (int i = 0; i < count; ++i) std::fwrite(memory[i].data(), 1, sizes[i], stdout);
    std::fflush(stdout);
  }
  return 0;
}
