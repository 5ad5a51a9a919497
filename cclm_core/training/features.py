"""Features of a frozen base, computed once per window and kept on disk.

A component over a frozen base reads the same features in every epoch if its objective does not change the text, and if
the windows do not move (`Windows(moving=False)`).
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cclm_core.composition.component import Component, OverBase
from cclm_core.encoders.contexts import Contexts
from cclm_core.encoders.embedder import Base, Reading
from cclm_core.objectives.base import Objective
from cclm_core.runtime.config import digest
from cclm_core.runtime.errors import ConfigError, TrainingError
from cclm_core.runtime.row_store import Row, RowStore
from cclm_core.training.config import TrainingConfig


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
        settings = [base.digest, config.window, kind, config.precision, config.threads]
        own = folder / digest(settings)[:16]
        for other in folder.iterdir() if folder.is_dir() else ():
            if other != own:
                shutil.rmtree(other)
        dtype = np.float16 if kind == "fp16" else np.float32
        self.base = base
        self.store = RowStore(own, (config.window, base.width), dtype, config.cache_features.max_gigabytes * 1e9)

    def features(self, ids: Tensor) -> Tensor:
        """The features (B, L, D) float32 of windows `ids` (B, L) int64, on their device.

        Raises:
            TrainingError: a feature is too large for float16.
            ArtifactError: the disk is full.
        """
        keys = [row.tobytes() for row in ids.cpu().numpy()]
        known = {key: row for key in keys if (row := self.store.get(key)) is not None}
        new = {key: row for row, key in enumerate(keys) if key not in known}
        if new:
            computed = self._computed(ids[list(new.values())])
            known |= dict(zip(new, computed, strict=True))
            if ids.shape[1] == self.store.shape[0]:
                self.store.add(list(new), computed)
        rows = [known[key] for key in keys]
        if not rows:
            return torch.zeros(*ids.shape, self.base.width, device=ids.device)
        return torch.from_numpy(np.stack(rows).astype(np.float32)).to(ids.device)

    def close(self) -> None:
        """Closes the files."""
        self.store.close()

    def _computed(self, ids: Tensor) -> Row:
        with torch.no_grad():
            features = self.base(ids).float().cpu().numpy()
        with np.errstate(over="ignore"):
            rounded: Row = features.astype(self.store.dtype)
        if np.isfinite(features).all() and not np.isfinite(rounded).all():
            raise TrainingError(
                f"a feature of {self.base.described} is too large for float16: {np.abs(features).max():g}. Set "
                "cache_features.precision: fp32."
            )
        return rounded


class OverCachedBase(OverBase):
    """A component over its base, with features of the base from a cache."""

    def __init__(self, cache: FeatureCache, component: Component) -> None:
        super().__init__(cache.base, component)
        self._cache = cache
        # Not as a decorator: it imports torch._dynamo, which takes as long as importing torch.
        self._reading = torch.compiler.disable(self._read)  # type: ignore[no-untyped-call]

    def _read(self, ids: Tensor) -> Reading:
        reading = Reading(ids)
        reading.add(self.base, self._cache.features(ids))
        return reading

    def forward(self, ids: Tensor, contexts: Contexts | None = None) -> Tensor:
        """Embeds `ids` (B, L) int64 as (B, L, width). Objectives that read contexts change the text: no cache."""
        assert contexts is None
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
