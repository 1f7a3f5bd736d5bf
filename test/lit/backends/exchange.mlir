// One schedule for every target: two workers exchange plain memory under a counter, layer by layer.
// RUN: amk-translate --to-cuda --arch=sm_80 %s | filecheck %s --check-prefixes=CHECK,CUDA,SM80
// RUN: amk-translate --to-cuda --arch=sm_90 %s | filecheck %s --check-prefixes=CHECK,CUDA,SM90
// RUN: amk-translate --to-cuda --arch=sm_120 %s | filecheck %s --check-prefixes=CHECK,CUDA,SM120
// RUN: amk-translate --to-cpp %s | filecheck %s --check-prefixes=CHECK,HOST

// CHECK: // @exchange: one decode step after another, in one launch; by AMK.
// SM80-NEXT: // Target sm_80; 2 workers; context 8; 0 bytes of weights a token.
// SM80-NEXT: // Build: nvcc -O3 -std=c++17 -arch=sm_80 -cubin FILE.cu
// SM90-NEXT: // Target sm_90; 2 workers; context 8; 0 bytes of weights a token.
// SM90-NEXT: // Build: nvcc -O3 -std=c++17 -arch=sm_90a -cubin FILE.cu
// SM120-NEXT: // Target sm_120; 2 workers; context 8; 0 bytes of weights a token.
// SM120-NEXT: // Build: nvcc -O3 -std=c++17 -arch=sm_120a -cubin FILE.cu
// HOST-NEXT: // Target host; 2 workers; context 8; 0 bytes of weights a token.
// HOST-NEXT: // Build: c++ -O3 -std=c++20
// CHECK: namespace amk::config {
// CHECK-NEXT: {{.*}} constexpr int kWorkers = 2;
// SM80: cp.async.cg.shared.global
// SM90: cp.async.bulk.shared
// SM120: cp.async.bulk.shared

// What stays with a worker has no worker dimension.
// CHECK: struct Private {
// CHECK-NEXT: float kept[4];
// CHECK-NEXT: };
// CHECK: struct Buffers {
// CHECK-NEXT: float* x;  // memref<2x4xf32>
// CHECK-NEXT: float* y;  // memref<8x2x4xf32>
// CHECK-NEXT: uint32_t* done;
// CHECK-NEXT: };

// CHECK: AMK_DEVICE void compute(amk::Worker& w, const Buffers& b) {
// CHECK-NEXT: while (w.next()) {
// CHECK: for (int l = 0; l < 3; ++l) {
// CHECK: // task.family @give calls @half for i in 2 on i
// CHECK-NEXT: // from {{.*}}exchange.mlir:{{[0-9]+}}:5
// CHECK-NEXT: //   in @x[i, 0 : 4]
// CHECK-NEXT: //   out @kept[i, 0 : 4]
// CHECK-NEXT: {
// CHECK-NEXT: {{.*}} const int i = w.id;
// CHECK-NEXT: w.at(0);
// CHECK-NEXT: amk::wait(w, b.done, w.epoch(12, l * 4) - 1, 3);
// CHECK: amk::map<1>(w, 4, [&](int r) {
// CHECK-NEXT: const float v0 = (b.x + (i * 4))[r];
// CHECK-NEXT: const float v1 = amk::mul(v0, 0.5f);
// CHECK-NEXT: out_kept[r] = v1;
// CHECK-NEXT: });
// CHECK-NEXT: amk::signal(w, b.done, 1);
// CHECK-NEXT: }
// CHECK: // task.family @take calls @half_back for i in 2 on (i + 1) mod 2
// CHECK: {{.*}} const int i = (w.id + 1) % 2;
// CHECK-NEXT: w.at(1);
// CHECK-NEXT: amk::wait(w, b.done, w.epoch(12, l * 4 + 2) - 1, 3);

// The stream program of a schedule without streams is an empty loop; the host has none.
// CUDA: AMK_DEVICE void stream(amk::Producer& w, const Buffers& b) {
// CUDA-NEXT: while (w.next()) {
// HOST-NOT: amk::Producer
// CUDA: extern "C" __global__ void __launch_bounds__(384, 1) amk_decode(
// CUDA-NEXT: float* x,
// CUDA-NEXT: float* y,
// CUDA-NEXT: uint32_t* done,
// CUDA-NEXT: const amk::Launch* launch, amk::Status* status) {
// HOST: extern "C" int amk_decode(void** arguments, const amk::Launch* launch, amk::Status* status) {

tile.kernel @half(%from: memref<4xf32>, %to: memref<?xf32, "shared">) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %half = arith.constant 5.000000e-01 : f32
    %h = arith.mulf %v, %half : f32
    tile.yield %h : f32
  }
}
tile.kernel @half_back(%from: memref<4xf32>, %seen: memref<?xf32>, %to: memref<?xf32>) {
  tile.map -> %seen, %to {counts = array<i64: 1, 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %one = arith.constant 1.000000e+00 : f32
    %more = arith.addf %v, %one : f32
    tile.yield %v, %more : f32, f32
  }
}

task.schedule @exchange attributes {workers = 2 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @x state initial : memref<2x4xf32>
  task.buffer @y output : memref<8x2x4xf32>
  task.buffer @kept scratch : memref<2x4xf32, "shared">
  task.counter @done
  task.repeat l in 3 {
    task.family @give calls @half for i in 2 on i args [in @x[i, 0 : 4], out @kept[i, 0 : 4]]
      waits [@done >= l * 4] signals [@done += 1]
    task.family @take calls @half_back for i in 2 on (i + 1) mod 2 args [
      in @x[i, 0 : 4], out @y[pos, i, 0 : 4], out @x[i, 0 : 4]]
      waits [@done >= l * 4 + 2] signals [@done += 1]
  }
}
