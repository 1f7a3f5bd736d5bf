namespace amk {

// A schedule as constant tables, for one that is no loops over families. Queue q runs the tasks
// queues[q] .. queues[q + 1]. A task is kTaskColumns numbers, of which `first...` point into the
// other tables, up to those of the next task; -1 stands for no kernel, no guard, no expression.
struct Table {
  const int *queues, *tasks;
  const int *waits;     // counter, what an iteration signals to it, threshold
  const int *signals;   // counter, amount
  const int *accesses;  // buffer, write, use, guard, then lower and upper bound of each dimension
  const int *values;    // bounds, uses and indices that the arguments of a kernel have
  const int *buffers;   // kBufferColumns numbers each
  const int *expressions, *code;  // expression e is the code from expressions[e] on
  int buffer_count;               // counters are numbered after the buffers
  void* const* memory;
  uint32_t* const* counters;
};
enum TaskColumn {
  kKernel, kIdentity, kGuard, kFirstWait, kFirstSignal, kFirstAccess, kFirstValue, kTaskColumns
};
constexpr int kMostDims = 8;
enum BufferColumn { kForm, kUses, kRank, kShape, kBufferColumns = kShape + kMostDims };
enum Form { kWords, kHalves, kWordPackets, kHalfPackets, kHostWords, kHostPackets };

// Expressions over the run-time scalar and the iteration, in postfix form: an operation and its
// number each, up to kEnd.
enum Operation { kEnd, kConstant, kScalar, kIteration, kTimes, kPlus, kFloorDiv, kMod };
constexpr int kDeepest = 8;

struct Numbers {
  const Table& t;
  int pos, iteration;

  AMK_DEVICE Numbers(const Worker& w, const Table& t)
      : t(t), pos(w.pos), iteration(w.iteration) {}

  AMK_DEVICE int expression(int number) const {
    int stack[kDeepest], top = -1;
    for (const int* c = t.code + t.expressions[number]; c[0] != kEnd; c += 2) {
      switch (c[0]) {
        case kConstant: stack[++top] = c[1]; break;
        case kScalar: stack[++top] = pos + iteration * c[1]; break;
        case kIteration: stack[++top] = iteration; break;
        case kTimes: stack[top] *= c[1]; break;
        case kPlus: --top; stack[top] += stack[top + 1]; break;
        case kFloorDiv: stack[top] = floordiv(stack[top], c[1]); break;
        default: stack[top] = floormod(stack[top], c[1]);
      }
    }
    return stack[0];
  }
  // A constant and the number of an expression, -1 for none, that stand next to each other.
  AMK_DEVICE int sum(const int* pair) const {
    return pair[1] < 0 ? pair[0] : pair[0] + expression(pair[1]);
  }
  // Whether a guard lets something happen.
  AMK_DEVICE bool happens(int guard) const { return guard < 0 || expression(guard) == 0; }
};

// A hash of 32 bits in which every bit of x counts.
AMK_DEVICE uint32_t avalanche(uint32_t x) {
  x = (x ^ x >> 16) * 0x7feb352du;
  x = (x ^ x >> 15) * 0x846ca68bu;
  return x ^ x >> 16;
}
constexpr uint32_t kGolden = 0x9e3779b9u;

// The bits of one element; all threads of the worker call it.
AMK_DEVICE uint32_t load_element(Worker& w, const Table& t, int buffer, uint32_t epoch, int i) {
  void* const p = t.memory[buffer];
  switch (t.buffers[buffer * kBufferColumns + kForm]) {
    case kHalves: return static_cast<const uint16_t*>(p)[i];
    case kWords: return static_cast<const uint32_t*>(p)[i];
    case kHostWords: return static_cast<uint32_t>(load_host(static_cast<const int*>(p) + i));
    case kHalfPackets: {
      const Packets<int> from = {static_cast<uint64_t*>(p), epoch, buffer};
      return static_cast<uint32_t>(receive(w, from.at(i / 2))) >> i % 2 * 16 & 0xffffu;
    }
    default: {
      const Packets<int> from = {static_cast<uint64_t*>(p), epoch, buffer};
      return static_cast<uint32_t>(receive(w, from.at(i)));
    }
  }
}

// Writes the bits of one element, of an even element of half packets and the one after it.
AMK_DEVICE void store_element(const Table& t, int buffer, uint32_t epoch, int i, uint32_t v,
                              uint32_t after) {
  void* const p = t.memory[buffer];
  const Packets<int> to = {static_cast<uint64_t*>(p), epoch, buffer};
  switch (t.buffers[buffer * kBufferColumns + kForm]) {
    case kHalves: static_cast<uint16_t*>(p)[i] = static_cast<uint16_t>(v); break;
    case kWords: case kHostWords: static_cast<uint32_t*>(p)[i] = v; break;
    case kHalfPackets:
      if (i % 2 == 0) send(to, i / 2, static_cast<int>((v & 0xffffu) | after << 16));
      break;
    case kHostPackets: send_host(to, i, static_cast<int>(v)); break;
    default: send(to, i, static_cast<int>(v));
  }
}

// visit(element) for every element of a box, given by its bounds, in row-major order.
template <class Visit>
AMK_DEVICE void for_each_element(const int* buffer, const int (&lo)[kMostDims],
                                 const int (&hi)[kMostDims], Visit visit) {
  const int rank = buffer[kRank];
  int at[kMostDims];
  for (int d = 0; d < rank; ++d) {
    if (lo[d] >= hi[d]) return;
    at[d] = lo[d];
  }
  while (true) {
    int element = 0;
    for (int d = 0; d < rank; ++d) element = element * buffer[kShape + d] + at[d];
    visit(element);
    int d = rank - 1;
    while (d >= 0 && ++at[d] == hi[d]) {
      at[d] = lo[d];
      --d;
    }
    if (d < 0) return;
  }
}

// visit(buffer, epoch, element) for what a task reads, or writes, access by access.
template <class Visit>
AMK_DEVICE void for_each_access(const Worker& w, const Table& t, const int* task, bool writes,
                                const Numbers& numbers, Visit visit) {
  const int* const end = t.accesses + task[kTaskColumns + kFirstAccess];
  for (const int* a = t.accesses + task[kFirstAccess]; a < end;) {
    const int *buffer = t.buffers + a[0] * kBufferColumns, *bounds = a + 4;
    const int rank = buffer[kRank];
    if (a[1] == static_cast<int>(writes) && numbers.happens(a[3])) {
      int lo[kMostDims], hi[kMostDims];
      for (int d = 0; d < rank; ++d) {
        lo[d] = numbers.sum(bounds + 4 * d);
        hi[d] = numbers.sum(bounds + 4 * d + 2);
      }
      const int number = a[0];
      const uint32_t epoch = a[2] < 0 ? 0 : w.epoch(buffer[kUses], a[2]);
      for_each_element(buffer, lo, hi, [&](int element) { visit(number, epoch, element); });
    }
    a = bounds + 4 * rank;
  }
}

// What a task without a kernel means: it writes a hash of its name, the iteration (counted over all
// launches) and everything that it reads.
AMK_DEVICE void run_default(Worker& w, const Table& t, const int* task, const Numbers& numbers) {
  uint32_t words = 0;
  uint32_t hash = avalanche(static_cast<uint32_t>(task[kIdentity]) + kGolden * w.epoch(1, 0));
  const auto take = [&](uint32_t v) { hash += avalanche(v ^ kGolden * ++words); };
  for (int v = task[kFirstValue]; v < task[kTaskColumns + kFirstValue]; ++v) {
    take(static_cast<uint32_t>(numbers.sum(t.values + 2 * v)));
  }
  for_each_access(w, t, task, false, numbers, [&](int buffer, uint32_t epoch, int i) {
    take(load_element(w, t, buffer, epoch, i));
  });
  w.sync();
  if (!w.leader()) return;
  words = 0;
  for_each_access(w, t, task, true, numbers, [&](int buffer, uint32_t epoch, int i) {
    const uint32_t v = avalanche(hash ^ kGolden * ++words);
    store_element(t, buffer, epoch, i, v, avalanche(hash ^ kGolden * (words + 1)));
  });
}

// Of a schedule without kernels.
struct NoKernels {
  template <class Value>
  AMK_DEVICE void operator()(int, Value) const {}
};

// Runs the queue of a worker: kernel(number, value) runs the kernel of a task, whose arguments have
// the values value(0), value(1), ...
template <class Kernel>
AMK_DEVICE void run_table(Worker& w, const Table& t, Kernel kernel) {
  while (w.next()) {
    const Numbers numbers(w, t);
    for (int number = t.queues[w.id]; number < t.queues[w.id + 1]; ++number) {
      const int* const task = t.tasks + number * kTaskColumns;
      w.at(number);
      for (int i = task[kFirstWait]; i < task[kTaskColumns + kFirstWait]; ++i) {
        const int* const c = t.waits + 3 * i;
        wait(w, t.counters[c[0]], w.epoch(c[1], c[2]) - 1, t.buffer_count + c[0]);
      }
      w.sync();
      if (numbers.happens(task[kGuard])) {
        if (task[kKernel] < 0) {
          run_default(w, t, task, numbers);
        } else {
          const int* const values = t.values + 2 * task[kFirstValue];
          kernel(task[kKernel], [&](int i) { return numbers.sum(values + 2 * i); });
        }
      }
      for (int i = task[kFirstSignal]; i < task[kTaskColumns + kFirstSignal]; ++i) {
        signal(w, t.counters[t.signals[2 * i]], t.signals[2 * i + 1]);
      }
    }
  }
}

}  // namespace amk
