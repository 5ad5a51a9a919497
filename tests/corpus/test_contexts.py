"""Texts with contexts: the same targets for every type, unseen authors, no repeated text."""

import numpy as np
import pytest

from cclm_core.corpus.contexts import CONTEXT_TYPES, AuthorTexts, ContextName, ContextSampling, ContextTexts
from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Record
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.random import derive
from tests.corpora import encode

SEED = 3
LONG = "It was the best of times, it was the worst of times, it was the age of wisdom. "


def records() -> list[Record]:
    """Twelve authors in four groups with six texts each; the last three authors are in the validation split."""
    generator, texts = derive(SEED, "texts"), []
    for author in range(12):
        split = "train" if author < 9 else "validation"
        for number in range(6):
            words = ["".join(map(chr, generator.integers(97, 123, size=6))) for _ in range(12)]
            group = f"{split}-{author % 4 if split == 'train' else author % 2}"
            texts.append(Record(f"{author}/{number}", " ".join(words), f"author {author}", group, split=split))
    texts.append(Record("quote", f"{LONG} quoted", "author 0", "train-0", split="train"))
    texts.append(Record("original", LONG, "author 0", "train-0", split="train"))
    texts.append(Record("copy", LONG, "author 0", "train-0", split="train"))
    texts.append(
        Record("known author", "words of somebody who also writes elsewhere", "author 1", "x", split="validation")
    )
    return texts


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> EncodedCorpus:
    return encode(tmp_path_factory.mktemp("corpus") / "encoded", records())


@pytest.mark.parametrize("name", CONTEXT_TYPES)
def test_contexts_are_other_texts_of_their_type(corpus: EncodedCorpus, name: ContextName) -> None:
    split = corpus.split("train")
    batch = ContextTexts(split, 64, ContextSampling(number=3, types=("author", "group"))).with_type(name, 3, 40, SEED)
    documents = split.documents
    for target, sources in zip(batch.documents, batch.sources, strict=True):
        chosen = sources[sources >= 0]
        assert target not in chosen
        assert len(set(chosen)) == len(chosen)
        same_author = documents["author"].iloc[chosen] == documents["author"].iloc[target]
        same_group = documents["group"].iloc[chosen] == documents["group"].iloc[target]
        match name:
            case "author":
                assert same_author.all() and len(chosen) == 3
            case "group":
                assert same_group.all() and not same_author.any() and len(chosen) == 3
            case "random":
                assert not same_author.any() and not same_group.any() and len(chosen)
            case "none":
                assert not len(chosen)
    assert ((batch.contexts != 0).any(-1) == (batch.sources >= 0)).all()


def test_targets_do_not_depend_on_the_type_or_number_of_contexts(corpus: EncodedCorpus) -> None:
    texts = ContextTexts(corpus.split("train"), 32, ContextSampling())
    first = texts.with_type("author", 4, 30, SEED)
    for name, number in (("none", 0), ("random", 2)):
        other = texts.with_type(name, number, 30, SEED)
        np.testing.assert_array_equal(first.target.ids, other.target.ids)
        np.testing.assert_array_equal(first.documents, other.documents)


def test_a_batch_is_a_function_of_its_number(corpus: EncodedCorpus) -> None:
    sampling = ContextSampling(number=2, types=("author", "group", "random", "none"))
    first = ContextTexts(corpus.split("train"), 32, sampling, dropout=0.2)
    again = ContextTexts(corpus.split("train"), 32, sampling, dropout=0.2)
    again.batch(3, 8, SEED)
    for left, right in zip(first.batch(7, 8, SEED)[1:], again.batch(7, 8, SEED)[1:], strict=True):
        np.testing.assert_array_equal(left, right)
    number = first.batches_per_epoch(8)
    drawn = np.concatenate([first.batch(k, 8, SEED).documents for k in range(number)])
    assert set(drawn) == set(first._documents.rows[first.targets])


def test_repeated_and_quoted_texts_are_not_contexts(corpus: EncodedCorpus) -> None:
    split = corpus.split("train")
    texts = ContextTexts(split, 64, ContextSampling(number=8))
    names = split.documents["id"].tolist()
    kept = [names[row] for row in texts._documents.rows]
    assert "original" in kept and "copy" not in kept
    batch = texts.with_type("author", 8, 100, SEED)
    row = [names[document] for document in batch.documents].index("original")
    assert "quote" not in [names[source] for source in batch.sources[row] if source >= 0]


def test_held_out_authors_and_groups_are_unseen(corpus: EncodedCorpus) -> None:
    validation, train = corpus.split("validation"), corpus.split("train")
    every = ContextTexts(validation, 32, ContextSampling())
    unseen = ContextTexts(validation, 32, ContextSampling(), seen=train)
    assert len(every._documents.rows) == len(unseen._documents.rows) + 1  # "known author"
    with pytest.raises(DataError, match="has no author that the training split does not have"):
        ContextTexts(train, 32, ContextSampling(), seen=train)


def test_authors_have_two_disjoint_sets(corpus: EncodedCorpus) -> None:
    texts = AuthorTexts(corpus.split("train"), 48, number=2, same_group=0.5, min_characters=10)
    batch = texts.batch(0, 6, SEED)
    assert batch.ids.shape == (6, 2, 2, 48)
    assert len(set(batch.authors.tolist())) == 6
    for first, second in batch.ids:
        assert not {row.tobytes() for row in first} & {row.tobytes() for row in second}
    together = AuthorTexts(corpus.split("train"), 48, number=2, same_group=1.0, min_characters=10)
    groups = [len(set(together.batch(number, 3, SEED).groups.tolist())) for number in range(20)]
    assert max(groups) <= 2
    with pytest.raises(DataError, match="has no author with two or more texts"):
        AuthorTexts(corpus.split("train"), 48, number=2, same_group=0.5, min_characters=84)
