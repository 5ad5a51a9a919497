"""Ending on request: a SIGTERM lets the step under way finish and be saved."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

ENDED = 128 + signal.SIGTERM
"""The exit code of a process that a SIGTERM ended, as shells give it."""


@contextmanager
def asked_to_end() -> Iterator[Callable[[], bool]]:
    """Notes a SIGTERM instead of dying of it; only in the main thread, others get no signals."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
