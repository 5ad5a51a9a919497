"""The published folders that a report is about."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cclm_core.evaluation.metrics import EVALUATION_FILE, Metric, read_metrics
from cclm_core.report import page_of
from cclm_core.runtime.artifacts import MANIFEST, read_json, verify
from cclm_core.runtime.errors import ArtifactError
from cclm_core.runtime.files import folder_bytes
from cclm_core.runtime.readers import parse_json

_CARD = "card.json"
_STAGES = {"corpus": "ingest", "checks": "ingest", "encoded": "vocab", "noise": "noise", "labeled": "labeled"}
"""Kind of a folder without a card -> the stage that publishes it."""

_NAMED = {"labeled"}
_WITHOUT_CARD = ("encoded", "noise")  # made from the corpus
_ENSEMBLE = "fuse"
"""The stage that makes an ensemble, which is a task otherwise."""
_INPUTS = ("base", "parts", "composition", "task", "encoded", "noise", "labeled", "data")
"""Keys of cards whose values are digests of the folders that a stage has read."""


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that a stage has published; empty if it does not exist.

    Raises:
        ArtifactError: the file is not CSV in UTF-8.
    """
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return [dict(row) for row in csv.DictReader(stream)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ArtifactError(f"{path} cannot be read: {error}. Run the stage that creates it.") from None


@dataclass(frozen=True)
class Published:
    """A published folder.

    Attributes:
        kind: from its manifest, e.g. `component`.
        name: e.g. `entities`.
        path: where it is, relative to the project, e.g. `models/components/entities`.
        folder: where it is on this machine; not for the page.
        digest: SHA-256 of its manifest.
        card: `card.json`, or `evaluation.json` of results; empty if it has neither.
    """

    kind: str
    name: str
    path: str
    folder: Path
    digest: str
    card: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stage(self) -> str:
        """The stage that publishes it, e.g. `pretrain@entities`."""
        stage = str(self.card.get("stage") or _STAGES.get(self.kind, self.kind))
        return f"{stage}@{self.name}" if "name" in self.card or self.kind in _NAMED else stage

    @property
    def inputs(self) -> list[tuple[str, str]]:
        """The kind of reference and the digest of each folder that it was made from."""
        pairs = []
        for key in _INPUTS:
            value = self.card.get(key)
            pairs += [(key, digest) for digest in (value if isinstance(value, list) else [value]) if digest]
        return [(key, digest) for key, digest in pairs if isinstance(digest, str)]

    @cached_property
    def values(self) -> dict[str, Any]:
        """`metrics.json`; empty if the folder has none."""
        path = self.folder / "metrics.json"
        return read_json(path) if path.is_file() else {}

    @cached_property
    def metrics(self) -> dict[str, Metric]:
        """The metrics of results, by name."""
        return read_metrics(self.folder)

    @property
    def configuration(self) -> Mapping[str, Any]:
        """The configuration in the card."""
        value = self.card.get("configuration")
        return value if isinstance(value, dict) else {}

    @property
    def megabytes(self) -> float:
        """The size of its files."""
        return folder_bytes(self.folder) / 1e6

    def table(self, name: str) -> list[dict[str, str]]:
        """The rows of a CSV file; see `read_rows`."""
        return read_rows(self.folder / name)

    def lines(self, name: str, limit: int) -> list[dict[str, Any]]:
        """At most `limit` objects of a JSONL file; empty if the folder does not have it."""
        path = self.folder / name
        if not path.is_file():
            return []
        with path.open(encoding="utf-8") as stream:
            return [parse_json(line, path) for line in islice(stream, limit)]


@dataclass(frozen=True)
class Model:
    """A composition or the model of a task, with its results."""

    model: Published
    results: Published

    @property
    def name(self) -> str:
        """Its name in params.yaml."""
        return self.model.name

    @property
    def is_task(self) -> bool:
        """Whether it is the model of a task."""
        return self.model.kind == "task"

    @property
    def is_untrained(self) -> bool:
        """Whether it is a control with untrained components."""
        return bool(self.model.configuration.get("untrained"))

    @property
    def kind(self) -> str:
        """What it is: `composition`, `task` or `ensemble`."""
        return "ensemble" if self.model.card.get("stage") == _ENSEMBLE else self.model.kind

    @property
    def page(self) -> str:
        """The file of its page in the report's folder, e.g. `compositions/full.html`."""
        return page_of(self.model.path)

    @property
    def link(self) -> str:
        """The address of its page on the report's page."""
        return quote(self.page)

    @property
    def parameters(self) -> float:
        """The number of its weights."""
        return float(self.model.values.get("parameters") or 0)

    @property
    def warnings(self) -> list[str]:
        """What makes its figures less reliable than they look."""
        skipped = self.results.card.get("skipped") or {}
        warnings = [str(entry) for entry in self.results.card.get("warnings") or ()]
        return warnings + [f"not measured: {name} ({reason})" for name, reason in skipped.items()]


class Collection:
    """Everything that a report is about.

    Args:
        folders: the published folders, in the order of their paths.
    """

    def __init__(self, folders: Sequence[Published]) -> None:
        self.folders = sorted(folders, key=lambda item: item.path)
        self.by_digest = {item.digest: item for item in self.folders}

    @classmethod
    def find(cls, roots: Sequence[Path]) -> "Collection":
        """Reads and verifies all published folders below `roots`.

        Raises:
            ArtifactError: a root does not exist, or nothing below them is published.
            IntegrityError: a file is missing, unexpected or altered.
        """
        folders = []
        for root in roots:
            if not root.is_dir():
                raise ArtifactError(f"{root} not found. Run `cclm run`.")
            folders += [_open(folder, root) for folder in _published(root)]
        if not folders:
            raise ArtifactError(f"nothing is published in {', '.join(map(str, roots))}. Run `cclm run`.")
        return cls(folders)

    def of_kind(self, *kinds: str) -> list[Published]:
        """The folders of these kinds."""
        return [item for item in self.folders if item.kind in kinds]

    def first(self, kind: str) -> Published | None:
        """The first folder of a kind; None without one."""
        return next(iter(self.of_kind(kind)), None)

    def models(self, kind: str) -> list[Model]:
        """The measured models of a kind, `composition` or `task`, whose results belong to the model as it is now."""
        results = {item.card.get(kind): item for item in self.of_kind("evaluation")}
        return [Model(item, results[item.digest]) for item in self.of_kind(kind) if item.digest in results]

    def made_from(self, item: Published) -> list[Published]:
        """The folders that `item` was made from, as far as they are still there, in the order of their paths."""
        needed = [self.by_digest[digest] for _, digest in item.inputs if digest in self.by_digest]
        if item.kind in _WITHOUT_CARD and (corpus := self.first("corpus")):
            needed.append(corpus)
        return sorted(
            {entry.path: entry for entry in needed if entry is not item}.values(), key=lambda entry: entry.path
        )

    def ancestry(self, *items: Published) -> "Collection":
        """The items and everything that they were made from, directly or indirectly."""
        reached, waiting = {}, list(items)
        while waiting:
            item = waiting.pop()
            if item.path not in reached:
                reached[item.path] = item
                waiting += self.made_from(item)
        return Collection(list(reached.values()))

    def outdated(self, item: Published) -> list[str]:
        """The kinds of inputs that have changed since `item` was made."""
        return sorted({key for key, digest in item.inputs if digest not in self.by_digest})


def _published(folder: Path) -> Iterator[Path]:
    """The folders with a manifest below `folder`, in order; the folders inside them are their own content."""
    if (folder / MANIFEST).is_file():
        yield folder
        return
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.name.startswith("."):
            yield from _published(path)


def _open(folder: Path, root: Path) -> Published:
    kind = str(read_json(folder / MANIFEST).get("kind"))
    digest = verify(folder, kind)
    cards = (folder / name for name in (EVALUATION_FILE, _CARD))
    card = next((read_json(path) for path in cards if path.is_file()), {})
    name = str(card.get("name") or folder.name)
    return Published(kind, name, (Path(root.name) / folder.relative_to(root)).as_posix(), folder, digest, card)
