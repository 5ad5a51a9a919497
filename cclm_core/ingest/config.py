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
    """What a corpus consists of, and how it is split.

    Args:
        source: where records come from, by its key `kind`: `archive`, `files` or `dataset`.
        validation_groups, test_groups: the groups that are held out, by name; all others are for training.
        validation_share, test_share: instead of names, the share of groups that is held out, chosen by a seeded hash of
            the group's name. A record without a group is a group of its own.
        records_per_shard: the most records in a file of the corpus, at least 1.
        transforms: applied to every text, in this order, before anything else: see `ingest.transforms`.
        filters: which texts are kept: see `ingest.filters`; the others go to the quarantine.
        duplicates: `exact`, `near`, or a whole `DuplicatesConfig`; null keeps duplicates.
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
        """A transform or filter without settings may be given by its name alone."""
        key = str(info.field_name).removesuffix("s")
        is_list = isinstance(members, list | tuple)
        return [{key: member} if isinstance(member, str) else member for member in members] if is_list else members

    @field_validator("duplicates", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        """A kind alone means its defaults."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way_to_split(self) -> "IngestConfig":
        for split, groups, share in (
            ("validation", self.validation_groups, self.validation_share),
            ("test", self.test_groups, self.test_share),
        ):
            if bool(groups) == (share is not None):
                raise ValueError(f"exactly one of `{split}_groups` and `{split}_share` must be given")
        if both := set(self.validation_groups) & set(self.test_groups):
            raise ValueError(f"a group cannot be in both validation and test: {', '.join(sorted(both))}")
        if (self.validation_share or 0) + (self.test_share or 0) >= 1:
            raise ValueError("`validation_share` and `test_share` must leave something to train on")
        return self
