// Two workers hand tiles over by counters; the cache of a run-time scalar is split by guards.
task.schedule @counters attributes {workers = 2 : i64} {
  task.scalar @pos in 0 to 12 step 1
  task.buffer @a scratch : memref<4x8xf32>
  task.buffer @b state initial : memref<8xf32>
  task.buffer @cache state initial : memref<2x6x4xbf16>
  task.buffer @w constant from @w : memref<4x8xf32, "stream">
  task.counter @done
  task.counter @free
  task.family @produce for i in 4 on i mod 2 args [
    in @w[i, 0 : 8], index i * 8, out @a[i, 0 : 8]] waits [@free >= 0] signals [@done += 1]
  task.family @consume for i in 2 on 1 - i args [
    in @a[2 * i : 2 * i + 2, 0 : 8], inout @b[4 * i : 4 * i + 4]]
    waits [@done >= 4] signals [@free += 1]
  task.family @append for s in 2 on s args [
    out @cache[s, pos floordiv 2, 0 : 4] if (pos + s) mod 2 == 0,
    in @cache[s, 0 : (pos + 1 - s) floordiv 2, 0 : 4]]
    waits [@free >= 0] signals [@free += 1]
}
