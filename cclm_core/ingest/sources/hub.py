"""Reads a dataset with the library `datasets`: from the hub, or from a folder written by `save_to_disk`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from cclm_core.corpus.quarantine import Located, Rejected
from cclm_core.ingest.sources.base import Items, SourceConfig, batched
from cclm_core.ingest.sources.columns import Columns, check_columns
from cclm_core.ingest.sources.saved import open_saved, read_rows
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.extras import require

Rows = Iterator[tuple[dict[str, Any], int] | Rejected]


class DatasetConfig(SourceConfig):
    """A dataset as the source of a corpus.

    Args:
        name: name on the hub, for example `sms_spam`. Set either this or `path`.
        path: folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.
        config: configuration of the dataset; None if it has only one.
        split: split of the dataset to read; a folder that is one split must have been saved as this one.
        revision: commit or tag of the dataset's repository; with None, a later run can read different data.
        columns: column of each field; no other column is read. The number of a `ClassLabel` becomes its name.
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
            "name": self.name or Path(str(self.path)).name,
            "config": self.config,
            "split": self.split,
            "revision": self.revision,
            "license": "see the dataset's card",
        }


def _read(config: DatasetConfig) -> Items:
    title = config.name or Path(str(config.path)).name
    if config.path:
        dataset = open_saved(Path(config.path), config.split, title)
        rows, class_names = read_rows(dataset, config.columns), dataset.class_names
    else:
        rows, class_names = _hub_rows(config, title)
    names = {column: class_names[column] for column in config.columns.names() if column in class_names}
    record_of = config.columns.reader(title, None)
    for item in rows:
        if isinstance(item, Rejected):
            yield item
            continue
        row, line = item
        for column, classes in names.items():
            try:
                row = {**row, column: _class_name(row.get(column), classes)}
            except IndexError:
                yield Rejected(
                    title, line, f"`{column}` is not the number of a class", str(row.get(config.columns.text))
                )
                break
        else:
            yield record_of(row, line)


def _class_name(number: Any, classes: list[str]) -> Any:
    """Returns the name of a class, or a list of names for a list of numbers; None for no class.

    Raises:
        IndexError: a value is not the number of a class.
    """
    if isinstance(number, list):
        return [_class_name(item, classes) for item in number]
    if number is None or number == -1:  # the library's number for no class
        return None
    if not isinstance(number, int) or not 0 <= number < len(classes):
        raise IndexError(number)
    return classes[number]


def _hub_rows(config: DatasetConfig, title: str) -> tuple[Rows, dict[str, list[str]]]:
    """Returns the rows of a dataset of the hub, and the names of the classes of its columns."""
    require("datasets", "huggingface")
    from datasets import load_dataset

    try:
        dataset: Any = load_dataset(
            config.name, config.config, split=config.split, revision=config.revision, streaming=True
        )
        features = dataset.features or {}
    except Exception as error:  # noqa: BLE001  depends on the library's HTTP client and file systems
        raise DataError(
            f"cannot load dataset {config.name!r}: {type(error).__name__}: {error}\n"
            "Check its name, `config` and `split`. Without a network, load it elsewhere, save it with `save_to_disk`, "
            "and set ingest.source.path to that folder instead of ingest.source.name."
        ) from None
    if features:
        check_columns(list(features), config.columns, title)
    for column in config.columns.names():
        if hasattr(features.get(column), "decode"):
            raise DataError(f"column `{column}` of {title} holds {type(features[column]).__name__}, not text.")
    items = {column: _item_feature(feature) for column, feature in features.items()}
    names = {column: list(feature.names) for column, feature in items.items() if hasattr(feature, "names")}
    return _streamed(dataset, config, title), names


def _item_feature(feature: Any) -> Any:
    """The feature of the items of a list, at any depth; other features unchanged."""
    while (inner := feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)) is not None:
        feature = inner
    return feature


def _streamed(dataset: Any, config: DatasetConfig, title: str) -> Rows:
    # The other columns are not read: decoding them could fail, or fetch what they point to.
    try:
        for line, row in enumerate(dataset.select_columns(config.columns.names()).with_format(None), start=1):
            yield dict(row), line
    except Exception as error:  # noqa: BLE001  as above
        raise DataError(
            f"cannot read dataset {title!r}: {type(error).__name__}: {error}. Check the network and "
            "ingest.source.columns."
        ) from None
