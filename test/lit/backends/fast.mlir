// A fast kernel takes its functions from the GPU's approximations; the others are exact to the bit.
// RUN: amk-translate --to-cuda --arch=sm_90 %s | filecheck %s
// RUN: amk-translate --to-cpp %s | filecheck %s

// CHECK: task.family @rough
// CHECK: amk::Fast::exp(
// CHECK: amk::Fast::div(
// CHECK: amk::Fast::rsqrt(
// CHECK: task.family @exact
// CHECK: amk::exp(
// CHECK: amk::div(
// CHECK: amk::rsqrt(

tile.kernel @fast(%from: memref<4xf32>, %to: memref<?xf32>) fast {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %x = math.exp %v : f32
    %d = arith.divf %x, %v : f32
    %r = math.rsqrt %d : f32
    tile.yield %r : f32
  }
}
tile.kernel @slow(%from: memref<4xf32>, %to: memref<?xf32>) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    %x = math.exp %v : f32
    %d = arith.divf %x, %v : f32
    %r = math.rsqrt %d : f32
    tile.yield %r : f32
  }
}

task.schedule @functions attributes {workers = 1 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @x input : memref<4xf32>
  task.buffer @y output : memref<8x2x4xf32>
  task.family @rough calls @fast for i in 1 on i args [in @x[0 : 4], out @y[pos, 0, 0 : 4]]
  task.family @exact calls @slow for i in 1 on i args [in @x[0 : 4], out @y[pos, 1, 0 : 4]]
}
