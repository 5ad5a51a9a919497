"""A fake composition with fixed random weights, and a small corpus whose labels and names its features can predict."""

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
        "select_parts": False,
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


class FakeComposition(nn.Module):
    """A random embedding and three random convolutions, each as a component. Features depend on seven characters.

    Args:
        preprocessor: the vocabulary.
        width: number of features.
        blank: return zeros instead of features.
    """

    causal = False

    def __init__(self, preprocessor: Preprocessor, width: int = 96, blank: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.preprocessor, self.width, self.blank = preprocessor, width, blank
        table = torch.randn(preprocessor.num_ids, width, generator=generator)
        table[0] = 0
        self.table = nn.Parameter(table)
        self.kernels = nn.ParameterList(
            torch.randn(width // 3, width, size, generator=generator) / (width * size) ** 0.5 for size in (1, 3, 7)
        )

    @property
    def columns(self) -> dict[str, slice]:
        """The feature columns of each convolution, named `size-KERNEL`."""
        third = self.width // 3
        return {f"size-{size}": slice(index * third, (index + 1) * third) for index, size in enumerate((1, 3, 7))}

    def forward(self, ids: Tensor) -> Tensor:
        """Features (B, L, W) of `ids` (B, L); 0 at padding."""
        if self.blank or not ids.shape[1]:
            return torch.zeros(*ids.shape, self.width)
        embedded = self.table[ids].transpose(1, 2)
        features = [nn.functional.conv1d(embedded, kernel, padding=kernel.shape[2] // 2) for kernel in self.kernels]
        return (torch.cat(features, dim=1).transpose(1, 2).tanh()) * (ids != 0)[..., None]


def record(number: int, split: str, generator: np.random.Generator, is_learnable: bool = True) -> Record:
    """Three sentences with words of one label, and names after `Sir`. If not `is_learnable`, the label is random."""
    label = str(generator.choice(list(WORDS)))
    text, entities = "", []
    for _ in range(3):
        name = str(generator.choice(NAMES[split]))
        text += "Sir "
        entities.append(Entity(len(text), len(text) + len(name), "PERSON"))
        text += name + " and the " + " ".join(generator.choice(WORDS[label], 2)) + ". "
    label = label if is_learnable else str(generator.choice(list(WORDS)))
    return Record(f"{split}/{number}", text.strip(), None, f"{split}-{number % 3}", None, label, tuple(entities), split)


def make_records(is_learnable: bool = True, sizes: tuple[int, int, int] = (200, 40, 60)) -> list[Record]:
    """Records of all splits; see `record`."""
    generator = np.random.default_rng(11)
    splits = zip(("train", "validation", "test"), sizes, strict=True)
    return [record(number, split, generator, is_learnable) for split, size in splits for number in range(size)]


def clean_set(records: list[Record], name: str = "clean", rate: float = 0.0) -> TextSet:
    """The test records as a test set without noise."""
    test = [record for record in records if record.split == "test"]
    entities = [[(entity.start, entity.end, entity.label) for entity in record.entities] for record in test]
    return TextSet(name, rate, [r.id for r in test], [r.text for r in test], [r.label for r in test], entities)


def encode(folder: Path, records: list[Record]) -> EncodedCorpus:
    """Encodes records into a new folder, and opens the corpus."""
    return corpora.encode(folder / "encoded", records)
