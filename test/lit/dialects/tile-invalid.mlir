// What the verifiers and parsers of the tile dialect refuse, and in which words.
// RUN: amk-opt %s --split-input-file --verify-diagnostics

// A constant is made in one of three ways.
// expected-error @below {{unknown kind 'columns' of constant; known: rows, rope_cos, rope_sin}}
tile.constant @c {kind = "columns", sources = ["a"]} : memref<4xf32>

// -----

// Rows come from somewhere.
// expected-error @below {{a constant of kind 'rows' needs sources}}
tile.constant @c {kind = "rows"} : memref<4xf32>

// -----

// A table of rotations needs its frequencies.
// expected-error @below {{a constant of kind 'rope_sin' needs frequencies}}
tile.constant @c {kind = "rope_sin"} : memref<4x2xf32>

// -----

// Each source says how its rows are paired.
// expected-error @below {{pairs must give one number for each source}}
tile.constant @c {kind = "rows", sources = ["a", "b"], pairs = array<i64: 4>} : memref<8x4xf32>

// -----

// Elements are f32, bf16 or i32.
// expected-error @below {{elements must be f32, bf16 or i32, got f16}}
tile.constant @c {kind = "rows", sources = ["a"]} : memref<4xf16>

// -----

// There are five memory spaces beside global memory.
// expected-error @below {{unknown memory space "texture"; known: stream, packet, shared, host, host_packet}}
tile.buffer @b scratch : memref<4xf32, "texture">

// -----

// A memory space is a name.
// expected-error @below {{unknown memory space 3 : i64; known: stream, packet, shared, host, host_packet}}
tile.buffer @b scratch : memref<4xf32, 3>

// -----

// A buffer has one of five kinds.
// expected-error @below {{unknown kind 'weights' of buffer; known: input, constant, state, scratch, output}}
tile.buffer @b weights : memref<4xf32>

// -----

// A buffer has a size.
// expected-error @below {{a buffer needs a static, positive shape, got memref<?xf32>}}
tile.buffer @b scratch : memref<?xf32>

// -----

// A buffer is not empty.
// expected-error @below {{a buffer needs a static, positive shape, got memref<0xf32>}}
tile.buffer @b scratch : memref<0xf32>

// -----

// A buffer is memory.
// expected-error @below {{a buffer has a memref type}}
tile.buffer @b scratch : f32

// -----

// A buffer is placed in one of three ways.
// expected-error @below {{unknown placement 'everywhere'}}
"tile.buffer"() <{sym_name = "b", kind = "scratch", placement = "everywhere", type = memref<4xf32>}> : () -> ()

// -----

// A phase has tiles.
// expected-error @below {{a phase needs at least one tile}}
tile.phase @p calls @k for t in 0 args []

// -----

// A repeat runs at least once.
// expected-error @below {{a repeat needs a positive count}}
tile.repeat l in 0 {
  tile.phase @p calls @k for t in 1 args []
}

// -----

// An access says whether it reads or writes.
// expected-error @below {{Expected one of 'in', 'inout', 'out': the mode of an access}}
tile.phase @p calls @k for t in 1 args [read @b[0 : 4]]

// -----

// An access names a buffer.
// expected-error @below {{expected the @name of a buffer}}
tile.phase @p calls @k for t in 1 args [in b[0 : 4]]

// -----

// A bound is an integer expression.
// expected-error @below {{expected an integer expression}}
tile.phase @p calls @k for t in 1 args [in @b[0 : ]]

// -----

// A bound is affine.
// expected-error @below {{'(t) * (l)' is a product of two variables}}
tile.phase @p calls @k for t in 1 args [in @b[t * l]]

// -----

// Divisors are constant.
// expected-error @below {{'(t) floordiv (l)' does not divide by a positive constant}}
tile.phase @p calls @k for t in 1 args [in @b[t floordiv l]]

// -----

// Divisors are positive.
// expected-error @below {{'(t) mod (0)' does not divide by a positive constant}}
tile.phase @p calls @k for t in 1 args [in @b[t mod 0]]

// -----

// A guard holds where its expression is 0.
// expected-error @below {{a guard compares with 0}}
tile.phase @p calls @k for t in 1 args [in @b[t] if t == 1]

// -----

// The parameters of a kernel are memory or indices.
// expected-error @below {{expected a memref type, got f32}}
tile.kernel @k(%x: f32) {
}

// -----

// A kernel computes with scalars and tiles only.
// expected-error @below {{'nn.param' cannot stand in a kernel}}
tile.kernel @k(%x: memref<4xf32>) {
  %e = nn.param "e" : tensor<4xf32>
}

// -----

// An element is loaded from memory.
tile.kernel @k(%i: index) {
  // expected-error @below {{tile.load reads a memref}}
  %v = tile.load %i[%i]
}

// -----

// There is an index for each dimension.
tile.kernel @k(%m: memref<4x4xf32>, %i: index) {
  // expected-error @below {{what tile.load reads must have rank 1, got memref<4x4xf32>}}
  %v = tile.load %m[%i]
}

// -----

// Packets are received, not loaded.
tile.kernel @k(%m: memref<4xf32, "packet">, %i: index) {
  // expected-error @below {{tile.load cannot read memory space 'packet'}}
  %v = tile.load %m[%i]
}

// -----

// Streamed weights are read by products only.
tile.kernel @k(%m: memref<4xf32, "stream">, %i: index) {
  // expected-error @below {{tile.load cannot read memory space 'stream'}}
  %v = tile.load %m[%i]
}

// -----

// A bf16 element is computed with as f32.
tile.kernel @k(%m: memref<4xbf16>, %i: index) {
  // expected-error @below {{tile.load of memref<4xbf16> cannot give bf16}}
  %v = "tile.load"(%m, %i) : (memref<4xbf16>, index) -> bf16
}

// -----

// A value is stored as what it is.
tile.kernel @k(%m: memref<4xi32>, %i: index) {
  %v = arith.constant 1.0 : f32
  // expected-error @below {{tile.store of f32 into memref<4xi32>}}
  tile.store %v, %m[%i]
}

// -----

// A store has an index for each dimension.
tile.kernel @k(%m: memref<4xf32>, %i: index) {
  %v = arith.constant 1.0 : f32
  // expected-error @below {{what tile.store writes must have rank 0, got memref<4xf32>}}
  tile.store %v, %m[]
}

// -----

// A region yields instead of storing.
tile.kernel @k(%m: memref<4xf32>) {
  tile.map -> %m {counts = array<i64: 1>} {
  ^bb0(%i: index):
    %v = arith.constant 1.0 : f32
    // expected-error @below {{tile.store stands in the body of a kernel; a region yields}}
    tile.store %v, %m[%i]
    tile.yield %v : f32
  }
}

// -----

// A product says how many elements each output takes.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{expected counts = array<i64: …>, the values that each output takes}}
  tile.product %w, %x -> %y {group = 1 : i64} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// A product says how many rows its epilogue sees.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{expected group = N : i64}}
  tile.product %w, %x -> %y {counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The columns of the weights are the elements of the input.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<5xf32>, %y: memref<?xf32>) {
  // expected-error @below {{an input of memref<5xf32> does not fit weights of memref<?x4xf32, "stream">}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The number of columns is known.
tile.kernel @k(%w: memref<?x?xf32, "stream">, %x: memref<?xf32>, %y: memref<?xf32>) {
  // expected-error @below {{an input of memref<?xf32> does not fit weights of memref<?x?xf32, "stream">}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// Weights are a matrix.
tile.kernel @k(%w: memref<4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the weights of a product must have rank 2, got memref<4xf32, "stream">}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// Weights are floats.
tile.kernel @k(%w: memref<?x4xi32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{weights must be f32 or bf16, got memref<?x4xi32, "stream">}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// An argmax has a value and an index.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{argmax takes the outputs of its value and of its index}}
  tile.product %w, %x -> %y argmax(%y) {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// Groups of rows divide a tile.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{a group is 1, 2, 4 or 8 rows, got 3}}
  tile.product %w, %x -> %y {group = 3 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The prologue sees one element.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the prologue takes (index, f32)}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The prologue gives one operand, and at most one more value.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the prologue must yield (f32), it yields (f32, f32, f32)}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v, %v, %v : f32, f32, f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The epilogue sees a group of rows.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the epilogue takes an index, 2 rows}}
  tile.product %w, %x -> %y {group = 2 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The epilogue sees the statistic.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the epilogue takes an index, 1 rows and the statistic}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v, %v : f32, f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The epilogue yields the elements of all outputs.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the epilogue must yield (f32, f32), it yields (f32)}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 2>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// A candidate of an argmax is a value and its index.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{the epilogue must yield (f32, f32, i32), it yields (f32)}}
  tile.product %w, %x -> %y argmax(%x, %y) {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// Each output has its count.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?xf32>) {
  // expected-error @below {{counts must give one number for each output}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1, 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// An output is a vector.
tile.kernel @k(%w: memref<?x4xf32, "stream">, %x: memref<4xf32>, %y: memref<?x2xf32>) {
  // expected-error @below {{an output must have rank 1, got memref<?x2xf32>}}
  tile.product %w, %x -> %y {group = 1 : i64, counts = array<i64: 1>} prologue {
  ^bb0(%k: index, %v: f32):
    tile.yield %v : f32
  } epilogue {
  ^bb1(%r: index, %a: f32):
    tile.yield %a : f32
  }
}

// -----

// The body of a map sees an index.
tile.kernel @k(%m: memref<4xf32>) {
  // expected-error @below {{the body of tile.map takes one index}}
  tile.map -> %m {counts = array<i64: 1>} {
  ^bb0(%v: f32):
    tile.yield %v : f32
  }
}

// -----

// A map yields what its outputs hold.
tile.kernel @k(%m: memref<4xi32>) {
  // expected-error @below {{the body must yield (i32), it yields (index)}}
  tile.map -> %m {counts = array<i64: 1>} {
  ^bb0(%i: index):
    tile.yield %i : index
  }
}

// -----

// An attention has five inputs.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{expected 5 inputs and 3 outputs (key row, value row, partial)}}
  tile.attention %q, %k, %v, %kc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// An attention has three outputs.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{expected 5 inputs and 3 outputs (key row, value row, partial)}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr {scale = 5.0e-01 : f64}
}

// -----

// An attention scales its scores.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{expected scale = … : f64}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p
}

// -----

// A partial result is told apart by head and unit.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the partial result must have rank 3, got memref<3x6xf32>}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// The query has all heads of the group.
tile.kernel @k(%q: memref<4xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the query must have 2 * 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// A new key has the size of a head.
tile.kernel @k(%q: memref<8xf32>, %k: memref<5xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the new key must have 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// A new value has the size of a head.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<3xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the new value must have 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// A row of keys has the size of a head.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<8xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the key row must have 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// A row of values has the size of a head.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<8xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the value row must have 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// The rows of the key cache have the size of a head.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x8xf32>, %vc: memref<?x4xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the key cache must have rows of 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// The rows of the value cache have the size of a head.
tile.kernel @k(%q: memref<8xf32>, %k: memref<4xf32>, %v: memref<4xf32>, %kc: memref<?x4xf32>, %vc: memref<?x8xf32>, %kr: memref<4xf32>, %vr: memref<4xf32>, %p: memref<2x3x6xf32>) {
  %own = arith.constant true
  // expected-error @below {{the value cache must have rows of 4 elements}}
  tile.attention %q, %k, %v, %kc, %vc append %own -> %kr, %vr, %p {scale = 5.0e-01 : f64}
}

// -----

// Each part has a maximum and a sum.
tile.kernel @k(%v: memref<6x4xf32>, %s: memref<5x2xf32>, %o: memref<4xf32>) {
  // expected-error @below {{the stats of 6 parts must be 6x2}}
  tile.combine %v, %s -> %o {counts = array<i64: 1>} epilogue {
  ^bb0(%r: index, %y: f32):
    tile.yield %y : f32
  }
}

// -----

// The epilogue of a combine sees one element.
tile.kernel @k(%v: memref<6x4xf32>, %s: memref<6x2xf32>, %o: memref<4xf32>) {
  // expected-error @below {{the epilogue takes (index, f32)}}
  tile.combine %v, %s -> %o {counts = array<i64: 1>} epilogue {
  ^bb0(%y: f32):
    tile.yield %y : f32
  }
}

// -----

// The epilogue of a combine yields what the outputs hold.
tile.kernel @k(%v: memref<6x4xf32>, %s: memref<6x2xf32>, %o: memref<4xf32>) {
  // expected-error @below {{the epilogue must yield (f32), it yields ()}}
  tile.combine %v, %s -> %o {counts = array<i64: 1>} epilogue {
  ^bb0(%r: index, %y: f32):
    tile.yield
  }
}

// -----

// Candidates are floats with integer indices.
tile.kernel @k(%v: memref<4xf32>, %i: memref<4xf32>) {
  // expected-error @below {{tile.argmax takes f32 values and i32 indices}}
  %b = tile.argmax %v, %i
}

// -----

// Every candidate has an index.
tile.kernel @k(%v: memref<4xf32>, %i: memref<5xi32>) {
  // expected-error @below {{tile.argmax needs as many values as indices}}
  %b = tile.argmax %v, %i
}

// -----

// One packet is received.
tile.kernel @k(%v: memref<4xf32, "packet">) {
  // expected-error @below {{tile.receive reads one packet}}
  %b = tile.receive %v
}

// -----

// A packet comes from memory.
tile.kernel @k(%v: index) {
  // expected-error @below {{tile.receive reads a memref}}
  %b = tile.receive %v
}

// -----

// A call gives an argument for each parameter.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{kernel @k has 2 parameters, got 1}}
tile.phase @p calls @k for t in 1 args [in @b[0 : 2, 0 : 4]]

// -----

// An index is no region.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{argument 1 'in @b[0]' does not fit index}}
tile.phase @p calls @k for t in 1 args [in @b[0 : 2, 0 : 4], in @b[0]]

// -----

// A region is no index.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{argument 0 'index t' does not fit memref<?x4xf32>}}
tile.phase @p calls @k for t in 1 args [index t, index t]

// -----

// A single index drops a dimension of a region, a range keeps it.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{argument 0 'in @b[0, t, 0 : 4]' has 1 dimensions, the parameter is memref<?x4xf32>}}
tile.phase @p calls @k for t in 1 args [in @b[0, t, 0 : 4], index t]

// -----

// A region has as many elements as the parameter says, where both are known.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{argument 0 'in @b[t * 8 : t * 8 + 8, 0 : 3]' has 3 elements where the parameter has 4: memref<?x4xf32>}}
tile.phase @p calls @k for t in 1 args [in @b[t * 8 : t * 8 + 8, 0 : 3], index t]
