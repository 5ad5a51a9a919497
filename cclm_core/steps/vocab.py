"""The stage `vocab`: fits the alphabet on the train split and encodes all splits."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from cclm_core.corpus.encoded import EncodedWriter
from cclm_core.corpus.parallel import process_map
from cclm_core.corpus.records import entity_labels, read_texts, row_groups
from cclm_core.runtime.artifacts import publishing, verify, write_json
from cclm_core.runtime.errors import DataError
from cclm_core.runtime.reporting import Report
from cclm_core.steps.params import Params
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig
from cclm_core.text.word_targets import FILE as TARGETS
from cclm_core.text.word_targets import WordTargets


def vocab(params: Params, corpus: Path, out: Path, report: Report, workers: int | None = None) -> None:
    """Fits the vocabulary and publishes the corpus as ids and tags (see `corpus.encoded`).

    Streams the corpus twice; with `vocabulary.words` twice more, for word targets (see `text.word_targets`).

    Args:
        params: the parameters; reads the section `vocabulary`.
        corpus: folder of the corpus.
        out: folder to publish the encoded corpus at.
        report: receives the numbers of encoded documents and ids.
        workers: number of processes; does not change the result. None for `corpus.parallel.num_workers`.

    Raises:
        ConfigError: invalid section.
        ArtifactError: `corpus` is not a corpus.
        IntegrityError: `corpus` was altered.
        DataError: the train split is empty.
    """
    config = params.section(VocabularyConfig)
    verify(corpus, "corpus")
    preprocessor = Preprocessor(config).fit(read_texts(corpus, "train"))
    with publishing(out, "encoded") as folder:
        with (
            EncodedWriter(folder, preprocessor, entity_labels(corpus)) as writer,
            process_map(writer.encoder, row_groups(corpus), workers) as groups,
        ):
            num_documents = 0
            for group in groups:
                writer.append(group)
                num_documents += group.documents.num_rows
                report(num_documents, {"ids": sum(counts.ids for counts in writer.counts.values())})
        if not writer.counts["train"].documents:
            raise DataError(
                f"the train split of {corpus} is empty. Check its metrics.json and the splits in the section ingest."
            )
        if config.words is not None:
            targets = WordTargets.fit(read_texts(corpus, "train"), config.words, preprocessor)
            targets.with_counts(read_texts(corpus, "train")).save(folder / TARGETS)
        write_json(folder / "metrics.json", _metrics(writer))


def _metrics(writer: EncodedWriter) -> dict[str, Any]:
    splits = {
        name: asdict(counts) | {"fallback_share": counts.fallback_characters / max(1, counts.characters)}
        for name, counts in writer.counts.items()
    }
    return {"alphabet": len(writer.preprocessor.alphabet), "splits": splits, "tags": writer.tags}
