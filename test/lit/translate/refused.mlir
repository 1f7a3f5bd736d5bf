// A schedule that does not verify is not printed: the error says why, and where.
// RUN: not amk-translate --to-cuda %s 2>&1 | filecheck %s
// RUN: not amk-translate --to-cpp %s 2>&1 | filecheck %s
// RUN: sed -e 's/reads >= 1/reads >= 0/' %s | amk-translate --to-cpp | filecheck %s --check-prefix=FIXED
// RUN: sed -e 's/ waits .@reads >= 1.//' %s | not amk-translate --to-cuda 2>&1 | filecheck %s --check-prefix=RACE
// RUN: sed -e 's/reads >= 1/reads >= 0/' -e 's/arith.addf %v, %v/math.sin %v/' %s | not amk-translate --to-cuda 2>&1 | filecheck %s --check-prefix=RULE

// CHECK-NOT: namespace amk
// CHECK: refused.mlir:{{[0-9]+}}:3: error: deadlock:
// CHECK-NOT: namespace amk
// FIXED: extern "C" int amk_decode(
// RACE: <stdin>:{{[0-9]+}}:3: error: race:
// RACE-NEXT: note:
// RULE: <stdin>:{{[0-9]+}}:5: error: the printer has no rule for math.sin; known: arith.addf,

tile.kernel @add(%from: memref<4xf32>, %to: memref<?xf32>) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %w = arith.addf %v, %v : f32
    tile.yield %w : f32
  }
}
task.schedule @s attributes {workers = 2 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @a input : memref<4xf32>
  task.buffer @x scratch : memref<4xf32>
  task.buffer @y output : memref<4xf32>
  task.counter @writes
  task.counter @reads
  task.family @write calls @add for i in 1 on 0 args [in @a[0 : 4], out @x[0 : 4]] waits [@reads >= 1] signals [@writes += 1]
  task.family @read calls @add for i in 1 on i + 1 args [in @x[0 : 4], out @y[0 : 4]] waits [@writes >= 1] signals [@reads += 1]
}
