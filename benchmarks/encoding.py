"""Text to ids: the array path against the Hugging Face tokenizer of the same vocabulary, one process, one thread.

    python benchmarks/encoding.py [--json]

The text is real: novels beside this project where they are there, else the corpus of the default pipeline. It is given
in paragraphs. Both sides get the same paragraphs and give the same ids; theirs come with offsets, which `encode_batch`
cannot leave out, and, in the second row, without (`encode_batch_fast`). The peer is the faster of the two usual
constructions: byte-pair encoding without merges, and a word-level model over single characters.
"""

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rows import Row, show
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from cclm_core.text.corpus import corpus_texts
from cclm_core.text.tokenizer import character_tokenizer
from cclm_core.text.vocabulary import Preprocessor, VocabularyConfig

ROOT = Path(__file__).parents[1]
NOVELS = ROOT / ".." / "shared" / "data" / "gutenberg_novels"
CORPUS = ROOT / "data" / "corpus"
REPEATS = 7
CALLS = 5  # of ours in a repeat: one takes milliseconds


def paragraphs() -> tuple[str, list[str]]:
    """What the text is, and its paragraphs.

    Raises:
        FileNotFoundError: there is neither; `cclm run` makes the corpus.
    """
    if NOVELS.is_dir():
        whole = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(NOVELS.glob("[0-9p]*.txt")))
        return "novels", [part for part in whole.split("\n\n") if part.strip()]
    if CORPUS.is_dir():
        return "the default corpus", [part for text in corpus_texts(CORPUS) for part in text.split("\n\n")]
    raise FileNotFoundError(f"There must be text in {NOVELS} or {CORPUS}; run the stage `ingest`.")


def rows() -> list[Row]:
    """`encode/hf`, against `encode_batch`, and `encode/hf-fast`, against `encode_batch_fast`; medians of repeats."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"
    about, texts = paragraphs()
    num_characters = sum(map(len, texts))
    preprocessor = Preprocessor(VocabularyConfig(min_count=5)).fit(texts)
    peers = {"BPE without merges": character_tokenizer(preprocessor), "WordLevel": _word_level(preprocessor)}
    calls: dict[str, Callable[[], Any]] = {"ours": lambda: [preprocessor.encode_ragged(texts) for _ in range(CALLS)]}
    for name, tokenizer in peers.items():
        calls[f"{name}, encode_batch"] = lambda each=tokenizer: each.encode_batch(texts)
        calls[f"{name}, encode_batch_fast"] = lambda each=tokenizer: each.encode_batch_fast(texts)
    seconds = _medians(calls)
    speed = num_characters * CALLS / seconds.pop("ours")
    result = []
    for row, method in (("encode/hf", "encode_batch"), ("encode/hf-fast", "encode_batch_fast")):
        best = min((name for name in seconds if name.endswith(f" {method}")), key=seconds.__getitem__)
        peer = num_characters / seconds[best]
        what = f"{best}: {peer:.3g}; {about}, {num_characters:,} characters"
        result.append(Row(row, speed, "characters/s", what, speed / peer))
    return result


def _word_level(preprocessor: Preprocessor) -> Any:
    vocab = {"[UNK]": 0} | {character: 1 + index for index, character in enumerate(preprocessor.alphabet)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(?m)."), "isolated")
    return tokenizer


def _medians(calls: dict[str, Callable[[], Any]], repeats: int = REPEATS) -> dict[str, float]:
    """Processor seconds of each call, the median of repeats in which they take turns; the first turn does not count.

    Each call runs on one thread, so that on a quiet machine these are seconds of the clock.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            start = time.process_time()
            call()
            taken[name].append(time.process_time() - start)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


if __name__ == "__main__":
    show("Encoding, one process, one thread", rows())
