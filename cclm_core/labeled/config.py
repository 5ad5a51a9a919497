"""The entries of the section `labeled` of params.yaml: one labeled data set each."""

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cclm_core.ingest.sources.archive import ArchiveConfig
from cclm_core.ingest.sources.files import FilesConfig
from cclm_core.ingest.sources.hub import DatasetConfig
from cclm_core.ingest.sources.paths import SUFFIXES, suffix_of
from cclm_core.labeled.columns import LabeledColumns
from cclm_core.labeled.examples import LabeledTask
from cclm_core.labeled.tags import TagScheme
from cclm_core.runtime.config import Config

_COLUMN_OF = {"classify": "label", "multilabel": "labels", "regress": "value"}


class LabeledFiles(FilesConfig):
    """Local files with labeled texts: see `FilesConfig` and `LabeledColumns`. They must be in the folder `input`."""

    columns: LabeledColumns = LabeledColumns()

    @property
    def keeps_tags(self) -> bool:
        """Whether the sentences of `conll` keep their tokens and tags: always."""
        return True


class LabeledDataset(DatasetConfig):
    """A dataset with labeled texts: see `DatasetConfig` and `LabeledColumns`. A `path` must be in `input`."""

    columns: LabeledColumns = LabeledColumns()


LabeledSource = Annotated[LabeledFiles | LabeledDataset | ArchiveConfig, Field(discriminator="kind")]


class HeldOut(Config):
    """Where the texts of the validation or test split come from. Set exactly one key.

    Args:
        share: share of the texts of `source`, between 0 and 1, selected by a seeded hash. If texts have groups, whole
            groups are selected; otherwise texts, with the same share of every label.
        groups: names of groups of `source`. A single one may be written without a list.
        paths: files like those of `source`, with the same settings.
        split: a split of the dataset of `source`.
        source: a source of its own.
    """

    share: float | None = Field(default=None, gt=0, lt=1)
    groups: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    split: str | None = None
    source: LabeledSource | None = None

    @field_validator("groups", "paths", mode="before")
    @classmethod
    def _one_name(cls, names: Any) -> Any:
        """Accepts one name without a list."""
        return [names] if isinstance(names, str) else names

    @model_validator(mode="after")
    def _exactly_one(self) -> "HeldOut":
        given = [name for name in type(self).model_fields if getattr(self, name) not in (None, ())]
        if len(given) != 1:
            keys = ", ".join(f"`{name}`" for name in type(self).model_fields)
            raise ValueError(f"set exactly one of {keys}, got {' and '.join(given) or 'none'}")
        return self


class LabeledConfig(Config):
    """A labeled data set: what is predicted, where the texts come from, and how they are split.

    Args:
        task: `classify` (one label per text), `multilabel` (any number), `regress` (a number) or `tag` (entities).
            With `columns.second`, the texts are pairs.
        source: the texts; its key `kind` is `files`, `dataset` or `archive`.
        test: the test split.
        validation: the validation split; by default a tenth of `source`, never part of the test split.
        label_separator: separator of the labels in a single text column `columns.labels`, such as `;`.
        tag_scheme: scheme of the tags; `detect` recognizes all schemes with prefixes, and `io` is for bare labels.
        tag_names: names of the tags, if they are numbers from 0.
        leakage: what happens to a text that is also in the test split, or also in the validation split: `remove` it
            from the split that is trained on, or `keep` it. Both count and warn.
    """

    task: LabeledTask
    source: LabeledSource
    test: HeldOut
    validation: HeldOut = HeldOut(share=0.1)
    label_separator: str | None = Field(default=None, min_length=1)
    tag_scheme: Literal["detect"] | TagScheme = "detect"
    tag_names: tuple[str, ...] = ()
    leakage: Literal["remove", "keep"] = "remove"

    @model_validator(mode="before")
    @classmethod
    def _needs_test(cls, values: Any) -> Any:
        """Refuses a missing test split, and explains how to configure it."""
        if isinstance(values, Mapping) and values.get("test") is None:
            raise ValueError("test is missing. Add a test split, for example `test: {share: 0.2}`")
        return values

    @model_validator(mode="after")
    def _splits_fit(self) -> "LabeledConfig":
        for name, part in self._held_out():
            if part.paths and not isinstance(self.source, LabeledFiles):
                raise ValueError(f"{name}.paths needs a source of kind files, got {self.source.kind}. Set `source`")
            if part.split is not None and not isinstance(self.source, LabeledDataset):
                raise ValueError(f"{name}.split needs a source of kind dataset, got {self.source.kind}. Set `source`")
        held_out = sum(part.share or 0 for _, part in self._held_out())
        if held_out >= 1:
            raise ValueError(f"validation.share + test.share must be below 1, got {held_out:g}")
        if both := set(self.validation.groups) & set(self.test.groups):
            raise ValueError(f"groups in both validation and test: {', '.join(sorted(both))}")
        paths = [
            path
            for source in self._given_sources().values()
            if isinstance(source, LabeledFiles)
            for path in source.paths
        ]
        if repeated := sorted({path for path in paths if paths.count(path) > 1}):
            raise ValueError(f"{repeated[0]} is given for two splits. Give each file to one split, or set `share`")
        return self

    @model_validator(mode="after")
    def _columns_fit(self) -> "LabeledConfig":
        for source in self._given_sources().values():
            if isinstance(source, ArchiveConfig):
                continue
            columns = source.columns
            if self.task == "tag":
                if columns.second is not None:
                    raise ValueError("columns.second: the task tag has no pairs. Remove it")
                if not _has_sentences(source) and columns.tokens is None and columns.entities is None:
                    raise ValueError("the task tag needs columns.tokens and columns.tags, or columns.entities")
            elif not self._is_labeled_by_file(source) and not getattr(columns, (key := _COLUMN_OF[self.task])):
                raise ValueError(f"the task {self.task} needs columns.{key}. Set it to the name of the column")
            if isinstance(source, LabeledFiles) and source.tag_scheme != "iob":
                raise ValueError("source.tag_scheme: set `tag_scheme` of the data set, not of its source")
        if self.task in ("multilabel", "regress") and isinstance(self.source, ArchiveConfig):
            raise ValueError(f"a source of kind archive has no {_COLUMN_OF[self.task]}. Use files or a dataset")
        pairs = [
            not isinstance(source, ArchiveConfig) and source.columns.second is not None
            for source in self._given_sources().values()
        ]
        if len(set(pairs)) > 1:
            raise ValueError("columns.second must be set for all splits, or for none")
        return self

    @property
    def is_pair(self) -> bool:
        """Whether the texts are pairs."""
        return not isinstance(self.source, ArchiveConfig) and self.source.columns.second is not None

    def sources(self) -> dict[str, LabeledFiles | LabeledDataset | ArchiveConfig]:
        """Returns split → source. A split that is part of the source of `train` has none."""
        bare = {"tag_scheme": "io"} if self.tag_scheme == "io" else {}
        return {
            split: source.model_copy(update=bare) if isinstance(source, LabeledFiles) else source
            for split, source in self._given_sources().items()
        }

    def _is_labeled_by_file(self, source: LabeledFiles | LabeledDataset) -> bool:
        return self.task == "classify" and isinstance(source, LabeledFiles) and source.label_by_file

    def _given_sources(self) -> dict[str, LabeledFiles | LabeledDataset | ArchiveConfig]:
        sources = {"train": self.source}
        for name, part in self._held_out():
            if part.source is not None:
                sources[name] = part.source
            elif part.paths:
                sources[name] = self.source.model_copy(update={"paths": part.paths})
            elif part.split is not None:
                sources[name] = self.source.model_copy(update={"split": part.split})
        return sources

    def local_paths(self) -> Iterator[tuple[str, str]]:
        """Yields the key and value of every path of a file or folder."""
        parts: list[tuple[str, Any]] = [("source", self.source)]
        for name, part in self._held_out():
            yield from ((f"{name}.paths", path) for path in part.paths)
            if part.source is not None:
                parts.append((f"{name}.source", part.source))
        for key, source in parts:
            if isinstance(source, LabeledFiles):
                yield from ((f"{key}.paths", path) for path in source.paths)
            elif isinstance(source, LabeledDataset) and source.path is not None:
                yield f"{key}.path", source.path

    def _held_out(self) -> tuple[tuple[str, HeldOut], ...]:
        return ("validation", self.validation), ("test", self.test)


def _has_sentences(source: LabeledFiles | LabeledDataset) -> bool:
    """Whether all files may be CoNLL. A folder may hold files of any format."""
    if isinstance(source, LabeledDataset):
        return False
    suffixes = {suffix_of(PurePath(path)) for path in source.paths}
    formats = {source.format or SUFFIXES.get(suffix, "conll") for suffix in suffixes}
    return formats == {"conll"}
