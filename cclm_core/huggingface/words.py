"""Labels of words as labels of characters, and back, for token classification.

The label of a character is `B-` on the first character of an entity, `I-` on its other characters and on the spaces
inside it, and `O` elsewhere. Copying `B-PER` to every character would make each character an entity of its own.
Words are joined by spaces, because `is_split_into_words=True` glues them together, "JohnSmith".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from transformers import BatchEncoding

from cclm_core.huggingface.tokenizer import CclmTokenizer
from cclm_core.runtime.errors import ConfigError, DataError

NO_LABEL = -100
"""The label of special tokens, which losses ignore."""

Span = tuple[int, int]
"""Start and end of a word in the text, in characters."""


class Aligned(NamedTuple):
    """A text with one label per token.

    Attributes:
        text: the text of the words.
        words: start and end of each word in the text.
        encoding: the output of the tokenizer, with `labels`, to train on: label ids with `label2id`, otherwise labels.
    """

    text: str
    words: list[Span]
    encoding: BatchEncoding


def align_word_labels(
    words: Sequence[str],
    tags: Sequence[str],
    tokenizer: CclmTokenizer,
    label2id: Mapping[str, int] | None = None,
    *,
    text: str | None = None,
    space: Literal["inside", "outside"] = "inside",
    **options: Any,
) -> Aligned:
    """Encodes words with BIO tags as a text with one label per character.

    Args:
        words: the words, in order.
        tags: one tag per word: `O`, `B-LABEL` or `I-LABEL`. An `I-` that does not continue an entity begins one.
        tokenizer: the tokenizer.
        label2id: label -> id, `model.config.label2id`; None to return labels instead of ids.
        text: the original text that contains the words in order; None joins them with one space.
        space: whether what is between two words of an entity belongs to it (`I-`), or gets no entity (`O`).
        options: further arguments of the tokenizer, e.g. `truncation=True, max_length=512`.

    Raises:
        DataError: the numbers of words and tags differ, a tag is malformed, or a word is not in the text.
        ConfigError: `space` is unknown, or a label is missing from `label2id`.

    >>> from cclm_core.huggingface import tokenizer_from
    >>> from cclm_core.text.vocabulary import Preprocessor
    >>> tokenizer = tokenizer_from(Preprocessor().fit(["Al Bo ran"]))
    >>> aligned = align_word_labels(["Al", "Bo", "ran"], ["B-PER", "I-PER", "O"], tokenizer)
    >>> aligned.text, aligned.encoding["labels"]
    ('Al Bo ran', ['B-PER', 'I-PER', 'I-PER', 'I-PER', 'I-PER', 'O', 'O', 'O', 'O'])
    """
    if len(words) != len(tags):
        raise DataError(f"words and tags must have the same number, got {len(words)} words and {len(tags)} tags.")
    if space not in ("inside", "outside"):
        raise ConfigError(f"`space` must be inside or outside, got {space!r:.80}.")
    text = " ".join(words) if text is None else text
    spans = _spans(words, text)
    characters = _character_labels(text, spans, tags, space)
    encoding = tokenizer(text, **options)
    rows = [_token_labels(characters, row, label2id) for row in encoding.encodings or ()]
    tensors = options.get("return_tensors")
    if tensors is None and not options.get("return_overflowing_tokens"):
        encoding["labels"] = rows[0]
    else:
        encoding["labels"] = BatchEncoding({"labels": rows}, tensor_type=tensors)["labels"]
    return Aligned(text, spans, encoding)


def chars_to_words(
    predictions: Sequence[str] | npt.NDArray[np.floating[Any]],
    words: Sequence[Span],
    how: Literal["first", "majority", "mean"] = "first",
    id2label: Mapping[int, str] | None = None,
) -> list[str]:
    """One BIO tag per word from the labels of characters, e.g. for `seqeval`.

    Args:
        predictions: one label per character of the text, or their scores (L, K) with `mean`.
        words: start and end of each word in the text.
        how: `first`: the label of the first character; `majority`: the most frequent label without `B-` and `I-`, ties
            by the first character; `mean`: the label with the highest mean score, which needs `id2label`.
        id2label: `model.config.id2label`, for `mean`.

    Returns:
        The tags. A word is `B-` if its first character is, or if the word before it has another label; otherwise `I-`.

    Raises:
        ConfigError: `how` is unknown, or does not fit the predictions.
        DataError: a word is empty or reaches beyond the predictions.

    >>> chars_to_words(["B-PER", "I-PER", "I-PER", "I-PER", "O"], [(0, 2), (3, 4)])
    ['B-PER', 'I-PER']
    """
    for start, end in words:
        if not 0 <= start < end <= len(predictions):
            raise DataError(
                f"words must have characters within the {len(predictions)} predictions, got ({start}, {end}). A text "
                "that was truncated has fewer predictions than characters."
            )
    if how == "mean":
        firsts, labels = _by_mean(np.asarray(predictions), words, id2label)
    elif how in ("first", "majority"):
        firsts = [str(predictions[start]) for start, _ in words]
        labels = [_entity(first) for first in firsts]
        if how == "majority":
            labels = [_majority([_entity(str(label)) for label in predictions[start:end]]) for start, end in words]
    else:
        raise ConfigError(f"`how` must be first, majority or mean, got {how!r:.80}.")
    tags, before = [], ""
    for first, label in zip(firsts, labels, strict=True):
        begins = label != before or first == f"B-{label}"
        tags.append(f"{'B' if begins else 'I'}-{label}" if label else "O")
        before = label
    return tags


def _spans(words: Sequence[str], text: str) -> list[Span]:
    spans, position = [], 0
    for index, word in enumerate(words):
        start = text.find(word, position)
        if start < 0 or not word:
            raise DataError(f"word {index}, {word!r:.80}, is empty or not in the text after character {position}.")
        position = start + len(word)
        spans.append((start, position))
    return spans


def _character_labels(text: str, spans: Sequence[Span], tags: Sequence[str], space: str) -> list[str]:
    """The BIO label of each character of a text."""
    labels, before, end_before = ["O"] * len(text), "", 0
    for (start, end), tag in zip(spans, tags, strict=True):
        label = _entity(tag)
        continues = bool(label) and tag.startswith("I-") and label == before
        if label:
            labels[start:end] = [f"{'I' if continues else 'B'}-{label}", *[f"I-{label}"] * (end - start - 1)]
        if continues and space == "inside":
            labels[end_before:start] = [f"I-{label}"] * (start - end_before)
        before, end_before = label, end
    return labels


def _token_labels(characters: Sequence[str], encoding: Any, label2id: Mapping[str, int] | None) -> list[Any]:
    """The label of each token of one window; only the first byte of a character begins an entity."""
    labels: list[Any] = []
    before = -1
    for (start, end), is_special in zip(encoding.offsets, encoding.special_tokens_mask, strict=True):
        if is_special or start == end:
            labels.append(NO_LABEL if label2id is not None else "O")
            continue
        label = characters[start] if start != before else characters[start].replace("B-", "I-", 1)
        labels.append(label if label2id is None else _id(label, label2id))
        before = start
    return labels


def _id(label: str, label2id: Mapping[str, int]) -> int:
    if label not in label2id:
        raise ConfigError(
            f"`label2id` must have every label of characters, but {label!r:.80} is missing. Each entity needs `B-` and "
            "`I-`, because even a single word has characters inside."
        )
    return label2id[label]


def _entity(tag: str) -> str:
    """The label of a tag without its prefix; empty for `O`."""
    if tag == "O":
        return ""
    prefix, _, label = tag.partition("-")
    if prefix not in ("B", "I") or not label:
        raise DataError(f"a tag must be O, B-LABEL or I-LABEL, got {tag!r:.80}. Convert the tags to BIO.")
    return label


def _majority(labels: Sequence[str]) -> str:
    return max(labels, key=lambda label: (labels.count(label), -labels.index(label)))


def _by_mean(
    scores: npt.NDArray[Any], words: Sequence[Span], id2label: Mapping[int, str] | None
) -> tuple[list[str], list[str]]:
    """The best label of the first character of each word, and the entity with the best mean over its characters."""
    if scores.ndim != 2 or id2label is None or scores.shape[1] != len(id2label):
        raise ConfigError(
            f"`how='mean'` needs scores (L, K) and the K labels of `id2label`, got scores of shape {scores.shape} and "
            f"{0 if id2label is None else len(id2label)} labels."
        )
    entities = [_entity(id2label[index]) for index in range(len(id2label))]
    names = list(dict.fromkeys(entities))
    # The score of an entity is that of its better prefix.
    merged = np.stack(
        [scores[:, [index for index, entity in enumerate(entities) if entity == name]].max(1) for name in names], axis=1
    )
    firsts = [id2label[int(scores[start].argmax())] for start, _ in words]
    return firsts, [names[int(merged[start:end].mean(0).argmax())] for start, end in words]
