"""lit configuration: tests are `.mlir` files whose RUN lines use amk-opt, amk-translate, filecheck.

The tools are those of the Python that runs lit, so that no other installation is used by mistake.
"""

import os
import sys
from pathlib import Path

import lit.formats

config.name = "AMK"  # noqa: F821  (lit provides `config`)
config.test_format = lit.formats.ShTest(execute_external=False)  # noqa: F821
config.suffixes = [".mlir", ".test"]  # noqa: F821
config.excludes = ["lit.cfg.py", "inputs"]  # noqa: F821
config.test_source_root = str(Path(__file__).parent)  # noqa: F821

repository = Path(__file__).resolve().parents[2]
# A symbolic link, not its target: the tools of a virtual environment lie beside the link.
tools = Path(sys.executable).parent
path = [str(tools), os.environ.get("PATH", "")]
config.environment["PATH"] = os.pathsep.join(path)  # noqa: F821
config.environment["PYTHONPATH"] = str(repository)  # noqa: F821
for name in ("HOME", "XDG_CACHE_HOME", "CUDA_HOME", "CUDA_PATH"):
    if name in os.environ:
        config.environment[name] = os.environ[name]  # noqa: F821
config.environment["OMP_NUM_THREADS"] = "1"  # noqa: F821

# `REQUIRES: nvcc`, `cxx` or `gpu` in a test; `lit --param fast=1` leaves those tests out.
fast = "fast" in lit_config.params  # noqa: F821
sys.path.insert(0, str(repository))
from amk.runtime.toolchain import find_cxx, find_nvcc, has_gpu  # noqa: E402

for feature, present in (
    ("nvcc", find_nvcc() is not None),
    ("cxx", find_cxx() is not None),
    ("gpu", has_gpu()),
):
    if present and not fast:
        config.available_features.add(feature)  # noqa: F821
