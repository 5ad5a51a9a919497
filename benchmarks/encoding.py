"""Text to ids: the array path against the Hugging Face tokenizer of the same vocabulary, one process, one thread.

    python benchmarks/encoding.py [--json]

The text is real: novels beside this project where they are there, else the corpus of the default pipeline. It is given
in paragraphs. Both sides get the same paragraphs and give the same ids; theirs come with offsets, which `encode_batch`
cannot leave out, and, in the second row, without (`encode_batch_fast`). The peer is the faster of the two usual
constructions: byte-pair encoding without merges, and a word-level model over single characters. Each side lives in a
process of its own, so that it does not work in the memory that the other one fragmented; they take turns.
"""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rows import Row, show
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from cclm_core.corpus.records import corpus_texts
from cclm_core.text.tokenizer import character_tokenizer
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig

ROOT = Path(__file__).parents[1]
NOVELS = ROOT / ".." / "shared" / "data" / "gutenberg_novels"
CORPUS = ROOT / "data" / "corpus"
REPEATS = 9
OURS = "CCLM"
BPE, WORD_LEVEL = "BPE without merges", "WordLevel over characters"
CALLS = {OURS: 20, BPE: 1, WORD_LEVEL: 1}  # in a turn, for it to last a tenth of a second at least


def paragraphs() -> tuple[str, list[str]]:
    """What the text is, and its paragraphs.

    Raises:
        FileNotFoundError: there is neither; `cclm run` makes the corpus.
    """
    if NOVELS.is_dir():
        files = [path for path in sorted(NOVELS.glob("*.txt")) if path.name != "NOTE.txt"]
        whole = "\n\n".join(path.read_text(encoding="utf-8") for path in files)
        return f"{len(files)} novels", [part for part in whole.split("\n\n") if part.strip()]
    if CORPUS.is_dir():
        return "the default corpus", [part for text in corpus_texts(CORPUS) for part in text.split("\n\n")]
    raise FileNotFoundError(f"There must be text in {NOVELS} or {CORPUS}; run the stage `ingest`.")


def rows() -> list[Row]:
    """`encode/hf`, against `encode_batch`, and `encode/hf-fast`, against `encode_batch_fast`: medians of the turns."""
    about, texts = paragraphs()
    num_characters = sum(map(len, texts))
    taken: dict[tuple[str, str], list[float]] = {}
    spawn = multiprocessing.get_context("spawn")
    sides = {name: ProcessPoolExecutor(1, spawn, initializer=_prepare, initargs=(name,)) for name in CALLS}
    turns = [(OURS, "")] + [(name, method) for name in (BPE, WORD_LEVEL) for method in ("", "_fast")]
    for _ in range(REPEATS + 1):
        for name, method in turns:
            taken.setdefault((name, method), []).append(sides[name].submit(_turn, name, method).result())
    for side in sides.values():
        side.shutdown()
    speeds = {
        turn: num_characters / statistics.median(times[1:]) for turn, times in taken.items()
    }  # the first warms up
    result = []
    for row, method in (("encode/hf", ""), ("encode/hf-fast", "_fast")):
        best = max((BPE, WORD_LEVEL), key=lambda name, method=method: speeds[name, method])
        peer = speeds[best, method]
        what = f"tokenizers, {best}, encode_batch{method}: {peer:.3g}; {about}, {num_characters:,} characters"
        result.append(Row(row, speeds[OURS, ""], "characters/s", what, speeds[OURS, ""] / peer))
    return result


_encode: dict[str, Callable[[], Any]] = {}  # of the side that this process is, by method


def _prepare(side: str) -> None:
    """Makes this process one side; on one thread."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    _, texts = paragraphs()
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)
    if side == OURS:
        _encode[""] = lambda: preprocessor.encode_ragged(texts)
    else:
        tokenizer = character_tokenizer(preprocessor) if side == BPE else _word_level(preprocessor)
        _encode[""] = lambda: tokenizer.encode_batch(texts)
        _encode["_fast"] = lambda: tokenizer.encode_batch_fast(texts)


def _turn(side: str, method: str) -> float:
    """Processor seconds of one call: on one thread, and on a quiet machine, those of the clock."""
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
    show("Encoding, one process, one thread", rows())
