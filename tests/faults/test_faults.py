"""Fault trials: at most one checkpoint's interval of work is lost, no output is damaged, the next run needs no manual
repair, and no run stays open. Each trial asserts that its fault really happened.

`tests/flows/test_gate_trials.py` has trials of killed promotions, `tests/training/test_interrupted.py` of killed
trainings of every objective.
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
@pytest.mark.parametrize("name", TRIALS)
def test_trial(name: str, pipeline: Pipeline, request: pytest.FixtureRequest) -> None:
    if name in SERVED:  # a shared server: starting a temporary one takes as long as the rest of a trial
        pipeline.environment["PREFECT_API_URL"] = request.getfixturevalue("served")
    TRIALS[name](pipeline)
