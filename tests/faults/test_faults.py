"""Fault trials: whatever happens to a run, at most one checkpoint's interval of work is lost, nothing published is
damaged, the next run needs no repair by hand, and nothing stays open. Each asserts that its fault has happened.

Killed promotions stand in `tests/flows/test_gate_trials.py`, killed trainings of every objective in
`tests/training/test_interrupted.py`.
"""

from collections.abc import Callable

import pytest

from tests.faults import disks, files, processes, servers
from tests.faults.pipeline import Pipeline

SERVED = {**processes.SERVED, **files.TRIALS, **disks.TRIALS}
TRIALS: dict[str, Callable[[Pipeline], None]] = {
    **disks.CHECKPOINTS,
    **SERVED,
    **processes.ALONE,
    **servers.TRIALS,
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", TRIALS)
def test_trial(name: str, pipeline: Pipeline, request: pytest.FixtureRequest) -> None:
    if name in SERVED:  # one server for all of these: each temporary one takes as long as the rest of a trial
        pipeline.environment["PREFECT_API_URL"] = request.getfixturevalue("served")
    TRIALS[name](pipeline)
