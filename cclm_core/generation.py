"""Writing text: one character after the other, drawn from what a component of `next_characters` predicts.

>>> sharpened(np.log([0.5, 0.3, 0.2]), Sampling(temperature=1, top_k=2)).round(3).tolist()
[0.625, 0.375, 0.0]
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from safetensors.torch import load_file
from torch import Tensor, nn

from cclm_core.artifacts import verify
from cclm_core.composition.component import Component
from cclm_core.composition.composed import ComposedModel
from cclm_core.composition.loading import load_base
from cclm_core.config import Config
from cclm_core.device import chosen_device, device_of
from cclm_core.errors import ArtifactError, DataError
from cclm_core.random import derive
from cclm_core.text.vocabulary import END, FIRST_BYTE, FIRST_CHARACTER, Preprocessor

Scores = npt.NDArray[np.float64]
_SECOND = {0xE0: (0xA0, 0xC0), 0xED: (0x80, 0xA0), 0xF0: (0x90, 0xC0), 0xF4: (0x80, 0x90)}
"""First bytes of UTF-8 whose second byte has a range of its own (the Unicode Standard, table 3-7)."""


class Sampling(Config):
    """How the next character is drawn. With temperature 0 it is the likeliest one, and the seed has no effect."""

    temperature: float = Field(default=0.8, ge=0, le=10, description="below 1 likely characters become likelier")
    top_k: int | None = Field(default=None, ge=1, description="draw among the k likeliest; null for all")
    top_p: float = Field(default=1.0, gt=0, le=1, description="draw among the likeliest that together have this share")
    max_characters: int = Field(default=200, ge=0, description="characters to write at most, the prompt not counted")
    seed: int = Field(default=1, description="the same seed writes the same text")


class Writer:
    """Continues texts.

    Args:
        encoder: turns ids (B, L) into causal features (B, L, W), L ≥ 1.
        head: the scores (…, V) of the next id, from features (…, W).
        preprocessor: the vocabulary of V ids.
        context: ids that are read back at most, at least 1; training windows are a good measure.
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, preprocessor: Preprocessor, context: int = 256) -> None:
        assert context >= 1
        self.encoder, self.head, self.preprocessor, self.context = encoder, head, preprocessor, context

    @classmethod
    def load(cls, component: Path, base: Path, context: int = 256) -> Self:
        """Reads a published component of the objective `next_characters`, and the base on which it stands.

        Raises:
            ArtifactError: a folder is missing, damaged, or of a component that was trained on something else.
            CompositionError: the component was trained on another base or vocabulary.
        """
        verify(component, "component")
        verify(base, "embedder", "composition")
        part = Component.load(component)
        if part.card.objective != "next_characters":
            raise ArtifactError(
                f"{component} must hold a component of the objective next_characters to write text, but it was "
                f"trained on {part.card.objective}. Train one: `task: {{objective: next_characters}}`, with a causal "
                "encoder."
            )
        model = ComposedModel(load_base(base), [part]).eval()
        weights = load_file(component / "head.safetensors")
        num_ids = model.preprocessor.num_ids
        head = nn.Linear(model.width, num_ids)
        # The head may predict several characters; the first rows are for the next one.
        head.load_state_dict({name: weights[f"head.{name}"][:num_ids] for name in ("weight", "bias")})
        device = chosen_device()
        return cls(model.to(device), head.to(device), model.preprocessor, context)

    def write(self, prompt: str, sampling: Sampling | None = None) -> Iterator[str]:
        """Continues `prompt`, one whole character at a time, until the text ends or is long enough.

        A character that is spelt in bytes is given out when it is complete: only bytes that go on with UTF-8 are drawn.

        Raises:
            DataError: the prompt is empty, or holds a lone surrogate.
        """
        sampling = sampling or Sampling()
        if not prompt:
            raise DataError("the prompt must have at least one character, got ''; give the beginning of a text.")
        ids, generator = self.preprocessor.encode(prompt).tolist(), derive(sampling.seed, "generate")
        written, begun = 0, b""
        while written < sampling.max_characters:
            scores = self.scores(ids)
            scores[~allowed(begun, len(scores))] = -np.inf
            drawn = draw(scores, sampling, generator)
            if drawn == END:
                return
            ids.append(drawn)
            if FIRST_BYTE <= drawn < FIRST_CHARACTER:
                begun += bytes([drawn - FIRST_BYTE])
                if len(begun) < size_of(begun[0]):
                    continue
                character, begun = begun.decode(), b""
            else:
                character = self.preprocessor.decode([drawn])
            written += 1
            yield character

    def scores(self, ids: list[int]) -> Scores:
        """The logarithms (V,) of the odds of each id to come next, of which only differences matter."""
        with torch.inference_mode():
            read = torch.tensor([ids[-self.context :]]).to(device_of(self.head))
            features: Tensor = self.encoder(read)
            scores: Scores = self.head(features[0, -1]).double().cpu().numpy()
        return scores


def size_of(first: int) -> int:
    """How many bytes a character has whose UTF-8 begins with `first`.

    >>> [size_of("aé—😀".encode()[place]) for place in (0, 1, 3, 6)]
    [1, 2, 3, 4]
    """
    return 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)


def allowed(begun: bytes, num_ids: int) -> npt.NDArray[np.bool_]:
    """Which ids (V,) may come next, when `begun` are the first bytes of a character, or none."""
    may = np.zeros(num_ids, dtype=bool)
    if not begun:
        may[FIRST_CHARACTER:] = may[END] = True
        ranges = [(0x00, 0x80), (0xC2, 0xF5)]
    else:
        ranges = [_SECOND.get(begun[0], (0x80, 0xC0)) if len(begun) == 1 else (0x80, 0xC0)]
    for low, high in ranges:
        may[FIRST_BYTE + low : FIRST_BYTE + high] = True
    return may


def sharpened(scores: Scores, sampling: Sampling) -> Scores:
    """The chances (V,) of each id, after temperature, top-k and top-p, in this order."""
    if sampling.temperature == 0:
        likeliest: Scores = np.where(np.arange(len(scores)) == scores.argmax(), 1.0, 0.0)
        return likeliest
    chances: Scores = np.exp((scores - scores.max()) / sampling.temperature)
    order = np.argsort(-chances, kind="stable")
    ranked = chances[order]
    if sampling.top_k is not None:
        ranked[sampling.top_k :] = 0
    ranked /= ranked.sum()
    # The likeliest is always kept; another only if those before it do not reach the share yet.
    ranked[1:][np.cumsum(ranked)[:-1] >= sampling.top_p] = 0
    chances = np.zeros_like(chances)
    chances[order] = ranked / ranked.sum()
    return chances


def draw(scores: Scores, sampling: Sampling, generator: np.random.Generator) -> int:
    """An id, drawn by its chances."""
    chances = sharpened(scores, sampling)
    return int(generator.choice(len(chances), p=chances))
