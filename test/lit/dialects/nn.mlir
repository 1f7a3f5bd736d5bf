// Every op of the nn dialect keeps its meaning through the pretty and the generic form.
// RUN: amk-opt %s | amk-opt | filecheck %s
// RUN: amk-opt %s --print-op-generic | filecheck %s --check-prefix=GENERIC
// RUN: amk-opt %s --print-op-generic | amk-opt | filecheck %s

// CHECK:       nn.model @tiny {context = 64 : i64, eos = array<i64: 2, 5>, dtype = bf16} (%token: tensor<i32>, %pos: index) {
// CHECK-NEXT:    %table = nn.param "model.embed_tokens.weight" : tensor<96x8xbf16>
// CHECK-NEXT:    %x0 = nn.embedding %table, %token : (tensor<96x8xbf16>, tensor<i32>) -> tensor<8xf32>
// CHECK-NEXT:    %x = nn.repeat %layer = 3 iter(%h = %x0) : tensor<8xf32> {
// CHECK-NEXT:      %g = nn.param "model.layers.{layer}.input_layernorm.weight" : tensor<8xf32>
// CHECK-NEXT:      %n = nn.rms_norm %h, %g {eps = 1.000000e-05 : f64} : tensor<8xf32>
// CHECK-NEXT:      %wq = nn.param "model.layers.{layer}.self_attn.q_proj.weight" : tensor<8x8xbf16>
// CHECK-NEXT:      %q = nn.linear %n, %wq : (tensor<8xf32>, tensor<8x8xbf16>) -> tensor<8xf32>
// CHECK-NEXT:      %wk = nn.param "model.layers.{layer}.self_attn.k_proj.weight" : tensor<4x8xbf16>
// CHECK-NEXT:      %k = nn.linear %n, %wk : (tensor<8xf32>, tensor<4x8xbf16>) -> tensor<4xf32>
// CHECK-NEXT:      %qr = nn.rope %q, %pos {head_dim = 4 : i64, frequencies = dense<[1.000000e+00, 1.000000e-02]> : tensor<2xf32>} : tensor<8xf32>
// CHECK-NEXT:      %a = nn.attention %qr, %k, %k, %pos {heads = 2 : i64, kv_heads = 1 : i64, head_dim = 4 : i64, scale = 5.000000e-01 : f64} : tensor<8xf32>, tensor<4xf32>
// CHECK-NEXT:      %s = nn.silu %a : tensor<8xf32>
// CHECK-NEXT:      %e = nn.gelu %s : tensor<8xf32>
// CHECK-NEXT:      %m = nn.mul %e, %h : tensor<8xf32>
// CHECK-NEXT:      %h1 = nn.add %m, %g : tensor<8xf32>
// CHECK-NEXT:      nn.yield %h1 : tensor<8xf32>
// CHECK-NEXT:    }
// CHECK-NEXT:    %logits = nn.linear %x, %table : (tensor<8xf32>, tensor<96x8xbf16>) -> tensor<96xf32>
// CHECK-NEXT:    %next = nn.argmax %logits : tensor<96xf32>
// CHECK-NEXT:    nn.return %logits, %next : tensor<96xf32>
// CHECK-NEXT:  }

// GENERIC:       "nn.model"() <{sym_name = "tiny", context = 64 : i64, eos = array<i64: 2, 5>, dtype = bf16}> ({
// GENERIC-NEXT:  ^bb0(%token: tensor<i32>, %pos: index):
// GENERIC-NEXT:    %table = "nn.param"() <{key = "model.embed_tokens.weight"}> : () -> tensor<96x8xbf16>
// GENERIC-NEXT:    %x0 = "nn.embedding"(%table, %token) : (tensor<96x8xbf16>, tensor<i32>) -> tensor<8xf32>
// GENERIC-NEXT:    %x = "nn.repeat"(%x0) <{count = 3 : i64}> ({
// GENERIC-NEXT:    ^bb0(%layer: index, %h: tensor<8xf32>):
// GENERIC:           "nn.rms_norm"(%h, %g) <{eps = 1.000000e-05 : f64}> : (tensor<8xf32>, tensor<8xf32>) -> tensor<8xf32>
// GENERIC:           "nn.yield"(%h1) : (tensor<8xf32>) -> ()
nn.model @tiny {context = 64 : i64, eos = array<i64: 2, 5>, dtype = bf16} (%token: tensor<i32>, %pos: index) {
  %table = nn.param "model.embed_tokens.weight" : tensor<96x8xbf16>
  %x0 = nn.embedding %table, %token : (tensor<96x8xbf16>, tensor<i32>) -> tensor<8xf32>
  %x = nn.repeat %layer = 3 iter(%h = %x0) : tensor<8xf32> {
    %g = nn.param "model.layers.{layer}.input_layernorm.weight" : tensor<8xf32>
    %n = nn.rms_norm %h, %g {eps = 1.0e-5 : f64} : tensor<8xf32>
    %wq = nn.param "model.layers.{layer}.self_attn.q_proj.weight" : tensor<8x8xbf16>
    %q = nn.linear %n, %wq : (tensor<8xf32>, tensor<8x8xbf16>) -> tensor<8xf32>
    %wk = nn.param "model.layers.{layer}.self_attn.k_proj.weight" : tensor<4x8xbf16>
    %k = nn.linear %n, %wk : (tensor<8xf32>, tensor<4x8xbf16>) -> tensor<4xf32>
    %qr = nn.rope %q, %pos {head_dim = 4, frequencies = dense<[1.0, 0.01]> : tensor<2xf32>} : tensor<8xf32>
    %a = nn.attention %qr, %k, %k, %pos {heads = 2, kv_heads = 1, head_dim = 4, scale = 0.5 : f64} : tensor<8xf32>, tensor<4xf32>
    %s = nn.silu %a : tensor<8xf32>
    %e = nn.gelu %s : tensor<8xf32>
    %m = nn.mul %e, %h : tensor<8xf32>
    %h1 = nn.add %m, %g : tensor<8xf32>
    nn.yield %h1 : tensor<8xf32>
  }
  %logits = nn.linear %x, %table : (tensor<8xf32>, tensor<96x8xbf16>) -> tensor<96xf32>
  %next = nn.argmax %logits : tensor<96xf32>
  nn.return %logits, %next : tensor<96xf32>
}

// A repeat may carry several values, and ops keep attributes that are not their own.
// CHECK:       nn.model @two {context = 1 : i64, eos = array<i64>, dtype = f32, note = "kept"} (%token: tensor<i32>, %pos: index) {
// CHECK:         %y, %z = nn.repeat %layer = 1 iter(%a = %x, %b = %x) : tensor<4xf32>, tensor<4xf32> {
// CHECK-NEXT:      nn.yield %b, %a : tensor<4xf32>, tensor<4xf32>
// CHECK-NEXT:    } attributes {mark}
nn.model @two {context = 1, eos = array<i64>, dtype = f32, note = "kept"} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e" : tensor<6x4xf32>
  %x = nn.embedding %e, %token : (tensor<6x4xf32>, tensor<i32>) -> tensor<4xf32>
  %y, %z = nn.repeat %layer = 1 iter(%a = %x, %b = %x) : tensor<4xf32>, tensor<4xf32> {
    nn.yield %b, %a : tensor<4xf32>, tensor<4xf32>
  } attributes {mark}
  %next = nn.argmax %y : tensor<4xf32>
  nn.return %z, %next : tensor<4xf32>
}
