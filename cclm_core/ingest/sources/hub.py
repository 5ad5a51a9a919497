"""Reads a dataset with the library `datasets`: from the hub, or from a folder written by `save_to_disk`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources.base import Items, SourceConfig, batched
from cclm_core.ingest.sources.columns import Columns, row_reader
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.extras import require


class DatasetConfig(SourceConfig):
    """A dataset as the source of a corpus.

    Args:
        name: name on the hub, for example `sms_spam`. Set either this or `path`.
        path: folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.
        config: configuration of the dataset; None if it has only one.
        split: split of the dataset to read.
        revision: commit or tag of the dataset's repository; with None, a later run can read different data.
        columns: column of each field; the number of a `ClassLabel` becomes its name.
    """

    kind: Literal["dataset"]
    name: str | None = None
    path: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: Columns = Columns()

    @model_validator(mode="after")
    def _name_or_path(self) -> "DatasetConfig":
        if (self.name is None) == (self.path is None):
            raise ValueError("set exactly one of `name` and `path`")
        return self

    @property
    def ids_may_repeat(self) -> bool:
        """Whether ids come from a column."""
        return self.columns.id is not None

    def parts(self, downloads: Path) -> Iterator[list[Located | Rejected]]:  # noqa: ARG002
        """Yields the rows as records in order.

        Raises:
            DataError: the dataset cannot be loaded, or lacks the split or a column.
        """
        return batched(_read(self))

    def describe(self) -> dict[str, Any]:
        """Returns the name, configuration, split and revision."""
        return {
            "kind": "dataset",
            "name": _title(self),
            "config": self.config,
            "split": self.split,
            "revision": self.revision,
            "license": "see the dataset's card",
        }


def _read(config: DatasetConfig) -> Items:
    dataset = _from_disk(config) if config.path else _from_hub(config)
    features = dataset.features or {}
    for column in config.columns.names():
        if features and column not in features:
            available, title = ", ".join(features), _title(config)
            raise DataError(f"column `{column}` not found in {title}. Set ingest.source.columns; it has {available}.")
    label = config.columns.label
    class_names = getattr(features.get(label), "names", None) if label else None
    record_of = row_reader(config.columns, _title(config), None)
    for line, row in enumerate(dataset, start=1):
        if class_names and isinstance(row[label], int):
            row = {**row, label: class_names[row[label]] if 0 <= row[label] < len(class_names) else None}
        yield record_of(row, line)


def _title(config: DatasetConfig) -> str:
    return config.name or Path(str(config.path)).name


def _from_disk(config: DatasetConfig) -> Any:
    require("datasets", "huggingface")
    from datasets import DatasetDict, load_from_disk

    folder = Path(str(config.path))
    if not folder.is_dir():
        raise DataError(f"ingest.source.path: folder {config.path} not found. Write it with `save_to_disk`.")
    try:
        dataset = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {config.path} as a dataset: {error}. Write it with `save_to_disk`.") from None
    if isinstance(dataset, DatasetDict):
        if config.split not in dataset:
            available = ", ".join(dataset)
            raise DataError(
                f"split {config.split!r} not found in {config.path}. Set ingest.source.split; it has {available}."
            )
        return dataset[config.split]
    return dataset


def _from_hub(config: DatasetConfig) -> Any:
    require("datasets", "huggingface")
    from datasets import load_dataset

    try:
        return load_dataset(config.name, config.config, split=config.split, revision=config.revision, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"cannot load dataset {config.name!r}: {type(error).__name__}: {error}\n"
            "Check its name, `config` and `split`. Without a network, load it elsewhere, save it with `save_to_disk`, "
            "and set ingest.source.path to that folder instead of ingest.source.name."
        ) from None
