"""Fault trials: whatever happens to a run, at most one checkpoint's interval of work is lost, nothing published is
damaged, the next run needs no repair by hand, and nothing stays open. Each asserts that its fault has happened.

Killed promotions stand in `tests/flows/test_gate_trials.py`, killed trainings of every objective in
`tests/training/test_interrupted.py`.
"""

from collections.abc import Callable

import pytest

from tests.faults import disks, files, processes, servers
from tests.faults.pipeline import Pipeline

TRIALS: dict[str, Callable[[Pipeline], None]] = {
    **processes.TRIALS,
    **files.TRIALS,
    **disks.TRIALS,
    **servers.TRIALS,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", TRIALS)
def test_trial(name: str, pipeline: Pipeline) -> None:
    TRIALS[name](pipeline)
