"""The section `ingest` of params.yaml, and the written-out catalogue of sources."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.duplicates import DuplicatesConfig
from cclm_core.ingest.filters import FILTERS, Filter
from cclm_core.ingest.sources.archive import ArchiveConfig, describe_archive, read_archive
from cclm_core.ingest.sources.files import (
    FilePart,
    FilesConfig,
    describe_files,
    file_format,
    file_parts,
    named_files,
    read_part,
)
from cclm_core.ingest.sources.hub import DatasetConfig, describe_dataset, read_dataset
from cclm_core.ingest.sources.pieces import portions
from cclm_core.ingest.transforms import TRANSFORMS, Transform
from cclm_core.runtime.config import Config, nearest
from cclm_core.runtime.errors import ConfigError

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
        transforms: what is done to every text, in this order, before anything else: see `text.transforms`.
        filters: which texts are kept: see `text.filters`; the others go to the quarantine.
        duplicates: `exact` or `near`, or more exactly a `DuplicatesConfig`; null keeps repetitions.
    """

    source: Source
    validation_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    validation_share: float | None = Field(default=None, gt=0, lt=1)
    test_share: float | None = Field(default=None, gt=0, lt=1)
    records_per_shard: int = Field(default=65536, ge=1)
    transforms: tuple[SerializeAsAny[Transform], ...] = ()
    filters: tuple[SerializeAsAny[Filter], ...] = ()
    duplicates: DuplicatesConfig | None = None

    @field_validator("transforms", mode="before")
    @classmethod
    def _transforms(cls, value: Any) -> Any:
        return _members(value, "transform", TRANSFORMS, "ingest.transforms")

    @field_validator("filters", mode="before")
    @classmethod
    def _filters(cls, value: Any) -> Any:
        return _members(value, "filter", FILTERS, "ingest.filters")

    @field_validator("duplicates", mode="before")
    @classmethod
    def _duplicates(cls, value: Any) -> Any:
        """`exact` or `near` alone stand for their defaults."""
        return {"kind": value} if isinstance(value, str) else value

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


Part = FilePart | list[Located | Rejected]
"""What one process works on at once: a part of a file that it reads itself, or records that were read."""


def source_parts(source: Source, downloads: Path) -> Iterator[Part]:
    """A source in parts, in its order; where one part ends depends on the source alone."""
    match source:
        case ArchiveConfig():
            return portions(read_archive(source, downloads))
        case FilesConfig():
            return file_parts(source)
        case DatasetConfig():
            return portions(read_dataset(source))


def part_records(part: Part, source: Source) -> Iterable[Located | Rejected]:
    """The records of a part, all of them in the split `train`, and what had to be rejected."""
    if isinstance(part, list):
        return part
    assert isinstance(source, FilesConfig), "only files are read in parts"
    return read_part(part, source)


def reads_in_parts(source: Source) -> bool:
    """Whether some of the reading itself can be done by several processes."""
    return isinstance(source, FilesConfig) and any(
        file_format(source, path) in ("text", "jsonl", "parquet") for path, _ in named_files(source)
    )


def read_source(source: Source, downloads: Path) -> Iterator[Located | Rejected]:
    """The records of a source, in its order, and what had to be rejected."""
    for part in source_parts(source, downloads):
        yield from part_records(part, source)


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


def _members(value: Any, key: str, catalogue: Mapping[str, type[Config]], place: str) -> Any:
    """Picks the class of each member of a family by its key, so that an error names the keys of that class alone."""
    if not isinstance(value, list | tuple):
        return value
    chosen = []
    for number, one in enumerate(value):
        given = {key: one} if isinstance(one, str) else one
        kind = str(given.get(key)) if isinstance(given, Mapping) else str(given)
        if kind not in catalogue:
            known = ", ".join(catalogue)
            raise ConfigError(f"{place}: {key} must be one of {known}, got {kind!r}; {nearest(kind, list(catalogue))}")
        chosen.append(catalogue[kind].parse(given, f"{place}[{number}]"))
    return tuple(chosen)
