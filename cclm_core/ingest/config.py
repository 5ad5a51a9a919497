"""The section `ingest` of params.yaml, and the catalogue of sources."""

from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cclm_core.ingest.duplicates import DuplicatesConfig
from cclm_core.ingest.filters import Filter
from cclm_core.ingest.sources.archive import ArchiveConfig
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.ingest.sources.hub import DatasetConfig
from cclm_core.ingest.transforms import Transform
from cclm_core.runtime.config import Config

Source = Annotated[ArchiveConfig | FilesConfig | DatasetConfig, Field(discriminator="kind")]


class IngestConfig(Config):
    """Which records become the corpus, and how they are split.

    Args:
        source: where the records come from; its key `kind` is `archive`, `files` or `dataset`.
        validation_groups, test_groups: names of the held-out groups; all other groups are for training.
        validation_share, test_share: instead of names, the share of groups to hold out, between 0 and 1, selected by a
            seeded hash of the group's name. A record without a group counts as a group.
        records_per_shard: maximum number of records in a file of the corpus, at least 1.
        transforms: changes to every text, applied in this order before the filters: see `ingest.transforms`.
        filters: conditions that a text must meet; other texts go to the quarantine: see `ingest.filters`.
        duplicates: `exact`, `near`, or a full `DuplicatesConfig`; null keeps duplicates.
    """

    source: Source
    validation_groups: tuple[str, ...] = ()
    test_groups: tuple[str, ...] = ()
    validation_share: float | None = Field(default=None, gt=0, lt=1)
    test_share: float | None = Field(default=None, gt=0, lt=1)
    records_per_shard: int = Field(default=65536, ge=1)
    transforms: tuple[Transform, ...] = ()
    filters: tuple[Filter, ...] = ()
    duplicates: DuplicatesConfig | None = None

    @field_validator("transforms", "filters", mode="before")
    @classmethod
    def _by_name(cls, members: Any, info: ValidationInfo) -> Any:
        """Accepts the bare name of a transform or filter that needs no settings."""
        key = str(info.field_name).removesuffix("s")
        is_list = isinstance(members, list | tuple)
        return [{key: member} if isinstance(member, str) else member for member in members] if is_list else members

    @field_validator("duplicates", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        """Accepts a bare kind, which then has its defaults."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _groups_or_share(self) -> "IngestConfig":
        for split, groups, share in (
            ("validation", self.validation_groups, self.validation_share),
            ("test", self.test_groups, self.test_share),
        ):
            if bool(groups) == (share is not None):
                raise ValueError(f"set exactly one of `{split}_groups` and `{split}_share`")
        if both := set(self.validation_groups) & set(self.test_groups):
            raise ValueError(f"groups in both `validation_groups` and `test_groups`: {', '.join(sorted(both))}")
        held_out = (self.validation_share or 0) + (self.test_share or 0)
        if held_out >= 1:
            raise ValueError(f"`validation_share` + `test_share` must be below 1, got {held_out:g}")
        return self
