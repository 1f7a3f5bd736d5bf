// Without --arch the target is the module's, or sm_90; the C++ file has none; -o writes a file.
// RUN: amk-translate --to-cuda %s | filecheck %s --check-prefix=SM90
// RUN: sed -e 's/^builtin.module/builtin.module attributes {amk.target = "sm_120"}/' %s | amk-translate --to-cuda | filecheck %s --check-prefix=SM120
// RUN: sed -e 's/^builtin.module/builtin.module attributes {amk.target = "sm_120"}/' %s | amk-translate --to-cuda --arch=sm_80 | filecheck %s --check-prefix=SM80
// RUN: amk-translate --to-cpp %s -o %t && filecheck %s --check-prefix=HOST < %t
// RUN: not amk-translate --to-cuda --arch=sm_99 %s 2>&1 | filecheck %s --check-prefix=UNKNOWN
// RUN: sed -e 's/^builtin.module/builtin.module attributes {amk.target = "sm_1"}/' %s | not amk-translate --to-cuda 2>&1 | filecheck %s --check-prefix=DECLARED
// RUN: not amk-translate --to-cpp --arch=sm_90 %s 2>&1 | filecheck %s --check-prefix=BOTH

// SM90: // Target sm_90; 1 workers
// SM120: // Target sm_120; 1 workers
// SM80: // Target sm_80; 1 workers
// HOST: // Target host; 1 workers
// HOST: extern "C" int amk_decode(
// UNKNOWN: error: unknown architecture 'sm_99'; did you mean 'sm_90'?; known: sm_80, sm_86, sm_87, sm_89, sm_90, sm_100, sm_120, sm_121
// DECLARED: <stdin>:{{[0-9]+}}:1: error: unknown architecture 'sm_1'
// BOTH: error: --arch is for CUDA files; the C++ file runs on any host (see amk-translate --help)

builtin.module {
  tile.kernel @one(%to: memref<?xf32>) {
    tile.map -> %to {counts = array<i64: 1>} {
    ^bb0(%e: index):
      %one = arith.constant 1.000000e+00 : f32
      tile.yield %one : f32
    }
  }
  task.schedule @ones attributes {workers = 1 : i64, context = 8 : i64} {
    task.scalar @pos in 0 to 8 step 1
    task.buffer @y output : memref<8x4xf32>
    task.family @one calls @one for i in 1 on i args [out @y[pos, 0 : 4]]
  }
}
