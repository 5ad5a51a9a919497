"""Maps of the test texts and of their authors, projected on the two directions in which they differ most."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from cclm_core.composition.means import MeanEmbedder
from cclm_core.composition.store import load_composition
from cclm_core.corpus.records import Record, read_records
from cclm_core.encoders.embedder import Base
from cclm_core.finetuning.model import TaskModel
from cclm_core.finetuning.store import load_task
from cclm_core.labeled.examples import LabeledSet
from cclm_core.report.charts import MapGroups, Spot, scatter
from cclm_core.report.published import Collection, Model
from cclm_core.runtime.device import num_threads

MAX_TEXTS = 400
MAX_CHARACTERS = 500  # of a text
MAX_AUTHORS, TEXTS_PER_AUTHOR = 120, 10  # those with the most texts, and their first texts
NO_LABEL, NO_GROUP = "no label", "no group"
_WINDOW = 512
_MAX_TIP = 120
_SIDE = 1000


@dataclass(frozen=True)
class TextMap:
    """The map of one model.

    Attributes:
        name: of the model.
        svg: the map.
        groups: the names of the groups, and their number of texts or authors, the most frequent first.
        colors: the colors of the most frequent groups.
        note: what it shows.
    """

    name: str
    svg: Markup
    groups: list[tuple[str, int]]
    colors: MapGroups
    note: str


def text_map(model: Model, collection: Collection) -> TextMap | None:
    """The map of the test texts of a model; None with fewer than three, or for a model without features."""
    pairs = list(islice(_texts(model, collection), MAX_TEXTS))
    encoder = _encoder(model.model.folder, model.is_task) if len(pairs) >= 3 else None
    if encoder is None:
        return None
    texts = [text[:MAX_CHARACTERS] for text, _ in pairs]
    labels = [label for _, label in pairs]
    with num_threads(1):  # so that the last bits do not depend on the machine's cores
        places, share = projected(MeanEmbedder(encoder, window=_WINDOW).embed(texts))
    spots = [
        Spot(x, y, label, f"{label}: {text[:_MAX_TIP]}{'…' if len(text) > _MAX_TIP else ''}")
        for (x, y), label, text in zip(places, labels, texts, strict=True)
    ]
    note = (
        f"{len(texts):,} test texts. Neighbors have similar mean vectors. The two directions hold {share:.0%} of the "
        "differences."
    )
    return _map(model.name, f"test texts of {model.name}", spots, note)


def author_map(model: Model, collection: Collection) -> TextMap | None:
    """The map of the authors of the test texts: the means of the encodings of their texts as contexts.

    None for a model without a part that reads contexts, or with fewer than three authors.
    """
    encoder = None if model.is_task else MeanEmbedder(load_composition(model.model.folder), window=_WINDOW)
    if encoder is None or not encoder.context_width:
        return None
    texts: dict[str, list[str]] = {}
    groups: dict[str, Counter[str]] = {}
    for record in _records(model, collection):
        if record.author is not None:
            texts.setdefault(record.author, []).append(record.text)
            groups.setdefault(record.author, Counter())[record.group or NO_GROUP] += 1
    authors = sorted(texts, key=lambda author: (-len(texts[author]), author))[:MAX_AUTHORS]
    if len(authors) < 3:
        return None
    read = {author: [text[:MAX_CHARACTERS] for text in texts[author][:TEXTS_PER_AUTHOR]] for author in authors}
    with num_threads(1):
        vectors = encoder.embed_contexts([text for author in authors for text in read[author]])
        ends = np.cumsum([len(read[author]) for author in authors])[:-1]
        places, share = projected(np.stack([part.mean(axis=0) for part in np.split(vectors, ends)]))
    spots = []
    for (x, y), author in zip(places, authors, strict=True):
        group = min(groups[author], key=lambda name: (-groups[author][name], name))
        number = len(texts[author])
        tip = f"{author}, {group}: {number:,} {'text' if number == 1 else 'texts'}"
        spots.append(Spot(x, y, group, tip, name=author))
    note = (
        f"{len(authors):,} of {len(texts):,} authors of the test texts, those with the most texts. A point is the mean "
        f"encoding of an author's first {TEXTS_PER_AUTHOR} texts as contexts, so neighbors write in a similar way. The "
        f"two directions hold {share:.0%} of the differences."
    )
    return _map(model.name, f"authors of {model.name}", spots, note)


def _map(name: str, title: str, spots: Sequence[Spot], note: str) -> TextMap:
    groups = MapGroups.of(spot.group for spot in spots)
    counts = Counter(spot.group for spot in spots)
    order = sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))
    return TextMap(name, scatter(title, spots, groups), order, groups, note)


def projected(vectors: npt.NDArray[np.float32]) -> tuple[list[tuple[int, int]], float]:
    """Principal components of vectors (N, W), scaled to 0 to 1000.

    The sign of a direction is chosen so that its largest weight is positive, so the result is well defined.

    Returns:
        The places of the N vectors, and the share of the variance that they show.
    """
    centered = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, values, directions = np.linalg.svd(centered, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.where(directions[np.arange(len(directions)), largest] < 0, -1.0, 1.0)[:, None]
    places = centered @ directions.T
    if places.shape[1] < 2:
        places = np.hstack([places, np.zeros((len(places), 2 - places.shape[1]))])
    low, high = places.min(axis=0), places.max(axis=0)
    scaled = np.rint((places - low) / np.where(high > low, high - low, 1.0) * _SIDE).astype(int)
    total = float((values**2).sum())
    share = float((values[:2] ** 2).sum()) / total if total else 1.0
    return [(int(x), int(y)) for x, y in scaled], share


def _encoder(folder: Path, is_task: bool) -> Base | None:
    """The encoder of a model; None for n-grams and ensembles, which have none of their own."""
    if not is_task:
        return load_composition(folder)
    task = load_task(folder)
    return task.encoder if isinstance(task, TaskModel) else None


def _texts(model: Model, collection: Collection) -> Iterator[tuple[str, str]]:
    """The test texts of a model with their labels."""
    if model.is_task:
        data = collection.by_digest.get(str(model.results.card.get("labeled")))
        for text in LabeledSet.open(data.folder).split("test") if data else ():
            label = text.label or ", ".join(text.labels) or ", ".join(sorted({span.label for span in text.entities}))
            yield text.text, label or NO_LABEL
        return
    for record in _records(model, collection):
        labels: Sequence[str] = sorted({entity.label for entity in record.entities})
        yield record.text, record.label or ", ".join(labels) or NO_LABEL


def _records(model: Model, collection: Collection) -> Iterator[Record]:
    """The test records that a composition was measured on."""
    corpus = collection.first("corpus")
    variants = _variants(model.results.configuration.get("variants"))
    return read_records(corpus.folder, "test", variants) if corpus else iter(())


def _variants(value: object) -> list[str] | None:
    return [str(entry) for entry in value] if isinstance(value, list) else None
