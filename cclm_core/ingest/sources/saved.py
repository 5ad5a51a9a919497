"""Reads a folder written by `save_to_disk` of the library `datasets`, with Arrow alone.

Only the configured columns are read. Nothing is decoded or fetched: `datasets` itself would open the files and
addresses that a column of images contains, and would apply the format that was saved with the dataset.
"""

import struct
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import pyarrow as pa

from cclm_core.corpus.quarantine import Rejected
from cclm_core.ingest.sources.columns import Columns, check_columns, did_you_mean, listed
from cclm_core.ingest.sources.content import check_pointer, is_file, is_folder
from cclm_core.ingest.sources.tables import plain_type, safe_slices
from cclm_core.runtime.artifacts import read_json
from cclm_core.runtime.errors import ArtifactError, CclmError, DataError

_REMEDY = "Write it again with `save_to_disk`."
_RECORD_BATCH_COMPRESSION = 3  # index of the field `compression` in the table RecordBatch of Arrow's Message.fbs
_MESSAGE_HEADER = 2  # index of the field `header` in the table Message


class SavedDataset(NamedTuple):
    """One split of a saved dataset.

    Args:
        folder: the folder of the split.
        files: its Arrow files, in order.
        class_names: the names of the classes of each column that holds their numbers, or lists of them.
        title: name in messages, rejections and ids.
    """

    folder: Path
    files: list[str]
    class_names: dict[str, list[str]]
    title: str


def open_saved(folder: Path, split: str, title: str) -> SavedDataset:
    """Reads the description of a saved dataset.

    Args:
        folder: written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.
        split: the split to read.
        title: name of the dataset.

    Raises:
        DataError: the folder is missing, is no dataset or is damaged, or has another split.
    """
    if not is_file(folder / "dataset_dict.json") and not is_file(folder / "state.json"):
        what = "is not a dataset" if is_file(folder) or is_folder(folder) else "not found"
        raise DataError(f"ingest.source.path: folder {folder} {what}. Write it with `save_to_disk`.")
    if is_file(folder / "dataset_dict.json"):
        splits = _object(folder / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(isinstance(name, str) for name in splits):
            raise _damaged(folder / "dataset_dict.json", "splits must be a list of names")
        if split not in splits:
            raise DataError(
                f"split {split!r} not found in {folder}. {did_you_mean(split, splits)}Set ingest.source.split; it has "
                f"{listed(splits)}."
            )
        _check_inside(folder / "dataset_dict.json", split)
        folder = folder / split
    else:
        saved = _object(folder / "state.json").get("_split")
        if saved != split and not (saved is None and split == "train"):
            has = "has no name for its split" if saved is None else f"is the split {saved!r}"
            raise DataError(f"{folder} {has}, not {split!r}. Set ingest.source.split to {saved or 'train'}.")
    state = _object(folder / "state.json")
    names = [_file_name(folder, one) for one in _list(folder / "state.json", state.get("_data_files"))]
    if state.get("_indices_data_files"):
        raise DataError(f"{folder} was saved with a selection of rows by an old version of `datasets`. {_REMEDY}")
    return SavedDataset(folder, names, _class_names(folder / "dataset_info.json"), title)


def read_rows(dataset: SavedDataset, columns: Columns) -> Iterator[tuple[dict[str, Any], int] | Rejected]:
    """Yields the rows of a dataset with their numbers from 1: the configured columns alone.

    Raises:
        DataError: a file is damaged, compressed, or lacks a column.
    """
    line = 1
    for name in dataset.files:
        path = dataset.folder / name
        check_pointer(path, str(path))
        for batch in _batches(path, columns, dataset.title):
            for item in safe_slices(batch, str(path), line, columns.text):
                if isinstance(item, Rejected):
                    yield item._replace(file=dataset.title)
                    continue
                for offset, row in enumerate(item.batch.to_pylist()):
                    yield row, item.line + offset
            line += batch.num_rows


def _batches(path: Path, columns: Columns, title: str) -> Iterator[pa.RecordBatch]:
    try:
        with pa.memory_map(str(path)) as stream:
            _check_uncompressed(stream, path)
            stream.seek(0)
            schema = pa.ipc.open_stream(stream).schema
            check_columns(schema.names, columns, title)
            for column in columns.names():
                if _has_dictionary(schema.field(column).type):
                    raise DataError(f"column `{column}` of {title} must not be a dictionary. {_REMEDY}")
                plain_type(schema.field(column).type, title)
            stream.seek(0)
            included = sorted(schema.names.index(column) for column in columns.names())
            yield from pa.ipc.open_stream(stream, options=pa.ipc.IpcReadOptions(included_fields=included))
    except CclmError:
        raise
    except Exception as error:  # noqa: BLE001  a damaged file makes Arrow raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} is not a valid Arrow file: {reason}. {_REMEDY}") from None


def _check_uncompressed(stream: Any, path: Path) -> None:
    """Checks that no batch is compressed: `save_to_disk` never does that, and a small file could fill the memory."""
    for message in pa.ipc.MessageReader.open_stream(stream):
        if message.type == "record batch" and _is_compressed(bytes(message.metadata)):
            raise DataError(f"{path} must not be compressed. {_REMEDY}")


def _is_compressed(metadata: bytes) -> bool:
    """Returns whether the metadata of a record batch, a flatbuffer, name a compression."""
    root = struct.unpack_from("<I", metadata, 0)[0]
    header = _field(metadata, root, _MESSAGE_HEADER)
    if header is None:
        return False
    table = header + struct.unpack_from("<I", metadata, header)[0]
    return _field(metadata, table, _RECORD_BATCH_COMPRESSION) is not None


def _field(metadata: bytes, table: int, index: int) -> int | None:
    """Returns the position of a field of a flatbuffer's table; None if the table does not have it."""
    fields = table - struct.unpack_from("<i", metadata, table)[0]
    size = struct.unpack_from("<H", metadata, fields)[0]
    place = 4 + 2 * index
    offset = struct.unpack_from("<H", metadata, fields + place)[0] if place + 2 <= size else 0
    return table + offset if offset else None


def _has_dictionary(kind: pa.DataType) -> bool:
    parts = [kind.field(index).type for index in range(kind.num_fields)]
    return pa.types.is_dictionary(kind) or any(map(_has_dictionary, parts))


def _class_names(path: Path) -> dict[str, list[str]]:
    features = _object(path).get("features")
    try:
        return class_names(features)
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def class_names(features: Any) -> dict[str, list[str]]:
    """The names of the classes of each column that holds their numbers, or lists of them.

    Args:
        features: the key `features` of the description of a dataset; None for none.

    Raises:
        ValueError: it is malformed.
    """
    if features is None:
        return {}
    if not isinstance(features, Mapping):
        raise ValueError("features must be an object")
    names: dict[str, list[str]] = {}
    for column, feature in features.items():
        if not isinstance(feature, Mapping | list):
            raise ValueError(f"the feature {column!r:.80} must be an object")
        while isinstance(feature, Mapping | list) and (inner := _item_feature(feature)) is not None:
            feature = inner
        if isinstance(feature, Mapping) and feature.get("_type") == "ClassLabel":
            classes = feature.get("names")
            if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
                raise ValueError(f"the names of the classes of {column!r:.80} must be a list of names")
            names[column] = classes
    return names


def _item_feature(feature: Any) -> Any:
    """The feature of the items of a list, in the notations of all versions of `datasets`; None for other features."""
    if isinstance(feature, list):
        return feature[0] if len(feature) == 1 else None
    return feature.get("feature") if feature.get("_type") in ("Sequence", "List", "LargeList") else None


def _list(path: Path, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _damaged(path, "_data_files must be a list")
    return value


def _file_name(folder: Path, entry: Any) -> str:
    """Returns the name in an entry of `_data_files`; the file exists in the folder."""
    name = entry.get("filename") if isinstance(entry, Mapping) else None
    if not isinstance(name, str):
        raise _damaged(folder / "state.json", "an entry of _data_files has no filename")
    _check_inside(folder / "state.json", name)
    if not is_file(folder / name):
        raise DataError(f"{folder / name} not found. {_REMEDY}")
    return name


def _object(path: Path) -> dict[str, Any]:
    check_pointer(path, str(path))
    try:
        value = read_json(path)
    except (ArtifactError, RecursionError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise _damaged(path, "it must be a JSON object")
    return value


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}. {_REMEDY}")


def _check_inside(path: Path, name: str) -> None:
    if "\0" in name or "\\" in name or PurePath(name).name != name or name in ("", ".", ".."):
        raise _damaged(path, f"{name!r:.80} must be the name of a file in the folder")
