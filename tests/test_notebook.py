"""docs/notebook.ipynb runs from top to bottom in a fresh process, and its models do what the text says."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))
CHECKS = """
import json, sys
print(json.dumps({"scores": scores, "majority": majority, "names": dir()}))
"""


@pytest.mark.timeout(600)  # 20 s of CPU, but the suite may run next to other jobs
def test_the_notebook_runs_and_its_model_is_better_than_chance_under_noise(tmp_path: Path) -> None:
    cells = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    script = tmp_path / "notebook.py"
    script.write_text("\n".join([*cells, CHECKS]), encoding="utf-8")
    environment = os.environ | {"MPLBACKEND": "agg", "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    clean, *noisy = result["scores"]
    assert clean > result["majority"] + 0.3 and noisy[1] > result["majority"] + 0.2
    assert "figure" in result["names"] or "matplotlib is not installed" in done.stdout


def test_the_notebook_has_no_outputs_that_could_be_out_of_date() -> None:
    assert all(not cell["outputs"] for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code")
