// What the verifiers and parsers of the task dialect refuse, and in which words.
// RUN: amk-opt %s --split-input-file --verify-diagnostics

// A ring has slots.
// expected-error @below {{ring must be positive; leave it out to have it chosen}}
task.schedule @s attributes {workers = 1 : i64, ring = 0 : i64} {
  task.counter @c
}

// -----

// A schedule has workers.
// expected-error @below {{a schedule needs at least one worker}}
task.schedule @s attributes {workers = 0 : i64} {
  task.counter @c
}

// -----

// A schedule that is bounded runs at least once.
// expected-error @below {{iterations must be positive; leave it out for any number}}
task.schedule @s attributes {workers = 1 : i64, iterations = 0 : i64} {
  task.counter @c
}

// -----

// Names are told apart.
// expected-error @below {{Redefinition of symbol "c"}}
task.schedule @s attributes {workers = 1 : i64} {
  task.counter @c
  task.counter @c
}

// -----

// A scalar can have a value.
// expected-error @below {{a scalar needs a non-empty range}}
task.scalar @n in 4 to 4 step 1

// -----

// A buffer has one of five kinds.
// expected-error @below {{unknown kind 'weights' of buffer; known: input, constant, state, scratch, output}}
task.buffer @b weights : memref<4xf32>

// -----

// A buffer has a size.
// expected-error @below {{a buffer needs a static, positive shape, got memref<?xf32>}}
task.buffer @b scratch : memref<?xf32>

// -----

// A buffer is memory.
// expected-error @below {{a buffer has a memref type}}
task.buffer @b scratch : f32

// -----

// Packets say how often their slots are used.
// expected-error @below {{a buffer in a packet space, and no other, gives its uses}}
task.buffer @b scratch : memref<4xf32, "packet">

// -----

// Nothing but packets has uses.
// expected-error @below {{a buffer in a packet space, and no other, gives its uses}}
task.buffer @b scratch uses 2 : memref<4xf32>

// -----

// Packets are used.
// expected-error @below {{the uses of a packet buffer must be positive}}
task.buffer @b scratch uses 0 : memref<4xf32, "packet">

// -----

// A repeat runs at least once.
// expected-error @below {{a repeat needs a positive count}}
task.repeat l in 0 {
  task.task @t worker 0 args []
}

// -----

// A family has instances.
// expected-error @below {{a family needs at least one instance}}
task.family @f for i in 0 on i args []

// -----

// A worker has two agents.
// expected-error @below {{unknown agent 'copy'; known: compute, stream}}
"task.task"() <{sym_name = "t", args = [], agent = "copy", worker = 0 : i64}> : () -> ()

// -----

// Every wait has a threshold.
// expected-error @below {{every wait needs a counter and a threshold}}
"task.task"() <{sym_name = "t", args = [], wait_counters = [@c]}> : () -> ()

// -----

// Every signal has an amount.
// expected-error @below {{every signal needs a counter and an amount}}
"task.family"() <{sym_name = "f", index = "i", count = 1 : i64, args = [], signal_amounts = [#tile.expr<1>]}> : () -> ()

// -----

// A guard holds where its expression is 0.
// expected-error @below {{a guard compares with 0}}
task.task @t worker 0 args [] when n == 1

// -----

// A threshold is an integer expression.
// expected-error @below {{expected an integer expression}}
task.task @t worker 0 args [] waits [@c >= ]

// -----

// A worker is an affine expression of the index.
// expected-error @below {{'(i) * (i)' is a product of two variables}}
task.family @f for i in 2 on i * i args []

// -----

// A call gives an argument for each parameter.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{kernel @k has 2 parameters, got 0}}
task.family @f calls @k for i in 2 on i args []

// -----

// The arguments of a single task fit as well.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
// expected-error @below {{argument 1 'in @b[0]' does not fit index}}
task.task @t calls @k worker 0 args [in @b[0 : 2, 0 : 4], in @b[0]]

// -----

// A row of a table has as many numbers as it has columns.
// expected-error @below {{every row of tasks has 5 numbers (worker, agent, kernel, guard, name), here it has 4}}
task.table @t tasks [[0, 0, -1, -1]]

// -----

// So do its conditions.
// expected-error @below {{every row of waits has 3 numbers (task, counter, threshold), here it has 2}}
task.table @t counters [@c] tasks [[0, 0, -1, -1, -1]] waits [[0, 0]]

// -----

// An access has two bounds for each dimension.
// expected-error @below {{every row of accesses has 6 numbers (task, buffer, mode, use, guard, single) and two for each dimension, here it has 7}}
task.table @t buffers [@b] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, -1, -1, 0, 0]]

// -----

// All rows are as wide.
// expected-error @below {{row 1 has 4 numbers, the rows before it have 5}}
task.table @t tasks [[0, 0, -1, -1, -1], [0, 0, -1, -1]]

// -----

// Rows hold integers.
// expected-error @below {{expected integers}}
task.table @t tasks [[0, 0, -1, 0.5, -1]]

// -----

// Rows are lists.
// expected-error @below {{row 1 is not a list of integers}}
task.table @t tasks [[0, 0, -1, -1, -1], 3]

// -----

// Rows are lists of numbers that a machine has.
// expected-error @below {{a number does not fit into 64 bits}}
task.table @t tasks [[0, 0, -1, -1, 99999999999999999999]]

// -----

// What is not closed is not a list.
// expected-error @below {{expected rows of integers: Expecting ',' delimiter}}
task.table @t tasks [[0, 0, -1 -1, -1]]

// -----

// A table has tasks.
// expected-error @below {{a table needs at least one task}}
task.table @t tasks []

// -----

// Every task has an index, if one has.
// expected-error @below {{index has 1 rows for 2 tasks}}
task.table @t tasks [[0, 0, -1, -1, -1], [0, 0, -1, -1, -1]] index [[1]]

// -----

// A name stands in the list of names.
// expected-error @below {{row 0 of tasks gives the name 2, but there are 1 names}}
task.table @t names ["a"] tasks [[0, 0, -1, -1, 2]]

// -----

// A counter stands in the list of counters.
// expected-error @below {{row 0 of signals gives the counter 0, but there are no counters}}
task.table @t tasks [[0, 0, -1, -1, -1]] signals [[0, 0, 1]]

// -----

// A worker has two agents in a table too.
// expected-error @below {{row 0 of tasks gives the agent 2, but there are 2 agents (0 compute, 1 stream)}}
task.table @t tasks [[0, 2, -1, -1, -1]]

// -----

// A wait is one of a task of the table.
// expected-error @below {{row 0 of waits gives the task 1, but there are 1 tasks}}
task.table @t counters [@c] tasks [[0, 0, -1, -1, -1]] waits [[1, 0, 1]]

// -----

// An access reads, writes, or both.
// expected-error @below {{row 0 of accesses gives the mode 3, but there are 3 modes (0 in, 1 out, 2 inout)}}
task.table @t buffers [@b] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 3, -1, -1, 0]]

// -----

// A bound that moves is one of an access.
// expected-error @below {{row 0 of moving gives the bound 2, but there are 2 bounds of an access}}
task.table @t buffers [@b] exprs [n] tasks [[0, 0, -1, -1, -1]] accesses [[0, 0, 0, -1, -1, 0, 0, 1]] moving [[0, 2, 0]]

// -----

// The arguments of a task of a table fit its kernel.
tile.kernel @k(%x: memref<?x4xf32>, %i: index) {
}
task.schedule @s attributes {workers = 1 : i64} {
  task.buffer @b scratch : memref<8x4xf32>
  // expected-error @below {{task 1: kernel @k has 2 parameters, got 1}}
  task.table @t kernels [@k] buffers [@b] tasks [[0, 0, -1, -1, -1], [0, 0, 0, -1, -1]]
    accesses [[1, 0, 0, -1, -1, 0, 0, 2, 0, 4]]
}
