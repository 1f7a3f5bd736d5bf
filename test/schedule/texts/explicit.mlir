// Single tasks, in an arena with two buffers at the same bytes, for a bounded number of iterations.
task.schedule @explicit attributes {workers = 2 : i64, iterations = 3 : i64} {
  task.scalar @n in 2 to 9 step 3
  task.buffer @first scratch in @page + 0 : memref<4x4xf32>
  task.buffer @second scratch in @page + 32 : memref<8xf32>
  task.buffer @in input in @page + 96 : memref<4xi32>
  task.buffer @sum state initial : memref<4xf32>
  task.counter @c
  task.counter @d
  task.task @one worker 0 args [in @in[0 : 4], out @first[0 : 4, 1 : 3]] waits [@d >= 0] signals [@c += 2]
  task.task @two worker 1 args [in @first[0 : 4, 1 : 3]] waits [@c >= 2] signals [@c += 1]
  task.task @three worker 1 args [out @second[0 : 8]] waits [@c >= 3] when n mod 2 == 0
  task.task @four worker 0 stream args [inout @sum[0 : 4]] waits [@c >= 3, @d >= -1] signals [@d += 1]
  task.task @five args [index n + 1] waits [@d >= 1]
}
