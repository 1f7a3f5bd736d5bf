// What lower-to-tiles refuses, and in which words.
// RUN: amk-opt %s --split-input-file --verify-diagnostics --lower-to-tiles

// An element-wise operation follows a product.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  // expected-error @below {{lower-to-tiles: nn.silu cannot be fused with the product before it}}
  %y = nn.silu %x : tensor<8xf32>
  %logits = nn.linear %y, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// A query and a key are in the same order.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  %wq = nn.param "q.weight" : tensor<8x8xf32>
  %q = nn.linear %x, %wq : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wk = nn.param "k.weight" : tensor<8x8xf32>
  %k = nn.linear %x, %wk : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %r = nn.rope %q, %pos {head_dim = 8, frequencies = dense<[1.0, 0.5, 0.2, 0.1]> : tensor<4xf32>} : tensor<8xf32>
  // expected-error @below {{lower-to-tiles: the query and the key of an attention must both be rotated, or neither}}
  %y = nn.attention %r, %k, %k, %pos {heads = 1, kv_heads = 1, head_dim = 8, scale = 0.5 : f64} : tensor<8xf32>, tensor<8xf32>
  %logits = nn.linear %y, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// The values of an attention are in the order of the model.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  %wq = nn.param "q.weight" : tensor<8x8xf32>
  %q = nn.linear %x, %wq : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  // expected-error @below {{lower-to-tiles: a rotated vector can only be the query or the key of an attention}}
  %r = nn.rope %q, %pos {head_dim = 8, frequencies = dense<[1.0, 0.5, 0.2, 0.1]> : tensor<4xf32>} : tensor<8xf32>
  %y = nn.attention %r, %r, %r, %pos {heads = 1, kv_heads = 1, head_dim = 8, scale = 0.5 : f64} : tensor<8xf32>, tensor<8xf32>
  %logits = nn.linear %y, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// The columns of a matrix are in the order of the model.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  %wq = nn.param "q.weight" : tensor<8x8xf32>
  %q = nn.linear %x, %wq : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  // expected-error @below {{lower-to-tiles: a rotated vector can only be the query or the key of an attention}}
  %y = nn.rope %q, %pos {head_dim = 8, frequencies = dense<[1.0, 0.5, 0.2, 0.1]> : tensor<4xf32>} : tensor<8xf32>
  %logits = nn.linear %y, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// Rotations of one phase share their tables.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  %wq = nn.param "q.weight" : tensor<8x8xf32>
  %q = nn.linear %x, %wq : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wk = nn.param "k.weight" : tensor<8x8xf32>
  %k = nn.linear %x, %wk : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wv = nn.param "v.weight" : tensor<8x8xf32>
  %v = nn.linear %x, %wv : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  // expected-error @below {{lower-to-tiles: rotations of one phase must have the same frequencies}}
  %r = nn.rope %q, %pos {head_dim = 8, frequencies = dense<[1.0, 0.5, 0.2, 0.1]> : tensor<4xf32>} : tensor<8xf32>
  %s = nn.rope %k, %pos {head_dim = 8, frequencies = dense<[1.0, 0.5, 0.2, 0.3]> : tensor<4xf32>} : tensor<8xf32>
  %y = nn.attention %r, %s, %v, %pos {heads = 1, kv_heads = 1, head_dim = 8, scale = 0.5 : f64} : tensor<8xf32>, tensor<8xf32>
  %logits = nn.linear %y, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// An attention ends in a product.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  %wq = nn.param "q.weight" : tensor<8x8xf32>
  %q = nn.linear %x, %wq : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wk = nn.param "k.weight" : tensor<8x8xf32>
  %k = nn.linear %x, %wk : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wv = nn.param "v.weight" : tensor<8x8xf32>
  %v = nn.linear %x, %wv : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  // expected-error @below {{lower-to-tiles: the result of an attention must be the input of a product}}
  %y = nn.attention %q, %k, %v, %pos {heads = 1, kv_heads = 1, head_dim = 8, scale = 0.5 : f64} : tensor<8xf32>, tensor<8xf32>
  %z = nn.add %y, %x : tensor<8xf32>
  %logits = nn.linear %x, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}

// -----

// A joined product cannot be rotated.
nn.model @m {context = 16, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e.weight" : tensor<8x8xf32>
  %x = nn.embedding %e, %token : (tensor<8x8xf32>, tensor<i32>) -> tensor<8xf32>
  %wq = nn.param "q.weight" : tensor<8x8xf32>
  // expected-error @below {{lower-to-tiles: a rotation of joined products is not supported}}
  %q = nn.linear %x, %wq : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wk = nn.param "k.weight" : tensor<8x8xf32>
  %k = nn.linear %x, %wk : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %wv = nn.param "v.weight" : tensor<8x8xf32>
  %v = nn.linear %x, %wv : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %m = nn.mul %q, %k : tensor<8xf32>
  %r = nn.rope %m, %pos {head_dim = 8, frequencies = dense<[1.0, 0.5, 0.2, 0.1]> : tensor<4xf32>} : tensor<8xf32>
  %y = nn.attention %r, %r, %v, %pos {heads = 1, kv_heads = 1, head_dim = 8, scale = 0.5 : f64} : tensor<8xf32>, tensor<8xf32>
  %logits = nn.linear %y, %e : (tensor<8xf32>, tensor<8x8xf32>) -> tensor<8xf32>
  %next = nn.argmax %logits : tensor<8xf32>
  nn.return %logits, %next : tensor<8xf32>
}
