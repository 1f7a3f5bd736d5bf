// Every op of the task dialect keeps its meaning through the pretty and the generic form.
// RUN: amk-opt %s | amk-opt | filecheck %s
// RUN: amk-opt %s --print-op-generic | filecheck %s --check-prefix=GENERIC
// RUN: amk-opt %s --print-op-generic | amk-opt | filecheck %s

// CHECK:      task.schedule @model attributes {workers = 3 : i64, context = 64 : i64, eos = array<i64: 2>, vocab = 96 : i64} {
// CHECK-NEXT:   task.scalar @pos in 0 to 64 step 1
// CHECK-NEXT:   task.buffer @flag input : memref<1xi32, "host">
// CHECK-NEXT:   task.buffer @table constant from @table : memref<96x36xbf16>
// CHECK-NEXT:   task.buffer @w constant from @w : memref<2x24x36xbf16, "stream">
// CHECK-NEXT:   task.buffer @keys state initial : memref<2x3x4x16x4xbf16>
// CHECK-NEXT:   task.buffer @x scratch uses 3 : memref<2x40xf32, "packet">
// CHECK-NEXT:   task.buffer @h scratch : memref<3x16xf32, "shared">
// CHECK-NEXT:   task.buffer @tokens output uses 1 : memref<64xi32, "host_packet">
// CHECK-NEXT:   task.family @embed calls @embed for i in 3 on i args [
// CHECK-NEXT:     in @table[0 : 96, 0 : 36],
// CHECK-NEXT:     index ((i * 5) floordiv 3) * 8,
// CHECK-NEXT:     out @h[i, 0 : 8],
// CHECK-NEXT:     out @x[iter mod 2, i * 8 : i * 8 + 8] use 0]
// CHECK-NEXT:   task.repeat l in 2 {
// CHECK-NEXT:     task.family @attention calls @attention for n in 12 on (n + 2) mod 3 args [
// CHECK-NEXT:       in @x[iter mod 2, 0 : 36] use l,
// CHECK-NEXT:       in @x[iter mod 2, n] use l if (pos - n) mod 4 == 0,
// CHECK-NEXT:       in @keys[l, n floordiv 4, n mod 4, 0 : (pos + 3 - n mod 4) floordiv 4, 0 : 4],
// CHECK-NEXT:       out @keys[l, n floordiv 4, n mod 4, pos floordiv 4, 0 : 4] if (pos - n) mod 4 == 0]
// CHECK-NEXT:   }
// CHECK-NEXT: }
// CHECK-NEXT: task.schedule @abstract attributes {workers = 2 : i64, iterations = 4 : i64} {
// CHECK-NEXT:   task.scalar @n in 2 to 9 step 3
// CHECK-NEXT:   task.buffer @a scratch in @arena + 0 : memref<8xf32>
// CHECK-NEXT:   task.buffer @b scratch in @arena + 32 : memref<4xbf16>
// CHECK-NEXT:   task.buffer @p scratch uses 1 : memref<4xi32, "packet">
// CHECK-NEXT:   task.counter @filled
// CHECK-NEXT:   task.counter @read
// CHECK-NEXT:   task.family @fill for i in 4 on i mod 2 args [
// CHECK-NEXT:     out @a[i * 2 : i * 2 + 2]] waits [@read >= 0] signals [@filled += 1]
// CHECK-NEXT:   task.family @fetch for i in 2 on i stream args [
// CHECK-NEXT:     in @a[i * 4 : i * 4 + 4]] waits [@filled >= 4 - i, @read >= -2] signals [@read += 1, @filled += i * 2] when i + n mod 2 == 0
// CHECK-NEXT:   task.family @alone for i in 3 args [
// CHECK-NEXT:     inout @b[i : i + 1]]
// CHECK-NEXT:   task.repeat l in 2 {
// CHECK-NEXT:     task.task @one worker 1 args [
// CHECK-NEXT:       index l,
// CHECK-NEXT:       out @p[l * 2 : l * 2 + 2] use 0] signals [@read += 1]
// CHECK-NEXT:   }
// CHECK-NEXT:   task.task @two calls @k worker 0 stream args [
// CHECK-NEXT:     in @p[0 : 4] use 0] waits [@read >= 2]
// CHECK-NEXT:   task.task @three args [] when n mod 2 == 0
// CHECK-NEXT: }
// CHECK-NEXT: task.schedule @dense attributes {workers = 2 : i64} {
// CHECK-NEXT:   task.scalar @n in 0 to 9 step 1
// CHECK-NEXT:   task.buffer @a scratch : memref<8x4xf32>
// CHECK-NEXT:   task.counter @filled
// CHECK-NEXT:   task.table @steps names ["fill", "a \22b\22"] kernels [@k] buffers [@a] counters [@filled] exprs [n mod 2, n * 2]
// CHECK-NEXT:     tasks [
// CHECK-NEXT:       [0, 0, 0, -1, 0],
// CHECK-NEXT:       [1, 1, -1, 0, 1],
// CHECK-NEXT:       [-1, 0, -1, -1, -1]]
// CHECK-NEXT:     index [
// CHECK-NEXT:       [3, -1],
// CHECK-NEXT:       [3, 4],
// CHECK-NEXT:       [-1, -1]]
// CHECK-NEXT:     waits [
// CHECK-NEXT:       [1, 0, -1]]
// CHECK-NEXT:     signals [
// CHECK-NEXT:       [0, 0, 1]]
// CHECK-NEXT:     accesses [
// CHECK-NEXT:       [0, 0, 1, -1, -1, 1, 0, 1, 0, 4],
// CHECK-NEXT:       [0, -1, 0, -1, -1, 0, 7, 0, 0, 0],
// CHECK-NEXT:       [1, 0, 2, -1, 0, 0, 0, 0, 1, 2]]
// CHECK-NEXT:     moving [
// CHECK-NEXT:       [2, 1, 1]]
// CHECK-NEXT: }

// GENERIC: "task.schedule"() <{sym_name = "model", workers = 3 : i64, context = 64 : i64, eos = array<i64: 2>, vocab = 96 : i64}> ({
// GENERIC: "task.scalar"() <{sym_name = "pos", lo = 0 : i64, hi = 64 : i64, step = 1 : i64}> : () -> ()
// GENERIC: "task.buffer"() <{sym_name = "keys", kind = "state", initial = 1 : i64, type = memref<2x3x4x16x4xbf16>}> : () -> ()
// GENERIC: "task.buffer"() <{sym_name = "x", kind = "scratch", uses = 3 : i64, type = memref<2x40xf32, "packet">}> : () -> ()
// GENERIC: "task.family"() <{sym_name = "embed", kernel = @embed, args = [#tile.access<in @table[0 : 96, 0 : 36]>, #tile.expr<((i * 5) floordiv 3) * 8>, #tile.access<out @h[i, 0 : 8]>, #tile.access<out @x[iter mod 2, i * 8 : i * 8 + 8] use 0>], index = "i", count = 3 : i64, on = #tile.expr<i>}> : () -> ()
// GENERIC: "task.repeat"() <{index = "l", count = 2 : i64}> ({
// GENERIC: "task.family"() <{sym_name = "attention", kernel = @attention, args = [#tile.access<in @x[iter mod 2, 0 : 36] use l>, #tile.access<in @x[iter mod 2, n] use l if (pos - n) mod 4 == 0>, #tile.access<in @keys[l, n floordiv 4, n mod 4, 0 : (pos + 3 - n mod 4) floordiv 4, 0 : 4]>, #tile.access<out @keys[l, n floordiv 4, n mod 4, pos floordiv 4, 0 : 4] if (pos - n) mod 4 == 0>], index = "n", count = 12 : i64, on = #tile.expr<(n + 2) mod 3>}> : () -> ()
// GENERIC: "task.schedule"() <{sym_name = "abstract", workers = 2 : i64, iterations = 4 : i64}> ({
// GENERIC: "task.buffer"() <{sym_name = "b", kind = "scratch", arena = "arena", offset = 32 : i64, type = memref<4xbf16>}> : () -> ()
// GENERIC: "task.counter"() <{sym_name = "filled"}> : () -> ()
// GENERIC: "task.family"() <{sym_name = "fetch", args = [#tile.access<in @a[i * 4 : i * 4 + 4]>], wait_counters = [@filled, @read], wait_thresholds = [#tile.expr<4 - i>, #tile.expr<-2>], signal_counters = [@read, @filled], signal_amounts = [#tile.expr<1>, #tile.expr<i * 2>], guard = #tile.expr<i + n mod 2>, agent = "stream", index = "i", count = 2 : i64, on = #tile.expr<i>}> : () -> ()
// GENERIC: "task.family"() <{sym_name = "alone", args = [#tile.access<inout @b[i : i + 1]>], index = "i", count = 3 : i64}> : () -> ()
// GENERIC: "task.task"() <{sym_name = "one", args = [#tile.expr<l>, #tile.access<out @p[l * 2 : l * 2 + 2] use 0>], signal_counters = [@read], signal_amounts = [#tile.expr<1>], worker = 1 : i64}> : () -> ()
// GENERIC: "task.task"() <{sym_name = "two", kernel = @k, args = [#tile.access<in @p[0 : 4] use 0>], wait_counters = [@read], wait_thresholds = [#tile.expr<2>], agent = "stream", worker = 0 : i64}> : () -> ()
// GENERIC: "task.task"() <{sym_name = "three", args = [], guard = #tile.expr<n mod 2>}> : () -> ()
// GENERIC: "task.table"() <{sym_name = "steps", tasks = #task.rows<[[0, 0, 0, -1, 0], [1, 1, -1, 0, 1], [-1, 0, -1, -1, -1]]>, names = ["fill", "a \22b\22"], kernels = [@k], buffers = [@a], counters = [@filled], exprs = [#tile.expr<n mod 2>, #tile.expr<n * 2>], index = #task.rows<[[3, -1], [3, 4], [-1, -1]]>, waits = #task.rows<[[1, 0, -1]]>, signals = #task.rows<[[0, 0, 1]]>, accesses = #task.rows<[[0, 0, 1, -1, -1, 1, 0, 1, 0, 4], [0, -1, 0, -1, -1, 0, 7, 0, 0, 0], [1, 0, 2, -1, 0, 0, 0, 0, 1, 2]]>, moving = #task.rows<[[2, 1, 1]]>}> : () -> ()

// A schedule of a model: scalars, buffers of every kind and space, counters, families, repeats.
task.schedule @model attributes {workers = 3 : i64, context = 64 : i64, eos = array<i64: 2>, vocab = 96 : i64} {
  task.scalar @pos in 0 to 64 step 1
  task.buffer @flag input : memref<1xi32, "host">
  task.buffer @table constant from @table : memref<96x36xbf16>
  task.buffer @w constant from @w : memref<2x24x36xbf16, "stream">
  task.buffer @keys state initial : memref<2x3x4x16x4xbf16>
  task.buffer @x scratch uses 3 : memref<2x40xf32, "packet">
  task.buffer @h scratch : memref<3x16xf32, "shared">
  task.buffer @tokens output uses 1 : memref<64xi32, "host_packet">
  // Families of a kernel, with the worker of each instance.
  task.family @embed calls @embed for i in 3 on i args [
    in @table[0 : 96, 0 : 36],
    index (i * 5) floordiv 3 * 8,
    out @h[i, 0 : 8],
    out @x[iter mod 2, i * 8 : i * 8 + 8] use 0]
  task.repeat l in 2 {
    task.family @attention calls @attention for n in 12 on (n + 2) mod 3 args [
      in @x[iter mod 2, 0 : 36] use l,
      in @x[iter mod 2, n] use l if (pos - n) mod 4 == 0,
      in @keys[l, n floordiv 4, n mod 4, 0 : (pos + 3 - n mod 4) floordiv 4, 0 : 4],
      out @keys[l, n floordiv 4, n mod 4, pos floordiv 4, 0 : 4] if (pos - n) mod 4 == 0]
  }
}
// An abstract schedule: counters, guards, agents, arenas, single tasks and queues of their own.
task.schedule @abstract attributes {workers = 2 : i64, iterations = 4 : i64} {
  task.scalar @n in 2 to 9 step 3
  task.buffer @a scratch in @arena + 0 : memref<8xf32>
  task.buffer @b scratch in @arena + 32 : memref<4xbf16>
  task.buffer @p scratch uses 1 : memref<4xi32, "packet">
  task.counter @filled
  task.counter @read
  task.family @fill for i in 4 on i mod 2 args [out @a[2 * i : 2 * i + 2]]
    waits [@read >= 0] signals [@filled += 1]
  task.family @fetch for i in 2 on i stream args [in @a[4 * i : 4 * i + 4]]
    waits [@filled >= 4 - i, @read >= -2] signals [@read += 1, @filled += 2 * i] when i + n mod 2 == 0
  task.family @alone for i in 3 args [inout @b[i : i + 1]]
  task.repeat l in 2 {
    task.task @one worker 1 args [index l, out @p[2 * l : 2 * l + 2] use 0] signals [@read += 1]
  }
  task.task @two calls @k worker 0 stream args [in @p[0 : 4] use 0] waits [@read >= 2]
  task.task @three args [] when n mod 2 == 0
}
// A dense table: kernels and abstract tasks, names with an index, an index argument, moving bounds.
task.schedule @dense attributes {workers = 2 : i64} {
  task.scalar @n in 0 to 9 step 1
  task.buffer @a scratch : memref<8x4xf32>
  task.counter @filled
  task.table @steps names ["fill", "a \"b\""] kernels [@k] buffers [@a] counters [@filled]
    exprs [n mod 2, 2 * n] tasks [[0, 0, 0, -1, 0], [1, 1, -1, 0, 1], [-1, 0, -1, -1, -1]]
    index [[3, -1], [3, 4], [-1, -1]] waits [[1, 0, -1]] signals [[0, 0, 1]]
    accesses [[0, 0, 1, -1, -1, 1, 0, 1, 0, 4], [0, -1, 0, -1, -1, 0, 7, 0, 0, 0],
              [1, 0, 2, -1, 0, 0, 0, 0, 1, 2]]
    moving [[2, 1, 1]]
}
