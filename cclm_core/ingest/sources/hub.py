"""A dataset of the library `datasets`: by name, or a folder that `save_to_disk` wrote."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources.columns import Columns, row_reader
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError


class DatasetConfig(Config):
    """A dataset as the source of a corpus.

    Args:
        name: on the hub, e.g. `sms_spam`; or `path`, a local folder.
        path: a folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.
        config: which of the dataset's configurations; None for the only one.
        split: which of its splits to read.
        revision: of the dataset's repository; name one, or a later run may read other data.
        columns: which columns hold what; a label that is a class number becomes the class's name.
    """

    kind: Literal["dataset"]
    name: str | None = None
    path: str | None = None
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: Columns = Columns()

    @model_validator(mode="after")
    def _one_place(self) -> "DatasetConfig":
        if (self.name is None) == (self.path is None):
            raise ValueError("exactly one of `name` and `path` must be given")
        return self


def read_dataset(config: DatasetConfig) -> Iterator[Located | Rejected]:
    """The rows as records, in order.

    Raises:
        DataError: the dataset cannot be had, or lacks the split or a column.
    """
    dataset = _from_disk(config) if config.path else _from_hub(config)
    features = dataset.features or {}
    for column in config.columns.names():
        if features and column not in features:
            known = ", ".join(features)
            raise DataError(f"{_title(config)} must have a column `{column}` (ingest.source.columns); it has {known}.")
    label = config.columns.label
    names = getattr(features.get(label), "names", None) if label else None
    record_of = row_reader(config.columns, _title(config), None)
    for line, row in enumerate(dataset, start=1):
        if names and isinstance(row[label], int):
            row = {**row, label: names[row[label]] if 0 <= row[label] < len(names) else None}
        yield record_of(row, line)


def describe_dataset(config: DatasetConfig) -> dict[str, Any]:
    """What was read, for `source.json`."""
    return {
        "kind": "dataset",
        "name": _title(config),
        "config": config.config,
        "split": config.split,
        "revision": config.revision,
        "licence": "see the dataset's card",
    }


def _title(config: DatasetConfig) -> str:
    return config.name or Path(str(config.path)).name


def _from_disk(config: DatasetConfig) -> Any:
    from datasets import DatasetDict, load_from_disk

    folder = Path(str(config.path))
    if not folder.is_dir():
        raise DataError(f"ingest.source.path must be a folder written by `save_to_disk`; {config.path} is none.")
    try:
        dataset = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(f"{config.path} cannot be read as a dataset: {error}") from None
    if isinstance(dataset, DatasetDict):
        if config.split not in dataset:
            raise DataError(f"{config.path} has no split {config.split!r}; it has {', '.join(dataset)}.")
        return dataset[config.split]
    return dataset


def _from_hub(config: DatasetConfig) -> Any:
    from datasets import load_dataset

    try:
        return load_dataset(config.name, config.config, split=config.split, revision=config.revision, streaming=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"The dataset {config.name!r} cannot be loaded: {type(error).__name__}: {error}\n"
            "Check its name, `config` and `split`. Without a network, load it once where there is one, write it with "
            "`save_to_disk`, and give that folder as ingest.source.path instead of the name."
        ) from None
