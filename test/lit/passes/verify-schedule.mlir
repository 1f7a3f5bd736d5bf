// RUN: amk-opt %s --verify-schedule --split-input-file --verify-diagnostics

// Two workers hand a buffer back and forth under two counters: accepted for any number of iterations.
task.schedule @safe attributes {workers = 2 : i64} {
  task.buffer @a scratch : memref<4x64xf32>
  task.counter @c
  task.counter @d
  task.task @produce worker 0 args [out @a[0 : 2, 0 : 64]] waits [@d >= 0] signals [@c += 1]
  task.task @consume worker 1 args [in @a[0 : 2, 0 : 64]] waits [@c >= 1] signals [@d += 1]
}

// -----

// A packet is written by one worker and polled by the other, which answers: accepted.
task.schedule @packets attributes {workers = 2 : i64} {
  task.buffer @x scratch uses 1 : memref<8xf32, "packet">
  task.buffer @y scratch uses 1 : memref<8xf32, "packet">
  task.task @ask worker 0 args [out @x[0 : 8] use 0]
  task.task @answer worker 1 args [in @x[0 : 8] use 0, out @y[0 : 8] use 0]
  task.task @hear worker 0 args [in @y[0 : 8] use 0]
}

// -----

// Each worker waits for what the other signals only afterwards.
task.schedule @crossed attributes {workers = 2 : i64} {
  task.counter @c
  task.counter @d
  // expected-error @below {{deadlock: first waits for 'd' >= 1, which reaches 0: second never runs (2 of 2 tasks never run)}}
  task.task @first worker 0 args [] waits [@d >= 1] signals [@c += 1]
  task.task @second worker 1 args [] waits [@c >= 1] signals [@d += 1]
}

// -----

// The reader waits for one of two signals, so the other half may be missing.
task.schedule @half attributes {workers = 3 : i64} {
  task.buffer @a scratch : memref<8xf32>
  task.counter @c
  task.counter @d
  task.task @left worker 0 args [out @a[0 : 4]] waits [@d >= 0] signals [@c += 1]
  task.task @right worker 1 args [out @a[4 : 8]] waits [@d >= 0] signals [@c += 1]
  // expected-error @below {{race: left writes and read reads a[0:4] in no fixed order}}
  task.task @read worker 2 args [in @a[0 : 8]] waits [@c >= 1] signals [@d += 1]
}

// -----

// The slot is written again though nothing says that the reader has polled it.
task.schedule @lost attributes {workers = 2 : i64} {
  task.buffer @x scratch uses 2 : memref<8xf32, "packet">
  task.buffer @y scratch uses 1 : memref<8xf32, "packet">
  task.task @one worker 0 args [out @x[0 : 8] use 0]
  // expected-error @below {{race: lost packet: two may overwrite x[0:8] before read has polled use 0}}
  task.task @two worker 0 args [out @x[0 : 8] use 1]
  task.task @read worker 1 args [in @x[0 : 8] use 0, in @x[0 : 8] use 1, out @y[0 : 8] use 0]
  task.task @hear worker 0 args [in @y[0 : 8] use 0]
}

// -----

// At the last position the row lies behind the end of the cache.
task.schedule @past attributes {workers = 1 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @cache state initial : memref<8x4xf32>
  // expected-error @below {{out-of-bounds: append writes cache[pos + 1:pos + 2, 0:4] at pos = 7, outside of its shape 8x4}}
  task.task @append worker 0 args [out @cache[pos + 1, 0 : 4]]
}

// -----

// A constant is never written.
task.schedule @fixed attributes {workers = 1 : i64} {
  task.buffer @w constant : memref<8xf32>
  // expected-error @below {{constant-write: spoil writes w[0:1], but 'w' is a constant}}
  task.task @spoil worker 0 args [out @w[0 : 1]]
}

// -----

// Nothing holds the producer back, which can be any number of iterations ahead.
task.schedule @free attributes {workers = 2 : i64} {
  task.counter @c
  // expected-error @below {{unbounded-skew: worker 0 runs free: produce can start any number of iterations before consume (worker 1) has run; hold it back}}
  task.task @produce worker 0 args [] signals [@c += 1]
  task.task @consume worker 1 args [] waits [@c >= 1]
}

// -----

// Nobody writes the second half of what is read.
task.schedule @gap attributes {workers = 1 : i64} {
  task.buffer @a scratch : memref<8xf32>
  task.task @write worker 0 args [out @a[0 : 4]]
  // expected-error @below {{undefined-read: read reads a[0:8], of which some bytes were never written before}}
  task.task @read worker 0 args [in @a[0 : 8]]
}

// -----

// A threshold above what one iteration signals means nothing.
task.schedule @never attributes {workers = 1 : i64} {
  task.counter @c
  // expected-error @below {{malformed: wait waits for 'c' >= 2, but one iteration signals only 1}}
  task.task @wait worker 0 args [] waits [@c >= 2]
  task.task @signal worker 0 args [] signals [@c += 1]
}

// -----

// A dense table is judged like single tasks; a task without a name has the number of its row.
task.schedule @dense attributes {workers = 2 : i64, iterations = 1 : i64} {
  task.buffer @a scratch : memref<8x4xf32>
  task.counter @c
  // expected-error @below {{race: t[0] writes and t[1] reads a[0:2, 0:4] in no fixed order}}
  task.table @t buffers [@a] counters [@c]
    tasks [[0, 0, -1, -1, -1], [1, 0, -1, -1, -1], [1, 0, -1, -1, -1]]
    waits [[2, 0, 1]] signals [[0, 0, 1]]
    accesses [[0, 0, 1, -1, -1, 0, 0, 2, 0, 4], [1, 0, 0, -1, -1, 0, 0, 2, 0, 4]]
}
