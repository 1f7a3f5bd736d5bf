// What lower-to-tiles makes of a model.
// RUN: amk-opt %s --split-input-file --lower-to-tiles="splits=3 units=2 slots=4" | filecheck %s

// The token's row of the embedding is the input of the head, whose best rows give the next token.
// The rows of the head are padded to whole tiles, and the padding never wins.
// CHECK:      tile.constant @embed_tokens {kind = "rows", sources = ["model.embed_tokens.weight"]} : memref<12x8xf32>
// CHECK-NEXT: tile.constant @w_lm_head {kind = "rows", sources = ["model.embed_tokens.weight"]} : memref<16x8xf32>
// CHECK-NEXT: tile.kernel @embed(%embed_tokens: memref<12x8xf32>, %forced: memref<1xi32>, %token: memref<1xi32>, %first: index, %x: memref<?xf32>) {
// CHECK-NEXT:   %0 = arith.constant 0 : index
// CHECK-NEXT:   %1 = tile.load %forced[%0]
// CHECK-NEXT:   %2 = arith.constant 0 : i32
// CHECK-NEXT:   %3 = arith.cmpi sge, %1, %2 : i32
// CHECK-NEXT:   %4 = tile.load %token[%0]
// CHECK-NEXT:   %5 = arith.select %3, %1, %4 : i32
// CHECK-NEXT:   %6 = arith.index_cast %5 : i32 to index
// CHECK-NEXT:   tile.map -> %x {counts = array<i64: 1>} {
// CHECK-NEXT:   ^bb0(%7: index):
// CHECK-NEXT:     %8 = arith.addi %first, %7 : index
// CHECK-NEXT:     %9 = tile.load %embed_tokens[%6, %8]
// CHECK-NEXT:     tile.yield %9 : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @poll(%stop: memref<1xi32, "host">, %stopping: memref<1xi32>) {
// CHECK-NEXT:   %10 = arith.constant 0 : index
// CHECK-NEXT:   %11 = tile.load %stop[%10]
// CHECK-NEXT:   tile.store %11, %stopping[%10]
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @lm_head(%w_lm_head: memref<?x8xf32, "stream">, %x_1: memref<8xf32>, %first_1: index, %logits: memref<?xf32>, %best_value: memref<1xf32>, %best_index: memref<1xi32>) {
// CHECK-NEXT:   tile.product %w_lm_head, %x_1 -> %logits argmax(%best_value, %best_index) {group = 1 : i64, counts = array<i64: 1>} prologue {
// CHECK-NEXT:   ^bb0(%12: index, %13: f32):
// CHECK-NEXT:     tile.yield %13 : f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0(%14: index, %15: f32):
// CHECK-NEXT:     %16 = arith.addi %first_1, %14 : index
// CHECK-NEXT:     %17 = arith.constant 12 : index
// CHECK-NEXT:     %18 = arith.cmpi ult, %16, %17 : index
// CHECK-NEXT:     %19 = arith.constant 0xff800000 : f32
// CHECK-NEXT:     %20 = arith.select %18, %15, %19 : f32
// CHECK-NEXT:     %21 = arith.index_cast %16 : index to i32
// CHECK-NEXT:     tile.yield %15, %20, %21 : f32, f32, i32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @select(%best_value_1: memref<2xf32>, %best_index_1: memref<2xi32>, %stopping_1: memref<1xi32>, %forced_1: memref<1xi32>, %token_1: memref<1xi32>) {
// CHECK-NEXT:   %22 = arith.constant 0 : index
// CHECK-NEXT:   %23 = tile.argmax %best_value_1, %best_index_1
// CHECK-NEXT:   tile.store %23, %token_1[%22]
// CHECK-NEXT:   %24 = tile.receive %stopping_1
// CHECK-NEXT:   %25 = arith.constant 0 : i32
// CHECK-NEXT:   %26 = arith.cmpi ne, %24, %25 : i32
// CHECK-NEXT:   %27 = tile.load %forced_1[%22]
// CHECK-NEXT:   %28 = arith.constant 0 : i32
// CHECK-NEXT:   %29 = arith.cmpi slt, %27, %28 : i32
// CHECK-NEXT:   %30 = arith.constant false
// CHECK-NEXT:   %31 = arith.constant 2 : i32
// CHECK-NEXT:   %32 = arith.cmpi eq, %23, %31 : i32
// CHECK-NEXT:   %33 = arith.ori %30, %32 : i1
// CHECK-NEXT:   %34 = arith.andi %33, %29 : i1
// CHECK-NEXT:   %35 = arith.ori %26, %34 : i1
// CHECK-NEXT:   tile.stop %35
// CHECK-NEXT: }
// CHECK-NEXT: tile.kernel @emit(%token_2: memref<1xi32>, %tokens: memref<1xi32, "host_packet">) {
// CHECK-NEXT:   %36 = arith.constant 0 : index
// CHECK-NEXT:   %37 = tile.load %token_2[%36]
// CHECK-NEXT:   tile.store %37, %tokens[%36]
// CHECK-NEXT: }
// CHECK-NEXT: tile.program @smallest attributes {context = 16 : i64, eos = array<i64: 2>, vocab = 12 : i64} {
// CHECK-NEXT:   tile.buffer @token state replicated : memref<1xi32>
// CHECK-NEXT:   tile.buffer @forced input : memref<17xi32>
// CHECK-NEXT:   tile.buffer @stop input : memref<1xi32, "host">
// CHECK-NEXT:   tile.buffer @stopping scratch : memref<1xi32>
// CHECK-NEXT:   tile.buffer @tokens output : memref<16xi32, "host_packet">
// CHECK-NEXT:   tile.buffer @x scratch : memref<8xf32>
// CHECK-NEXT:   tile.buffer @embed_tokens constant from @embed_tokens : memref<12x8xf32>
// CHECK-NEXT:   tile.buffer @logits output : memref<4x16xf32>
// CHECK-NEXT:   tile.buffer @best_value scratch reduced : memref<2xf32>
// CHECK-NEXT:   tile.buffer @best_index scratch reduced : memref<2xi32>
// CHECK-NEXT:   tile.buffer @w_lm_head constant from @w_lm_head : memref<16x8xf32, "stream">
// CHECK-NEXT:   tile.phase @embed calls @embed for t in 1 rows args [
// CHECK-NEXT:     in @embed_tokens[0 : 12, 0 : 8],
// CHECK-NEXT:     in @forced[pos : pos + 1],
// CHECK-NEXT:     in @token[0 : 1],
// CHECK-NEXT:     index t * 8,
// CHECK-NEXT:     out @x[t * 8 : t * 8 + 8]]
// CHECK-NEXT:   tile.phase @poll calls @poll for t in 1 args [
// CHECK-NEXT:     in @stop[0 : 1],
// CHECK-NEXT:     out @stopping[0 : 1]]
// CHECK-NEXT:   tile.phase @lm_head calls @lm_head for t in 2 rows args [
// CHECK-NEXT:     in @w_lm_head[t * 8 : t * 8 + 8, 0 : 8],
// CHECK-NEXT:     in @x[0 : 8],
// CHECK-NEXT:     index t * 8,
// CHECK-NEXT:     out @logits[pos mod 4, t * 8 : t * 8 + 8],
// CHECK-NEXT:     out @best_value[t : t + 1],
// CHECK-NEXT:     out @best_index[t : t + 1]]
// CHECK-NEXT:   tile.phase @select calls @select for t in 1 args [
// CHECK-NEXT:     in @best_value[0 : 2],
// CHECK-NEXT:     in @best_index[0 : 2],
// CHECK-NEXT:     in @stopping[0 : 1],
// CHECK-NEXT:     in @forced[pos + 1 : pos + 2],
// CHECK-NEXT:     out @token[0 : 1]]
// CHECK-NEXT:   tile.phase @emit calls @emit for t in 1 args [
// CHECK-NEXT:     in @token[0 : 1],
// CHECK-NEXT:     out @tokens[pos : pos + 1]]
// CHECK-NEXT: }
nn.model @smallest {context = 16, eos = array<i64: 2>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "model.embed_tokens.weight" : tensor<12x8xf32>
  %x = nn.embedding %e, %token : (tensor<12x8xf32>, tensor<i32>) -> tensor<8xf32>
  %logits = nn.linear %x, %e : (tensor<8xf32>, tensor<12x8xf32>) -> tensor<12xf32>
  %next = nn.argmax %logits : tensor<12xf32>
  nn.return %logits, %next : tensor<12xf32>
}

// -----

// A layer becomes a repeat: products of one vector share a phase, with their norm as a prologue and the
// rotation as an epilogue; attention is split over the positions; the residual stays with its owner.
// CHECK:      tile.constant @w_q_k_v {kind = "rows", sources = ["layers.{layer}.q_proj.weight", "layers.{layer}.k_proj.weight", "layers.{layer}.v_proj.weight"], pairs = array<i64: 4, 4, 0>} : memref<3x32x12xf32>
// CHECK:      tile.constant @norm {kind = "rows", sources = ["layers.{layer}.norm.weight"]} : memref<3x12xf32>
// CHECK:      tile.constant @rope_cos {kind = "rope_cos", frequencies = dense<[1.000000e+00, 5.000000e-01]> : tensor<2xf32>} : memref<16x2xf32>
// CHECK:      tile.kernel @q_k_v(%w_q_k_v: memref<?x12xf32, "stream">, %x_1: memref<12xf32>, %norm: memref<12xf32>, %rope_cos: memref<2xf32>, %rope_sin: memref<2xf32>, %first_1: index, %q_k_v_out: memref<?xf32>) {
// CHECK-NEXT:   tile.product %w_q_k_v, %x_1 -> %q_k_v_out {group = 2 : i64, counts = array<i64: 2>} prologue {
// CHECK-NEXT:   ^bb0([[V0:%\d+]]: index, [[V1:%\d+]]: f32):
// CHECK-NEXT:     [[V2:%\d+]] = tile.load %norm[[[V0]]]
// CHECK-NEXT:     [[V3:%\d+]] = arith.mulf [[V1]], [[V2]] : f32
// CHECK-NEXT:     [[V4:%\d+]] = arith.mulf [[V1]], [[V1]] : f32
// CHECK-NEXT:     tile.yield [[V3]], [[V4]] : f32, f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0([[V5:%\d+]]: index, [[V6:%\d+]]: f32, [[V7:%\d+]]: f32, [[V8:%\d+]]: f32):
// CHECK-NEXT:     [[V9:%\d+]] = arith.constant 1.200000e+01 : f32
// CHECK-NEXT:     [[V10:%\d+]] = arith.divf [[V8]], [[V9]] : f32
// CHECK-NEXT:     [[V11:%\d+]] = arith.constant 1.000000e-05 : f32
// CHECK-NEXT:     [[V12:%\d+]] = arith.addf [[V10]], [[V11]] : f32
// CHECK-NEXT:     [[V13:%\d+]] = math.rsqrt [[V12]] : f32
// CHECK-NEXT:     [[V14:%\d+]] = arith.mulf [[V6]], [[V13]] : f32
// CHECK-NEXT:     [[V15:%\d+]] = arith.mulf [[V7]], [[V13]] : f32
// CHECK-NEXT:     [[V16:%\d+]] = arith.addi %first_1, [[V5]] : index
// CHECK-NEXT:     [[V17:%\d+]] = arith.constant 2 : index
// CHECK-NEXT:     [[V18:%\d+]] = arith.remui [[V16]], [[V17]] : index
// CHECK-NEXT:     [[V19:%\d+]] = tile.load %rope_cos[[[V18]]]
// CHECK-NEXT:     [[V20:%\d+]] = tile.load %rope_sin[[[V18]]]
// CHECK-NEXT:     [[V21:%\d+]] = arith.mulf [[V14]], [[V19]] : f32
// CHECK-NEXT:     [[V22:%\d+]] = arith.mulf [[V15]], [[V20]] : f32
// CHECK-NEXT:     [[V23:%\d+]] = arith.subf [[V21]], [[V22]] : f32
// CHECK-NEXT:     [[V24:%\d+]] = arith.mulf [[V15]], [[V19]] : f32
// CHECK-NEXT:     [[V25:%\d+]] = arith.mulf [[V14]], [[V20]] : f32
// CHECK-NEXT:     [[V26:%\d+]] = arith.addf [[V24]], [[V25]] : f32
// CHECK-NEXT:     [[V27:%\d+]] = arith.constant 12 : index
// CHECK-NEXT:     [[V28:%\d+]] = arith.cmpi ult, [[V16]], [[V27]] : index
// CHECK-NEXT:     [[V29:%\d+]] = arith.select [[V28]], [[V23]], [[V14]] : f32
// CHECK-NEXT:     [[V30:%\d+]] = arith.select [[V28]], [[V26]], [[V15]] : f32
// CHECK-NEXT:     tile.yield [[V29]], [[V30]] : f32, f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      tile.kernel @attention(%q_k_v_out_1: memref<8xf32>, %q_k_v_out_2: memref<4xf32>, %q_k_v_out_3: memref<4xf32>, %keys: memref<?x4xf32>, %values: memref<?x4xf32>, %keys_1: memref<4xf32>, %values_1: memref<4xf32>, %partial: memref<2x2x6xf32>, %first_2: index) {
// CHECK-NEXT:   [[V0:%\d+]] = arith.constant 0 : index
// CHECK-NEXT:   [[V1:%\d+]] = arith.cmpi eq, %first_2, [[V0]] : index
// CHECK-NEXT:   tile.attention %q_k_v_out_1, %q_k_v_out_2, %q_k_v_out_3, %keys, %values append [[V1]] -> %keys_1, %values_1, %partial {scale = 5.000000e-01 : f64}
// CHECK-NEXT: }
// CHECK:      tile.kernel @combine(%partial_1: memref<6x4xf32>, %partial_2: memref<6x2xf32>, %attention_out: memref<4xf32>) {
// CHECK-NEXT:   tile.combine %partial_1, %partial_2 -> %attention_out {counts = array<i64: 1>} epilogue {
// CHECK-NEXT:   ^bb0([[V0:%\d+]]: index, [[V1:%\d+]]: f32):
// CHECK-NEXT:     tile.yield [[V1]] : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      tile.kernel @o(%w_o: memref<?x16xf32, "stream">, %attention_out_1: memref<16xf32>, %x_own_1: memref<?xf32>, %x_own_2: memref<?xf32>, %x_2: memref<?xf32>) {
// CHECK-NEXT:   tile.product %w_o, %attention_out_1 -> %x_own_2, %x_2 {group = 1 : i64, counts = array<i64: 1, 1>} prologue {
// CHECK-NEXT:   ^bb0([[V0:%\d+]]: index, [[V1:%\d+]]: f32):
// CHECK-NEXT:     tile.yield [[V1]] : f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0([[V2:%\d+]]: index, [[V3:%\d+]]: f32):
// CHECK-NEXT:     [[V4:%\d+]] = tile.load %x_own_1[[[V2]]]
// CHECK-NEXT:     [[V5:%\d+]] = arith.addf [[V4]], [[V3]] : f32
// CHECK-NEXT:     tile.yield [[V5]], [[V5]] : f32, f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:        tile.buffer @x scratch : memref<16xf32>
// CHECK:        tile.buffer @x_own scratch owned : memref<16xf32>
// CHECK:        tile.buffer @partial scratch : memref<4x6x6xf32>
// CHECK:        tile.buffer @keys state : memref<3x2x3x6x8xf32>
// CHECK:        tile.buffer @values state : memref<3x2x3x6x8xf32>
// CHECK:        tile.repeat l in 3 {
// CHECK-NEXT:     tile.phase @q_k_v calls @q_k_v for t in 4 rows args [
// CHECK-NEXT:       in @w_q_k_v[l, t * 8 : t * 8 + 8, 0 : 12],
// CHECK-NEXT:       in @x[0 : 12],
// CHECK-NEXT:       in @norm[l, 0 : 12],
// CHECK-NEXT:       in @rope_cos[pos, 0 : 2],
// CHECK-NEXT:       in @rope_sin[pos, 0 : 2],
// CHECK-NEXT:       index t * 4,
// CHECK-NEXT:       out @q_k_v_out[t * 8 : t * 8 + 8]]
// CHECK-NEXT:     tile.phase @attention calls @attention for t in 6 args [
// CHECK-NEXT:       in @q_k_v_out[(t floordiv 3) * 8 : (t floordiv 3) * 8 + 8],
// CHECK-NEXT:       in @q_k_v_out[(t floordiv 3) * 4 + 16 : (t floordiv 3) * 4 + 20] if (pos - t) mod 3 == 0,
// CHECK-NEXT:       in @q_k_v_out[(t floordiv 3) * 4 + 24 : (t floordiv 3) * 4 + 28] if (pos - t) mod 3 == 0,
// CHECK-NEXT:       in @keys[l, t floordiv 3, t mod 3, 0 : (pos + 2 - t mod 3) floordiv 3, 0 : 4],
// CHECK-NEXT:       in @values[l, t floordiv 3, t mod 3, 0 : (pos + 2 - t mod 3) floordiv 3, 0 : 4],
// CHECK-NEXT:       out @keys[l, t floordiv 3, t mod 3, pos floordiv 3, 0 : 4] if (pos - t) mod 3 == 0,
// CHECK-NEXT:       out @values[l, t floordiv 3, t mod 3, pos floordiv 3, 0 : 4] if (pos - t) mod 3 == 0,
// CHECK-NEXT:       out @partial[(t floordiv 3) * 2 : (t floordiv 3) * 2 + 2, (t mod 3) * 2 : (t mod 3) * 2 + 2, 0 : 6],
// CHECK-NEXT:       index (pos - t) mod 3]
// CHECK-NEXT:     tile.phase @combine calls @combine for t in 4 args [
// CHECK-NEXT:       in @partial[t, 0 : 6, 0 : 4],
// CHECK-NEXT:       in @partial[t, 0 : 6, 4 : 6],
// CHECK-NEXT:       out @attention_out[t * 4 : t * 4 + 4]]
// CHECK-NEXT:     tile.phase @o calls @o for t in 2 rows args [
// CHECK-NEXT:       in @w_o[l, t * 8 : t * 8 + 8, 0 : 16],
// CHECK-NEXT:       in @attention_out[0 : 16],
// CHECK-NEXT:       in @x_own[t * 8 : t * 8 + 8],
// CHECK-NEXT:       out @x_own[t * 8 : t * 8 + 8],
// CHECK-NEXT:       out @x[t * 8 : t * 8 + 8]]
// CHECK-NEXT:   }
nn.model @attends {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "embed_tokens.weight" : tensor<8x12xf32>
  %x0 = nn.embedding %e, %token : (tensor<8x12xf32>, tensor<i32>) -> tensor<12xf32>
  %x = nn.repeat %layer = 3 iter(%h = %x0) : tensor<12xf32> {
    %g = nn.param "layers.{layer}.norm.weight" : tensor<12xf32>
    %n = nn.rms_norm %h, %g {eps = 1.0e-5 : f64} : tensor<12xf32>
    %wq = nn.param "layers.{layer}.q_proj.weight" : tensor<16x12xf32>
    %wk = nn.param "layers.{layer}.k_proj.weight" : tensor<8x12xf32>
    %wv = nn.param "layers.{layer}.v_proj.weight" : tensor<8x12xf32>
    %q = nn.linear %n, %wq : (tensor<12xf32>, tensor<16x12xf32>) -> tensor<16xf32>
    %k = nn.linear %n, %wk : (tensor<12xf32>, tensor<8x12xf32>) -> tensor<8xf32>
    %v = nn.linear %n, %wv : (tensor<12xf32>, tensor<8x12xf32>) -> tensor<8xf32>
    %qr = nn.rope %q, %pos {head_dim = 4, frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : tensor<16xf32>
    %kr = nn.rope %k, %pos {head_dim = 4, frequencies = dense<[1.0, 0.5]> : tensor<2xf32>} : tensor<8xf32>
    %a = nn.attention %qr, %kr, %v, %pos {heads = 4, kv_heads = 2, head_dim = 4, scale = 0.5 : f64} : tensor<16xf32>, tensor<8xf32>
    %wo = nn.param "layers.{layer}.o_proj.weight" : tensor<12x16xf32>
    %o = nn.linear %a, %wo : (tensor<16xf32>, tensor<12x16xf32>) -> tensor<12xf32>
    %h1 = nn.add %h, %o : tensor<12xf32>
    nn.yield %h1 : tensor<12xf32>
  }
  %logits = nn.linear %x, %e : (tensor<12xf32>, tensor<8x12xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// The rows of products that are joined element by element alternate; sizes are those of whole tiles.
// Activations travel in the type of the model; eos tokens end the loop unless the next one is forced.
// CHECK:      tile.constant @w_gate_up {kind = "rows", sources = ["gate_proj.weight", "up_proj.weight"], interleave} : memref<40x16xbf16>
// CHECK:      tile.constant @down_proj_bias {kind = "rows", sources = ["down_proj.bias"]} : memref<16xf32>
// CHECK:      tile.kernel @gate_up(%w_gate_up: memref<?x16xbf16, "stream">, %x_1: memref<16xbf16>, %gate_up_out: memref<?xbf16>) fast {
// CHECK-NEXT:   tile.product %w_gate_up, %x_1 -> %gate_up_out {group = 2 : i64, counts = array<i64: 1>} prologue {
// CHECK-NEXT:   ^bb0([[V0:%\d+]]: index, [[V1:%\d+]]: f32):
// CHECK-NEXT:     tile.yield [[V1]] : f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0([[V2:%\d+]]: index, [[V3:%\d+]]: f32, [[V4:%\d+]]: f32):
// CHECK-NEXT:     [[V5:%\d+]] = arith.negf [[V3]] : f32
// CHECK-NEXT:     [[V6:%\d+]] = math.exp [[V5]] : f32
// CHECK-NEXT:     [[V7:%\d+]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:     [[V8:%\d+]] = arith.addf [[V7]], [[V6]] : f32
// CHECK-NEXT:     [[V9:%\d+]] = arith.divf [[V3]], [[V8]] : f32
// CHECK-NEXT:     [[V10:%\d+]] = arith.mulf [[V9]], [[V4]] : f32
// CHECK-NEXT:     tile.yield [[V10]] : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      tile.kernel @down(%w_down: memref<?x20xbf16, "stream">, %gate_up_out_1: memref<20xbf16>, %down_proj_bias: memref<?xf32>, %down_out: memref<?xbf16>) fast {
// CHECK-NEXT:   tile.product %w_down, %gate_up_out_1 -> %down_out {group = 1 : i64, counts = array<i64: 1>} prologue {
// CHECK-NEXT:   ^bb0([[V0:%\d+]]: index, [[V1:%\d+]]: f32):
// CHECK-NEXT:     tile.yield [[V1]] : f32
// CHECK-NEXT:   } epilogue {
// CHECK-NEXT:   ^bb0([[V2:%\d+]]: index, [[V3:%\d+]]: f32):
// CHECK-NEXT:     [[V4:%\d+]] = tile.load %down_proj_bias[[[V2]]]
// CHECK-NEXT:     [[V5:%\d+]] = arith.addf [[V3]], [[V4]] : f32
// CHECK-NEXT:     [[V6:%\d+]] = arith.mulf [[V5]], [[V5]] : f32
// CHECK-NEXT:     [[V7:%\d+]] = arith.mulf [[V6]], [[V5]] : f32
// CHECK-NEXT:     [[V8:%\d+]] = arith.constant 4.471500e-02 : f32
// CHECK-NEXT:     [[V9:%\d+]] = arith.mulf [[V8]], [[V7]] : f32
// CHECK-NEXT:     [[V10:%\d+]] = arith.addf [[V5]], [[V9]] : f32
// CHECK-NEXT:     [[V11:%\d+]] = arith.constant 1.59576917 : f32
// CHECK-NEXT:     [[V12:%\d+]] = arith.mulf [[V11]], [[V10]] : f32
// CHECK-NEXT:     [[V13:%\d+]] = arith.negf [[V12]] : f32
// CHECK-NEXT:     [[V14:%\d+]] = math.exp [[V13]] : f32
// CHECK-NEXT:     [[V15:%\d+]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:     [[V16:%\d+]] = arith.addf [[V15]], [[V14]] : f32
// CHECK-NEXT:     [[V17:%\d+]] = arith.divf [[V5]], [[V16]] : f32
// CHECK-NEXT:     tile.yield [[V17]] : f32
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK:      tile.kernel @select(%best_value_1: memref<1xf32>, %best_index_1: memref<1xi32>, %stopping_1: memref<1xi32>, %forced_1: memref<1xi32>, %token_1: memref<1xi32>) {
// CHECK-NEXT:   [[V0:%\d+]] = arith.constant 0 : index
// CHECK-NEXT:   [[V1:%\d+]] = tile.argmax %best_value_1, %best_index_1
// CHECK-NEXT:   tile.store [[V1]], %token_1[[[V0]]]
// CHECK-NEXT:   [[V2:%\d+]] = tile.receive %stopping_1
// CHECK-NEXT:   [[V3:%\d+]] = arith.constant 0 : i32
// CHECK-NEXT:   [[V4:%\d+]] = arith.cmpi ne, [[V2]], [[V3]] : i32
// CHECK-NEXT:   [[V5:%\d+]] = tile.load %forced_1[[[V0]]]
// CHECK-NEXT:   [[V6:%\d+]] = arith.constant 0 : i32
// CHECK-NEXT:   [[V7:%\d+]] = arith.cmpi slt, [[V5]], [[V6]] : i32
// CHECK-NEXT:   [[V8:%\d+]] = arith.constant false
// CHECK-NEXT:   [[V9:%\d+]] = arith.constant 2 : i32
// CHECK-NEXT:   [[V10:%\d+]] = arith.cmpi eq, [[V1]], [[V9]] : i32
// CHECK-NEXT:   [[V11:%\d+]] = arith.ori [[V8]], [[V10]] : i1
// CHECK-NEXT:   [[V12:%\d+]] = arith.constant 5 : i32
// CHECK-NEXT:   [[V13:%\d+]] = arith.cmpi eq, [[V1]], [[V12]] : i32
// CHECK-NEXT:   [[V14:%\d+]] = arith.ori [[V11]], [[V13]] : i1
// CHECK-NEXT:   [[V15:%\d+]] = arith.andi [[V14]], [[V7]] : i1
// CHECK-NEXT:   [[V16:%\d+]] = arith.ori [[V4]], [[V15]] : i1
// CHECK-NEXT:   tile.stop [[V16]]
// CHECK-NEXT: }
// CHECK:        tile.buffer @gate_up_out scratch : memref<24xbf16>
// CHECK:        tile.buffer @logits output : memref<4x8xf32>
// CHECK:        tile.phase @gate_up calls @gate_up for t in 5 rows args [
// CHECK-NEXT:     in @w_gate_up[t * 8 : t * 8 + 8, 0 : 16],
// CHECK-NEXT:     in @x[0 : 16],
// CHECK-NEXT:     out @gate_up_out[t * 4 : t * 4 + 4]]
// CHECK:        tile.phase @down calls @down for t in 2 rows args [
// CHECK-NEXT:     in @w_down[t * 8 : t * 8 + 8, 0 : 20],
// CHECK-NEXT:     in @gate_up_out[0 : 20],
// CHECK-NEXT:     in @down_proj_bias[t * 8 : t * 8 + 8],
// CHECK-NEXT:     out @down_out[t * 8 : t * 8 + 8]]
// CHECK:        tile.phase @lm_head calls @lm_head for t in 1 rows args [
// CHECK-NEXT:     in @w_lm_head[t * 8 : t * 8 + 8, 0 : 16],
// CHECK-NEXT:     in @down_out[0 : 16],
// CHECK-NEXT:     index t * 8,
// CHECK-NEXT:     out @logits[pos mod 4, t * 8 : t * 8 + 8],
// CHECK-NEXT:     out @best_value[t : t + 1],
// CHECK-NEXT:     out @best_index[t : t + 1]]
nn.model @gated {context = 16, eos = array<i64: 2, 5>, dtype = bf16} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "embed_tokens.weight" : tensor<8x16xbf16>
  %x = nn.embedding %e, %token : (tensor<8x16xbf16>, tensor<i32>) -> tensor<16xf32>
  %wg = nn.param "gate_proj.weight" : tensor<20x16xbf16>
  %wu = nn.param "up_proj.weight" : tensor<20x16xbf16>
  %gate = nn.linear %x, %wg : (tensor<16xf32>, tensor<20x16xbf16>) -> tensor<20xf32>
  %up = nn.linear %x, %wu : (tensor<16xf32>, tensor<20x16xbf16>) -> tensor<20xf32>
  %act = nn.silu %gate : tensor<20xf32>
  %m = nn.mul %act, %up : tensor<20xf32>
  %wd = nn.param "down_proj.weight" : tensor<16x20xbf16>
  %down = nn.linear %m, %wd : (tensor<20xf32>, tensor<16x20xbf16>) -> tensor<16xf32>
  %b = nn.param "down_proj.bias" : tensor<16xf32>
  %biased = nn.add %down, %b : tensor<16xf32>
  %y = nn.gelu %biased : tensor<16xf32>
  %logits = nn.linear %y, %e : (tensor<16xf32>, tensor<8x16xbf16>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}
