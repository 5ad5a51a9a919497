"""Vectors of a teacher, computed once per text and kept on disk."""

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock

from cclm_core.objectives.teachers.base import Teacher, TeacherConfig, Vectors
from cclm_core.runtime.row_store import RowStore

_MAX_BYTES = 8e9


class TeacherOutputs:
    """The vectors of a teacher. Threads and processes can share them.

    Args:
        config: the teacher, with digest and width; it is opened for the first new text.
        folder: the folder for the vectors of all teachers, each in a subfolder named by its digest; None to keep them
            in memory only. At most 8 GB per teacher are kept, others are computed again.
    """

    def __init__(self, config: TeacherConfig, folder: Path | None) -> None:
        assert config.sha256 is not None and config.width is not None
        self._config, self._width = config, config.width
        self._teacher: Teacher | None = None
        self._thread_lock = threading.Lock()
        self._memory: dict[str, Vectors] = {}
        self._store: RowStore | None = None
        if folder is not None:
            own = folder / config.sha256[:32]
            own.mkdir(parents=True, exist_ok=True)
            self._process_lock = FileLock(own / ".lock")
            with self._process_lock:
                self._store = RowStore(own, (self._width,), np.float32, _MAX_BYTES)

    def __call__(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors (N, D) float32 of N texts; zeros for a text that the teacher cannot read.

        Raises:
            ArtifactError: the disk is full.
            CclmError: the teacher cannot be opened; see `TeacherConfig.open`.
        """
        with self._thread_lock:
            stored = {text: vector for text in texts if (vector := self._stored(text)) is not None}
            new = [text for text in dict.fromkeys(texts) if text not in stored]
            if new:
                self._teacher = self._teacher or self._config.open()
                vectors = self._teacher.vectors(new)
                stored |= dict(zip(new, vectors, strict=True))
                self._add(new, vectors)
        rows = [stored[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self._width), dtype=np.float32)

    def __deepcopy__(self, memo: object) -> "TeacherOutputs":
        """This object: copies of an objective share the vectors."""
        return self

    def _stored(self, text: str) -> Vectors | None:
        if self._store is None:
            return self._memory.get(text)
        return self._store.get(text.encode())

    def _add(self, texts: Sequence[str], vectors: Vectors) -> None:
        if self._store is None:
            self._memory |= dict(zip(texts, vectors, strict=True))
            return
        with self._process_lock:
            self._store.refresh()
            keys = [text.encode() for text in texts]
            missing = [number for number, key in enumerate(keys) if key not in self._store]
            self._store.add([keys[number] for number in missing], vectors[missing])
