// What the options of lower-to-tiles change.
// RUN: amk-opt %s --lower-to-tiles="exchange=bf16 splits=1" | filecheck %s --check-prefix=EXCHANGE
// RUN: amk-opt %s --lower-to-tiles | filecheck %s --check-prefix=DEFAULT
// RUN: amk-opt %s --lower-to-tiles="combine=2" | filecheck %s --check-prefix=COMBINE
// RUN: not amk-opt %s --lower-to-tiles="combine=3" 2>&1 | filecheck %s --check-prefix=WRONG

// Activations travel as bf16, the residual of an owner and the caches do not; one split needs no merge
// of several parts, and the position that it appends is every position.
// EXCHANGE: tile.kernel @q_k_v(%w_q_k_v: memref<?x12xf32, "stream">, %x_1: memref<12xbf16>, %norm: memref<12xf32>, %rope_cos: memref<2xf32>, %rope_sin: memref<2xf32>, %first_1: index, %q_k_v_out: memref<?xbf16>) fast {
// EXCHANGE: tile.kernel @attention(%q_k_v_out_1: memref<8xbf16>, %q_k_v_out_2: memref<4xbf16>, %q_k_v_out_3: memref<4xbf16>, %keys: memref<?x4xf32>, %values: memref<?x4xf32>, %keys_1: memref<4xf32>, %values_1: memref<4xf32>, %partial: memref<2x1x6xf32>, %first_2: index) fast {
// EXCHANGE: tile.buffer @x scratch : memref<16xbf16>
// EXCHANGE: tile.buffer @x_own scratch owned : memref<16xf32>
// EXCHANGE: tile.buffer @partial scratch : memref<4x1x6xf32>
// EXCHANGE: tile.buffer @keys state : memref<3x2x1x16x8xf32>
// EXCHANGE: tile.phase @attention calls @attention for t in 2 args [
// EXCHANGE: in @keys[l, t, 0, 0 : pos, 0 : 4],
// EXCHANGE: out @keys[l, t, 0, pos, 0 : 4] if 0 == 0,

// Splits and units are chosen so that many workers and their warps share the cache.
// DEFAULT: tile.buffer @partial scratch : memref<4x32x6xf32>
// DEFAULT: tile.buffer @keys state : memref<3x2x16x1x8xf32>
// DEFAULT: tile.phase @attention calls @attention for t in 32 args [
// DEFAULT: out @keys[l, t floordiv 16, t mod 16, pos floordiv 16, 0 : 4] if (pos - t) mod 16 == 0,
// DEFAULT: tile.phase @combine calls @combine for t in 4 args [

// Two tasks for each of the four heads, of two elements each.
// COMBINE: tile.phase @combine calls @combine for t in 8 args [
// COMBINE: out @attention_out[t * 2 : t * 2 + 2]]
// WRONG: lower-to-tiles: combine must be even and divide the 4 elements of a head, got 3
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
