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

// Whether random delays are left out.
static bool without_delays = false;

bool amk::calm() { return without_delays; }

// A job is thirteen numbers (program, launches, parts, position, steps, base, timeout in ms, calm,
// buffers, and the two tasks to hold back) and its buffers, each with its size in front. Every launch
// starts with the same memory; its parts go on where the one before ended. Launches end with the
// first that fails, is reported, or leaves other memory than the one before. The answer is the
// status, the two counts of reports, whether memory differed, and the buffers after the last launch.
struct Job {
  int64_t program, launches, parts, position, steps, base, timeout_ms, calm, buffers, held[4];
};

// Runs one part of a launch; false if it failed or was reported.
static bool run(const Job& job, int64_t part, void** arguments, amk::Status* status) {
  const int64_t done = part * job.steps;
  const amk::Launch l = {static_cast<int>(job.position + done), static_cast<int>(job.steps),
                         static_cast<uint32_t>(job.base + done),
                         static_cast<uint32_t>(job.timeout_ms), 0};
  kPrograms[job.program].entry(arguments, &l, status);
  return status->code == 0 && reports == 0;
}

int main() {
  Job job;
  while (std::fread(&job, sizeof(job), 1, stdin) == 1) {
    // As long as the program says, to the byte: AddressSanitizer watches the ends.
    std::vector<std::vector<unsigned char>> given(job.buffers), memory, first;
    for (auto& buffer : given) {
      int64_t size;
      if (std::fread(&size, sizeof(size), 1, stdin) != 1) return 2;
      buffer.resize(size);
      if (size > 0 && std::fread(buffer.data(), size, 1, stdin) != 1) return 2;
    }
    for (int i = 0; i < 4; ++i) held[i / 2][i % 2] = static_cast<int>(job.held[i]);
    without_delays = job.calm != 0;
    reports = overwrites = 0;
    int different = 0;
    amk::Status status = {};
    bool going = true;
    for (int64_t launch = 0; going && launch < job.launches; ++launch) {
      memory = given;
      std::vector<void*> arguments;
      for (auto& buffer : memory) arguments.push_back(buffer.data());
      for (int64_t part = 0; going && part < job.parts; ++part) {
        going = run(job, part, arguments.data(), &status);
      }
      if (launch == 0) first = memory;
      different += memory != first;
      going = going && different == 0;
    }
    std::fwrite(&status, sizeof(status), 1, stdout);
    std::fwrite(&reports, sizeof(int), 1, stdout);
    std::fwrite(&overwrites, sizeof(int), 1, stdout);
    std::fwrite(&different, sizeof(int), 1, stdout);
    for (const auto& buffer : memory) std::fwrite(buffer.data(), 1, buffer.size(), stdout);
    std::fflush(stdout);
  }
  return 0;
}
