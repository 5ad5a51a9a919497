"""The GPU script runs on a CPU with tiny models."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_dry_run_measures_every_part(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--dry-run", "--json", "--out", tmp_path / "gpu.json"]
    result = subprocess.run(command, cwd=tmp_path, env=_environment(), capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr
    written = json.loads((tmp_path / "gpu.json").read_text())
    rows = {row["name"]: row["value"] for row in written["rows"]}
    assert written["device"] and written["versions"]["torch"] == torch.__version__
    assert list(rows) == [json.loads(line)["name"] for line in result.stdout.splitlines()]
    assert rows["tests"] == 1 and rows["resume/difference"] == 0
    assert 0 < rows["base"] < 10 and 0 < rows["optimizers/muon:8e-3"] < 10
    speeds = [name for name in rows if name.startswith("speed/") and name.endswith(("eager", "compiled", "loop"))]
    assert len(speeds) == 6 and all(rows[name] > 0 for name in speeds)
    assert rows["matmul"] > 0 and all(rows[f"{name}/utilization"] > 0 for name in speeds if "loop" not in name)


def test_a_machine_without_a_gpu_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--out", tmp_path / "gpu.json"]
    environment = _environment() | {"CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 1
    assert "sees no GPU. Run it on a machine with one, or with --dry-run." in result.stderr
    assert not (tmp_path / "gpu.json").exists()


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
