// What the verifiers of the nn dialect refuse, and in which words.
// RUN: amk-opt %s --split-input-file --verify-diagnostics

// A model steps one token at one position.
// expected-error @below {{arguments must be (tensor<i32>, index), got (index, tensor<i32>)}}
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%pos: index, %token: tensor<i32>) {
  %e = nn.param "e" : tensor<6x4xf32>
  %x = nn.embedding %e, %token : (tensor<6x4xf32>, tensor<i32>) -> tensor<4xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// A context has at least one position.
// expected-error @below {{context must be at least 1, got 0}}
nn.model @m {context = 0, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// Matrices are stored as f32 or bf16.
// expected-error @below {{dtype must be f32 or bf16, got f16}}
nn.model @m {context = 4, eos = array<i64>, dtype = f16} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// An eos token is a token.
// expected-error @below {{eos token 4 is outside 0..3}}
nn.model @m {context = 4, eos = array<i64: 1, 4>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// A key means one tensor.
// expected-error @below {{parameter "x" has two types: tensor<4xf32> and tensor<5xf32>}}
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  %y = nn.param "x" : tensor<5xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// Matrices have the model's dtype.
// expected-error @below {{parameter "e" must be stored as bf16, got tensor<6x4xf32>}}
nn.model @m {context = 4, eos = array<i64>, dtype = bf16} (%token: tensor<i32>, %pos: index) {
  %e = nn.param "e" : tensor<6x4xf32>
  %x = nn.embedding %e, %token : (tensor<6x4xf32>, tensor<i32>) -> tensor<4xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// Vectors are always f32.
// expected-error @below {{parameter "x" must be stored as f32, got tensor<4xbf16>}}
nn.model @m {context = 4, eos = array<i64>, dtype = bf16} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xbf16>
  %l = nn.param "l" : tensor<4xf32>
  %next = nn.argmax %l : tensor<4xf32>
  nn.return %l, %next : tensor<4xf32>
}

// -----

// A key may name a layer only where there is one.
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  // expected-error @below {{key "x.{layer}" names a layer outside of a nn.repeat}}
  %x = nn.param "x.{layer}" : tensor<4xf32>
  %next = nn.argmax %x : tensor<4xf32>
  nn.return %x, %next : tensor<4xf32>
}

// -----

// {layer} is the only placeholder.
// expected-error @below {{key "x.{expert}" may hold {layer} and no other braces}}
%x = nn.param "x.{expert}" : tensor<4xf32>

// -----

// A key is more than its layer.
// expected-error @below {{key "" may hold {layer} and no other braces}}
%x = nn.param "" : tensor<4xf32>

// -----

// Parameters are vectors or matrices of f32 or bf16.
// expected-error @below {{parameter must be a rank-1 or rank-2 f32 or bf16 tensor, got tensor<4xf16>}}
%x = nn.param "x" : tensor<4xf16>

// -----

// Sizes are static.
// expected-error @below {{parameter must have static positive sizes, got tensor<?xf32>}}
%x = nn.param "x" : tensor<?xf32>

// -----

// The embedding of a token is a row of the table.
%e = nn.param "e" : tensor<6x4xf32>
%t = "builtin.unrealized_conversion_cast"() : () -> tensor<i32>
// expected-error @below {{result must have the 4 columns of the table}}
%x = nn.embedding %e, %t : (tensor<6x4xf32>, tensor<i32>) -> tensor<6xf32>

// -----

// The table is a matrix.
%e = nn.param "e" : tensor<6xf32>
%t = "builtin.unrealized_conversion_cast"() : () -> tensor<i32>
// expected-error @below {{table must be a rank-2 f32 or bf16 tensor, got tensor<6xf32>}}
%x = nn.embedding %e, %t : (tensor<6xf32>, tensor<i32>) -> tensor<6xf32>

// -----

// A norm keeps its sign under the root.
%x = nn.param "x" : tensor<4xf32>
// expected-error @below {{eps must be finite and not negative, got -1.0}}
%y = nn.rms_norm %x, %x {eps = -1.0 : f64} : tensor<4xf32>

// -----

// Activations are f32 vectors.
%x = nn.param "x" : tensor<4xbf16>
// expected-error @below {{x must be a rank-1 f32 tensor, got tensor<4xbf16>}}
%y = nn.rms_norm %x, %x {eps = 0.0 : f64} : tensor<4xbf16>

// -----

// W x needs a column of W for every element of x.
%x = nn.param "x" : tensor<5xf32>
%w = nn.param "w" : tensor<6x4xf32>
// expected-error @below {{weight has 4 columns but x has 5 elements}}
%y = nn.linear %x, %w : (tensor<5xf32>, tensor<6x4xf32>) -> tensor<6xf32>

// -----

// W x has an element for every row of W.
%x = nn.param "x" : tensor<4xf32>
%w = nn.param "w" : tensor<6x4xf32>
// expected-error @below {{weight has 6 rows but the result has 4 elements}}
%y = nn.linear %x, %w : (tensor<4xf32>, tensor<6x4xf32>) -> tensor<4xf32>

// -----

// Heads are even and whole.
%x = nn.param "x" : tensor<6xf32>
%p = "builtin.unrealized_conversion_cast"() : () -> index
// expected-error @below {{head_dim 4 must be even and divide the 6 elements of x}}
%y = nn.rope %x, %p {head_dim = 4, frequencies = dense<1.0> : tensor<2xf32>} : tensor<6xf32>

// -----

// There is one frequency for each pair.
%x = nn.param "x" : tensor<8xf32>
%p = "builtin.unrealized_conversion_cast"() : () -> index
// expected-error @below {{frequencies must be tensor<2xf32>, got tensor<3xf32>}}
%y = nn.rope %x, %p {head_dim = 4, frequencies = dense<1.0> : tensor<3xf32>} : tensor<8xf32>

// -----

// Query heads share key heads evenly.
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %q = nn.param "q" : tensor<6xf32>
  %k = nn.param "k" : tensor<4xf32>
  // expected-error @below {{heads 3 must be a multiple of kv_heads 2}}
  %x = nn.attention %q, %k, %k, %pos {heads = 3, kv_heads = 2, head_dim = 2, scale = 1.0 : f64} : tensor<6xf32>, tensor<4xf32>
  %next = nn.argmax %x : tensor<6xf32>
  nn.return %x, %next : tensor<6xf32>
}

// -----

// Keys have the size of their heads.
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %q = nn.param "q" : tensor<8xf32>
  %k = nn.param "k" : tensor<8xf32>
  // expected-error @below {{k must have 2 * 2 elements, got 8}}
  %x = nn.attention %q, %k, %k, %pos {heads = 4, kv_heads = 2, head_dim = 2, scale = 1.0 : f64} : tensor<8xf32>, tensor<8xf32>
  %next = nn.argmax %x : tensor<8xf32>
  nn.return %x, %next : tensor<8xf32>
}

// -----

// The KV cache belongs to a model.
%q = nn.param "q" : tensor<4xf32>
%p = "builtin.unrealized_conversion_cast"() : () -> index
// expected-error @below {{'nn.attention' expects ancestor op 'nn.model'}}
%x = nn.attention %q, %q, %q, %p {heads = 2, kv_heads = 2, head_dim = 2, scale = 1.0 : f64} : tensor<4xf32>, tensor<4xf32>

// -----

// Elementwise operands have one length.
%x = nn.param "x" : tensor<4xf32>
%y = nn.param "y" : tensor<5xf32>
// expected-error @below {{attribute tensor<4xf32> expected from variable 'T', but got tensor<5xf32>}}
%z = "nn.add"(%x, %y) : (tensor<4xf32>, tensor<5xf32>) -> tensor<4xf32>

// -----

// Elementwise functions take f32 vectors.
%x = nn.param "x" : tensor<2x2xf32>
// expected-error @below {{x must be a rank-1 f32 tensor, got tensor<2x2xf32>}}
%z = nn.gelu %x : tensor<2x2xf32>

// -----

// The largest of a vector.
%x = nn.param "x" : tensor<2x2xf32>
// expected-error @below {{x must be a rank-1 f32 tensor, got tensor<2x2xf32>}}
%z = nn.argmax %x : tensor<2x2xf32>

// -----

// Layers repeat at least once.
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  // expected-error @below {{count must be at least 1, got 0}}
  %y = nn.repeat %layer = 0 iter(%h = %x) : tensor<4xf32> {
    nn.yield %h : tensor<4xf32>
  }
  %next = nn.argmax %y : tensor<4xf32>
  nn.return %y, %next : tensor<4xf32>
}

// -----

// A layer hands on what it was given.
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  // expected-error @below {{body must end in nn.yield of one value per carried value}}
  %y = nn.repeat %layer = 2 iter(%h = %x) : tensor<4xf32> {
    nn.yield
  }
  %next = nn.argmax %y : tensor<4xf32>
  nn.return %y, %next : tensor<4xf32>
}

// -----

// Layers do not nest.
nn.model @m {context = 4, eos = array<i64>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %x = nn.param "x" : tensor<4xf32>
  %y = nn.repeat %layer = 2 iter(%h = %x) : tensor<4xf32> {
    // expected-error @below {{'nn.repeat' expects parent op 'nn.model'}}
    %z = nn.repeat %inner = 2 iter(%i = %h) : tensor<4xf32> {
      nn.yield %i : tensor<4xf32>
    }
    nn.yield %z : tensor<4xf32>
  }
  %next = nn.argmax %y : tensor<4xf32>
  nn.return %y, %next : tensor<4xf32>
}

// -----

// Only a model returns.
%x = nn.param "x" : tensor<4xf32>
%next = nn.argmax %x : tensor<4xf32>
// expected-error @below {{'nn.return' expects parent op 'nn.model'}}
nn.return %x, %next : tensor<4xf32>

// -----

// Products are of f32 vectors.
%x = nn.param "x" : tensor<2x2xf32>
// expected-error @below {{operand must be a rank-1 f32 tensor, got tensor<2x2xf32>}}
%z = nn.mul %x, %x : tensor<2x2xf32>
