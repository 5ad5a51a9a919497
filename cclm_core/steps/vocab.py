"""The stage `vocab`: fits the alphabet on the train split and encodes every split."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cclm_core.artifacts import publishing, verify, write_json
from cclm_core.errors import DataError
from cclm_core.reporting import Report
from cclm_core.steps.parameters import section
from cclm_core.text.encoded import EncodedWriter
from cclm_core.text.records import read_records
from cclm_core.text.targets import FILE as TARGETS
from cclm_core.text.targets import WordTargets
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig


def vocab(params: Path, corpus: Path, out: Path, report: Report) -> None:
    """Reads a corpus twice, in a stream, and publishes it as ids and tags (see `text.encoded`); a third time for the
    targets of masked language modelling (see `text.targets`), where `words` is configured.

    Args:
        params: the file with the section `vocabulary`.
        corpus: the folder that `ingest` published.
        out: the folder to publish.
        report: hears how many documents were encoded.

    Raises:
        ConfigError: the section is wrong.
        ArtifactError: `corpus` is no corpus.
        IntegrityError: `corpus` was altered.
        DataError: the train split is empty.
    """
    config = section(params, "vocabulary", VocabularyConfig)
    verify(corpus, "corpus")
    labels: set[str] = set()
    preprocessor = Preprocessor(config).fit(_train_texts(corpus, labels))
    with publishing(out, "encoded") as folder:
        with EncodedWriter(folder, preprocessor, labels) as writer:
            num_documents = 0
            for number in writer.write(read_records(corpus)):
                num_documents += number
                report(num_documents, {"ids": sum(counts.ids for counts in writer.counts.values())})
        if not writer.counts["train"].documents:
            raise DataError(f"the train split of {corpus} must hold a document; it is empty. Look at its metrics.json.")
        if config.words is not None:
            WordTargets.fit(_train_texts(corpus, labels), config.words, preprocessor).save(folder / TARGETS)
        write_json(folder / "metrics.json", _metrics(writer))


def _train_texts(corpus: Path, labels: set[str]) -> Iterator[str]:
    """The texts of the train split; on the way the entity labels of all splits are added to `labels`."""
    for record in read_records(corpus):
        labels.update(entity.label for entity in record.entities)
        if record.split == "train":
            yield record.text


def _metrics(writer: EncodedWriter) -> dict[str, Any]:
    splits = {
        name: asdict(counts) | {"fallback_share": counts.fallback_characters / max(1, counts.characters)}
        for name, counts in writer.counts.items()
    }
    return {"alphabet": len(writer.preprocessor.alphabet), "splits": splits, "tags": writer.tags}
