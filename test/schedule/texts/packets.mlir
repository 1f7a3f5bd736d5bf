// Layers pass packets in a circle; a stream agent fetches ahead.
task.schedule @packets attributes {workers = 3 : i64, context = 16 : i64, eos = array<i64: 2>} {
  task.scalar @pos in 0 to 16 step 1
  task.buffer @x scratch uses 3 : memref<2x12xf32, "packet">
  task.buffer @tokens output uses 1 : memref<16xi32, "host_packet">
  task.buffer @h scratch : memref<3x4xf32, "shared">
  task.family @embed for i in 3 on i args [out @h[i, 0 : 4], out @x[iter mod 2, 4 * i : 4 * i + 4] use 0]
  task.repeat l in 2 {
    task.family @layer for i in 3 on (i + l) mod 3 args [
      in @x[iter mod 2, 0 : 12] use l, out @x[iter mod 2, 4 * i : 4 * i + 4] use l + 1]
  }
  task.family @head for i in 3 on i args [in @x[iter mod 2, 0 : 12] use 2, in @h[i, 0 : 4]]
  task.task @sample worker 0 args [in @x[iter mod 2, 0] use 2, out @tokens[pos] use 0]
}
