// What lower-to-tasks makes of a program.
// RUN: amk-opt %s --split-input-file --lower-to-tasks="workers=2" | filecheck %s

// Neighbouring tiles of a phase become one task; what other tasks read travels in packets, and the
// parameters of the kernels follow.
// CHECK:      tile.kernel @fill(%x: memref<?xf32, "packet">) {
// CHECK-NEXT:   tile.map -> %x {counts = array<i64: 1>} {
// CHECK-NEXT:   ^bb0(%i: index):
// CHECK-NEXT:     %v = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:     tile.yield %v : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      tile.kernel @mix(%w: memref<?x40xf32, "stream">, %x_1: memref<40xf32, "packet">, %first: index, %y: memref<?xf32>) {
// CHECK-NEXT:   tile.product %w, %x_1 -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
// CHECK-NEXT:   ^bb0(%k: index, %v_1: f32):
// CHECK-NEXT:     tile.yield %v_1 : f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0(%r: index, %a: f32):
// CHECK-NEXT:     tile.yield %a : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      task.schedule @even attributes {workers = 2 : i64, context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
// CHECK-NEXT:   task.scalar @pos in 0 to 8 step 1
// CHECK-NEXT:   task.buffer @x scratch uses 1 : memref<40xf32, "packet">
// CHECK-NEXT:   task.buffer @w constant from @w : memref<40x40xf32, "stream">
// CHECK-NEXT:   task.buffer @logits output : memref<2x40xf32>
// CHECK-NEXT:   task.family @fill calls @fill for i in 2 on i args [
// CHECK-NEXT:     out @x[((i * 5) floordiv 2) * 8 : ((i * 5 + 1) floordiv 2) * 8 + 16] use 0]
// CHECK-NEXT:   task.family @mix calls @mix for i in 2 on i args [
// CHECK-NEXT:     in @w[((i * 5) floordiv 2) * 8 : ((i * 5 + 1) floordiv 2) * 8 + 16, 0 : 40],
// CHECK-NEXT:     in @x[0 : 40] use 0,
// CHECK-NEXT:     index ((i * 5) floordiv 2) * 8,
// CHECK-NEXT:     out @logits[pos mod 2, ((i * 5) floordiv 2) * 8 : ((i * 5 + 1) floordiv 2) * 8 + 16]]
// CHECK-NEXT: }
tile.kernel @fill(%x: memref<?xf32>) {
  tile.map -> %x {counts = array<i64: 1>} {
  ^bb0(%i: index):
    %v = arith.constant 1.0 : f32
    tile.yield %v : f32
  }
}
tile.kernel @mix(%w: memref<?x40xf32, "stream">, %x: memref<40xf32>, %first: index, %y: memref<?xf32>) {
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}
tile.program @even attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x scratch : memref<40xf32>
  tile.buffer @w constant from @w : memref<40x40xf32, "stream">
  tile.buffer @logits output : memref<2x40xf32>
  tile.phase @fill calls @fill for t in 5 rows args [out @x[8 * t : 8 * t + 8]]
  tile.phase @mix calls @mix for t in 5 rows args [
    in @w[8 * t : 8 * t + 8, 0 : 40], in @x[0 : 40], index 8 * t, out @logits[pos mod 2, 8 * t : 8 * t + 8]]
}

// -----

// The uses of a packet buffer are counted through the repeat, and a kernel that is bound to packets in
// one phase and to plain memory in another is copied.
// CHECK:      tile.kernel @step(%x: memref<16xf32, "packet">, %y_1: memref<?xf32, "packet">) {
// CHECK-NEXT:   tile.map -> %y_1 {counts = array<i64: 1>} {
// CHECK-NEXT:   ^bb0(%i_1: index):
// CHECK-NEXT:     %v_1 = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:     tile.yield %v_1 : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      tile.kernel @step_2(%x_1: memref<16xf32, "packet">, %y_2: memref<?xf32>) {
// CHECK-NEXT:   tile.map -> %y_2 {counts = array<i64: 1>} {
// CHECK-NEXT:   ^bb0(%i_2: index):
// CHECK-NEXT:     %v_2 = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:     tile.yield %v_2 : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      task.schedule @layers attributes {workers = 2 : i64, context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
// CHECK-NEXT:   task.scalar @pos in 0 to 8 step 1
// CHECK-NEXT:   task.buffer @x scratch uses 4 : memref<16xf32, "packet">
// CHECK-NEXT:   task.buffer @y scratch uses 3 : memref<16xf32, "packet">
// CHECK-NEXT:   task.buffer @z output : memref<16xf32>
// CHECK-NEXT:   task.family @start calls @start for i in 2 on i args [
// CHECK-NEXT:     out @x[i * 8 : i * 8 + 8] use 0]
// CHECK-NEXT:   task.repeat l in 3 {
// CHECK-NEXT:     task.family @there calls @step for i in 2 on i args [
// CHECK-NEXT:       in @x[0 : 16] use l,
// CHECK-NEXT:       out @y[i * 8 : i * 8 + 8] use l]
// CHECK-NEXT:     task.family @back calls @step for i in 2 on i args [
// CHECK-NEXT:       in @y[0 : 16] use l,
// CHECK-NEXT:       out @x[i * 8 : i * 8 + 8] use l + 1]
// CHECK-NEXT:   }
// CHECK-NEXT:   task.family @end calls @step_2 for i in 2 on i args [
// CHECK-NEXT:     in @x[0 : 16] use 3,
// CHECK-NEXT:     out @z[i * 8 : i * 8 + 8]]
// CHECK-NEXT: }
tile.kernel @start(%y: memref<?xf32>) {
  tile.map -> %y {counts = array<i64: 1>} {
  ^bb0(%i: index):
    %v = arith.constant 1.0 : f32
    tile.yield %v : f32
  }
}
tile.kernel @step(%x: memref<16xf32>, %y: memref<?xf32>) {
  tile.map -> %y {counts = array<i64: 1>} {
  ^bb0(%i: index):
    %v = arith.constant 1.0 : f32
    tile.yield %v : f32
  }
}
tile.program @layers attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x scratch : memref<16xf32>
  tile.buffer @y scratch : memref<16xf32>
  tile.buffer @z output : memref<16xf32>
  tile.phase @start calls @start for t in 2 rows args [out @x[8 * t : 8 * t + 8]]
  tile.repeat l in 3 {
    tile.phase @there calls @step for t in 2 rows args [in @x[0 : 16], out @y[8 * t : 8 * t + 8]]
    tile.phase @back calls @step for t in 2 rows args [in @y[0 : 16], out @x[8 * t : 8 * t + 8]]
  }
  tile.phase @end calls @step for t in 2 rows args [in @x[0 : 16], out @z[8 * t : 8 * t + 8]]
}

// -----

// What only the owner of a tile touches stays in its shared memory; every worker has its own copy of
// what is replicated, and makes one candidate of what is reduced.
// CHECK:      tile.kernel @candidates(%x_2: memref<24xf32, "packet">, %best: memref<1xf32, "packet">) {
// CHECK-NEXT: }
// CHECK:      tile.kernel @choose(%best_1: memref<2xf32, "packet">, %token: memref<1xi32, "shared">) {
// CHECK-NEXT: }
// CHECK:      task.schedule @placed attributes {workers = 2 : i64, context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
// CHECK-NEXT:   task.scalar @pos in 0 to 8 step 1
// CHECK-NEXT:   task.buffer @x scratch uses 2 : memref<24xf32, "packet">
// CHECK-NEXT:   task.buffer @h scratch : memref<2x16xf32, "shared">
// CHECK-NEXT:   task.buffer @best scratch uses 1 : memref<2xf32, "packet">
// CHECK-NEXT:   task.buffer @token state initial : memref<2x1xi32, "shared">
// CHECK-NEXT:   task.buffer @tokens output uses 1 : memref<8xi32, "host_packet">
// CHECK-NEXT:   task.family @start calls @start for i in 2 on i args [
// CHECK-NEXT:     out @h[i, 0 : ((i * 3 + 1) floordiv 2) * 8 + 8 - ((i * 3) floordiv 2) * 8],
// CHECK-NEXT:     out @x[((i * 3) floordiv 2) * 8 : ((i * 3 + 1) floordiv 2) * 8 + 8] use 0]
// CHECK-NEXT:   task.family @keep calls @keep for i in 2 on i args [
// CHECK-NEXT:     in @x[0 : 24] use 0,
// CHECK-NEXT:     in @h[i, 0 : ((i * 3 + 1) floordiv 2) * 8 + 8 - ((i * 3) floordiv 2) * 8],
// CHECK-NEXT:     out @h[i, 0 : ((i * 3 + 1) floordiv 2) * 8 + 8 - ((i * 3) floordiv 2) * 8],
// CHECK-NEXT:     out @x[((i * 3) floordiv 2) * 8 : ((i * 3 + 1) floordiv 2) * 8 + 8] use 1]
// CHECK-NEXT:   task.family @candidates calls @candidates for i in 2 on i args [
// CHECK-NEXT:     in @x[0 : 24] use 1,
// CHECK-NEXT:     out @best[i : i + 1] use 0]
// CHECK-NEXT:   task.family @choose calls @choose for i in 2 on i args [
// CHECK-NEXT:     in @best[0 : 2] use 0,
// CHECK-NEXT:     out @token[i, 0 : 1]]
// CHECK-NEXT:   task.family @tell calls @tell for i in 1 on i args [
// CHECK-NEXT:     in @token[i, 0 : 1],
// CHECK-NEXT:     out @tokens[pos : pos + 1] use 0]
// CHECK-NEXT: }
tile.kernel @keep(%x: memref<24xf32>, %old: memref<?xf32>, %new: memref<?xf32>, %out: memref<?xf32>) {
}
tile.kernel @start(%h: memref<?xf32>, %x: memref<?xf32>) {
}
tile.kernel @candidates(%x: memref<24xf32>, %best: memref<1xf32>) {
}
tile.kernel @choose(%best: memref<3xf32>, %token: memref<1xi32>) {
}
tile.kernel @tell(%token: memref<1xi32>, %out: memref<1xi32, "host_packet">) {
}
tile.program @placed attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x scratch : memref<24xf32>
  tile.buffer @h scratch owned : memref<24xf32>
  tile.buffer @best scratch reduced : memref<3xf32>
  tile.buffer @token state replicated : memref<1xi32>
  tile.buffer @tokens output : memref<8xi32, "host_packet">
  tile.phase @start calls @start for t in 3 rows args [out @h[8 * t : 8 * t + 8], out @x[8 * t : 8 * t + 8]]
  tile.phase @keep calls @keep for t in 3 rows args [
    in @x[0 : 24], in @h[8 * t : 8 * t + 8], out @h[8 * t : 8 * t + 8], out @x[8 * t : 8 * t + 8]]
  tile.phase @candidates calls @candidates for t in 3 rows args [in @x[0 : 24], out @best[t : t + 1]]
  tile.phase @choose calls @choose for t in 1 args [in @best[0 : 3], out @token[0 : 1]]
  tile.phase @tell calls @tell for t in 1 args [in @token[0 : 1], out @tokens[pos : pos + 1]]
}

// -----

// The second product is rotated, so that both workers stream equally much.
// CHECK:        task.family @first calls @mix for i in 2 on i args [
// CHECK-NEXT:     in @v[((i * 3) floordiv 2) * 8 : ((i * 3 + 1) floordiv 2) * 8 + 8, 0 : 16],
// CHECK-NEXT:     in @x[0 : 16] use 0,
// CHECK-NEXT:     out @y[((i * 3) floordiv 2) * 8 : ((i * 3 + 1) floordiv 2) * 8 + 8] use 0]
// CHECK:        task.family @second calls @mix_2 for i in 2 on (i + 1) mod 2 args [
// CHECK-NEXT:     in @w[((i * 3) floordiv 2) * 8 : ((i * 3 + 1) floordiv 2) * 8 + 8, 0 : 16],
// CHECK-NEXT:     in @y[0 : 16] use 0,
// CHECK-NEXT:     out @z[((i * 3) floordiv 2) * 8 : ((i * 3 + 1) floordiv 2) * 8 + 8]]
tile.kernel @mix(%w: memref<?x16xf32, "stream">, %x: memref<16xf32>, %y: memref<?xf32>) {
}
tile.kernel @start(%x: memref<?xf32>) {
}
tile.program @balanced attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x scratch : memref<32xf32>
  tile.buffer @y scratch : memref<24xf32>
  tile.buffer @z output : memref<24xf32>
  tile.buffer @v constant from @v : memref<24x16xf32, "stream">
  tile.buffer @w constant from @w : memref<24x16xf32, "stream">
  tile.phase @start calls @start for t in 4 rows args [out @x[8 * t : 8 * t + 8]]
  tile.phase @first calls @mix for t in 3 rows args [
    in @v[8 * t : 8 * t + 8, 0 : 16], in @x[0 : 16], out @y[8 * t : 8 * t + 8]]
  tile.phase @second calls @mix for t in 3 rows args [
    in @w[8 * t : 8 * t + 8, 0 : 16], in @y[0 : 16], out @z[8 * t : 8 * t + 8]]
}

// -----

// State stays where it is; guards and indices speak of the instance.
// CHECK:        task.buffer @keys state initial : memref<3x3x4xf32>
// CHECK:        task.family @append calls @append for i in 3 on i mod 2 args [
// CHECK-NEXT:     in @x[i * 4 : i * 4 + 4] use 0 if (pos - i) mod 3 == 0,
// CHECK-NEXT:     in @keys[i, 0 : (pos + 2 - i) floordiv 3, 0 : 4],
// CHECK-NEXT:     out @keys[i, pos floordiv 3, 0 : 4] if (pos - i) mod 3 == 0,
// CHECK-NEXT:     index (pos - i) mod 3]
tile.kernel @append(%new: memref<4xf32>, %old: memref<?x4xf32>, %row: memref<4xf32>, %distance: index) {
}
tile.kernel @start(%x: memref<?xf32>) {
}
tile.program @guarded attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x scratch : memref<16xf32>
  tile.buffer @keys state : memref<3x3x4xf32>
  tile.phase @start calls @start for t in 2 rows args [out @x[8 * t : 8 * t + 8]]
  tile.phase @append calls @append for t in 3 args [
    in @x[4 * t : 4 * t + 4] if (pos - t) mod 3 == 0,
    in @keys[t, 0 : (pos + 2 - t) floordiv 3, 0 : 4],
    out @keys[t, pos floordiv 3, 0 : 4] if (pos - t) mod 3 == 0,
    index (pos - t) mod 3]
}
