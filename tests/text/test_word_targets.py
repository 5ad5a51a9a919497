"""Word targets: which words they are, their positions, and reproducible fitting."""

import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cclm_core.runtime.artifacts import verify
from cclm_core.runtime.errors import ArtifactError, CclmError, ConfigError, DataError, IntegrityError
from cclm_core.runtime.reporting import null_report
from cclm_core.steps.params import Params
from cclm_core.steps.vocab import vocab
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig, VocabularyConfig
from cclm_core.text.word_targets import FILE, OTHER, Targets, WordTargets, id_spans, read_targets
from tests.steps.test_vocab import RECORDS, corpus_of

PLAY = ["To be, or not to be: that is the question.", "Whether 'tis nobler, to suffer; to be or to die"]
LETTERS = st.sampled_from("aeo '\u2019-_.,\u0301\u0323ﬁ½漢한\n")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | LETTERS, max_size=60)


def fitted(
    kind: Any = "words", max_targets: int = 100, min_count: int = 1, texts: Any = PLAY, **settings: Any
) -> tuple[WordTargets, Preprocessor]:
    preprocessor = Preprocessor(VocabularyConfig(**settings)).fit(texts)
    config = TargetsConfig(kind=kind, max_targets=max_targets, min_count=min_count)
    return WordTargets.fit(texts, config, preprocessor), preprocessor


def words_of(text: str, targets: Targets) -> list[str]:
    return [text[start:end] for start, end in zip(targets.starts, targets.ends, strict=True)]


def test_targets_are_ordered_by_frequency_then_by_code_point() -> None:
    targets, _ = fitted(max_targets=5)
    assert targets.names == ["[OTHER]", "to", "be", "or", "To"]  # "To" is the first of the words that occur once
    assert targets.num_targets == 5
    frequent, _ = fitted(min_count=2)
    assert frequent.names == ["[OTHER]", "to", "be", "or"]


def test_each_target_has_the_position_of_its_word() -> None:
    text = "don't  be -- [OTHER] naïve_1, or\x00 to"
    targets, _ = fitted()
    words = targets.encode(text)
    assert words_of(text, words) == ["don't", "be", "OTHER", "naïve_1", "or", "to"]
    assert [targets.names[target] for target in words.ids] == ["[OTHER]", "be", "[OTHER]", "[OTHER]", "or", "to"]
    assert words.ids[0] == OTHER
    assert (words.ids.dtype, words.starts.dtype, words.ends.dtype) == (np.int64, np.int32, np.int32)


@pytest.mark.parametrize("kind", ["words", "bpe"])
@pytest.mark.parametrize("text", ["", " ", "...", "\x00"])
def test_a_text_without_words_has_no_targets(kind: str, text: str) -> None:
    targets, preprocessor = fitted(kind)
    words = targets.encode(text)
    assert [part.shape for part in words] == [(0,)] * 3
    assert id_spans(words, preprocessor.offsets(text)).shape == (0, 2)
    assert targets.encode_batch([]) == []


def test_bpe_merges_pieces_from_the_alphabet() -> None:
    targets, preprocessor = fitted("bpe", max_targets=60)
    assert set(preprocessor.alphabet) < set(targets.names)
    assert targets.num_targets > len(preprocessor.alphabet) + 1
    assert all(name in "".join(PLAY) for name in targets.names[1:])
    text = "to be nobéte"
    words = targets.encode(text)
    assert "".join(words_of(text, words)) == "tobenobéte"
    for target, piece in zip(words.ids, words_of(text, words), strict=True):
        assert (piece == "é") == (target == OTHER)
        assert target == OTHER or targets.names[target] == piece


def test_bpe_needs_more_targets_than_characters() -> None:
    with pytest.raises(ConfigError, match=r"must be more than the \d+ characters of the alphabet for kind bpe, got 2"):
        fitted("bpe", max_targets=2)
    assert fitted("words", max_targets=2)[0].names == ["[OTHER]", "to"]


@given(TEXTS, st.sampled_from(["words", "bpe"]), st.sampled_from([None, "NFC", "NFKD"]), st.booleans())
def test_id_spans_cover_the_characters_of_each_target(text: str, kind: str, form: Any, cls: bool) -> None:
    targets, preprocessor = fitted(kind, normalisation=form, cls=cls, texts=[*PLAY, text[::2]])
    words = targets.encode(text)
    assert all(start < end for start, end in zip(words.starts, words.ends, strict=True))
    spans = id_spans(words, preprocessor.offsets(text)).tolist()
    assert all(first < last for first, last in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))
    ids = preprocessor.encode(text)
    for target, (first, last), word in zip(words.ids, spans, words_of(text, words), strict=True):
        assert preprocessor.decode(ids[:first]) + preprocessor.decode(ids[first:last]) == preprocessor.decode(
            ids[:last]
        )
        if form is None:
            assert preprocessor.decode(ids[first:last]) == word
        if target != OTHER and kind == "words" and form != "NFKD":
            assert preprocessor.decode(ids[first:last]) == targets.names[target]


def test_targets_are_found_after_normalization() -> None:
    targets, preprocessor = fitted(texts=["café x"], normalisation="NFC")
    text = "a cafe\u0301 x"
    words = targets.encode(text)
    assert words_of(text, words) == ["a", "cafe\u0301", "x"]
    assert [targets.names[target] for target in words.ids] == ["[OTHER]", "café", "x"]
    assert id_spans(words, preprocessor.offsets(text)).tolist() == [[0, 1], [2, 6], [7, 8]]


def test_a_target_never_ends_inside_a_character_of_the_original() -> None:
    """Normalization can turn one character into several words."""
    targets, preprocessor = fitted(texts=["1\u20442 x"], normalisation="NFKC")
    words = targets.encode("½ x")
    assert preprocessor.decode(preprocessor.encode("½ x")) == "1\u20442 x"
    assert words_of("½ x", words) == ["x"]


def test_fitting_does_not_depend_on_the_order_of_a_stream() -> None:
    def stream() -> Iterator[str]:
        yield from reversed(PLAY * 3)

    for kind in ("words", "bpe"):
        listed, _ = fitted(kind, texts=PLAY * 3)
        preprocessor = Preprocessor().fit(PLAY * 3)
        streamed = WordTargets.fit(stream(), listed.config, preprocessor)
        assert streamed.names == listed.names
        assert streamed.digest == listed.digest


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_fitting_gives_the_same_bytes_for_any_number_of_threads(tmp_path: Path, kind: str) -> None:
    program = f"""
import sys
from pathlib import Path
from cclm_core.text.word_targets import WordTargets
from cclm_core.text.vocabulary import Preprocessor, TargetsConfig
texts = [f"w{{k % 97}} v{{k % 89}} äh{{k % 7}}x {{chr(0x4E00 + k % 50)}}" for k in range(3000)]
preprocessor = Preprocessor().fit(texts)
config = TargetsConfig(kind={kind!r}, max_targets=150, min_count=1)
WordTargets.fit(texts, config, preprocessor).save(Path(sys.argv[1]))
"""
    files = []
    for threads in ("1", "4"):
        path = tmp_path / f"{threads}.json"
        variables = {"RAYON_NUM_THREADS": threads, "TOKENIZERS_PARALLELISM": "true", "PYTHONHASHSEED": threads}
        subprocess.run([sys.executable, "-c", program, str(path)], env=variables, check=True)
        files.append(path.read_bytes())
    assert files[0] == files[1]


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_counts_equal_the_occurrences_of_targets(kind: str) -> None:
    targets, _ = fitted(kind, normalisation="NFC", min_count=2 if kind == "words" else 1)
    assert targets.counts is None
    texts = [*PLAY, "a cafe\u0301", "", "to be", *["or"] * 2000]
    ids = np.concatenate([words.ids for words in targets.encode_batch(texts)])
    counted = targets.with_counts(iter(texts))
    assert counted.counts is not None and counted.counts.dtype == np.int64
    assert counted.counts.tolist() == np.bincount(ids, minlength=targets.num_targets).tolist()
    assert counted.names == targets.names and counted.digest != targets.digest and targets.counts is None
    with pytest.raises(DataError, match="got int at index 1: 7"):
        targets.with_counts(["a", 7])


def test_texts_must_be_valid_strings() -> None:
    preprocessor = Preprocessor().fit(PLAY)
    with pytest.raises(DataError, match="got int at index 1: 7"):
        WordTargets.fit(["a", 7], TargetsConfig(), preprocessor)
    with pytest.raises(DataError, match=r"lone surrogate U\+D800 at character 1"):
        WordTargets.fit(["a\ud800"], TargetsConfig(), preprocessor)
    with pytest.raises(DataError, match=r"lone surrogate U\+D800 at character 1"):
        fitted()[0].encode("a\ud800")


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_saving_and_loading_keeps_the_targets(tmp_path: Path, kind: str) -> None:
    saved, _ = fitted(kind, normalisation="NFC")
    path = tmp_path / FILE
    saved.save(path)
    loaded = WordTargets.load(path)
    assert (loaded.config, loaded.normalisation, loaded.digest) == (saved.config, "NFC", saved.digest)
    text = "to be, or not to bé [OTHER]"
    assert [part.tolist() for part in loaded.encode(text)] == [part.tolist() for part in saved.encode(text)]
    assert loaded.counts is None
    saved.with_counts(PLAY).save(path)
    counts = WordTargets.load(path).counts
    assert counts is not None and counts.tolist() == saved.with_counts(PLAY).counts.tolist()  # type: ignore[union-attr]


def test_read_targets_returns_none_without_a_file(tmp_path: Path) -> None:
    assert read_targets(tmp_path) is None
    fitted()[0].save(tmp_path / FILE)
    read = read_targets(tmp_path)
    assert read is not None and read.digest == fitted()[0].digest


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda content: content["tokenizer"]["model"]["vocab"].update(be=7), IntegrityError, "was altered"),
        (lambda content: content.update(normalisation="NFC"), IntegrityError, "was altered"),
        (lambda content: content["counts"].append(7), IntegrityError, "was altered"),
        (lambda content: content.pop("digest"), ArtifactError, "damaged"),
        (lambda content: content.update(format="other"), ArtifactError, "does not contain word targets"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, change: Any, error: type[CclmError], message: str) -> None:
    path = tmp_path / FILE
    fitted()[0].with_counts(PLAY).save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(error, match=message):
        WordTargets.load(path)


def test_the_stage_vocab_writes_targets_if_configured(tmp_path: Path) -> None:
    params, out = tmp_path / "params.yaml", tmp_path / "encoded"
    corpus = corpus_of(tmp_path / "corpus", RECORDS)
    params.write_text("vocabulary: {words: {kind: words, max_targets: 50, min_count: 1}}\n")
    vocab(Params.load(params), corpus, out, null_report)
    verify(out, "encoded")
    targets = WordTargets.load(out / FILE)
    names = targets.names
    assert targets.counts is not None and targets.counts[names.index("lord")] == 1 and targets.counts[0] == 0
    assert {"lord", "Hamlet", "Elsinore"} < set(names)
    assert "Brutus" not in names  # a word of the test split
    params.write_text("vocabulary: {}\n")
    vocab(Params.load(params), corpus, out, null_report)
    assert not (out / FILE).exists()
