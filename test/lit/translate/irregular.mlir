// A schedule of single tasks is printed as tables for every target; the host's threads can be delayed at random.
// RUN: amk-translate --to-cuda --arch=sm_80 %s | filecheck %s --check-prefixes=TABLE,CUDA
// RUN: amk-translate --to-cpp %s | filecheck %s --check-prefixes=TABLE,HOST
// RUN: amk-translate --to-cpp --stress-delays=7 %s | filecheck %s --check-prefix=STRESS
// RUN: not amk-translate --to-cuda --stress-delays=7 %s 2>&1 | filecheck %s --check-prefix=WRONG

// HOST-NOT: AMK_STRESS
// TABLE: AMK_TABLE int kQueues[] =
// TABLE: amk::run_table(w, table, amk::NoKernels());
// CUDA: AMK_DEVICE void stream(
// HOST-NOT: AMK_STRESS
// STRESS: constexpr int kStressSeed = 7;
// STRESS: AMK_STRESS(stress();)
// WRONG: error: --stress-delays is for --to-cpp (see amk-translate --help)

task.schedule @s attributes {workers = 2 : i64} {
  task.buffer @a scratch : memref<4xf32>
  task.buffer @b output : memref<4xf32>
  task.counter @full
  task.counter @empty
  task.task @fill worker 0 args [out @a[0 : 4]] waits [@empty >= 0] signals [@full += 1]
  task.task @take worker 1 stream args [in @a[0 : 4], out @b[0 : 4]] waits [@full >= 1] signals [@empty += 1]
}
