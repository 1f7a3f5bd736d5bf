"""`amk bench` on the CPU, its refusals, its numbers and its plot."""

from __future__ import annotations

import importlib.util
import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from amk.bench.plot import svg_plot
from amk.bench.report import Report, Row
from amk.bench.stats import Times
from amk.cli.amk import main
from amk.runtime.model import CompiledModel
from amk.runtime.toolchain import find_cxx, has_gpu

COMMAND = ["bench", "--shape=tiny", "--contexts=256,64", "--device=cpu", "--workers=2", "--quick"]


@pytest.fixture
def without_torch(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *rest: None if name == "torch" else find(name)
    )


@pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
def test_measures_on_the_cpu_and_writes_everything(tmp_path, capsys, without_torch):
    results, plot = tmp_path / "result.json", tmp_path / "plot.svg"
    command = [*COMMAND, "--lower-to-tiles=splits=3"]
    assert main([*command, "-o", str(results), "--plot", str(plot)]) == 0
    out = capsys.readouterr().out
    assert "of the float32 interpreter" in out
    assert "no alternatives: torch is not installed" in out
    assert re.search(r"^\| 64 \| [\d.]+ \| [\d.]+ \| [\d.]+% \|", out, re.MULTILINE)
    found = json.loads(results.read_text())
    assert [row["context"] for row in found["rows"]] == [64, 256]
    assert [row["tokens_a_launch"] for row in found["rows"]] == [32, 64]
    assert found["checks"][0]["good"] is True
    assert found["verified"] is True
    assert found["options"] == {"tiles": "splits=3", "tasks": ""}
    for row in found["rows"]:
        # 2 caches of 2 layers of 2 heads of 16 elements of 2 bytes, on the average of the launch.
        attended = row["context"] - (row["tokens_a_launch"] - 1) / 2
        assert row["read_bytes"] == found["stream_bytes"] + attended * 256
        assert 0 < row["ceiling_us"] < row["amk"]["us"] < row["launches_of_one_token"]["us"] * 100
    texts = [element.text for element in ElementTree.parse(plot).iter()]
    assert {"AMK", "ceiling", "64", "256"} <= set(texts)


@pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
def test_checks_long_contexts_and_measures_alternatives_with_torch(tmp_path, capsys):
    pytest.importorskip("torch", reason="torch is not installed")
    results = tmp_path / "result.json"
    command = [*COMMAND, "--check-long", "--alternatives=eager", "-o", str(results)]
    assert main(command) == 0
    found = json.loads(results.read_text())
    assert [check["positions"] for check in found["checks"]] == [[0, 32], [48, 64], [240, 256]]
    for check in found["checks"]:
        # The program keeps more bits between its products than a bf16 forward pass does.
        assert 0 < check["error"] < check["allowed"] < 3e-2
    for row in found["rows"]:
        assert row["alternatives"]["torch eager, SDPA"]["us"] > 0
    assert re.search(r"^\| 64 \|.*x \|$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
@pytest.mark.parametrize("broken", ["far", "nan", "unsteady"])
def test_wrong_logits_give_no_times(capsys, monkeypatch, without_torch, tmp_path, broken):
    right = CompiledModel.logits
    calls = 0

    def wrong(self, ids, first=0):
        nonlocal calls
        calls += 1
        logits = right(self, ids, first)
        if broken == "far":
            return logits * 1.1
        if broken == "nan":
            return logits * np.nan
        return logits * (1 + calls * 2.0**-20)

    monkeypatch.setattr(CompiledModel, "logits", wrong)
    assert main([*COMMAND, "-o", str(tmp_path / "result.json")]) == 1
    captured = capsys.readouterr()
    assert captured.err.endswith("shape tiny: the logits are wrong, so no times are given\n")
    assert " us" not in captured.out
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape=gpt"], "unknown shape 'gpt'; known: llama-3.2-1b, "),
        (["--shape=tiny", "--contexts=64,513"], "context 513 is outside 1..512, what shape tiny"),
        (["--shape=tiny", "--contexts=64,x"], "'x' is not a whole number from 1 on"),
        (["--shape=tiny", "--alternatives=vllm"], "unknown alternative 'vllm'; known: eager,"),
        (
            ["--shape=tiny", "--lower-to-tiles=spits=2"],
            "cannot take the options 'spits=2' of lower-to-tiles: Provided arguments",
        ),
        (["--shape=tiny", "--lower-to-tiles=splits=x"], "of lower-to-tiles: Incompatible types"),
        (["--shape=tiny", "--lower-to-tasks==3"], "of lower-to-tasks: Expected argument name"),
        (["--shape=tiny", "--lower-to-tasks=workers=3"], "option 'workers' of lower-to-tasks can"),
        (["--model=/nowhere"], "/nowhere does not exist: give a model directory"),
        ([], "one of the arguments --model --shape is required"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert main(["bench", "--device=cpu", *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_no_gpu_is_one_line(capsys):
    assert main(["bench", "--device=cuda", "--shape=tiny"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "needs a GPU, but" in line


@pytest.mark.gpu
def test_measures_on_the_gpu(tmp_path, capsys):
    results = tmp_path / "result.json"
    command = ["bench", "--shape=tiny", "--contexts=64,256", "--device=cuda", "--quick"]
    assert main([*command, "--check-long", "-o", str(results)]) == 0
    found = json.loads(results.read_text())
    assert all(check["good"] for check in found["checks"])
    for row in found["rows"]:
        assert 0 < row["ceiling_us"] < row["amk"]["us"]
    assert found["loading_peak_bytes"] >= found["memory_bytes"] * 0.9


def times(*us: float) -> Times:
    return Times(us)


def test_the_table_names_the_fastest_alternative():
    rows = [
        Row(64, 32, 2.4e9, 780.0, times(790.0, 800.0, 830.0), times(810.0)),
        Row(1024, 64, 2.5e9, 790.0, times(820.0), times(830.0)),
    ]
    rows[0].others["graph"] = times(1200.0)
    rows[0].others["compiled"] = times(1000.0)
    report = Report("a model", {}, 3000.0, times(780.0), 2_400_000_000, [], rows)
    head, _, first, second = report.table().splitlines()
    assert head.endswith("| one-token launches | graph | compiled | faster |")
    assert first == "| 64 | 780.0 | 800.0 | 97.5% | 810.0 | 1200 | 1000 | 1.25x |"
    assert second == "| 1024 | 790.0 | 820.0 | 96.3% | 830.0 | - | - | - |"
    assert report.stream_gb_s == pytest.approx(3076.9, abs=0.1)


def test_contexts_are_drawn_at_equal_distances_if_they_double():
    svg = svg_plot("a < b", {"x": [(64, 10), (128, 20), (256, 40)]}, dashed=["x"])
    root = ElementTree.fromstring(svg)
    (line,) = (element for element in root.iter() if element.tag.endswith("polyline"))
    assert line.get("stroke-dasharray")
    points = [tuple(map(float, point.split(","))) for point in (line.get("points") or "").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert y1 - y2 == pytest.approx(2 * (y0 - y1), abs=0.2)  # zero is on the axis
