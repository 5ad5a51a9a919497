"""`cclm embed`: one mean vector per text, or per value of a column, as a stream."""

from collections.abc import Iterator
from itertools import islice, tee
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from cclm_core.cli.inputs import Input, Item, Problems, read_items
from cclm_core.cli.outputs import check_out, writing
from cclm_core.cli.predict import progress
from cclm_core.composition.means import MeanEmbedder
from cclm_core.composition.store import load_base
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.store import KIND as TASK
from cclm_core.finetuning.store import load_task
from cclm_core.ingest.sources.columns import field_value
from cclm_core.runtime.artifacts import MANIFEST, read_json
from cclm_core.runtime.device import num_threads, select_device
from cclm_core.runtime.errors import ConfigError

Precision = Literal["float32", "float16"]

_ROWS = 4096  # per write
_AUTHOR_TEXTS = 64  # read at once for the means of authors


def embed(
    folder: Path, wanted: Input, out: Path | None, by: str | None, precision: Precision, threads: int
) -> Problems:
    """Embeds texts and writes one row per text: `id`, the kept columns, and `vector`.

    Args:
        folder: folder of a base, a composition, or the model of a task.
        wanted: what to read.
        out: the output; see `outputs.writing`.
        by: a column: write one row per value, with the number of texts and the mean of their vectors, in the order of
            the first texts. One vector per value is kept in memory. A composition with a part that reads contexts adds
            `encoding`, the mean of what this part reads from the texts.
        precision: type of the numbers in Parquet.
        threads: CPU threads.

    Returns:
        The rows that were left out.

    Raises:
        ConfigError: the name of the output.
        DataError: the input cannot be read.
    """
    check_out(out)
    if out is not None and out.suffix.lower() == ".csv":
        raise ConfigError(f"--out must end in .parquet or .jsonl, because vectors do not fit into CSV, got {out}.")
    embedder = load_embedder_of(folder)
    if by is not None:
        wanted = Input(**{**vars(wanted), "keep": [by]})
    problems = Problems()
    dtype = np.float16 if precision == "float16" else np.float32
    vector = pa.list_(pa.float16() if precision == "float16" else pa.float32(), embedder.width)
    keys = [(by, pa.string()), ("texts", pa.int64())] if by is not None else [("id", pa.string())]
    kept = [] if by is not None else [(name, pa.string()) for name in wanted.keep]
    schema = pa.schema([*keys, *kept, ("vector", vector)])
    if by is not None and embedder.context_width:
        schema = schema.append(pa.field("encoding", pa.list_(vector.value_type, embedder.context_width)))
    with num_threads(threads), progress("embed", out) as report, writing(out, schema) as write:
        pairs = _vectors(embedder, read_items(wanted, problems))
        rows = _means(by, pairs, embedder) if by is not None else _rows(pairs)
        count = 0
        while group := list(islice(rows, _ROWS)):
            write(
                [
                    row | {name: row[name].astype(dtype) for name in ("vector", "encoding") if name in row}
                    for row in group
                ]
            )
            count += len(group)
            report(count, {})
        report(count, {}, count)
    return problems


def load_embedder_of(folder: Path) -> MeanEmbedder:
    """The embedder of a base, a composition, or the model of a task, on the device of this process.

    Raises:
        ArtifactError: the folder is missing or damaged, or it is another kind of artifact.
        ConfigError: it is an ensemble or counted n-grams, which have no vectors.
    """
    if read_json(folder / MANIFEST).get("kind") == TASK:
        model = load_task(folder)
        if not isinstance(model, TaskModel):
            raise ConfigError(f"{model.name} has no vectors: {model.no_vectors}")
        encoder, window = model.encoder, model.card.max_characters
        return MeanEmbedder(encoder.to(select_device()), window=window)
    return MeanEmbedder(load_base(folder).to(select_device()))


def _vectors(embedder: MeanEmbedder, items: Iterator[Item]) -> Iterator[tuple[Item, npt.NDArray[np.float32]]]:
    own, texts = tee(items)  # `stream` reads ahead by a bounded number of texts
    yield from zip(own, embedder.stream(item.text for item in texts), strict=True)


def _rows(pairs: Iterator[tuple[Item, npt.NDArray[np.float32]]]) -> Iterator[dict[str, Any]]:
    for item, vector in pairs:
        yield {"id": item.id, **item.kept, "vector": vector}


def _means(
    by: str, pairs: Iterator[tuple[Item, npt.NDArray[np.float32]]], embedder: MeanEmbedder
) -> Iterator[dict[str, Any]]:
    sums: dict[str, npt.NDArray[np.float64]] = {}
    counts: dict[str, int] = {}
    has_encodings = embedder.context_width > 0
    while group := list(islice(pairs, _AUTHOR_TEXTS)):
        vectors = np.stack([vector for _, vector in group])
        if has_encodings:
            encodings = embedder.embed_contexts([item.text for item, _ in group])
            vectors = np.concatenate([vectors, encodings], axis=1)
        for (item, _), vector in zip(group, vectors, strict=True):
            value = field_value(item.kept[by]) or ""
            sums[value] = sums[value] + vector if value in sums else vector.astype(np.float64)
            counts[value] = counts.get(value, 0) + 1
    for value, total in sums.items():
        mean = (total / counts[value]).astype(np.float32)
        row = {by: value, "texts": counts[value], "vector": mean[: embedder.width]}
        yield row | ({"encoding": mean[embedder.width :]} if has_encodings else {})
