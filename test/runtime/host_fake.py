"""A hand-written program with the launch ABI, to test launching without compiler passes.

Its "model" has no weights: the choice after a position is a hash of all tokens so far mod VOCAB,
and the logits are one-hot. Feeding the token `HANG` makes worker 0 report a timeout.
"""

from __future__ import annotations

from amk.backends.program import BufferInfo, Program

VOCAB, CONTEXT, EOS, HANG, USES, SLOTS = 97, 64, 5, 96, 3, 4

SOURCE = """
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
struct Launch { int32_t pos, steps; uint32_t base, timeout_ms; int32_t token; };
struct Status { uint32_t code, worker, task, buffer, index, expected, seen, iteration; };
extern "C" int amk_decode(void** buffers, const Launch* launch, Status* status) {
  const int32_t* forced = static_cast<const int32_t*>(buffers[0]);
  volatile int32_t* stop = static_cast<volatile int32_t*>(buffers[1]);
  auto* tokens = static_cast<std::atomic<uint64_t>*>(buffers[2]);
  float* logits = static_cast<float*>(buffers[3]);
  auto* x = static_cast<uint64_t*>(buffers[4]);
  int32_t* history = static_cast<int32_t*>(buffers[5]);
  int32_t token = forced[launch->pos];
  for (int i = 0; i < launch->steps; ++i) {
    const int p = launch->pos + i;
    if (i && forced[p] >= 0) token = forced[p];
    const uint32_t epoch = (launch->base + i) * USES + 1;
    if (*x >> 32 >= epoch || token == HANG) {  // stale packets, or told to fail
      *status = {1, 0, 1, 0, 3, epoch, uint32_t(*x >> 32), uint32_t(i)};
      return 1;
    }
    history[p] = token;
    int sum = 0;  // depends on everything that was fed
    for (int k = 0; k <= p; ++k) sum = (7 * sum + history[k] + 1) % VOCAB;
    token = sum == HANG ? 0 : sum;
    for (int v = 0; v < VOCAB; ++v) logits[(i % SLOTS) * VOCAB + v] = v == token;
    *x = uint64_t(epoch + USES - 1) << 32;
    const bool last = (token == EOS && forced[p + 1] < 0) || *stop || i + 1 == launch->steps;
    std::this_thread::sleep_for(std::chrono::microseconds(300));
    tokens[p] = uint64_t(launch->base + i + 1) << 32 | uint32_t(token);
    if (last) break;
  }
  return 0;
}
"""


def reference(history: list[int]) -> int:
    """The choice after the tokens `history`."""
    total = 0
    for token in history:
        total = (7 * total + token + 1) % VOCAB
    return 0 if total == HANG else total


def generated(prompt: list[int], count: int) -> list[int]:
    """What generating `count` tokens must give."""
    tokens = list(prompt)
    for _ in range(min(count, CONTEXT - len(prompt) + 1)):
        tokens.append(reference(tokens))
        if tokens[-1] == EOS:
            break
    return tokens[len(prompt) :]


def make_program() -> Program:
    """The program."""
    constants = {"VOCAB": VOCAB, "EOS": EOS, "HANG": HANG, "USES": USES, "SLOTS": SLOTS}
    defines = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    return Program(
        name="fake",
        target="host",
        source=defines + SOURCE,
        workers=1,
        threads=1,
        shared_bytes=0,
        context=CONTEXT,
        vocab=VOCAB,
        eos=(EOS,),
        buffers=(
            BufferInfo("forced", "input", "", (CONTEXT + 1,), "i32"),
            BufferInfo("stop", "input", "host", (1,), "i32"),
            BufferInfo("tokens", "output", "host_packet", (CONTEXT,), "i32", uses=1),
            BufferInfo("logits", "output", "", (SLOTS, VOCAB), "f32"),
            BufferInfo("x", "scratch", "packet", (1,), "f32", uses=USES),
            BufferInfo("history", "state", "", (CONTEXT,), "i32"),
        ),
        task_names=("embed", "mix"),
        buffer_names=("x",),
    )
