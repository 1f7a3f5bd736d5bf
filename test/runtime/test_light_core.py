"""Everything up to generated tokens needs neither torch nor transformers."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny_model import write_model

from amk.runtime.toolchain import find_cxx

SCRIPT = """
import sys
for name in ("torch", "transformers", "accelerate", "cupy", "lark"):
    sys.modules[name] = None  # importing it fails
import amk
from amk.backends import emit
from amk.frontend.import_model import import_model
from amk.runtime.build import lower
checkpoint = amk.open_checkpoint(sys.argv[1])
module = import_model(checkpoint, context=16)
lower(module, 2, "sm_90")
assert "amk_decode" in emit(module, "sm_90")
with amk.compile(checkpoint, "host", context=16, workers=2) as model:
    print(len(list(model.generate([5], 4))))
"""


@pytest.mark.skipif(find_cxx() is None, reason="no C++ compiler")
def test_reads_lowers_verifies_prints_and_runs_without_them(tmp_path):
    path = write_model(tmp_path, eos_token_id=100)
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], capture_output=True, text=True, check=False
    )
    assert result.stderr == ""
    assert result.stdout == "4\n"


def test_the_tool_starts_without_them_and_without_numpy_and_xdsl():
    code = (
        "import sys, amk, amk.cli.amk;"
        "print({'torch', 'transformers', 'cupy', 'numpy', 'xdsl'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
