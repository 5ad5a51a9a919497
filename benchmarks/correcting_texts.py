"""The texts of correcting.py: English prose, lists of misspellings, and errors that people corrected."""

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
NOVELS = ("2701-0.txt", "98-0.txt", "pg1342.txt")
WORD = re.compile(r"[\"'(*_`]*[A-Za-z]+(?:['\u2019-][A-Za-z]+)*[\"')*_`.,:;!?]*$")
LINE_WIDTHS = (70, 72, 75, 78, 79)


class Mended(NamedTuple):
    """A line as it was written, and as a person corrected it."""

    wrong: str
    right: str


def mended(data: Path) -> tuple[list[Mended], list[Mended]]:
    """Natural errors in two halves, split by commit: one to choose settings, one to measure."""
    halves: tuple[list[Mended], list[Mended]] = [], []
    for line in (data / "typos" / "git_typo_fixes_pd_cc0.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        halves[hashlib.sha256(row["source"].encode()).digest()[0] % 2].append(Mended(row["wrong"], row["right"]))
    return halves


def misspellings(data: Path, held_out: Iterable[Mended]) -> Spellings:
    """Words with their misspellings, from public lists, without those that occur in the held-out errors."""
    known = {
        token.lower() for pair in held_out for token in re.findall(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*", pair.wrong)
    }
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for name in LISTS:
        for word, others in read_misspellings(data / "typos_lists" / name).spellings.items():
            found[word].update({wrong: 1 for wrong in others if wrong not in known})
    for name in TABLES:
        with (data / "typos_lists" / name).open(encoding="utf-8", newline="") as file:
            for wrong, *words in csv.reader(file):
                for word in words if wrong.lower() not in known else ():
                    found[word.strip()][wrong] = 1
    return {word: others for word, others in found.items() if word and others}


def prose(data: Path, held_out: Iterable[Mended], seed: int) -> list[str]:
    """English prose, broken into lines as in files, without the lines of the held-out errors."""
    drawn, lines, seen = random.Random(seed), [], {" ".join(line.split()) for pair in held_out for line in pair}
    for line in _lines(data):
        text = " ".join(line.split())
        if text not in seen and _is_prose(text):
            seen.add(text)
            lines += _broken(text, drawn)
    return lines


def listed(words: Iterable[str], repeats: int, seed: int) -> list[str]:
    """All words `repeats` times in random order, twelve per line."""
    drawn, remaining, lines = random.Random(seed), sorted(words), []
    for _ in range(repeats):
        drawn.shuffle(remaining)
        lines += [" ".join(remaining[first : first + 12]) for first in range(0, len(remaining), 12)]
    return lines


def _lines(data: Path) -> Iterator[str]:
    """Manuals, novels, news and an encyclopedia."""
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
            yield from (_untokenised(part) for part in re.split(r"(?<= \.) ", line) if not re.search("<unk>|=", part))


def _untokenised(text: str) -> str:
    text = text.replace(" @-@ ", "-").replace(" @,@ ", ",").replace(" @.@ ", ".").replace("( ", "(")
    return re.sub(r" ([.,;:!?)]|'s|n't)", r"\1", text)


def _is_prose(line: str) -> bool:
    tokens = line.split()
    return len(tokens) >= 6 and sum(len(token) + 1 for token in tokens if WORD.match(token)) >= 0.75 * len(line)


def _broken(text: str, drawn: random.Random) -> list[str]:
    """Adds two spaces after sentences to some texts, and breaks some into lines."""
    if drawn.random() < 0.4:
        text = re.sub(r"([.!?]) (?=[A-Z])", r"\1  ", text)
    if len(text) <= 90 or drawn.random() < 0.5:
        return [text]
    return textwrap.wrap(text, drawn.choice(LINE_WIDTHS), break_long_words=False, break_on_hyphens=False)
