"""The section `ingest` of params.yaml, and the written-out catalogue of sources."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from cclm_core.config import Config, nearest
from cclm_core.errors import ConfigError
from cclm_core.text.quarantine import Located, Rejected
from cclm_core.text.sources.archive import ArchiveConfig, describe_archive, read_archive
from cclm_core.text.sources.files import FilesConfig, describe_files, read_files
from cclm_core.text.sources.hub import DatasetConfig, describe_dataset, read_dataset

Source = ArchiveConfig | FilesConfig | DatasetConfig

KINDS: Mapping[str, type[Source]] = {"archive": ArchiveConfig, "files": FilesConfig, "dataset": DatasetConfig}


class IngestConfig(Config):
    """What a corpus is made of, and how it is split.

    Args:
        source: `archive`, `files` or `dataset`, by its key `kind`.
        validation_groups, test_groups: the groups that are held out, by name; all others are trained on.
        validation_share, test_share: instead of names, the part of the groups that is held out, chosen by a seeded
            hash of the group's name. A record without a group is a group of its own.
        records_per_shard: how many records a file holds at most.
    """

    source: Source
    validation_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    validation_share: float | None = Field(default=None, gt=0, lt=1)
    test_share: float | None = Field(default=None, gt=0, lt=1)
    records_per_shard: int = Field(default=65536, ge=1)

    @field_validator("source", mode="before")
    @classmethod
    def _source(cls, value: Any) -> Any:
        """Picks the kind first, so that an error names the keys of that kind alone."""
        if not isinstance(value, Mapping):
            return value
        kind = str(value.get("kind"))
        if kind not in KINDS:
            raise ConfigError(
                f"ingest.source.kind must be one of {', '.join(KINDS)}, got {kind!r}; {nearest(kind, list(KINDS))}"
            )
        return KINDS[kind].parse(value, "ingest.source")

    @model_validator(mode="after")
    def _one_way_to_split(self) -> "IngestConfig":
        for split, groups, share in (
            ("validation", self.validation_groups, self.validation_share),
            ("test", self.test_groups, self.test_share),
        ):
            if bool(groups) == (share is not None):
                raise ValueError(f"exactly one of `{split}_groups` and `{split}_share` must be given")
        if both := set(self.validation_groups) & set(self.test_groups):
            raise ValueError(f"a group cannot be in validation and test: {', '.join(sorted(both))}")
        if (self.validation_share or 0) + (self.test_share or 0) >= 1:
            raise ValueError("`validation_share` and `test_share` must leave something to train on")
        return self


def read_source(source: Source, downloads: Path) -> Iterator[Located | Rejected]:
    """The records of a source, in its order, all of them in the split `train`, and what had to be rejected."""
    match source:
        case ArchiveConfig():
            return read_archive(source, downloads)
        case FilesConfig():
            return read_files(source)
        case DatasetConfig():
            return read_dataset(source)


def ids_may_repeat(source: Source) -> bool:
    """Whether ids come from a column, so that two records may have the same one."""
    return not isinstance(source, ArchiveConfig) and source.columns.id is not None


def describe_source(source: Source) -> dict[str, Any]:
    """What `source.json` says of it."""
    match source:
        case ArchiveConfig():
            return describe_archive(source)
        case FilesConfig():
            return describe_files(source)
        case DatasetConfig():
            return describe_dataset(source)
