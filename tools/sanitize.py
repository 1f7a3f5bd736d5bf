"""Runs small random models on this GPU under compute-sanitizer and summarises what it reports.

    python tools/sanitize.py [--tools memcheck racecheck] [--tokens 10] [--workers 3] [--arch sm_80]

Float32 and bf16, also with many old rows in a split; a launch of several tokens each. Every
distinct place that a tool reports is printed once, with how often it was reported; the exit status
is 1 if there is any.

Every lane of a warp arrives at its barriers itself (`kArrivers`): racecheck takes an arrival of one
lane, after __syncwarp, for one that the others have no part in. It does not follow copies of the
bulk-copy engine either; the files for sm_80, which run on any GPU, have none.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from amk.backends import emit_program
from amk.backends.program import Program
from amk.frontend.import_model import DtypeName

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 144,
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 203,
    "max_position_embeddings": 512,
    "hidden_act": "silu",
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
    "torch_dtype": "float32",
}
CONTEXT = 320
RUNS: tuple[tuple[DtypeName, str, int], ...] = (
    ("f32", "", 0),
    ("bf16", "", 0),
    ("bf16", "splits=1 units=1", 300),
)
"""Storage type, options of `lower-to-tiles`, first position: in the last run, attention has so many
old rows in one split that it takes them by rows."""
REPORT = re.compile(
    r"========= (?:Error|Warning|Invalid|Program hit)[^\n]*(?:\n=========  [^\n]*)*"
)
THREAD = re.compile(r"by thread \([^)]*\) in block \([^)]*\)|0x[0-9a-f]+|by [Tt]hread \([^)]*\)")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tools", nargs="*", default=["memcheck", "racecheck"])
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--arch", default="cuda", help="print for this architecture")
    parser.add_argument("--options", default="", help="more options of compute-sanitizer")
    parser.add_argument("--run", metavar="MODEL", help="run the models, without a tool")
    arguments = parser.parse_args()
    if arguments.run:
        run_models(Path(arguments.run), arguments)
        return 0
    with tempfile.TemporaryDirectory(prefix="amk-") as folder:
        write_model(Path(folder))
        return max(sanitize(tool, folder, arguments) for tool in arguments.tools)


def write_model(folder: Path) -> None:
    from safetensors.numpy import save_file

    from amk.frontend.config import parse_config
    from amk.frontend.import_model import parameter_shapes

    (folder / "config.json").write_text(json.dumps(CONFIG))
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(parse_config(CONFIG, "the small model"))
    tensors = {
        key: (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)
        for key, shape in sorted(shapes.items())
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def run_models(model: Path, arguments: argparse.Namespace) -> None:
    from amk.bench.subject import fill_caches, prepare
    from amk.frontend.checkpoint import open_checkpoint
    from amk.runtime.build import PassOptions
    from amk.runtime.model import CompiledModel
    from amk.runtime.progress import silent

    checkpoint = open_checkpoint(model)
    for dtype, tiles, first in RUNS:
        prepared = prepare(
            checkpoint,
            arguments.arch,
            dtype=dtype,
            context=CONTEXT,
            workers=arguments.workers,
            options=PassOptions(tiles=tiles),
            progress=silent,
        )
        program = with_every_arrival(emit_program(prepared.module, prepared.choice.target))
        device = prepared.choice.load(program, prepared.module, prepared.weights, silent)
        with CompiledModel(checkpoint, program, device, 60.0) as compiled:
            fill_caches(device)
            compiled.session.time(1, first, arguments.tokens)
        print(f"{dtype} {tiles}: {arguments.tokens} tokens from position {first}", flush=True)


def _place(report: str) -> str:
    """A report without what differs from one thread to the next, and without long templates."""
    lines = [re.sub(r"<.*?(?=\+…|$)", "<…>", line) for line in THREAD.sub("…", report).splitlines()]
    return "\n".join(dict.fromkeys(lines))


def with_every_arrival(program: Program) -> Program:
    """The program, with barriers that racecheck follows."""
    one, every = "constexpr int kArrivers = 1;", "constexpr int kArrivers = 32;"
    assert one in program.source
    return replace(program, source=program.source.replace(one, every))


def sanitize(tool: str, model: str, arguments: argparse.Namespace) -> int:
    """Runs the models under `tool` and prints what it says; 1 if it reports anything."""
    command = ["compute-sanitizer", "--tool", tool, "--print-limit", "100000"]
    command += [*arguments.options.split(), sys.executable, __file__, "--run", model]
    command += ["--tokens", str(arguments.tokens), "--workers", str(arguments.workers)]
    command += ["--arch", arguments.arch]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    text = result.stdout + result.stderr
    places = Counter(_place(report) for report in REPORT.findall(text))
    for line in text.splitlines():
        if not line.startswith("========="):
            print(line)
    for report, times in places.most_common(40):
        print(f"{times} x {report}")
    summary = [line for line in text.splitlines() if "SUMMARY" in line]
    print(f"{tool}: {' '.join(summary) or 'no summary'}", flush=True)
    clean = bool(summary) and all(re.search(r"SUMMARY: (0 |.*\b0 err)", s) for s in summary)
    return 0 if clean and result.returncode == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
