// What the options of lower-to-tasks change, and which values it refuses.
// RUN: amk-opt %s --lower-to-tasks="workers=2 ring=16 window=4096" | filecheck %s
// RUN: amk-opt %s --lower-to-tasks="workers=2" | filecheck %s --check-prefix=CHOSEN
// RUN: not amk-opt %s --lower-to-tasks="ring=0" 2>&1 | filecheck %s --check-prefix=RING
// RUN: not amk-opt %s --lower-to-tasks="window=0" 2>&1 | filecheck %s --check-prefix=WINDOW

// The ring and the window of a GPU are left to the printer, or said.
// CHECK:      task.schedule @p attributes {workers = 2 : i64, context = 8 : i64, eos = array<i64>, vocab = 8 : i64, ring = 16 : i64, window = 4096 : i64} {
// CHOSEN:     task.schedule @p attributes {workers = 2 : i64, context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
// RING:       error: lower-to-tasks: ring must be positive, got 0
// WINDOW:     error: lower-to-tasks: window must be positive, got 0
tile.kernel @k(%x: memref<?xf32>) {
}
tile.program @p attributes {context = 8 : i64, eos = array<i64>, vocab = 8 : i64} {
  tile.buffer @x output : memref<16xf32>
  tile.phase @write calls @k for t in 2 rows args [out @x[8 * t : 8 * t + 8]]
}
