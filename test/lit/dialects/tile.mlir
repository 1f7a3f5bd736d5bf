// Every op of the tile dialect keeps its meaning through the pretty and the generic form.
// RUN: amk-opt %s | amk-opt | filecheck %s
// RUN: amk-opt %s --print-op-generic | filecheck %s --check-prefix=GENERIC
// RUN: amk-opt %s --print-op-generic | amk-opt | filecheck %s

// CHECK:      tile.constant @qk {kind = "rows", sources = ["l.{layer}.q", "l.{layer}.k"], pairs = array<i64: 4, 0>} : memref<2x24x36xbf16>
// CHECK-NEXT: tile.constant @gu {kind = "rows", sources = ["gate", "up"], interleave} : memref<16x36xf32>
// CHECK-NEXT: tile.constant @cos {kind = "rope_cos", frequencies = dense<[1.000000e+00, 5.000000e-01]> : tensor<2xf32>} : memref<64x2xf32>
// CHECK-NEXT: tile.constant @sin {kind = "rope_sin", frequencies = dense<[1.000000e+00, 5.000000e-01]> : tensor<2xf32>} : memref<64x2xf32>
// CHECK-NEXT: tile.kernel @product(%w: memref<?x36xbf16, "stream">, %x: memref<36xf32, "packet">, %g: memref<36xf32>, %first: index, %y: memref<?xf32>, %z: memref<?xbf16>, %best: memref<1xf32>, %which: memref<1xi32>) {
// CHECK-NEXT:   tile.product %w, %x -> %y, %z argmax(%best, %which) {group = 2 : i64, counts = array<i64: 2, 1>} prologue {
// CHECK-NEXT:   ^bb0(%k: index, %v: f32):
// CHECK-NEXT:     %gain = tile.load %g[%k]
// CHECK-NEXT:     %scaled = arith.mulf %v, %gain : f32
// CHECK-NEXT:     %square = arith.mulf %v, %v : f32
// CHECK-NEXT:     tile.yield %scaled, %square : f32, f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0(%r: index, %a: f32, %b: f32, %stat: f32):
// CHECK-NEXT:     %root = math.rsqrt %stat : f32
// CHECK-NEXT:     %a1 = arith.mulf %a, %root : f32
// CHECK-NEXT:     %at = arith.addi %first, %r : index
// CHECK-NEXT:     %number = arith.index_cast %at : index to i32
// CHECK-NEXT:     tile.yield %a1, %b, %a, %a1, %number : f32, f32, f32, f32, i32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @plain(%w_1: memref<?x36xf32, "stream">, %x_1: memref<36xf32>, %y_1: memref<?xf32>) {
// CHECK-NEXT:   tile.product %w_1, %x_1 -> %y_1 {group = 1 : i64, counts = array<i64: 1>} prologue {
// CHECK-NEXT:   ^bb0(%k_1: index, %v_1: f32):
// CHECK-NEXT:     tile.yield %v_1 : f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0(%r_1: index, %a_1: f32):
// CHECK-NEXT:     tile.yield %a_1 : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @embed(%table: memref<96x36xbf16>, %token: memref<1xi32, "shared">, %h: memref<?xf32>, %x_2: memref<?xf32>) {
// CHECK-NEXT:   %zero = arith.constant 0 : index
// CHECK-NEXT:   %t = tile.load %token[%zero]
// CHECK-NEXT:   %row = arith.index_cast %t : i32 to index
// CHECK-NEXT:   tile.map -> %h, %x_2 {counts = array<i64: 1, 1>} {
// CHECK-NEXT:   ^bb0(%i: index):
// CHECK-NEXT:     %v_2 = tile.load %table[%row, %i]
// CHECK-NEXT:     tile.yield %v_2, %v_2 : f32, f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @attention(%q: memref<8xf32>, %k_2: memref<4xf32>, %v_3: memref<4xf32>, %kc: memref<?x4xbf16>, %vc: memref<?x4xbf16>, %kr: memref<4xbf16>, %vr: memref<4xbf16>, %partial: memref<2x3x6xf32>, %distance: index) {
// CHECK-NEXT:   %zero_1 = arith.constant 0 : index
// CHECK-NEXT:   %own = arith.cmpi eq, %distance, %zero_1 : index
// CHECK-NEXT:   tile.attention %q, %k_2, %v_3, %kc, %vc append %own -> %kr, %vr, %partial {scale = 5.000000e-01 : f64}
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @combine(%values: memref<6x4xf32>, %stats: memref<6x2xf32>, %out: memref<4xf32>) fast {
// CHECK-NEXT:   tile.combine %values, %stats -> %out {counts = array<i64: 1>} epilogue {
// CHECK-NEXT:   ^bb0(%r_2: index, %y_2: f32):
// CHECK-NEXT:     tile.yield %y_2 : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @select(%best_1: memref<3xf32, "packet">, %which_1: memref<3xi32, "packet">, %stop: memref<1xi32, "packet">, %token_1: memref<1xi32, "host_packet">) {
// CHECK-NEXT:   %zero_2 = arith.constant 0 : index
// CHECK-NEXT:   %chosen = tile.argmax %best_1, %which_1
// CHECK-NEXT:   tile.store %chosen, %token_1[%zero_2]
// CHECK-NEXT:   %flag = tile.receive %stop
// CHECK-NEXT:   %none = arith.constant 0 : i32
// CHECK-NEXT:   %asked = arith.cmpi ne, %flag, %none : i32
// CHECK-NEXT:   tile.stop %asked
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @nothing(%x_3: memref<?xf32>) {
// CHECK-NEXT: }
// CHECK-NEXT: tile.program @tiny attributes {context = 64 : i64, eos = array<i64: 2, 5>, vocab = 96 : i64} {
// CHECK-NEXT:   tile.buffer @flag input : memref<1xi32, "host">
// CHECK-NEXT:   tile.buffer @table constant from @table : memref<96x36xbf16>
// CHECK-NEXT:   tile.buffer @w constant from @qk : memref<2x24x36xbf16, "stream">
// CHECK-NEXT:   tile.buffer @keys state : memref<2x3x4x16x4xbf16>
// CHECK-NEXT:   tile.buffer @x scratch : memref<40xf32>
// CHECK-NEXT:   tile.buffer @h scratch owned : memref<40xf32>
// CHECK-NEXT:   tile.buffer @token state replicated : memref<1xi32>
// CHECK-NEXT:   tile.buffer @best scratch reduced : memref<3xf32>
// CHECK-NEXT:   tile.buffer @tokens output : memref<64xi32, "host_packet">
// CHECK-NEXT:   tile.phase @embed calls @embed for t in 5 rows args [
// CHECK-NEXT:     in @table[0 : 96, 0 : 36],
// CHECK-NEXT:     in @token[0 : 1],
// CHECK-NEXT:     out @h[t * 8 : t * 8 + 8],
// CHECK-NEXT:     inout @x[t * 8 : t * 8 + 8]]
// CHECK-NEXT:   tile.repeat l in 2 {
// CHECK-NEXT:     tile.phase @attention calls @split for t in 12 args [
// CHECK-NEXT:       in @x[t floordiv 4],
// CHECK-NEXT:       in @x[(t floordiv 4) * 8 : (t floordiv 4) * 8 + 8],
// CHECK-NEXT:       in @keys[l, t floordiv 4, t mod 4, 0 : (pos + 3 - t mod 4) floordiv 4, 0 : 4],
// CHECK-NEXT:       out @keys[l, t floordiv 4, t mod 4, pos floordiv 4, 0 : 4] if (pos - t) mod 4 == 0,
// CHECK-NEXT:       index (pos - t) mod 4]
// CHECK-NEXT:   }
// CHECK-NEXT:   tile.phase @stop calls @nothing for t in 1 args [
// CHECK-NEXT:     in @x[0 : 8]]
// CHECK-NEXT: }

// GENERIC: "tile.constant"() <{sym_name = "qk", kind = "rows", sources = ["l.{layer}.q", "l.{layer}.k"], pairs = array<i64: 4, 0>, type = memref<2x24x36xbf16>}> : () -> ()
// GENERIC: "tile.constant"() <{sym_name = "gu", kind = "rows", sources = ["gate", "up"], interleave, type = memref<16x36xf32>}> : () -> ()
// GENERIC: "tile.kernel"() <{sym_name = "product"}> ({
// GENERIC: "tile.product"(%w, %x, %y, %z, %best, %which) <{group = 2 : i64, counts = array<i64: 2, 1>, operandSegmentSizes = array<i32: 1, 1, 2, 2>}> ({
// GENERIC: "tile.yield"(%scaled, %square) : (f32, f32) -> ()
// GENERIC: "tile.map"(%h, %x_2) <{counts = array<i64: 1, 1>}> ({
// GENERIC: %v_2 = "tile.load"(%table, %row, %i) : (memref<96x36xbf16>, index, index) -> f32
// GENERIC: "tile.attention"(%q, %k_2, %v_3, %kc, %vc, %own, %kr, %vr, %partial) <{scale = 5.000000e-01 : f64}> : (memref<8xf32>, memref<4xf32>, memref<4xf32>, memref<?x4xbf16>, memref<?x4xbf16>, i1, memref<4xbf16>, memref<4xbf16>, memref<2x3x6xf32>) -> ()
// GENERIC: "tile.combine"(%values, %stats, %out) <{counts = array<i64: 1>}> ({
// GENERIC: %chosen = "tile.argmax"(%best_1, %which_1) : (memref<3xf32, "packet">, memref<3xi32, "packet">) -> i32
// GENERIC: "tile.store"(%chosen, %token_1, %zero_2) : (i32, memref<1xi32, "host_packet">, index) -> ()
// GENERIC: %flag = "tile.receive"(%stop) : (memref<1xi32, "packet">) -> i32
// GENERIC: "tile.stop"(%asked) : (i1) -> ()
// GENERIC: "tile.program"() <{sym_name = "tiny", context = 64 : i64, eos = array<i64: 2, 5>, vocab = 96 : i64}> ({
// GENERIC: "tile.buffer"() <{sym_name = "h", kind = "scratch", placement = "owned", type = memref<40xf32>}> : () -> ()
// GENERIC: "tile.phase"() <{sym_name = "embed", kernel = @embed, tiles = 5 : i64, rows, args = [#tile.access<in @table[0 : 96, 0 : 36]>, #tile.access<in @token[0 : 1]>, #tile.access<out @h[t * 8 : t * 8 + 8]>, #tile.access<inout @x[t * 8 : t * 8 + 8]>]}> : () -> ()
// GENERIC: "tile.repeat"() <{index = "l", count = 2 : i64}> ({
// GENERIC: "tile.phase"() <{sym_name = "attention", kernel = @split, tiles = 12 : i64, args = [#tile.access<in @x[t floordiv 4]>, #tile.access<in @x[(t floordiv 4) * 8 : (t floordiv 4) * 8 + 8]>, #tile.access<in @keys[l, t floordiv 4, t mod 4, 0 : (pos + 3 - t mod 4) floordiv 4, 0 : 4]>, #tile.access<out @keys[l, t floordiv 4, t mod 4, pos floordiv 4, 0 : 4] if (pos - t) mod 4 == 0>, #tile.expr<(pos - t) mod 4>]}> : () -> ()

// A constant is rows of parameters, in order, paired or interleaved, or a table of rotations.
tile.constant @qk {kind = "rows", sources = ["l.{layer}.q", "l.{layer}.k"], pairs = array<i64: 4, 0>} : memref<2x24x36xbf16>
tile.constant @gu {kind = "rows", sources = ["gate", "up"], interleave} : memref<16x36xf32>
tile.constant @cos {kind = "rope_cos", frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : memref<64x2xf32>
tile.constant @sin {kind = "rope_sin", frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : memref<64x2xf32>
// A product with a statistic, two outputs, pairs of rows and an argmax.
tile.kernel @product(%w: memref<?x36xbf16, "stream">, %x: memref<36xf32, "packet">, %g: memref<36xf32>, %first: index, %y: memref<?xf32>, %z: memref<?xbf16>, %best: memref<1xf32>, %which: memref<1xi32>) {
  tile.product %w, %x -> %y, %z argmax(%best, %which) {group = 2 : i64, counts = array<i64: 2, 1>} prologue {
  ^bb0(%k: index, %v: f32):
    %gain = tile.load %g[%k]
    %scaled = arith.mulf %v, %gain : f32
    %square = arith.mulf %v, %v : f32
    tile.yield %scaled, %square : f32, f32
  } epilogue {
  ^bb1(%r: index, %a: f32, %b: f32, %stat: f32):
    %root = math.rsqrt %stat : f32
    %a1 = arith.mulf %a, %root : f32
    %at = arith.addi %first, %r : index
    %number = arith.index_cast %at : index to i32
    tile.yield %a1, %b, %a, %a1, %number : f32, f32, f32, f32, i32
  }
}
// A product without a statistic.
tile.kernel @plain(%w: memref<?x36xf32, "stream">, %x: memref<36xf32>, %y: memref<?xf32>) {
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}
// Element by element, with two indices.
tile.kernel @embed(%table: memref<96x36xbf16>, %token: memref<1xi32, "shared">, %h: memref<?xf32>, %x: memref<?xf32>) {
  %zero = arith.constant 0 : index
  %t = tile.load %token[%zero]
  %row = arith.index_cast %t : i32 to index
  tile.map -> %h, %x {counts = array<i64: 1, 1>} {
  ^bb0(%i: index):
    %v = tile.load %table[%row, %i]
    tile.yield %v, %v : f32, f32
  }
}
// One split of an attention, and the merge of all splits.
tile.kernel @attention(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xbf16>, %vc: memref<?x4xbf16>, %kr: memref<4xbf16>, %vr: memref<4xbf16>, %partial: memref<2x3x6xf32>, %distance: index) {
  %zero = arith.constant 0 : index
  %own = arith.cmpi eq, %distance, %zero : index
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %partial {scale = 5.0e-01 : f64}
}
tile.kernel @combine(%values: memref<6x4xf32>, %stats: memref<6x2xf32>, %out: memref<4xf32>) fast {
  tile.combine %values, %stats -> %out {counts = array<i64: 1>} epilogue {
  ^bb0(%r: index, %y: f32):
    tile.yield %y : f32
  }
}
// The best candidate, a flag from another worker, and the end of the loop.
tile.kernel @select(%best: memref<3xf32, "packet">, %which: memref<3xi32, "packet">, %stop: memref<1xi32, "packet">, %token: memref<1xi32, "host_packet">) {
  %zero = arith.constant 0 : index
  %chosen = tile.argmax %best, %which
  tile.store %chosen, %token[%zero]
  %flag = tile.receive %stop
  %none = arith.constant 0 : i32
  %asked = arith.cmpi ne, %flag, %none : i32
  tile.stop %asked
}
// A kernel that does nothing.
tile.kernel @nothing(%x: memref<?xf32>) {
}
// Buffers of every kind and placement; phases with rows, guards, indices; a loop over layers.
tile.program @tiny attributes {context = 64 : i64, eos = array<i64: 2, 5>, vocab = 96 : i64} {
  tile.buffer @flag input : memref<1xi32, "host">
  tile.buffer @table constant from @table : memref<96x36xbf16>
  tile.buffer @w constant from @qk : memref<2x24x36xbf16, "stream">
  tile.buffer @keys state : memref<2x3x4x16x4xbf16>
  tile.buffer @x scratch : memref<40xf32>
  tile.buffer @h scratch owned : memref<40xf32>
  tile.buffer @token state replicated : memref<1xi32>
  tile.buffer @best scratch reduced : memref<3xf32>
  tile.buffer @tokens output : memref<64xi32, "host_packet">
  tile.phase @embed calls @embed for t in 5 rows args [
    in @table[0 : 96, 0 : 36],
    in @token[0 : 1],
    out @h[8 * t : 8 * t + 8],
    inout @x[8 * t : 8 * t + 8]]
  tile.repeat l in 2 {
    tile.phase @attention calls @split for t in 12 args [
      in @x[t floordiv 4],
      in @x[t floordiv 4 * 8 : t floordiv 4 * 8 + 8],
      in @keys[l, t floordiv 4, t mod 4, 0 : (pos + 3 - t mod 4) floordiv 4, 0 : 4],
      out @keys[l, t floordiv 4, t mod 4, pos floordiv 4, 0 : 4] if (pos - t) mod 4 == 0,
      index (pos - t) mod 4]
  }
  tile.phase @stop calls @nothing for t in 1 args [in @x[0 : 8]]
}
