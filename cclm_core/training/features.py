"""Features of a frozen base, computed once per window and kept on disk.

```
features.bin   float16 or float32: (L, D) per window, in the order of first use
index.bin      20 bytes per window: BLAKE2b of its ids (16), CRC-32 of its features (4)
```

A component over a frozen base reads the same features in every epoch if its objective does not change the text, and if
the windows do not move (`Windows(moving=False)`).
"""

import hashlib
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cclm_core.composition.component import Component, OverBase
from cclm_core.encoders.embedder import Base, Reading
from cclm_core.objectives.base import Objective
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ArtifactError, ConfigError, TrainingError
from cclm_core.training.config import TrainingConfig

_RECORD = struct.Struct("<16sI")
_FEATURES, _INDEX = "features.bin", "index.bin"


class FeatureCache:
    """The features of windows under a frozen base, on disk and at most as large as configured.

    Windows are added until the limit is reached; all others are computed whenever they are read. The features of a new
    window are rounded like stored ones, so a result does not depend on which windows are stored. What a killed process
    stored is used again; damaged features are not.

    Args:
        folder: where to keep them. Features of another base or another configuration in it are deleted.
        base: the frozen base.
        config: the training, with `cache_features`.

    Raises:
        ArtifactError: the folder cannot be written.
    """

    def __init__(self, folder: Path, base: Base, config: TrainingConfig) -> None:
        assert config.cache_features is not None
        kind = config.cache_features.precision
        self.base, self.folder = base, folder
        self._dtype = np.dtype(np.float16 if kind == "fp16" else np.float32)
        self._shape = (config.window, base.width)
        self._row_bytes = config.window * base.width * self._dtype.itemsize
        self.capacity = int(config.cache_features.max_gigabytes * 1e9) // (self._row_bytes + _RECORD.size)
        settings = [base.digest, config.window, kind, config.precision, config.threads]
        self._own = folder / digest(settings)[:16]
        try:
            self._open()
        except OSError as error:
            raise ArtifactError(
                f"cannot keep features in {folder}: {error}. Correct it, or remove cache_features."
            ) from error

    def __len__(self) -> int:
        """The number of stored windows."""
        return len(self._rows)

    def features(self, ids: Tensor) -> Tensor:
        """The features (B, L, D) float32 of windows `ids` (B, L) int64, on their device.

        Raises:
            TrainingError: a feature is too large for float16.
            ArtifactError: the disk is full.
        """
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in ids.cpu().numpy()]
        new = {key: row for row, key in enumerate(keys) if key not in self._rows}
        computed = self._computed(ids[list(new.values())]) if new else None
        position = {key: number for number, key in enumerate(new)}
        if computed is not None:
            self._store(list(new), computed)
        rows = [computed[position[key]] if computed is not None and key in new else self._read(key) for key in keys]
        if not rows:
            return torch.zeros(0, *ids.shape[1:], self._shape[1], device=ids.device)
        return torch.from_numpy(np.stack(rows).astype(np.float32)).to(ids.device)

    def close(self) -> None:
        """Closes the files."""
        self._data.close()
        self._index.close()

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for other in self.folder.iterdir():
            if other != self._own:
                shutil.rmtree(other)
        self._own.mkdir(exist_ok=True)
        self._data = _opened(self._own / _FEATURES)
        self._index = _opened(self._own / _INDEX)
        self._rows: dict[bytes, int] = {}
        for key, checksum in self._records():
            content = os.pread(self._data.fileno(), self._row_bytes, len(self._rows) * self._row_bytes)
            if len(self._rows) == self.capacity or zlib.crc32(content) != checksum:
                break
            self._rows[key] = len(self._rows)
        self._index.truncate(len(self._rows) * _RECORD.size)
        self._data.truncate(len(self._rows) * self._row_bytes)
        self._mapped = self._map()

    def _records(self) -> Iterator[tuple[bytes, int]]:
        content = self._index.read()
        yield from _RECORD.iter_unpack(content[: len(content) - len(content) % _RECORD.size])

    def _map(self) -> npt.NDArray[np.floating]:
        """The stored features (N, L, D), memory-mapped."""
        shape = (len(self._rows), *self._shape)
        if not self._rows:
            return np.empty(shape, dtype=self._dtype)
        return np.memmap(self._own / _FEATURES, dtype=self._dtype, mode="r", shape=shape)

    def _computed(self, ids: Tensor) -> npt.NDArray[np.floating]:
        with torch.no_grad():
            features = self.base(ids).float().cpu().numpy()
        with np.errstate(over="ignore"):
            rounded: npt.NDArray[np.floating] = features.astype(self._dtype)
        if np.isfinite(features).all() and not np.isfinite(rounded).all():
            raise TrainingError(
                f"a feature of {self.base.described} is too large for float16: {np.abs(features).max():g}. Set "
                "cache_features.precision: fp32."
            )
        return rounded

    def _store(self, keys: list[bytes], features: npt.NDArray[np.floating]) -> None:
        """Adds windows while there is room. The index is written last and at once, so a kill leaves all or none."""
        room = self.capacity - len(self._rows)
        if features.shape[1:] != self._shape or room <= 0:
            return
        contents = [row.tobytes() for row in features[:room]]
        records = [_RECORD.pack(key, zlib.crc32(content)) for key, content in zip(keys, contents, strict=False)]
        first = len(self._rows)
        try:
            _write(self._data, b"".join(contents), first * self._row_bytes)
            _write(self._index, b"".join(records), first * _RECORD.size)
        except OSError as error:
            raise ArtifactError(
                f"cannot write features to {self._own}: {error}. Free space, or lower cache_features.max_gigabytes."
            ) from error
        self._rows |= {key: first + number for number, key in enumerate(keys[: len(records)])}

    def _read(self, key: bytes) -> npt.NDArray[np.floating]:
        row = self._rows[key]
        if row >= len(self._mapped):
            self._mapped = self._map()
        stored: npt.NDArray[np.floating] = self._mapped[row]
        return stored


class OverCachedBase(OverBase):
    """A component over its base, with features of the base from a cache."""

    def __init__(self, cache: FeatureCache, component: Component) -> None:
        super().__init__(cache.base, component)
        self._cache = cache

    @torch.compiler.disable
    def _reading(self, ids: Tensor) -> Reading:
        reading = Reading(ids)
        reading.add(self.base, self._cache.features(ids))
        return reading

    def forward(self, ids: Tensor) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width)."""
        return self.component.encode(self._reading(ids), self.base)


@contextmanager
def cached_features(
    folder: Path,
    base: Base,
    component: Component,
    objective: Objective,
    config: TrainingConfig,
    train_base: bool = False,
) -> Iterator[FeatureCache | None]:
    """The cache for a training of `component` over `base`; None without `cache_features`.

    The folder is deleted at the end of the block. If an error or a signal ends it, the folder stays, so that the
    training can resume.

    Raises:
        ConfigError: the base is trained, the component does not read it, or the objective changes the text.
        ArtifactError: `folder` cannot be written.
    """
    if config.cache_features is None:
        yield None
        return
    remove = "Remove cache_features."
    if train_base:
        raise ConfigError(f"cache_features needs a frozen base, but {base.described} is trained, too. {remove}")
    if component.card.base_digest is None:
        raise ConfigError(f"cache_features needs a component over the base, but {component.described} is not. {remove}")
    if not objective.reads_clean_windows:
        raise ConfigError(
            "cache_features needs an objective that reads windows of the text unchanged, but "
            f"{component.card.objective} masks, cuts or adds noise to them. Use another objective, such as entities, "
            "with training_noise: {rate: 0}, or remove cache_features."
        )
    cache = FeatureCache(folder, base, config)
    try:
        yield cache
    finally:
        cache.close()
    shutil.rmtree(folder)


def _opened(path: Path) -> BinaryIO:
    path.touch()
    return path.open("r+b")


def _write(file: BinaryIO, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file.fileno(), view, offset)
        view, offset = view[written:], offset + written
