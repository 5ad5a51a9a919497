"""Objectives on texts with contexts: masked characters given other texts, and telling authors apart."""

from abc import abstractmethod
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from cclm_core.corpus.contexts import AuthorBatch, ContextBatch, ContextSampling
from cclm_core.encoders.contexts import Contexts
from cclm_core.objectives.base import Example, Objective, ObjectiveContext, Sums
from cclm_core.objectives.masked_characters import MaskedCharacters, MaskedCharactersConfig
from cclm_core.runtime.config import Config


class ContextualModel(Protocol):
    """An encoder that reads contexts."""

    def __call__(self, ids: Tensor, contexts: Contexts | None = None) -> Tensor:
        """Features (B, L, W) of `ids` (B, L) with their contexts."""
        ...

    def encode_contexts(self, ids: Tensor) -> Tensor:
        """Encodings (N, W) of contexts (N, L), each on its own."""
        ...


class ContextObjective(Objective):
    """An objective of a component with a contextual encoder."""

    @abstractmethod
    def features(self, encoder: ContextualModel, example: Example) -> Tensor:
        """What `loss` reads, computed by the encoder."""


class ContextMaskedCharactersConfig(Config):
    """Masked characters of a text, predicted with the help of other texts by its author or of its group."""

    objective: Literal["context_masked_characters"] = "context_masked_characters"
    rate: float = Field(default=0.15, gt=0, lt=1, description="share of characters to predict")
    mean_span: float = Field(default=4.0, ge=1, description="mean length of a masked span, in characters")
    mask_share: float = Field(default=0.9, ge=0, le=1, description="share of selected characters that are masked")
    contexts: ContextSampling = Field(default_factory=ContextSampling, description="which texts are the contexts")

    def build(self, context: ObjectiveContext) -> "ContextMaskedCharacters":
        """Builds the objective with a new head."""
        return ContextMaskedCharacters(self, context)


class ContextMaskedCharacters(ContextObjective):
    """Cross-entropy of the characters at masked positions of the text. Contexts are neither masked nor noised."""

    selection_metric = "bits_per_masked_character"

    def __init__(self, config: ContextMaskedCharactersConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        masking = MaskedCharactersConfig(rate=config.rate, mean_span=config.mean_span, mask_share=config.mask_share)
        self.masked = MaskedCharacters(masking, context)

    def example(self, batch: Any, generator: np.random.Generator, training: bool) -> Example:
        """Targets: those of masked characters, and `contexts` (B, C, L) with their `types` (B,)."""
        assert isinstance(batch, ContextBatch)
        example = self.masked.example(batch.target, generator, training)
        example.targets["contexts"] = torch.from_numpy(batch.contexts)
        example.targets["types"] = torch.from_numpy(batch.types)
        return example

    def features(self, encoder: ContextualModel, example: Example) -> Tensor:
        """Features (B, L, W) of the text with its contexts."""
        contexts = Contexts(example.targets["contexts"], example.targets["types"])
        return encoder(example.ids, contexts)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean cross-entropy of the selected characters."""
        return self.masked.loss(features, example)

    def nats(self, features: Tensor, example: Example) -> tuple[Tensor, Tensor]:
        """The cross-entropy of each text (B,), summed over its masked characters, and their number (B,)."""
        positions = example.targets["positions"]
        scores = self.masked.head(features.flatten(0, 1)[positions]).float()
        losses = nn.functional.cross_entropy(scores, example.targets["ids"], reduction="none").double()
        rows = positions // max(1, features.shape[1])
        sums = losses.new_zeros(len(features)).index_add(0, rows, losses)
        return sums, torch.bincount(rows, minlength=len(features))


class _AuthorConfig(Config):
    number: int = Field(default=4, ge=1, le=64, description="texts per set; each author of a batch has two sets")
    same_group: float = Field(
        default=0.5, ge=0, le=1, description="share of a batch that comes from as few groups as possible"
    )
    min_characters: int = Field(default=20, ge=1, description="shorter texts are left out")
    unseen: bool = Field(
        default=True, description="evaluate on authors and groups that do not occur in the training split"
    )


class AuthorContrastiveConfig(_AuthorConfig):
    """Which of the authors of a batch wrote a set of texts."""

    objective: Literal["author_contrastive"] = "author_contrastive"
    temperature: float = Field(default=0.07, gt=0, description="divides the cosines")

    def build(self, context: ObjectiveContext) -> "AuthorContrastive":
        """Builds the objective with a new head."""
        return AuthorContrastive(self, context)


class AuthorTripletConfig(_AuthorConfig):
    """A set of texts is closer to another set of its author than to one of another author, by a margin."""

    objective: Literal["author_triplet"] = "author_triplet"
    margin: float = Field(default=1.0, gt=0, description="margin between squared distances")

    def build(self, context: ObjectiveContext) -> "AuthorTriplet":
        """Builds the objective."""
        return AuthorTriplet(self, context)


class _Authors(ContextObjective):
    """Reads the encodings of two sets of texts per author."""

    def example(self, batch: Any, generator: np.random.Generator, training: bool) -> Example:  # noqa: ARG002
        """`ids` (B * 2 * N, L). Targets: `shape`, (B, 2, N), and `groups` (B,)."""
        assert isinstance(batch, AuthorBatch)
        ids = torch.from_numpy(batch.ids)
        targets = {"shape": torch.tensor(ids.shape[:3]), "groups": torch.from_numpy(batch.groups)}
        return Example(ids.flatten(0, 2), targets)

    def features(self, encoder: ContextualModel, example: Example) -> Tensor:
        """The mean encodings (B, 2, W) of both sets."""
        rows, sides, number = example.targets["shape"].tolist()
        encodings = encoder.encode_contexts(example.ids).view(rows, sides, number, -1)
        present = (example.ids != 0).any(-1).view(rows, sides, number, 1)
        return (encodings * present).sum(2) / present.sum(2).clamp(min=1)


class AuthorContrastive(_Authors):
    """InfoNCE over the authors of a batch, in both directions, with cosines of projected encodings.

    Source: van den Oord et al. 2018 (arXiv 1807.03748); in-batch negatives as in CLIP, Radford et al. 2021
    (arXiv 2103.00020).
    """

    selection_metric = "author_nats"

    def __init__(self, config: AuthorContrastiveConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config
        self.project = nn.Linear(context.width, context.width, bias=False)

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:  # noqa: ARG002
        """Mean cross-entropy of the right author; metrics: nats, and the accuracy among the authors of the batch."""
        first, second = nn.functional.normalize(self.project(features).float(), dim=-1).unbind(1)
        scores = first @ second.T / self.config.temperature
        right = torch.arange(len(scores), device=scores.device)
        losses = [nn.functional.cross_entropy(matrix, right, reduction="sum") for matrix in (scores, scores.T)]
        total = torch.stack(losses).sum() / 2
        hits = ((scores.argmax(1) == right).sum() + (scores.argmax(0) == right).sum()).item() / 2
        metrics = {"author_nats": Sums(total.item(), len(scores)), "author_accuracy": Sums(hits, len(scores))}
        return total / max(1, len(scores)), metrics


class AuthorTriplet(_Authors):
    """The triplet loss over squared distances; the negative is the next author of the batch, of the same group if any.

    Source: Rocca and Yarkoni 2022, "Language as a fingerprint".
    """

    selection_metric = "triplet_loss"

    def __init__(self, config: AuthorTripletConfig, context: ObjectiveContext) -> None:
        super().__init__(context)
        self.config = config

    def loss(self, features: Tensor, example: Example) -> tuple[Tensor, dict[str, Sums]]:
        """Mean hinge loss; metrics: the loss, and the share of triplets in the right order."""
        anchor, positive = features.float().unbind(1)
        negative = positive[_others(example.targets["groups"])]
        near, far = ((anchor - other).square().sum(-1) for other in (positive, negative))
        losses = torch.relu(self.config.margin + near - far)
        number = len(losses) if len(losses) > 1 else 0  # one author has no negative
        total = losses.sum() if number else 0 * losses.sum()
        metrics = {
            "triplet_loss": Sums(total.item(), number),
            "triplet_accuracy": Sums((far > near).sum().item() if number else 0.0, number),
        }
        return total / max(1, number), metrics


def _others(groups: Tensor) -> Tensor:
    """For each author of a batch, the number of the next other author, of the same group if there is one, (B,)."""
    number = len(groups)
    steps = torch.arange(1, number, device=groups.device)
    if not len(steps):
        return torch.zeros(number, dtype=torch.long, device=groups.device)
    others = (torch.arange(number, device=groups.device)[:, None] + steps) % number
    is_same = (groups[others] == groups[:, None]) & (groups[:, None] >= 0)
    best = is_same.int().argmax(1)  # the first of the same group, else the next one
    return others.gather(1, best[:, None])[:, 0]


ContextObjectiveConfig = Annotated[
    ContextMaskedCharactersConfig | AuthorContrastiveConfig | AuthorTripletConfig, Field(discriminator="objective")
]
"""The objectives on texts with contexts. They need a component with a contextual encoder."""

READS_CONTEXTS = (ContextMaskedCharactersConfig, AuthorContrastiveConfig, AuthorTripletConfig)
"""The members of `ContextObjectiveConfig`."""
