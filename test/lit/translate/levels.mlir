// Only the task level is translated; the error names the passes that are missing.
// RUN: not amk-translate --to-cuda %s 2>&1 | filecheck %s --check-prefix=NN
// RUN: amk-opt --lower-to-tiles %s | not amk-translate --to-cuda 2>&1 | filecheck %s --check-prefix=TILE
// RUN: amk-opt --lower-to-tiles %s | not amk-translate --to-cpp 2>&1 | filecheck %s --check-prefix=TILE
// RUN: echo "func.func @f() -> ()" | not amk-translate --to-cpp 2>&1 | filecheck %s --check-prefix=NONE
// RUN: amk-opt --lower-to-tiles --lower-to-tasks="workers=2" %s | amk-translate --to-cuda | filecheck %s --check-prefix=TASK

// NN: levels.mlir:{{[0-9]+}}:1: error: amk-translate takes task IR, but the module is nn IR: run amk-opt --lower-to-tiles --lower-to-tasks first
// TILE: <stdin>:1:1: error: amk-translate takes task IR, but the module is tile IR: run amk-opt --lower-to-tasks first
// NONE: <stdin>:1:1: error: amk-translate takes task IR
// TASK: // @tiny: one decode step after another
// TASK: const unsigned char* w_{{.*}};  // memref<32x8xf32, "stream">
// TASK: // task.family @embed{{.*}} calls @embed{{.*}} for i in 1 on i
// TASK: amk::product<float, 8, 1, true>(
// TASK: best.take(
// TASK: amk::argmax(w,
// TASK: w.stop(
// TASK: AMK_DEVICE void stream(
// TASK: amk::stream(w, amk::Stream<float, 8>{
// TASK: extern "C" __global__ void
nn.model @tiny {context = 16 : i64, eos = array<i64: 2>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %table = nn.param "embed" : tensor<32x8xf32>
  %x = nn.embedding %table, %token : (tensor<32x8xf32>, tensor<i32>) -> tensor<8xf32>
  %logits = nn.linear %x, %table : (tensor<8xf32>, tensor<32x8xf32>) -> tensor<32xf32>
  %next = nn.argmax %logits : tensor<32xf32>
  nn.return %logits, %next : tensor<32xf32>
}
