"""The section `ingest` of params.yaml."""

from typing import Any, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from cclm_core.ingest.duplicates import DuplicatesConfig
from cclm_core.ingest.expectations import DuplicatesExpectation, Expectation
from cclm_core.ingest.filters import Filter
from cclm_core.ingest.mixed import MixedSource, MixedSplitter, WeightedSource
from cclm_core.ingest.sources.base import SourceConfig
from cclm_core.ingest.sources.catalogue import Source
from cclm_core.ingest.splits import HeldOut, Splitter
from cclm_core.ingest.transforms import Transform


class IngestConfig(HeldOut):
    """Which records become the corpus, and how they are split.

    Args:
        source: where the records come from; its key `kind` is `archive`, `files` or `dataset`.
        sources: instead of `source`, several of them, each with a name, a weight and its own splits: see
            `ingest.mixed.WeightedSource`. Then `validation_groups` and so on are keys of a source.
        validation_groups, test_groups: names of the held-out groups; all other groups are for training. A single one
            may be written without a list.
        validation_share, test_share: instead of names, the share of groups to hold out, between 0 and 1, selected by a
            seeded hash of the group's name. A record without a group counts as a group.
        records_per_shard: maximum number of records in a file of the corpus, at least 1.
        transforms: changes to every text, applied in this order before the filters: see `ingest.transforms`.
        filters: conditions that a text must meet; other texts go to the quarantine: see `ingest.filters`.
        duplicates: `exact`, `near`, or a full `DuplicatesConfig`; null keeps duplicates.
        expectations: what must be true of the data, compared with the data that were accepted last: see
            `ingest.expectations`.
    """

    source: Source | None = None
    sources: tuple[WeightedSource, ...] = ()
    records_per_shard: int = Field(default=65536, ge=1)
    transforms: tuple[Transform, ...] = ()
    filters: tuple[Filter, ...] = ()
    duplicates: DuplicatesConfig | None = None
    expectations: tuple[Expectation, ...] = ()

    @field_validator("transforms", "filters", "expectations", mode="before")
    @classmethod
    def _by_name(cls, members: Any, info: ValidationInfo) -> Any:
        """Accepts the bare name of a transform, a filter or an expectation that needs no settings."""
        key = str(info.field_name).removesuffix("s")
        is_list = isinstance(members, list | tuple)
        return [{key: member} if isinstance(member, str) else member for member in members] if is_list else members

    @field_validator("duplicates", mode="before")
    @classmethod
    def _by_kind(cls, value: Any) -> Any:
        """Accepts a bare kind, which then has its defaults."""
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_or_several(self) -> Self:
        if (self.source is None) == (not self.sources):
            raise ValueError("set exactly one of `source` and `sources`")
        for split, groups, share in self.held_out():
            is_set = bool(groups) or share is not None
            if self.sources and is_set:
                raise ValueError(f"with `sources`, set `{split}_groups` or `{split}_share` of each source instead")
            if not self.sources and not is_set:
                raise ValueError(f"set exactly one of `{split}_groups` and `{split}_share`")
        names = [member.name.lower() for member in self.sources]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the names of `sources` must differ, got {repeated[0]!r} twice")
        return self

    @model_validator(mode="after")
    def _duplicates_are_looked_for(self) -> Self:
        if self.duplicates is None and any(isinstance(member, DuplicatesExpectation) for member in self.expectations):
            raise ValueError("the expectation `duplicates` needs `duplicates`, which looks for them; set it to `exact`")
        return self

    @property
    def reader(self) -> SourceConfig:
        """What reads the records: the source, or the mixture of the sources."""
        return MixedSource(sources=self.sources) if self.source is None else self.source

    def splitter(self, seed: int) -> Splitter | MixedSplitter:
        """What assigns records to splits, for the seed of the run."""
        if self.sources:
            return MixedSplitter(seed, self.sources)
        splits = self.held_out()
        return Splitter(
            seed, {split: groups for split, groups, _ in splits}, {split: share or 0.0 for split, _, share in splits}
        )
