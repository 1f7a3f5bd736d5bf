// What lower-to-tasks refuses, and in which words.
// RUN: amk-opt %s --split-input-file --verify-diagnostics --lower-to-tasks="workers=2"

// A packet is written before it is read.
tile.kernel @k(%x: memref<?xf32>) {
}
tile.program @p attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x scratch : memref<16xf32>
  // expected-error @below {{lower-to-tasks: @x is read before anything writes it}}
  tile.phase @read calls @k for t in 2 rows args [in @x[8 * t : 8 * t + 8]]
}

// -----

// An owner is the same in every phase.
tile.kernel @k(%x: memref<?xf32>) {
}
tile.program @p attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @h scratch owned : memref<16xf32>
  tile.phase @write calls @k for t in 2 rows args [out @h[8 * t : 8 * t + 8]]
  // expected-error @below {{lower-to-tasks: @h is owned by tiles of different sizes}}
  tile.phase @read calls @k for t in 4 rows args [in @h[4 * t : 4 * t + 4]]
}

// -----

// A phase touches what there is.
tile.kernel @k(%x: memref<?xf32>) {
}
tile.program @p attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  // expected-error @below {{lower-to-tasks: there is no buffer @x}}
  tile.phase @read calls @k for t in 2 rows args [in @x[8 * t : 8 * t + 8]]
}

// -----

// A phase runs a kernel of the module.
tile.program @p attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x output : memref<16xf32>
  // expected-error @below {{lower-to-tasks: there is no tile.kernel @missing}}
  tile.phase @write calls @missing for t in 2 rows args [out @x[8 * t : 8 * t + 8]]
}
