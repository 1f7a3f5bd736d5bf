"""Traces of a small model on the host, and of programs printed for GPUs."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from amk.backends import emit_program
from amk.backends.arch import PRODUCERS
from amk.backends.trace_layout import TRACE_BUFFER, TraceLayout, TraceWindow
from amk.bench.random_weights import RandomCheckpoint
from amk.bench.shapes import shape_config
from amk.cli import translate
from amk.cli.amk import main
from amk.errors import AmkError
from amk.frontend.import_model import import_model
from amk.runtime.build import ir_text, lower
from amk.runtime.choose import choose_device
from amk.runtime.cubin import compile_cuda
from amk.runtime.model import CompiledModel
from amk.runtime.progress import silent
from amk.runtime.toolchain import find_cxx, find_nvcc
from amk.schedule.builder import TableBuilder
from amk.trace.chrome import chrome_trace
from amk.trace.hops import hop_times
from amk.trace.run import Traced, run_traced
from amk.trace.summary import phase_times, summary
from amk.trace.timeline import Timeline, timeline_of

TOKENS = 2


def task_module(workers: int, target: str):
    checkpoint = RandomCheckpoint(shape_config("tiny"), "tiny")
    module = import_model(checkpoint, dtype="bf16", context=64)
    lower(module, workers, target)
    return module


@pytest.fixture(scope="module")
def traced() -> Traced:
    if find_cxx() is None:
        pytest.skip("no C++ compiler")
    checkpoint = RandomCheckpoint(shape_config("tiny"), "tiny")
    return run_traced(checkpoint, "host", dtype="bf16", context=64, workers=3, tokens=TOKENS)


@pytest.fixture
def timeline(traced) -> Timeline:
    return traced.timeline


def test_every_task_of_the_schedule_has_its_record(timeline):
    # `timeline_of` compares each record with its task; here is how many there are.
    assert (timeline.tasks >= 0).sum() == timeline.table.n_tasks
    assert (timeline.waits.task >= 0).sum() == timeline.table.n_tasks * TOKENS


def test_tasks_begin_wait_and_end_in_this_order_and_one_after_the_other(timeline):
    waits = timeline.waits
    there = waits.task >= 0
    assert (waits.arrived[there] >= 0).all()
    assert (waits.end[there] >= waits.arrived[there]).all()
    assert (waits.packets[there] <= waits.arrived[there]).all()
    for worker in range(3):
        mine = there[worker, 0].reshape(-1)
        begins = waits.begin[worker, 0].reshape(-1)[mine]
        ends = begins + waits.end[worker, 0].reshape(-1)[mine]
        assert (begins[1:] >= ends[:-1]).all()


def test_no_task_ends_before_what_it_waits_for_has_begun(timeline):
    begins = (timeline.waits.begin[:, 0], timeline.waits.end[:, 0])
    names = [origin.name for origin in timeline.table.origins]
    for token in range(TOKENS):
        begin, end = begins[0][:, token], (begins[0] + begins[1])[:, token]
        for first, second in (("combine", "o"), ("o", "gate_up"), ("gate_up", "down")):
            for layer in range(2):
                in_layer = timeline.layers == layer
                before = in_layer & (timeline.phases == names.index(first))
                after = in_layer & (timeline.phases == names.index(second))
                # A product reads what all tasks of the phase before it have written.
                assert end[after].min() > begin[before].max()


def test_the_trace_has_layers_that_hold_tasks_that_hold_waits(timeline):
    trace = json.loads(json.dumps(chrome_trace(timeline, all_warps=True)))
    slices = [event for event in trace["traceEvents"] if event["ph"] == "X"]
    tasks = [event for event in slices if event["cat"] == "task"]
    assert len(tasks) == timeline.table.n_tasks * TOKENS
    assert min(event["ts"] for event in slices) == 0
    names = {timeline.table.task_name(task) for task in range(timeline.table.n_tasks)}
    assert {event["name"] for event in tasks} == names
    layers = [event for event in slices if event["cat"] == "layer"]
    assert {event["name"] for event in layers} == {"layer 0", "layer 1"}
    waits = [event for event in slices if event["cat"] == "wait"]
    assert waits
    buffers = {f"@{buffer.name}" for buffer in timeline.table.buffers}
    for wait in waits:
        assert set(wait["name"].removeprefix("wait ").split(", ")) <= buffers
        assert any(holds(task, wait) for task in tasks)
    for task in tasks:
        if re.search(r", \d+\]", task["name"]):
            assert any(holds(layer, task) for layer in layers)


def holds(outer, inner) -> bool:
    """Whether a slice lies within another one of its thread, up to the rounding of the file."""
    same = (outer["pid"], outer["tid"]) == (inner["pid"], inner["tid"])
    starts = outer["ts"] <= inner["ts"] + 0.002
    return same and starts and inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 0.004


def test_a_record_that_is_missing_or_wrong_is_an_error(traced):
    timeline, layout = traced.timeline, traced.timeline.layout
    words = np.zeros(layout.info.nbytes // 8, np.uint64)
    with pytest.raises(AmkError, match=r"worker 0, warp 0 should have run task 'embed"):
        timeline_of(timeline.table, layout, words.view(np.int32))
    records = words[: 3 * TOKENS * layout.tasks * 4].reshape(3, 1, TOKENS, layout.tasks, 4)
    records[..., 0] = timeline.phases[:, None, None, :] + 1
    assert timeline_of(timeline.table, layout, words.view(np.int32)).layout is layout
    records[2, 0, 1, 3, 0] += 1
    with pytest.raises(AmkError, match=r"worker 2, .* as number 3 of traced token 1"):
        timeline_of(timeline.table, layout, words.view(np.int32))


def two_workers() -> Timeline:
    """One family with a task on each of two workers, one warp each, one token."""
    builder = TableBuilder(2, None, "two")
    origin = builder.origin("f", "")
    index = {"i": np.arange(2)}
    queues = builder.queues(np.arange(2), "compute")
    builder.tasks(origin, queues, [index["i"]], None, index)
    layout = TraceLayout(workers=2, warps=1, tasks=1, tokens=1, first=0)
    words = np.zeros(layout.info.nbytes // 8, np.uint64)
    # task 0; begins at 5000 and 5100; takes 1000 and 3000 ns; waits 400 and 600 for packets, until
    # 450 and 700; and 100 and 300 for weights
    words[:4] = [1, 5000, 1000 << 32 | 450, 100 << 32 | 400]
    words[4:8] = [1, 5100, 3000 << 32 | 700, 300 << 32 | 600]
    return timeline_of(builder.build(), layout, words.view(np.int32))


def test_the_summary_adds_up():
    (phase,) = phase_times(two_workers())
    assert (phase.name, phase.tasks, phase.last) == ("f", 2, 1)
    assert (phase.total, phase.packets, phase.weights) == pytest.approx((2.0, 0.5, 0.2))
    assert phase.skew == pytest.approx(2.1)  # 5100 + 3000 - (5000 + 1000)
    assert phase.late == pytest.approx(1.05)
    assert phase.path == pytest.approx(3.1)  # from the first begin, 5000
    text = summary(two_workers(), 12.34, 11.0)
    assert "12.3 us a token with the instruments, 11.0 without" in text
    row = next(line for line in text.splitlines() if line.startswith("f "))
    assert row.split() == [
        "f",
        "2",
        "2.0",
        "0.5",
        "0.2",
        "1.3",
        "100.0%",
        "-",
        "3.1",
        "-",
        "1.05",
        "2.10",
        "1",
    ]


def test_paths_add_up_to_the_traced_time(timeline):
    waits = timeline.waits
    there = waits.task >= 0
    last = int((waits.begin + waits.end)[there].max())
    total = sum(phase.path for phase in phase_times(timeline))
    assert total == pytest.approx((last - timeline.start) / TOKENS / 1e3)


def test_hops_run_from_the_last_writer_of_what_is_read_to_its_arrival():
    builder = TableBuilder(2, None, "hops")
    x = builder.buffer("x", (4,), 8, packet=True)
    index = {"i": np.arange(2)}
    f, g = (
        builder.tasks(
            builder.origin(name, ""),
            builder.queues(np.arange(2), "compute"),
            [index["i"]],
            None,
            index,
        )
        for name in "fg"
    )
    # Task i of f writes x[2 i : 2 i + 2]. Task 0 of g reads all of x, task 1 only what f[0] wrote.
    builder.access(f, x, True, [np.array([0, 2])], [np.array([2, 4])], use=0, index=index)
    builder.access(g, x, False, [np.array([0, 0])], [np.array([4, 2])], use=0, index=index)
    layout = TraceLayout(workers=2, warps=2, tasks=2, tokens=1, first=0)
    words = np.zeros(layout.info.nbytes // 8, np.uint64)
    records = words[: 2 * 2 * 2 * 4].reshape(2, 2, 2, 4)  # worker, warp, task, word

    def record(worker: int, task: int, times: list[tuple[int, int, int]]) -> None:
        for warp, (begin, arrived, end) in enumerate(times):
            packed = (end - begin) << 32 | (arrived - begin)
            records[worker, warp, task] = [task + 1, begin, packed, 0]

    record(0, 0, [(1000, 1000, 2000), (1000, 1000, 2500)])
    record(1, 0, [(1000, 1000, 4000), (1000, 1000, 3500)])
    record(0, 1, [(2000, 4600, 5000), (2500, 4700, 5000)])  # waits for f[1], which ends at 4000
    record(1, 1, [(4000, 4100, 5000), (3500, 3600, 5000)])  # begins after f[0] has ended at 2500
    timeline = timeline_of(builder.build(), layout, words.view(np.int32))
    (found,) = hop_times(timeline).items()
    assert found[0] == 1
    assert found[1].tolist() == [700]
    rows = {line.split()[0]: line.split() for line in summary(timeline, 9, 9).splitlines() if line}
    assert rows["f"][-6:-4] == ["-", "3.0"]  # from 1000; ends at 2500 and at 4000
    assert rows["g"][-6:-4] == ["0.70", "1.0"]
    assert rows["f"][-3:] == ["0.75", "1.50", "1"]
    assert rows["g"][-3:] == ["0.00", "0.00", "0"]


def test_hops_of_a_run_are_between_tasks_that_exchange(timeline):
    names = [origin.name for origin in timeline.table.origins]
    hops = hop_times(timeline)
    assert names.index("embed") not in hops  # it waits for nothing
    assert {"o", "gate_up", "down"} <= {names[origin] for origin in hops}


def test_the_ring_of_a_gpu_is_decoded():
    layout = TraceLayout(workers=2, warps=8, tasks=3, tokens=2, first=0)
    words = np.zeros(layout.info.nbytes // 8, np.uint64)
    records = 2 * 8 * 2 * 3 * 4
    assert len(words) == records + 2 * 4 * 3  # copy warps run ahead, into one more token
    words[records + (1 * 4 + 3) * 3 + 1] = 7 << 32 | 9
    words[records + (1 * 4 + 3) * 3 + 2] = 5 << 32 | 5  # of that token
    waits = layout.decode(words.view(np.int32))
    assert waits.ring_full[1, 3, 1] == 9
    assert waits.window[1, 3, 1] == 7
    assert waits.ring_full.sum() == 9
    assert len(waits.copied_at) == 0


def copying_worker(origin: int) -> Timeline:
    """A task in each of two families, from `origin` on for 1000 ns each, and copies beside them."""
    builder = TableBuilder(1, None, "copying")
    index = {"i": np.arange(1)}
    for name in "fg":
        queues = builder.queues(np.arange(1), "compute")
        builder.tasks(builder.origin(name, ""), queues, [index["i"]], None, index)
    layout = TraceLayout(workers=1, warps=8, tasks=2, tokens=1, first=0, copies=3)
    words = np.zeros(layout.info.nbytes // 8, np.uint64)
    records = words[: 8 * 2 * 4].reshape(8, 2, 4)
    for task in range(2):
        records[:, task] = [task + 1, origin + 1000 * task, 1000 << 32, 0]
    copiers = words[8 * 2 * 4 :].reshape(4, 2, 4)  # copy warp, token, word

    def word(at: int, size: int) -> int:
        return ((origin + at) % 2**48) << 16 | size // 16

    copiers[0, 0, 1:] = [word(-100, 4096), word(200, 4096), word(1100, 512)]
    copiers[3, 0, 1:] = [word(1000, 4096), 0, 0]
    copiers[3, 1, 1:] = [word(1999, 4096), word(2001, 4096), 0]  # of the next token
    return timeline_of(builder.build(), layout, words.view(np.int32))


@pytest.mark.parametrize("origin", [5000, 3 * 2**48 + 50, 3 * 2**48 - 50])
def test_copies_of_weights_are_counted_where_they_were_asked_for(origin):
    timeline = copying_worker(origin)
    assert sorted(timeline.waits.copied_at - origin) == [-100, 200, 1000, 1100, 1999, 2001]
    f, g = phase_times(timeline)
    assert f.rate == pytest.approx(4096 / 1000)  # the one before the first task is in no phase
    assert g.rate == pytest.approx((4096 + 512 + 4096) / 1000)
    lines = summary(timeline, 2.0, 2.0).splitlines()
    (row,) = (line for line in lines if line.startswith("g "))
    assert row.split()[-4] == "9"
    counters = [e for e in chrome_trace(timeline)["traceEvents"] if e["name"] == "weights (GB/s)"]
    assert [(e["ts"], e["args"]["weights"]) for e in counters] == [
        (0.0, 8.2),
        (0.5, 0.0),
        (1.0, 9.2),
        (1.5, 8.2),
    ]


def test_the_records_hold_all_copies_of_a_worker():
    program = emit_program(task_module(3, "sm_90"), "sm_90", trace=TraceWindow())
    assert program.trace is not None
    # One worker has at least its share of all stages, and four copy warps share them.
    stages = program.stream_bytes / program.config["kSlotBytes"] / 3 / 4
    assert program.trace.copies >= stages
    assert "trace.copied(bytes);" in program.source


@pytest.mark.parametrize("target", ["sm_80", "sm_90", "host"])
def test_normal_programs_have_no_trace_of_it(target):
    module = task_module(3, target)
    normal = emit_program(module, target)
    assert "trace" not in normal.source.lower()
    assert TRACE_BUFFER not in [info.name for info in normal.buffers]
    assert normal.trace is None
    # Beside what is added, an instrumented program is the same text.
    instrumented = emit_program(module, target, trace=TraceWindow())
    rest = iter(instrumented.source.splitlines())
    assert all(line in rest for line in normal.source.splitlines())
    # Every bounded wait is recorded.
    waits = instrumented.source.count("  Patience patience;")
    assert waits >= 2
    assert instrumented.source.count("AMK_TRACE(const Waiting waiting(") == waits


@pytest.mark.slow
@pytest.mark.skipif(find_nvcc() is None, reason="no nvcc")
def test_instrumented_cuda_compiles():
    program = emit_program(task_module(3, "sm_90"), "sm_90", trace=TraceWindow())
    cubin = compile_cuda(program.source, "sm_90a", prefer_nvcc=True)
    assert cubin is not None
    assert cubin.spilled_bytes == 0


@pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
def test_an_instrumented_program_computes_the_same_bits():
    checkpoint = RandomCheckpoint(shape_config("tiny"), "tiny")
    choice = choose_device("host", 3)
    module = task_module(3, "host")
    logits: list[np.ndarray] = []
    for window in (None, TraceWindow(8, TOKENS)):
        program = emit_program(module, "host", trace=window)
        device = choice.load(program, module, checkpoint, silent)
        with CompiledModel(checkpoint, program, device, 60.0) as model:
            logits.append(model.logits([5, 900, 17, 17, 3]))
    np.testing.assert_array_equal(logits[1], logits[0])


@pytest.mark.gpu
def test_traces_on_the_gpu(tmp_path, capsys):
    path = tmp_path / "trace.json"
    command = ["trace", "--shape=tiny", "--device=cuda", "--context=64", "--all-warps"]
    assert main([*command, "-o", str(path)]) == 0
    assert "ring full (producers wait for consumers)" in capsys.readouterr().out
    events = json.loads(path.read_text())["traceEvents"]
    assert {event["tid"] for event in events if event.get("cat") == "task"} == set(range(8))
    assert "weights (GB/s)" in {event["name"] for event in events}


@pytest.mark.gpu
def test_a_traced_token_copies_all_weights_once():
    checkpoint = RandomCheckpoint(shape_config("tiny"), "tiny")
    traced = run_traced(checkpoint, "auto", dtype="bf16", context=64, workers=3, tokens=TOKENS)
    waits, layout = traced.timeline.waits, traced.timeline.layout
    weights = emit_program(task_module(3, "sm_90"), "sm_90").stream_bytes
    assert waits.copied_bytes.sum() == (TOKENS + 1) * weights
    assert len(waits.copied_at) <= 3 * PRODUCERS * (TOKENS + 1) * layout.copies


def test_the_command_writes_both(tmp_path, capsys):
    if find_cxx() is None:
        pytest.skip("no C++ compiler")
    path = tmp_path / "trace.json"
    command = ["trace", "--shape=tiny", "--device=cpu", "--workers=3", "--context=64"]
    assert main([*command, "-o", str(path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^attention +\d+ +[\d.]+", out, re.MULTILINE)
    assert "ring empty (consumers wait for weights)" in out
    assert json.loads(path.read_text())["displayTimeUnit"] == "ns"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either MODEL or --shape"),
        (["model", "--shape=tiny"], "give either MODEL or --shape"),
        (["--shape=tiny", "--context=5"], "a launch that is traced has 11 tokens, more than cont"),
        (["/nowhere"], "/nowhere does not exist: give a model directory"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert main(["trace", "--device=cpu", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_the_table_may_have_no_layers():
    assert (two_workers().layers == -1).all()


def test_amk_translate_prints_instrumented_programs(tmp_path, capsys):
    path = tmp_path / "task.mlir"
    path.write_text(ir_text(task_module(3, "host")))
    assert translate.main(["--to-cpp", "--trace", str(path)]) == 0
    assert "w.trace.at(" in capsys.readouterr().out
    assert translate.main(["--check-cuda", "kernel.cu", "--trace", str(path)]) == 1
    assert "--trace is for printing" in capsys.readouterr().err
