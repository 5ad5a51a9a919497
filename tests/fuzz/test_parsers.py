"""Damaged files: every reader accepts, quarantines or refuses with a CclmError. None shows a traceback, hangs or dies.

`make test` runs a share of the cases. All of them, or one reader with other seeds:

    .venv/bin/pytest -m slow tests/fuzz
    CCLM_FUZZ_SEED=7 .venv/bin/pytest -m slow tests/fuzz -k dataset
"""

import os
from pathlib import Path

import pytest

from tests.fuzz.cases import Outcome, run_cases
from tests.fuzz.parsers import PARSERS

SEED = os.environ.get("CCLM_FUZZ_SEED", "1")
SLOW = 20  # times as many cases


def check(outcome: Outcome) -> None:
    assert outcome.accepted + outcome.refused > 0
    assert not outcome.failures, f"{len(outcome.failures)} failures:\n" + "\n".join(outcome.failures[:20])


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_files_are_accepted_or_refused(name: str, tmp_path: Path) -> None:
    prepare, count = PARSERS[name]
    if name == "dataset":
        pytest.importorskip("datasets")
    check(run_cases(prepare, tmp_path, count, f"{name} {SEED}"))


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_all_damaged_files_are_accepted_or_refused(name: str, tmp_path: Path) -> None:
    prepare, count = PARSERS[name]
    if name == "dataset":
        pytest.importorskip("datasets")
    check(run_cases(prepare, tmp_path, SLOW * count, f"{name} slow {SEED}"))
