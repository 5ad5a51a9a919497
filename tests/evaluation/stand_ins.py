"""A composition without training, and a corpus with labels, names and characters that can be learned from it."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from cclm_core.corpus.encoded import EncodedCorpus
from cclm_core.corpus.records import Entity, Record
from cclm_core.evaluation.config import EvaluationConfig
from cclm_core.evaluation.selection import TextSet
from cclm_core.text.vocabulary import Preprocessor
from tests import corpora

NAMES = {"train": ("Viola", "Orsino", "Feste"), "validation": ("Olivia",), "test": ("Violesto", "Orsete")}
WORDS = {"comedy": ["laugh", "wed", "jest", "song", "merry"], "tragedy": ["blood", "grave", "murder", "tears", "ghost"]}

SMALL = EvaluationConfig.parse(
    {
        "precision": "fp32",
        "num_examples": 3,
        "bootstrap": {"resamples": 200},
        "probes": [
            {"probe": "characters", "window": 64, "train_windows": 150, "test_windows": 40},
            {"probe": "tags", "train_characters": 20_000, "rows": 6_000},
            {
                "probe": "labels",
                "train_documents": 150,
                "validation_documents": 40,
                "min_characters": 20,
                "max_characters": 120,
            },
        ],
    },
    "test",
)


class Stand(nn.Module):
    """A fixed random embedding and three random convolutions: features that depend on seven characters."""

    causal = False

    def __init__(self, preprocessor: Preprocessor, width: int = 96, blank: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.preprocessor, self.width, self.parts, self.blank = preprocessor, width, ("stand",), blank
        table = torch.randn(preprocessor.num_ids, width, generator=generator)
        table[0] = 0
        self.table = nn.Parameter(table)
        self.kernels = nn.ParameterList(
            torch.randn(width // 3, width, size, generator=generator) / (width * size) ** 0.5 for size in (1, 3, 7)
        )

    @property
    def columns(self) -> dict[str, slice]:
        """Each kernel's features, as those of a component."""
        third = self.width // 3
        return {f"size-{size}": slice(place * third, (place + 1) * third) for place, size in enumerate((1, 3, 7))}

    def forward(self, ids: Tensor) -> Tensor:
        if self.blank or not ids.shape[1]:
            return torch.zeros(*ids.shape, self.width)
        embedded = self.table[ids].transpose(1, 2)
        found = [nn.functional.conv1d(embedded, kernel, padding=kernel.shape[2] // 2) for kernel in self.kernels]
        return (torch.cat(found, dim=1).transpose(1, 2).tanh()) * (ids != 0)[..., None]


def record(number: int, split: str, generator: np.random.Generator, tell: bool = True) -> Record:
    """Sentences of one label: words of it, and names after `Sir`; `tell=False` draws the label apart from the words."""
    label = str(generator.choice(list(WORDS)))
    text, entities = "", []
    for _ in range(3):
        name = str(generator.choice(NAMES[split]))
        text += "Sir "
        entities.append(Entity(len(text), len(text) + len(name), "PERSON"))
        text += name + " and the " + " ".join(generator.choice(WORDS[label], 2)) + ". "
    label = label if tell else str(generator.choice(list(WORDS)))
    return Record(f"{split}/{number}", text.strip(), None, f"{split}-{number % 3}", None, label, tuple(entities), split)


def records(tell: bool = True, sizes: tuple[int, int, int] = (200, 40, 60)) -> list[Record]:
    """Records of all splits."""
    generator = np.random.default_rng(11)
    pairs = zip(("train", "validation", "test"), sizes, strict=True)
    return [record(number, split, generator, tell) for split, size in pairs for number in range(size)]


def clean_set(some: list[Record], name: str = "clean", rate: float = 0.0) -> TextSet:
    """The test records as a set that noise left as it was."""
    chosen = [record for record in some if record.split == "test"]
    entities = [[(one.start, one.end, one.label) for one in record.entities] for record in chosen]
    return TextSet(name, rate, [r.id for r in chosen], [r.text for r in chosen], [r.label for r in chosen], entities)


def encode(folder: Path, some: list[Record]) -> EncodedCorpus:
    """The encoded corpus of records, in a new folder."""
    return corpora.encode(folder / "encoded", some)
