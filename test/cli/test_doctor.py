"""amk doctor: a table, whatever is missing or broken."""

from __future__ import annotations

import subprocess
import sys

import pytest

from amk.cli import doctor


def test_the_table_covers_everything(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0
    out = capsys.readouterr().out
    for name in ("Python", "packages", "C++20", "GPU", "CuPy", "NVRTC", "nvcc", "Hugging", "cache"):
        assert any(line.startswith(name) for line in out.splitlines()), name


def test_a_bare_machine_still_gets_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: None)
    monkeypatch.setattr(doctor, "find_cxx", lambda: None)
    monkeypatch.setattr(doctor, "find_nvcc", lambda: None)
    monkeypatch.setattr(doctor, "find_nvrtc", lambda: None)
    monkeypatch.setattr(doctor, "read_gpus", lambda: ((), "no driver"))
    assert doctor.main([]) == 1  # the core packages are missing
    out = capsys.readouterr().out
    assert "packages (for everything): pip install xdsl numpy" in out
    assert "GPU (for running on the GPU): no driver" in out
    assert "Hugging Face (for amk check): pip install torch==2.13.0" in out


def test_a_probe_that_breaks_is_a_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def _gpu() -> doctor.Finding:
        raise OSError("the driver\nis broken")

    monkeypatch.setattr(doctor, "_PROBES", (_gpu,))
    assert doctor.main([]) == 0
    assert "gpu (for ?): looking for it failed: OSError: the driver is broken" in (
        capsys.readouterr().out
    )


def test_an_unusable_cache_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AMK_CACHE_DIR", "/dev/null/cache")
    doctor.main([])
    assert "set AMK_CACHE_DIR to one that is" in capsys.readouterr().out


def test_imports_nothing_heavy() -> None:
    code = (
        "import sys; from amk.cli import doctor; doctor.findings();"
        "sys.exit(bool({'torch', 'cupy', 'numpy', 'transformers', 'xdsl'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
