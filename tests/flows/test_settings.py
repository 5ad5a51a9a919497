"""docs/settings.md lists every CCLM_* environment variable that the library and the flows read."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"\bCCLM_[A-Z_]*[A-Z]\b")


def test_every_environment_variable_is_documented() -> None:
    files = [*(ROOT / "cclm_core").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    used = {name for path in files for name in NAME.findall(path.read_text(encoding="utf-8"))}
    documented = set(NAME.findall((ROOT / "docs/settings.md").read_text(encoding="utf-8")))
    assert used == documented
