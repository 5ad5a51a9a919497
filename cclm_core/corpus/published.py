"""The texts of a published corpus, to fit a vocabulary on."""

from collections.abc import Collection, Iterator
from pathlib import Path

from cclm_core.corpus.records import read_records
from cclm_core.runtime.artifacts import verify


def corpus_texts(folder: Path, split: str = "train", variants: Collection[str] | None = None) -> Iterator[str]:
    """The texts of one split of a corpus that the stage `ingest` published, in a stream.

    `Preprocessor().fit(corpus_texts(Path("data/corpus")))` finds the alphabet that the stage `vocab` finds.

    Args:
        folder: the published folder; every file in it is checked against its manifest first.
        split: `train`, `validation` or `test`.
        variants: only the records of these variants; None for all.

    Raises:
        ArtifactError: `folder` is no corpus.
        IntegrityError: `folder` was altered.
    """
    verify(folder, "corpus")
    return (record.text for record in read_records(folder, split, variants))
