"""Warnings to the user, which do not stop a run."""

import sys


def warn(message: str) -> None:
    """Prints a warning to standard error and, inside a flow or task, also logs it to Prefect."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
    if "prefect.context" in sys.modules:  # otherwise no flow is running; importing Prefect takes a second
        from prefect.context import FlowRunContext, TaskRunContext
        from prefect.logging import get_run_logger

        if FlowRunContext.get() or TaskRunContext.get():
            get_run_logger().warning(message)
