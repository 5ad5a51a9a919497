"""Texts with contexts: other texts of the same author or group, drawn by index arithmetic like windows.

Batch k is a function of the seed and k. The targets of a batch do not depend on the type of the contexts, so that
types can be compared on the same targets.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cclm_core.corpus.encoded_split import EncodedSplit
from cclm_core.corpus.permutation import permute
from cclm_core.corpus.windows import WindowBatch
from cclm_core.runtime.config import Config
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive
from cclm_core.text.alphabet import PAD

ContextName = Literal["none", "author", "group", "random"]
CONTEXT_TYPES: tuple[ContextName, ...] = ("none", "author", "group", "random")
"""The types of contexts, by number."""
_GRAM = 50  # ids; a context that shares a run of this length with its target repeats or quotes it
_TRIES = 3  # draws of another context in place of one that does
_GRAM_SEED = 0x9E3779B97F4A7C15

_Index = npt.NDArray[np.int64]


class ContextSampling(Config):
    """Which other texts are the contexts of a text."""

    number: int = Field(default=4, ge=0, le=256, description="contexts per text, at most; fewer if there are fewer")
    characters: int = Field(default=256, ge=8, description="ids per context; longer texts give a random piece")
    types: Annotated[tuple[ContextName, ...], Field(min_length=1)] = Field(
        default=("author",),
        description="types, equally often: `author`: texts of the same author; `group`: texts of the same group by "
        "others; `random`: texts of other authors and groups; `none`",
    )
    dropout: float = Field(default=0.15, ge=0, le=1, description="share of the training texts that get no contexts")
    min_characters: int = Field(default=20, ge=1, description="shorter texts are neither targets nor contexts")
    unseen: bool = Field(
        default=True, description="evaluate on authors and groups that do not occur in the training split"
    )


class ContextBatch(NamedTuple):
    """Texts with their contexts.

    Attributes:
        target: the texts, B rows.
        contexts: (B, C, L) int64 ids, 0 for padding and for contexts that do not exist.
        types: (B,) int64, positions in `CONTEXT_TYPES`.
        documents: (B,) int64, the rows of the targets in the documents of the split.
        sources: (B, C) int64, the rows of the contexts; -1 for contexts that do not exist.
    """

    target: WindowBatch
    contexts: _Index
    types: _Index
    documents: _Index
    sources: _Index

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.documents)

    def rows(self, start: int, stop: int) -> "ContextBatch":
        """The rows from `start` to `stop`, `stop` excluded."""
        arrays = (values[start:stop] for values in self[1:])
        return ContextBatch(self.target.rows(start, stop), *arrays)


class AuthorBatch(NamedTuple):
    """Two sets of texts of each author.

    Attributes:
        ids: (B, 2, N, L) int64, 0 for padding and for texts that do not exist.
        authors, groups: (B,) int64, numbers of the author and of the group of the first text; -1 without a group.
    """

    ids: _Index
    authors: _Index
    groups: _Index

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.authors)

    def rows(self, start: int, stop: int) -> "AuthorBatch":
        """The authors from `start` to `stop`, `stop` excluded."""
        return AuthorBatch(*(values[start:stop] for values in self))


@dataclass(frozen=True)
class _Documents:
    """The documents of a split that can be targets and contexts, as arrays of D entries.

    Attributes:
        rows: the numbers of the documents in the split.
        starts, lengths: in ids.
        authors, groups: numbers; -1 without.
        by_author, by_group: number -> positions in these arrays.
        ids: the ids of the split.
    """

    rows: _Index
    starts: _Index
    lengths: _Index
    authors: _Index
    groups: _Index
    by_author: dict[int, _Index]
    by_group: dict[int, _Index]
    ids: npt.NDArray[np.uint16]

    @property
    def authors_with_several(self) -> list[int]:
        """The authors with two or more documents, sorted."""
        return sorted(author for author, positions in self.by_author.items() if len(positions) > 1)

    def pieces(self, positions: _Index, length: int, generator: np.random.Generator) -> WindowBatch:
        """The documents at `positions`, a random piece of those longer than `length`."""
        starts, lengths = self.starts[positions], self.lengths[positions]
        sizes = np.minimum(lengths, length)
        begins = starts + (generator.random(len(positions)) * (lengths - sizes + 1)).astype(np.int64)
        inside = np.arange(length) < sizes[:, None]
        index = np.where(inside, begins[:, None] + np.arange(length), 0)
        ids = np.where(inside, self.ids[index], PAD).astype(np.int64)
        return WindowBatch(ids, np.zeros(ids.shape, dtype=np.uint8), sizes)


class ContextTexts:
    """The texts of one split, each with other texts of its author, its group, or neither.

    Targets are the documents of authors with two or more, without exact duplicates. A context is never the target
    itself, and never shares a run of 50 ids with it.

    Args:
        split: an encoded split whose documents have authors.
        length: ids per target; a longer document gives a random piece.
        sampling: number, length and types of the contexts.
        seen: the training split; its authors and groups are left out. None leaves out none.
        dropout: share of the targets that get no contexts.

    Raises:
        DataError: no author has two texts, or contexts of the group are asked for and no document has a group.
    """

    def __init__(
        self,
        split: EncodedSplit,
        length: int,
        sampling: ContextSampling,
        seen: EncodedSplit | None = None,
        dropout: float = 0.0,
    ) -> None:
        self.split, self.length, self.sampling, self.dropout = split, length, sampling, dropout
        self._documents = documents = _documents(split, sampling.min_characters, seen)
        several = set(documents.authors_with_several)
        self.targets = np.flatnonzero([author in several for author in documents.authors.tolist()])
        if "group" in sampling.types and not documents.by_group:
            raise DataError(f"contexts of the type group need groups, but no document of {split.path} has one.")

    @property
    def has_groups(self) -> bool:
        """Whether any document has a group."""
        return bool(self._documents.by_group)

    def batches_per_epoch(self, batch_size: int) -> int:
        """The number of batches that cover every target at least once."""
        return -(-len(self.targets) // batch_size)

    def batch(self, number: int, batch_size: int, seed: int) -> ContextBatch:
        """Batch `number` (from 0) of a training with `batch_size` targets per batch."""
        epoch, within = divmod(number, self.batches_per_epoch(batch_size))
        positions = (np.arange(batch_size) + within * batch_size) % len(self.targets)
        order = permute(positions, len(self.targets), derive(seed, "order", epoch))
        generator = derive(seed, "contexts", number)
        drawn = generator.integers(len(self.sampling.types), size=batch_size)
        types = np.array([CONTEXT_TYPES.index(self.sampling.types[index]) for index in drawn.tolist()])
        types[generator.random(batch_size) < self.dropout] = 0
        return self._gather(self.targets[order], types, self.sampling.number, generator, generator)

    def fixed(self, num_windows: int, seed: int) -> ContextBatch:
        """A random sample of `num_windows` targets, or all; their contexts have the types of the training in turn."""
        targets = self._fixed_targets(num_windows, seed)
        types = np.array([CONTEXT_TYPES.index(name) for name in self.sampling.types])
        generators = derive(seed, "fixed targets"), derive(seed, "fixed contexts")
        return self._gather(targets, types[np.arange(len(targets)) % len(types)], self.sampling.number, *generators)

    def with_type(self, name: ContextName, number: int, num_texts: int, seed: int) -> ContextBatch:
        """The targets of `fixed`, all with `number` contexts of one type. The targets do not depend on the type."""
        targets = self._fixed_targets(num_texts, seed)
        types = np.full(len(targets), CONTEXT_TYPES.index(name))
        generators = derive(seed, "fixed targets"), derive(seed, "fixed contexts", name)
        return self._gather(targets, types, number, *generators)

    def _fixed_targets(self, number: int, seed: int) -> _Index:
        order = derive(seed, "fixed").permutation(len(self.targets))[:number]
        return self.targets[np.sort(order)]

    def _gather(
        self,
        targets: _Index,
        types: _Index,
        number: int,
        target_generator: np.random.Generator,
        generator: np.random.Generator,
    ) -> ContextBatch:
        target = self._documents.pieces(targets, self.length, target_generator)
        contexts = np.full((len(targets), number, self.sampling.characters), PAD, dtype=np.int64)
        sources = np.full((len(targets), number), -1, dtype=np.int64)
        for row, (position, kind) in enumerate(zip(targets.tolist(), types.tolist(), strict=True)):
            candidates = self._candidates(position, CONTEXT_TYPES[kind], number, generator)
            if len(candidates):
                pieces = self._documents.pieces(candidates, self.sampling.characters, generator)
                allowed = np.flatnonzero(~_repeats(pieces.ids, target.ids[row]))[:number]
                contexts[row, : len(allowed)] = pieces.ids[allowed]
                sources[row, : len(allowed)] = self._documents.rows[candidates[allowed]]
        return ContextBatch(target, contexts, types.astype(np.int64), self._documents.rows[targets], sources)

    def _candidates(self, position: int, name: ContextName, number: int, generator: np.random.Generator) -> _Index:
        """Up to `_TRIES` times `number` documents, in random order, without the target."""
        documents = self._documents
        author, group = int(documents.authors[position]), int(documents.groups[position])
        if name == "none" or number == 0:
            return np.empty(0, dtype=np.int64)
        if name == "random":
            drawn = generator.integers(len(documents.rows), size=8 * number)
            other_group = (documents.groups[drawn] != group) | (group < 0)
            drawn = drawn[(documents.authors[drawn] != author) & other_group]
            return np.array(list(dict.fromkeys(drawn.tolist())), dtype=np.int64)[: _TRIES * number]
        every = (
            documents.by_author[author] if name == "author" else documents.by_group.get(group, np.empty(0, np.int64))
        )
        every = every[every != position] if name == "author" else every[documents.authors[every] != author]
        return generator.permutation(every)[: _TRIES * number]


class AuthorTexts:
    """Authors of one split, each with two disjoint sets of texts.

    Args:
        split: an encoded split whose documents have authors.
        length: ids per text; a longer document gives a random piece.
        number: texts per set, at most; an author with fewer than twice as many gives smaller sets.
        same_group: share of a batch whose authors come from as few groups as possible, so that telling them apart by
            topic does not help.
        min_characters: shorter texts are left out.
        seen: the training split; its authors and groups are left out. None leaves out none.

    Raises:
        DataError: fewer than two authors have two texts.
    """

    def __init__(
        self,
        split: EncodedSplit,
        length: int,
        number: int,
        same_group: float,
        min_characters: int,
        seen: EncodedSplit | None = None,
    ) -> None:
        self.length, self.number, self.same_group = length, number, same_group
        self._documents = documents = _documents(split, min_characters, seen)
        self.authors = np.array(documents.authors_with_several, dtype=np.int64)
        self._by_author = {author: documents.by_author[author] for author in documents.authors_with_several}
        if len(self.authors) < 2:
            raise DataError(f"{split.path} must have at least two authors with two texts each, got one. Add texts.")
        self._group_of = {key: int(documents.groups[rows[0]]) for key, rows in self._by_author.items()}

    def batches_per_epoch(self, batch_size: int) -> int:
        """The number of batches that read about as many texts as there are."""
        texts = sum(len(rows) for rows in self._by_author.values())
        return max(1, texts // (2 * self.number * batch_size))

    def batch(self, number: int, batch_size: int, seed: int) -> AuthorBatch:
        """Batch `number` (from 0) of a training with `batch_size` authors per batch."""
        generator = derive(seed, "authors", number)
        return self._gather(self._drawn(batch_size, generator), generator)

    def fixed(self, num_windows: int, seed: int) -> AuthorBatch:
        """A random sample of `num_windows` authors, or all if there are fewer."""
        generator = derive(seed, "fixed authors")
        return self._gather(generator.permutation(self.authors)[:num_windows], generator)

    def _drawn(self, batch_size: int, generator: np.random.Generator) -> _Index:
        order = generator.permutation(self.authors).tolist()
        near = round(self.same_group * min(batch_size, len(order)))
        if near:
            groups = {group: place for place, group in enumerate(dict.fromkeys(map(self._group_of.get, order)))}
            order = sorted(order[:], key=lambda author: groups[self._group_of[author]])[:near] + order
            order = list(dict.fromkeys(order))
        return np.array(order[:batch_size], dtype=np.int64)

    def _gather(self, authors: Sequence[int] | _Index, generator: np.random.Generator) -> AuthorBatch:
        ids = np.full((len(authors), 2, self.number, self.length), PAD, dtype=np.int64)
        for row, author in enumerate(map(int, authors)):
            drawn = generator.permutation(self._by_author[author])[: 2 * self.number]
            half = len(drawn) // 2
            for side, positions in enumerate((drawn[:half], drawn[half : 2 * half])):
                ids[row, side, :half] = self._documents.pieces(positions, self.length, generator).ids
        groups = np.array([self._group_of[int(author)] for author in authors], dtype=np.int64)
        return AuthorBatch(ids, np.asarray(authors, dtype=np.int64), groups)


def _documents(split: EncodedSplit, min_characters: int, seen: EncodedSplit | None) -> _Documents:
    """The documents with an author, long enough, without repeated texts and without `seen` authors and groups.

    Raises:
        DataError: no author has two of them.
    """
    table = split.documents
    known_authors = set() if seen is None else set(seen.documents["author"].dropna())
    known_groups = set() if seen is None else set(seen.documents["group"].dropna())
    is_kept = table["author"].notna() & (table["length"] >= min_characters)
    is_kept &= ~table["author"].isin(known_authors) & ~table["group"].isin(known_groups)
    ids, texts, rows = np.asarray(split.ids), set(), []
    starts, lengths = table["start"].to_numpy(), table["length"].to_numpy().astype(np.int64)
    for row in np.flatnonzero(is_kept.to_numpy()).tolist():
        content = ids[starts[row] : starts[row] + lengths[row]].tobytes()
        if content not in texts:
            texts.add(content)
            rows.append(row)
    kept = np.array(rows, dtype=np.int64)
    authors, groups = (_numbers(table[name].iloc[kept].tolist()) for name in ("author", "group"))
    documents = _Documents(
        rows=kept,
        starts=starts[kept],
        lengths=lengths[kept],
        authors=authors,
        groups=groups,
        by_author=_positions(authors),
        by_group=_positions(groups),
        ids=ids,
    )
    if not documents.authors_with_several:
        unseen = " that the training split does not have" if seen is not None else ""
        raise DataError(
            f"{split.path} has no author{unseen} with two or more texts of at least {min_characters} characters. Name "
            "the column of the authors in ingest.source.columns, or set contexts.unseen: false."
        )
    return documents


def _numbers(names: Sequence[str | None]) -> _Index:
    """A number per name in sorted order; -1 for a missing name."""
    numbers = {name: number for number, name in enumerate(sorted({name for name in names if isinstance(name, str)}))}
    return np.array([numbers.get(name, -1) if isinstance(name, str) else -1 for name in names], dtype=np.int64)


def _positions(numbers: _Index) -> dict[int, _Index]:
    """Number -> the positions that have it; -1 is left out."""
    if not len(numbers):
        return {}
    order = np.argsort(numbers, kind="stable")
    values, firsts = np.unique(numbers[order], return_index=True)
    parts = np.split(order, firsts[1:])
    return {value: part for value, part in zip(values.tolist(), parts, strict=True) if value >= 0}


def _repeats(contexts: _Index, target: _Index) -> npt.NDArray[np.bool_]:
    """Which contexts (N, L) share a run of 50 ids with the target (L',)."""
    own = _grams(target[None])[0]
    return np.asarray(np.isin(_grams(contexts), own[own != 0]).any(axis=1))


def _grams(ids: _Index) -> npt.NDArray[np.uint64]:
    """A hash of every run of 50 ids of `ids` (N, L): (N, L - 49) uint64, 0 for runs with padding."""
    if ids.shape[1] < _GRAM:
        return np.zeros((len(ids), 0), dtype=np.uint64)
    factor = np.uint64(_GRAM_SEED | 1)
    powers = np.cumprod(np.full(_GRAM, factor, dtype=np.uint64))
    runs = np.lib.stride_tricks.sliding_window_view(ids.astype(np.uint64), _GRAM, axis=1)
    hashes: npt.NDArray[np.uint64] = (runs * powers).sum(axis=2, dtype=np.uint64)
    hashes[(runs == PAD).any(axis=2)] = 0
    return hashes
