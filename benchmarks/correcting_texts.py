"""Texts for `correcting.py`: English prose, lists of misspellings, and errors with their corrections by people."""

import csv
import hashlib
import json
import random
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from cclm_core.noise.misspellings import Spellings, read_misspellings

LISTS = ("codespell_dictionary.txt", "wikipedia_dictionary.txt")
TABLES = ("crate-ci_typos_words.csv", "misspell_compatible.csv")  # misspelling,word[,word ...]
TESTS, LEARNERS = ("norvig_testset1.txt", "norvig_testset2.txt"), "toefl_spell_annotations.tsv"
NOVELS = ("2701-0.txt", "98-0.txt", "pg1342.txt")
WORD = re.compile(r"[\"'(*_`]*[A-Za-z]+(?:['\u2019-][A-Za-z]+)*[\"')*_`.,:;!?]*$")
LINE_WIDTHS = (70, 72, 75, 78, 79)


class Correction(NamedTuple):
    """A line as written, and as corrected by a person."""

    wrong: str
    right: str


def corrections(data: Path) -> tuple[list[Correction], list[Correction]]:
    """Reads natural errors in two halves, split by commit: one for tuning, one for testing."""
    halves: tuple[list[Correction], list[Correction]] = [], []
    for line in (data / "typos" / "git_typo_fixes_pd_cc0.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        halves[hashlib.sha256(row["source"].encode()).digest()[0] % 2].append(Correction(row["wrong"], row["right"]))
    return halves


def misspellings(data: Path, held_out: Iterable[Correction]) -> Spellings:
    """Reads word → misspellings from public lists, without misspellings that occur in the held-out errors."""
    excluded = {
        token.lower() for pair in held_out for token in re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", pair.wrong)
    }
    spellings: dict[str, dict[str, int]] = defaultdict(dict)
    for name in LISTS:
        for word, variants in read_misspellings(data / "typos_lists" / name).spellings.items():
            spellings[word].update({wrong: 1 for wrong in variants if wrong not in excluded})
    for name in TABLES:
        with (data / "typos_lists" / name).open(encoding="utf-8", newline="") as file:
            for wrong, *words in csv.reader(file):
                for word in words if wrong.lower() not in excluded else ():
                    spellings[word.strip()][wrong] = 1
    return {word: variants for word, variants in spellings.items() if word and variants}


def listed(data: Path, read: Spellings, number: int, seed: int) -> list[Correction]:
    """Reads words from public lists of misspellings that no corrector reads in training: Norvig's two and TOEFL-Spell.

    Args:
        data: folder of the data.
        read: the misspellings of the training. They are left out.
        number: how many misspellings to draw.
        seed: seed of the draw.

    Returns:
        Lines of one word: the misspellings, and the correct words, once each.
    """
    folder, excluded = data / "typos_lists", {wrong.lower() for variants in read.values() for wrong in variants}
    pairs = set()
    for name in TESTS:
        for word, variants in re.findall(r"'([^']+)'\s*:\s*'([^']+)'", (folder / name).read_text(encoding="utf-8")):
            pairs.update(Correction(wrong, word) for wrong in variants.split())
    with (folder / LEARNERS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            pairs.add(Correction(row["Misspelling"].lower(), row["Correction"].lower()))
    words = re.compile(r"[a-z]{2,} [a-z]{2,}")
    pairs = {pair for pair in pairs if words.fullmatch(" ".join(pair)) and pair.wrong != pair.right}
    kept = sorted(pair for pair in pairs if pair.wrong not in excluded)
    drawn = random.Random(seed).sample(kept, number)
    return [*drawn, *(Correction(word, word) for word in sorted({pair.right for pair in drawn}))]


def prose(data: Path, held_out: Iterable[Correction], seed: int) -> list[str]:
    """Reads English prose, wrapped into lines as in files, without the lines of the held-out errors."""
    random_state, lines, seen = random.Random(seed), [], {" ".join(line.split()) for pair in held_out for line in pair}
    for line in _lines(data):
        text = " ".join(line.split())
        if text not in seen and _is_prose(text):
            seen.add(text)
            lines += _wrap(text, random_state)
    return lines


def word_lines(words: Iterable[str], repeats: int, seed: int) -> list[str]:
    """Returns all words `repeats` times in random order, twelve per line."""
    random_state, shuffled, lines = random.Random(seed), sorted(words), []
    for _ in range(repeats):
        random_state.shuffle(shuffled)
        lines += [" ".join(shuffled[first : first + 12]) for first in range(0, len(shuffled), 12)]
    return lines


def _lines(data: Path) -> Iterator[str]:
    """Yields the lines of manuals, novels, news and an encyclopedia."""
    with pa.CompressedInputStream(pa.OSFile(str(data / "ms_docs" / "cpp-docs.jsonl.zst")), "zstd") as file:
        pages = file.read().decode().splitlines()
    for page in pages:
        text = re.sub(r"^---\n.*?\n---\n", "", json.loads(page)["text"], flags=re.DOTALL)
        yield from re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()
    novels = [data / "gutenberg_novels" / name for name in NOVELS]
    for path in (*novels, data / "warandpeace" / "warandpeace.txt"):
        yield from re.split(r"\n\s*\n", path.read_text(encoding="utf-8-sig"))
    for line in (data / "glue" / "MRPC" / "msr_paraphrase_train.txt").read_text(encoding="utf-8-sig").splitlines()[1:]:
        yield from line.split("\t")[3:]
    for name in ("valid", "test"):
        for line in (data / "wikitext2_partial" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
            yield from (_detokenize(part) for part in re.split(r"(?<= \.) ", line) if not re.search("<unk>|=", part))


def _detokenize(text: str) -> str:
    text = text.replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".").replace("( ", "(")
    return re.sub(r" ([.,;:!?)]|'s|n't)", r"\1", text)


def _is_prose(line: str) -> bool:
    tokens = line.split()
    return len(tokens) >= 6 and sum(len(token) + 1 for token in tokens if WORD.match(token)) >= 0.75 * len(line)


def _wrap(text: str, random_state: random.Random) -> list[str]:
    """Puts two spaces after the sentences of some texts, and wraps some texts into lines."""
    if random_state.random() < 0.4:
        text = re.sub(r"([.!?]) (?=[A-Z])", r"\1  ", text)
    if len(text) <= 90 or random_state.random() < 0.5:
        return [text]
    return textwrap.wrap(text, random_state.choice(LINE_WIDTHS), break_long_words=False, break_on_hyphens=False)
