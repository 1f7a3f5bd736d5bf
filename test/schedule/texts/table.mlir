// A dense table: counters, packets, guards, moving bounds, both agents, a queue of its own.
task.schedule @dense attributes {workers = 2 : i64, iterations = 3 : i64} {
  task.scalar @pos in 0 to 6 step 1
  task.buffer @a state initial : memref<8x4xf32>
  task.buffer @b output : memref<8xf32>
  task.buffer @x scratch uses 2 : memref<2xf32, "packet">
  task.counter @c
  task.counter @d
  task.table @steps names ["fill", "read"] buffers [@a, @b, @x] counters [@c, @d] exprs [pos, pos mod 2]
    tasks [[0, 0, -1, -1, 0], [1, 1, -1, -1, -1], [-1, 0, -1, 1, 1]]
    index [[3], [-1], [4]]
    waits [[0, 1, 0], [1, 0, 1], [2, 0, 1]]
    signals [[0, 0, 1], [1, 1, 1], [2, 1, 2]]
    accesses [[0, 0, 1, -1, -1, 1, 0, 0, 0, 4], [0, 2, 1, 1, -1, 0, 0, 1, 0, 0],
              [1, 0, 0, -1, 1, 0, 0, 0, 1, 3], [2, 1, 1, -1, -1, 0, 2, 4, 0, 0]]
    moving [[0, 0, 0], [2, 1, 0]]
}
