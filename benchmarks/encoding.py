"""Compares the speed of text to ids with the Hugging Face tokenizer of the same vocabulary.

    python benchmarks/encoding.py [--json]

The text is the paragraphs of the novels in ../shared/data or, without these, of data/corpus. CCLM and the tokenizer
return the same ids. `encode/hf` compares with `encode_batch`, which also returns offsets, and `encode/hf-fast` with
`encode_batch_fast`, which does not. The peer is the faster of two tokenizers: byte-pair encoding without merges, and a
word-level model over single characters.

One thread. Each side has its own process, so that none works in memory that another fragmented; they take turns.
"""

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rows import Row, options, show
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from cclm_core.corpus.records import corpus_texts
from cclm_core.runtime.reporting import format_number
from cclm_core.text.tokenizer import character_tokenizer
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig

ROOT = Path(__file__).parents[1]
NOVELS = ROOT / ".." / "shared" / "data" / "gutenberg_novels"
CORPUS = ROOT / "data" / "corpus"
REPEATS = 9
CCLM = "CCLM"
BPE, WORD_LEVEL = "BPE without merges", "WordLevel over characters"
CALLS = {CCLM: 20, BPE: 1, WORD_LEVEL: 1}  # per turn, so that it takes at least 0.1 s


def paragraphs() -> tuple[str, list[str]]:
    """Returns a description of the text, and its paragraphs; exits if there is no text."""
    if NOVELS.is_dir():
        files = [path for path in sorted(NOVELS.glob("*.txt")) if path.name != "NOTE.txt"]
        whole = "\n\n".join(path.read_text(encoding="utf-8") for path in files)
        return f"{len(files)} novels", [part for part in whole.split("\n\n") if part.strip()]
    if CORPUS.is_dir():
        return "the default corpus", [part for text in corpus_texts(CORPUS) for part in text.split("\n\n")]
    sys.exit(f"no text found in {NOVELS.resolve()} or {CORPUS}. Run `cclm run --target ingest` first.")


def rows() -> list[Row]:
    """Measures both comparisons: medians of the turns."""
    description, texts = paragraphs()
    num_characters = sum(map(len, texts))
    times: dict[tuple[str, str], list[float]] = {}
    spawn = multiprocessing.get_context("spawn")
    sides = {name: ProcessPoolExecutor(1, spawn, initializer=_prepare, initargs=(name,)) for name in CALLS}
    turns = [(CCLM, "")] + [(name, method) for name in (BPE, WORD_LEVEL) for method in ("", "_fast")]
    for _ in range(REPEATS + 1):
        for name, method in turns:
            times.setdefault((name, method), []).append(sides[name].submit(_turn, name, method).result())
    for side in sides.values():
        side.shutdown()
    # The first turn warms up.
    speeds = {turn: num_characters / statistics.median(seconds[1:]) for turn, seconds in times.items()}
    result = []
    for row, method in (("encode/hf", ""), ("encode/hf-fast", "_fast")):
        best = max((BPE, WORD_LEVEL), key=lambda name, method=method: speeds[name, method])
        peer = speeds[best, method]
        text = (
            f"tokenizers, {best}, encode_batch{method}: {format_number(peer)} characters/s; "
            f"{description}, {format_number(num_characters)} characters"
        )
        result.append(Row(row, speeds[CCLM, ""], "characters/s", text, speeds[CCLM, ""] / peer, "higher"))
    return result


_encode: dict[str, Callable[[], Any]] = {}  # method → call, for the side of this process


def _prepare(side: str) -> None:
    """Prepares this process as one side, on one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    _, texts = paragraphs()
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)
    if side == CCLM:
        _encode[""] = lambda: preprocessor.encode_ragged(texts)
    else:
        tokenizer = character_tokenizer(preprocessor) if side == BPE else _word_level(preprocessor)
        _encode[""] = lambda: tokenizer.encode_batch(texts)
        _encode["_fast"] = lambda: tokenizer.encode_batch_fast(texts)


def _turn(side: str, method: str) -> float:
    """Returns the processor seconds of one call, which other processes on the machine affect less than wall time."""
    start = time.process_time()
    for _ in range(CALLS[side]):
        _encode[method]()
    return (time.process_time() - start) / CALLS[side]


def _word_level(preprocessor: Preprocessor) -> Any:
    vocab = {"[UNK]": 0} | {character: 1 + index for index, character in enumerate(preprocessor.alphabet)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?m)."), "isolated")
    return tokenizer


if __name__ == "__main__":
    args = options(__doc__).parse_args()
    show("Encoding, one process, one thread", rows(), args.json)
