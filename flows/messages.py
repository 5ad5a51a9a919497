"""Warnings for the user that do not stop the work."""

import sys


def warn(message: str) -> None:
    """Prints a warning on standard error and, inside a flow, logs it to Prefect as well."""
    print(f"warning: {message}", file=sys.stderr, flush=True)
    if "prefect.context" in sys.modules:  # otherwise there is no flow, and importing Prefect takes a second
        from prefect.context import FlowRunContext, TaskRunContext
        from prefect.logging import get_run_logger

        if FlowRunContext.get() or TaskRunContext.get():
            get_run_logger().warning(message)
